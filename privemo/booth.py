"""Real people's faces into a real store's vault: one person at a time before a camera, or from a table.

A store that takes part in a federation trains on what lies in its vault. This is how it comes there once
people have agreed at the kiosk:

* `Booth.sit`: somebody presents their receipt, is asked to show an expression, and is photographed. Consent
  is asked for before the camera is opened (BIPA 15(b)); faces are found, cut out and judged for age as the
  recognizer does it, and go from memory into the vault, sealed. No picture is written.
* `Booth.take`: a table that the store's own program made, whose `identity` is a person's id, and whose
  `est_age` says of each face how old it looks: nobody comes in here whose looks nobody asked about.

Both go through `privemo.capture.capture`. Whoever it turns away is counted in the store's `store.json`, right
after: a process that dies in between has counted too few.
Nothing here needs torch.
"""

from __future__ import annotations

import fcntl
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from privemo.capture import PURPOSE_OF, Part, capture, check_ages
from privemo.errors import DataError, RunError, SettingsError
from privemo.faces import FaceTable
from privemo.files import changing, read_json, write_json
from privemo.labels import EMOTIONS
from privemo.recognizer.readings import Region
from privemo.storeconfig import STORE_FILE, Counted, NamelessReason, StoreConfig
from privemo.unlocking import open_registry
from privemo_consent import (
    AgeBand,
    Context,
    ItemKind,
    MinorRefused,
    Reason,
    Setting,
    UnknownAgeRefused,
    Vault,
)

__all__ = ["Booth", "Captured"]

_UNUSABLE = 50
"""So many pictures in a row without exactly one face, and nobody sits there."""


@dataclass(frozen=True)
class Captured:
    """What came of it, in faces.

    Attributes:
        kept: how many are in the vault now that were not before.
        turned_away: how many were not taken and leave a count alone, by reason.
        noted: how many of people with a record were not taken; each left a note that holds no pixel.
        unusable: how many pictures held no face, or several, by outcome.
        refused: why the camera was not opened at all.
    """

    kept: int = 0
    turned_away: Mapping[str, int] = field(default_factory=dict)
    noted: int = 0
    unusable: Mapping[str, int] = field(default_factory=dict)
    refused: Reason | None = None


class Booth:
    """A store's door for faces; use it in a `with` block.

    Args:
        folder: of a store that joined a federation: `store.json`, `consent.sqlite` and its keys.

    Raises:
        RunError: it has not joined, or `store.json` cannot be read.
        SettingsError: its keys need a passphrase, and nobody gave one (`privemo.unlocking`).
        privemo_consent.ConsentError: the registry or its key folder cannot be opened.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / STORE_FILE).exists():
            raise RunError(
                f"{self.folder} has not joined a federation, so nobody agreed yet whom it refuses and where: "
                f"privemo federation join {self.folder} --invitation FILE --no-start"
            )
        self.config = self._read()
        self.registry = open_registry(self.folder / "consent.sqlite", self.config.registry_mode)
        self._vault = Vault(self.registry)
        self._context = Context(setting=Setting.RETAIL, jurisdiction=self.config.jurisdiction)

    def __enter__(self) -> Booth:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.registry.close()

    def holder(self, presented: str) -> str:
        """Whose a receipt is: a kiosk's code, the text of the QR code, or the receipt itself.

        Raises:
            privemo_consent.UnknownPersonError: it leads to nobody.
        """
        from privemo_consent.kiosk.holder import holder_of

        return holder_of(self.registry, presented)

    # -- one person before a camera ------------------------------------------------------------------

    def sit(
        self,
        person: str,
        pictures: Iterable[NDArray[np.uint8]],
        *,
        label: str,
        part: Part,
        age_band: AgeBand,
        most: int = 4,
        channels: int = 1,
        region: Region | None = None,
        said: Mapping[str, str] | None = None,
    ) -> Captured:
        """Photograph somebody who sits before the camera alone and was asked to show one expression.

        Args:
            person: id in the registry, as `holder` tells it.
            pictures: RGB or gray uint8, as of `privemo.frames`; none is asked for before the gate permits.
            label: what they were asked to show, of `privemo.EMOTIONS`. No model says it: a model that labels
                its own training data learns its own mistakes.
            part: ``train``, or ``test`` for measuring; one person's faces are all in one of them.
            age_band: what they say of their age now.
            most: faces.
            channels: 1 for gray, 3 for RGB, as the federation reads.
            region: where they sit; no other pixel is looked at. None for the whole picture.
            said: what they say of themselves, for ``test``: a value for each `sensitive` column of the store.

        Raises:
            SettingsError: another label or number, or a sensitive column is missing.
            DataError: the person's faces are in the other part, or in the other number of channels.
            CameraError: the source gives no pictures.
            MissingExtra: the extra ``edge`` is not installed.
            privemo_consent.ConsentError: nothing was kept.
        """
        answers = self._checked(label, part, most, channels, said or {})
        if not age_band.is_adult:
            return Captured(refused=self._no_adult(person, age_band))
        self._check_part([person], part)
        decided = self.registry.decide(
            person, PURPOSE_OF[part], self._context, attested_age_band=age_band
        )
        if not decided.permit:
            return Captured(refused=decided.reason)
        faces, ages, unusable = _photographed(pictures, most, channels, region)
        if not faces:
            return Captured(unusable=unusable)
        n = len(faces)
        columns: dict[str, NDArray[np.generic]] = {
            "est_age": np.array(ages, dtype=np.float64),
            "age_band": np.array([age_band.value] * n),
        }
        columns.update({name: np.array([value] * n) for name, value in answers.items()})
        table = FaceTable(
            name="a sitting",
            digest="",
            label=np.full(n, EMOTIONS.index(label), dtype=np.int64),
            person=np.array([person] * n),
            person_source="identity",
            face_id=np.array([uuid.uuid4().hex for _ in faces]),
            split_group=np.zeros(n, dtype=np.int64),
            columns=columns,
            origin="",
            _images=np.stack(faces),
        )
        return self._captured(table, part, unusable)

    def _no_adult(self, person: str, age_band: AgeBand) -> Reason:
        """End the record of somebody who now says to be no adult: what is kept is a count."""
        try:
            self.registry.refuse(person, age_band=age_band, jurisdiction=self.config.jurisdiction)
        except MinorRefused:
            return Reason.MINOR
        except UnknownAgeRefused:
            return Reason.UNKNOWN_AGE
        raise AssertionError("unreachable")

    def _checked(
        self, label: str, part: Part, most: int, channels: int, said: Mapping[str, str]
    ) -> dict[str, str]:
        if label not in EMOTIONS:
            raise SettingsError(f"label is {label!r}: ask for one of {', '.join(EMOTIONS)}.")
        if most < 1 or channels not in (1, 3):
            raise SettingsError(
                f"Take 1 face or more, not {most}, in 1 or 3 channels, not {channels}."
            )
        wanted = self.config.sensitive if part == "test" else ()
        if set(said) != set(wanted) or not all(said.values()):
            named = ", ".join(wanted) or "none"
            raise SettingsError(
                f"said: what people say of themselves is kept for measuring alone, and here it is: {named}."
            )
        return dict(said)

    # -- a table of the store's own program ----------------------------------------------------------

    def take(self, table: FaceTable, part: Part) -> Captured:
        """Bring a table in. It stays where it is: whoever wrote it has to delete it.

        Args:
            table: its `identity` is a person's id in the registry; its `est_age` how old each face looks, in
                years (`privemo.recognizer.age.AgeEstimator`); its `age_band`, if any, what they said.
            part: as in `sit`.

        Raises:
            DataError: it has no `identity`, a face has no `est_age`, or a person's faces are in the other
                part; nothing was taken.
            privemo_consent.ConsentError: what was taken before stays; the rest is not there.
        """
        if table.person_source != "identity":
            raise DataError(
                f"{table.name} has no column 'identity': the id of each person in the registry, whose "
                "consent is asked for."
            )
        check_ages(table, np.arange(len(table)))
        return self._captured(table, part, {})

    # -- both ----------------------------------------------------------------------------------------

    def _check_part(self, persons: list[str], part: Part) -> None:
        """Nobody is measured on what they were trained on, nor trained on what they are measured on."""
        other: Part = "test" if part == "train" else "train"
        there = self._vault.sealed(where=lambda facts: facts.get("part") == other).person
        if set(persons) & set(np.asarray(there).tolist()):
            raise DataError(
                "A person's faces are all for training or all for measuring, and here are some for "
                f"{other} already."
            )

    def _captured(self, table: FaceTable, part: Part, unusable: Mapping[str, int]) -> Captured:
        with self._alone():
            # Also where it was asked before the camera was opened: another booth may have sat since.
            self._check_part(np.unique(table.person).tolist(), part)
            before = self._vault.counts()
            away = capture(
                self.registry,
                table,
                np.arange(len(table)),
                part=part,
                context=self._context,
                challenge_age=self.config.challenge_age,
                sensitive=self.config.sensitive if part == "test" else (),
            )
            self._count(part, away)
            after = self._vault.counts()
        return Captured(
            kept=after[ItemKind.FACE] - before[ItemKind.FACE],
            turned_away={reason: counted.faces for reason, counted in away.items()},
            noted=after[ItemKind.REFUSAL] - before[ItemKind.REFUSAL],
            unusable=unusable,
        )

    def _read(self) -> StoreConfig:
        return StoreConfig.of(**read_json(self.folder / STORE_FILE, schema="privemo.store/3"))

    def _count(self, part: Part, away: Mapping[NamelessReason, Counted]) -> None:
        """Add to the counts of whoever left no name, in what the store agreed to by now."""
        if not away:
            return
        with changing(self.folder / STORE_FILE):  # a store may join anew while somebody sits here
            self._add(part, away)

    def _add(self, part: Part, away: Mapping[NamelessReason, Counted]) -> None:
        config = self._read()
        found = {each: dict(counts) for each, counts in config.turned_away.items()}
        mine = found.setdefault(part, {})
        for reason, more in away.items():
            old = mine.get(reason, Counted(faces=0, persons=0))
            mine[reason] = Counted(faces=old.faces + more.faces, persons=old.persons + more.persons)
        self.config = config.model_copy(update={"turned_away": found})
        write_json(self.folder / STORE_FILE, self.config.model_dump(mode="json", by_alias=True))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One booth at a time takes faces in, and writes the counts."""
        with (self.folder / "capture.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _photographed(
    pictures: Iterable[NDArray[np.uint8]], most: int, channels: int, region: Region | None
) -> tuple[list[NDArray[np.uint8]], list[float], dict[str, int]]:
    """Faces (48, 48) or (48, 48, 3), how old each looks, and pictures of no use by outcome."""
    from privemo.recognizer.age import AgeEstimator
    from privemo.recognizer.faces import SURE, FaceFinder, face_for_models
    from privemo.recognizer.readings import Outcome, as_picture

    finder, estimator = FaceFinder(), AgeEstimator()
    faces: list[NDArray[np.uint8]] = []
    ages: list[float] = []
    unusable: Counter[str] = Counter()
    in_a_row = 0
    for frame in pictures:
        picture = as_picture(frame)
        if picture is not None and region is not None:
            picture = region.of(picture)
        before = len(faces)
        found = [] if picture is None else finder.find(np.ascontiguousarray(picture))
        if picture is None:
            unusable[Outcome.BAD_FRAME.value] += 1
        elif (
            len(found) > 1
        ):  # also where the second is only perhaps one: whose consent would it be?
            unusable[Outcome.SEVERAL_FACES.value] += 1
        elif not found or found[0].score < SURE:
            unusable[Outcome.NO_FACE.value] += 1
        else:
            faces.append(face_for_models(picture, found[0], channels))
            ages.append(estimator.years(picture, found[0]))
        in_a_row = 0 if len(faces) > before else in_a_row + 1
        if len(faces) >= most or in_a_row >= _UNUSABLE:
            break
    return faces, ages, dict(unusable)
