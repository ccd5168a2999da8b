"""From a camera or a table into a store's vault, and out again through the gate.

`capture` is the door: the face of someone with live consent for what it is captured for goes into the
vault, sealed under that person's key, with its label and what was said of age (BIPA 15(b): the release comes
before the capture). Everyone else is turned away, and no pixel of theirs is written.

Whoever is turned away is still counted (EU AI Act 9(9)), so something must be kept to ask the gate about:

| turned away | what is kept |
|---|---|
| has a record, and is no minor nor taken for one | face id and what was said of age, sealed under their key |
| attested minor, unknown age, looks too young, no record | a count, by reason (`StoreConfig.turned_away`) |

`asked` puts all of them into one sealed table. For those who left a count there are stand-ins: ids that no
record can have, with evidence for which the gate refuses for the same reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from privemo.errors import DataError
from privemo.faces import Faces, FaceTable
from privemo.labels import EMOTIONS, IMAGE_SIZE
from privemo.storeconfig import Counted, NamelessReason
from privemo_consent import (
    Admitted,
    AgeBand,
    ConsentGate,
    ConsentRegistry,
    Context,
    Item,
    ItemKind,
    NewItem,
    Purpose,
    Reason,
    SealedFaces,
    Vault,
)
from privemo_consent.vault import Asked

__all__ = [
    "NOT_CAPTURED",
    "Admission",
    "Part",
    "asked",
    "capture",
    "check_ages",
    "demographics",
    "faces_of",
]

Part = Literal["train", "test"]
PURPOSE_OF: dict[Part, Purpose] = {"train": Purpose.TRAINING, "test": Purpose.FAIRNESS_AUDIT}
"""What the faces of a part are captured for."""

NOT_CAPTURED = "not_captured"
"""The store's own reason: the person agreed after their face had been turned away, so it is not here."""

_AT_ONCE = 4096  # faces in one transaction: some 10 MB
_ADULT = AgeBand.FROM_25.value
_STAND_IN: dict[NamelessReason, dict[str, Any]] = {
    "minor": {"attested_age_band": AgeBand.UNDER_13.value},
    "unknown_age": {"attested_age_band": AgeBand.UNKNOWN.value},
    "suspected_minor": {"attested_age_band": _ADULT, "estimated_age": 0.0},
    "no_record": {"attested_age_band": _ADULT},
}
_GRAY = IMAGE_SIZE * IMAGE_SIZE


# -- in --------------------------------------------------------------------------------------------


def capture(
    registry: ConsentRegistry,
    table: FaceTable,
    rows: NDArray[np.int64],
    *,
    part: Part,
    context: Context,
    attested_age_band: NDArray[np.str_] | None = None,
    challenge_age: float = 25.0,
    sensitive: Sequence[str] = (),
    camera: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] = lambda images: images,
) -> dict[NamelessReason, Counted]:
    """Bring the faces of some rows into the vault of a registry, or turn them away.

    Args:
        registry: of the store; its vault takes the faces.
        table: where the faces come from. Nothing refers to it afterwards.
        rows: indices into the table.
        part: ``train`` is captured for TRAINING, ``test`` for FAIRNESS_AUDIT.
        context: where the faces are captured.
        attested_age_band: (len(rows),) what each person said in the session; see `FaceTable.seal`.
        challenge_age: a person who is estimated to be younger is turned away.
        sensitive: columns to keep of the faces of ``test``, as items of their own that are read for
            FAIRNESS_AUDIT alone (EU AI Act 10(5)).
        camera: what a store's camera makes of the pictures, in a simulation; it never sees others than those
            that the gate let through.

    Returns:
        How many were turned away and left no name, by reason.

    Raises:
        DataError: a sensitive column is missing, nothing may be captured here, or the registry is one
            of real people and a face has no estimated age.
        privemo_consent.ConsentError: what was captured before stays; the rest is not there.
    """
    purpose = PURPOSE_OF[part]
    if registry.mode == "production":
        check_ages(table, rows)
    sealed = table.seal(rows, attested_age_band=attested_age_band)
    for name in sensitive if part == "test" else ():
        table.column(name)  # a column that is missing is named before any face is kept
    facts = [{"part": part, **said} for said in _said_of_age(sealed)]
    admitted = ConsentGate(registry, challenge_age=challenge_age).admit(sealed, purpose, context)
    away = np.ones(len(rows), dtype=np.bool_)
    vault = Vault(registry)
    faces = replace(admitted.faces, images=camera(admitted.faces.images))
    for start in range(0, len(admitted.rows), _AT_ONCE):
        at = slice(start, start + _AT_ONCE)
        items = _items(faces, admitted.rows, at, facts)
        done = vault.put(items, context, purposes=[purpose], challenge_age=challenge_age)
        taken = np.array([reason is Reason.PERMITTED for reason in done.reasons])
        away[admitted.rows[at][taken]] = False
    if part == "test" and sensitive:
        _put_demographics(vault, table, rows[~away], sensitive, context)
    return _turn_away(vault, table, rows, np.flatnonzero(away), facts, context, challenge_age)


def check_ages(table: FaceTable, rows: NDArray[np.int64]) -> None:
    """Let faces pass of which the table says how old each looks.

    The gate suspects nobody without an estimate, and so a missing one would keep no minor out who says to be
    an adult.

    Raises:
        DataError: some have no `est_age`.
    """
    ages = table.columns.get("est_age")
    missing = len(rows) if ages is None else int(np.isnan(ages.astype(np.float64)[rows]).sum())
    if missing:
        raise DataError(
            f"{table.name} does not say how old {missing} of {len(rows)} faces look, and whoever looks like "
            "a minor is never taken: give each face its 'est_age', in years."
        )


def _said_of_age(sealed: SealedFaces[Faces]) -> list[dict[str, Any]]:
    """What the gate is told of the age of each face, so that it is told the same every time."""
    n = len(sealed)
    ages = np.full(n, np.nan) if sealed.estimated_age is None else sealed.estimated_age
    bands = [None] * n if sealed.attested_age_band is None else sealed.attested_age_band.tolist()
    return [
        # An estimate without bounds is no number that JSON knows; the gate refuses it as it does 0.
        {"estimated_age": None if np.isnan(a) else float(a) if np.isfinite(a) else 0.0}
        | {"attested_age_band": b}
        for a, b in zip(ages.tolist(), bands, strict=True)
    ]


def _items(
    faces: Faces, rows: NDArray[np.int64], at: slice, facts: Sequence[Mapping[str, Any]]
) -> list[NewItem]:
    return [
        NewItem(
            person=person, item_id=face, body=image.tobytes(), facts={"label": label} | facts[row]
        )
        for person, face, image, label, row in zip(
            faces.person[at].tolist(),
            faces.face_id[at].tolist(),
            faces.images[at],
            faces.label[at].tolist(),
            rows[at].tolist(),
            strict=True,
        )
    ]


def _put_demographics(
    vault: Vault,
    table: FaceTable,
    rows: NDArray[np.int64],
    sensitive: Sequence[str],
    context: Context,
) -> None:
    columns = {name: table.column(name)[rows].astype(np.str_).tolist() for name in sensitive}
    items = [
        NewItem(
            person=person,
            item_id=face,
            body=json.dumps({name: column[i] for name, column in columns.items()}).encode(),
        )
        for i, (person, face) in enumerate(
            zip(table.person[rows].tolist(), table.face_id[rows].tolist(), strict=True)
        )
    ]
    vault.put(items, context, kind=ItemKind.DEMOGRAPHIC)


def _turn_away(
    vault: Vault,
    table: FaceTable,
    rows: NDArray[np.int64],
    away: NDArray[np.int64],
    facts: Sequence[Mapping[str, Any]],
    context: Context,
    challenge_age: float,
) -> dict[NamelessReason, Counted]:
    """Note those who have a record, count the others.

    In one call: whether somebody is taken for a minor is a matter of all their faces together.
    """
    persons = table.person[rows[away]].tolist()
    faces = table.face_id[rows[away]].tolist()
    notes = [
        NewItem(person=person, item_id=face, body=b"", facts=facts[row])
        for person, face, row in zip(persons, faces, away.tolist(), strict=True)
    ]
    done = vault.put(notes, context, kind=ItemKind.REFUSAL, challenge_age=challenge_age)
    nameless: dict[NamelessReason, list[str]] = {}
    for person, reason in zip(persons, done.reasons, strict=True):
        if reason is Reason.PERMITTED:
            continue
        name = next((known for known in _STAND_IN if known == reason.value), None)
        if name is None:
            raise DataError(f"Nothing may be captured here, nor counted: {reason.value}.")
        nameless.setdefault(name, []).append(person)
    return {
        name: Counted(faces=len(people), persons=len(set(people)))
        for name, people in sorted(nameless.items())
    }


# -- out -------------------------------------------------------------------------------------------


def asked(
    vault: Vault, part: Part, nameless: Mapping[NamelessReason, Counted]
) -> SealedFaces[list[Item]]:
    """The table of a part, for the gate: what is in the vault, and everyone who was turned away.

    Raises:
        privemo_consent.TamperedError: an item was changed or moved.
    """

    def of_part(facts: Mapping[str, Any]) -> bool:
        return facts.get("part") == part

    stand_ins = [
        # A control character: no registry takes a record under such an id.
        Asked(person=f"\x1f{reason} {min(face, count.persons - 1)}", facts=_STAND_IN[reason])
        for reason, count in sorted(nameless.items())
        for face in range(count.faces)
    ]
    return vault.sealed(where=of_part, also=[*vault.turned_away(of_part), *stand_ins])


@dataclass(frozen=True)
class Admission:
    """What the gate let through, and the counts for `admissions.jsonl`.

    Attributes:
        faces: in the order of their ids.
        log_seq: the log that the decision saw.
        at: the moment of the decision.
        counts: ``asked``, ``admitted`` and ``refused`` (by reason), in faces and persons.
    """

    faces: Faces
    log_seq: int
    at: datetime
    counts: dict[str, Any]

    @classmethod
    def of(cls, sealed: SealedFaces[list[Item]], admitted: Admitted[list[Item]]) -> Admission:
        """Read what was admitted; whoever agreed too late to be here is told apart.

        Raises:
            DataError: an item is no face of 48x48.
        """
        faces = faces_of(admitted.faces)
        counts = admitted.counts.as_dict()
        late = admitted.rows[len(faces) :]  # rows that are not here come last
        if len(late):
            here = set(faces.person.tolist())
            persons = len(set(sealed.person[late].tolist()) - here)
            for unit, missing in (("faces", len(late)), ("persons", persons)):
                counts["admitted"][unit] -= missing
                counts["refused"][unit][NOT_CAPTURED] = missing
        for unit in ("faces", "persons"):
            counts["refused"][unit] = dict(sorted(counts["refused"][unit].items()))
        return cls(faces, admitted.log_seq, admitted.at, counts)

    @property
    def reasons(self) -> str:
        """Why faces were refused, in words."""
        refused = self.counts["refused"]["faces"]
        return ", ".join(f"{reason} {count}" for reason, count in refused.items()) or "none"


def faces_of(items: Sequence[Item]) -> Faces:
    """The faces that a gate opened.

    Raises:
        DataError: an item is no face of 48x48 with one of the four labels, or gray and RGB are mixed.
    """
    sizes = {len(item.body) for item in items}
    labels = [item.facts.get("label") for item in items]
    if not sizes <= {_GRAY} and not sizes <= {3 * _GRAY}:
        found = " and ".join(map(str, sorted(sizes)))
        raise DataError(
            f"The vault holds faces of {found} bytes; {_GRAY} (gray) or {3 * _GRAY} (RGB) were due, "
            "the same for all. Capture the faces again."
        )
    if not all(type(label) is int and 0 <= label < len(EMOTIONS) for label in labels):
        raise DataError("A face in the vault has none of the four labels. Capture the faces again.")
    shape = (len(items), IMAGE_SIZE, IMAGE_SIZE) + ((3,) if sizes == {3 * _GRAY} else ())
    pixels = np.frombuffer(bytearray().join(item.body for item in items), dtype=np.uint8)
    return Faces(
        images=pixels.reshape(shape),
        label=np.array(labels, dtype=np.int64),
        person=np.array([item.person for item in items], dtype=np.str_),
        face_id=np.array([item.item_id for item in items], dtype=np.str_),
    )


def demographics(
    vault: Vault, gate: ConsentGate, context: Context
) -> dict[tuple[str, str], dict[str, str]]:
    """The sensitive columns, by person and face, of people who agreed to FAIRNESS_AUDIT (AI Act 10(5)).

    Raises:
        privemo_consent.TamperedError: an item was changed or moved.
    """
    admitted = gate.admit(vault.sealed(kind=ItemKind.DEMOGRAPHIC), Purpose.FAIRNESS_AUDIT, context)
    return {(item.person, item.item_id): json.loads(item.body) for item in admitted.faces}
