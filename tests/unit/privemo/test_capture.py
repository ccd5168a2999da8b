"""The door of a store's vault: who is taken in, who is turned away, and what is kept of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privemo.capture import Admission, asked, capture, demographics, faces_of
from privemo.errors import DataError
from privemo.faces import FaceTable, load_faces
from privemo.layout import CONTROLLER
from privemo.storeconfig import Counted
from privemo_consent import (
    AgeBand,
    ConsentGate,
    ConsentRegistry,
    Context,
    Item,
    ItemKind,
    Purpose,
    Role,
    StaffRefused,
    Vault,
)
from privemo_consent.simulate import simulated_notice

SHOP = Context(setting="retail", jurisdiction="IE")
#: person, what the table says of their age, an estimate; two faces each
PEOPLE = [
    ("ann", "25_34", 30.0),
    ("bob", "35_44", np.nan),
    ("cid", "25_34", 29.0),
    ("eve", "25_34", 31.0),
    ("fay", "13_15", 40.0),
    ("gus", "unknown", 50.0),
    ("hal", "25_34", 19.0),
    ("ian", "25_34", np.inf),
    ("joe", "25_34", 33.0),
]


@pytest.fixture
def table(tmp_path: Path) -> FaceTable:
    n = 2 * len(PEOPLE)
    names, bands, ages = zip(*[person for person in PEOPLE for _ in range(2)], strict=True)
    np.savez(
        tmp_path / "faces.npz",
        images=np.random.default_rng(1).integers(0, 256, (n, 48, 48, 3), dtype=np.uint8),
        label=np.arange(n) % 4,
        label_names=np.array(["happy", "sad", "neutral", "surprise"]),
        identity=np.array(names),
        age_band=np.array(bands),
        est_age=np.array(ages),
        gender=np.array(["woman", "man"] * (n // 2)),
    )
    return load_faces(tmp_path / "faces.npz")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[ConsentRegistry]:
    """Everyone agreed, but Cid said no, Eve is staff, Joe never came; Fay would not be let in."""
    notice = simulated_notice(CONTROLLER)
    yes: Any = {"age_band": AgeBand.FROM_25, "jurisdiction": "IE", "notice": notice}
    both = [Purpose.TRAINING, Purpose.FAIRNESS_AUDIT]
    with ConsentRegistry.create(
        tmp_path / "consent.sqlite", mode="simulation", controller=CONTROLLER
    ) as opened:
        opened.notice(notice)
        for person in ("ann", "bob", "fay", "gus", "hal", "ian"):
            opened.grant(person, both, **yes)
        opened.refuse("cid", both, **yes)
        with pytest.raises(StaffRefused):
            opened.grant("eve", both, role=Role.EMPLOYEE, **yes)
        yield opened


def taken(
    registry: ConsentRegistry, table: FaceTable, part: Any = "train", **more: Any
) -> dict[Any, Counted]:
    rows = np.arange(len(table))
    return capture(registry, table, rows, part=part, context=SHOP, **more)


AWAY = {
    "minor": Counted(faces=2, persons=1),
    "unknown_age": Counted(faces=2, persons=1),
    "suspected_minor": Counted(faces=4, persons=2),
    "no_record": Counted(faces=2, persons=1),
}


def test_of_each_is_kept_what_may_be_kept(registry: ConsentRegistry, table: FaceTable) -> None:
    """Faces of who agreed, a note of who has a record, and of a child or a stranger a count."""
    assert taken(registry, table) == AWAY
    vault = Vault(registry)
    kept = {
        person: {
            k.value: len(found) for k in ItemKind if (found := vault.of_person(person, kind=k))
        }
        for person in registry.persons()
    }
    assert kept == {
        **{person: {"face": 2} for person in ("ann", "bob")},
        **{person: {"refusal": 2} for person in ("cid", "eve")},
        **{person: {} for person in ("fay", "gus", "hal", "ian")},
    }
    for person in ("cid", "eve"):
        for note in vault.of_person(person, kind=ItemKind.REFUSAL):
            assert note.body == b""
            assert "label" not in note.facts


def test_the_gate_says_of_the_vault_what_it_says_of_the_table(
    registry: ConsentRegistry, table: FaceTable
) -> None:
    away = taken(registry, table)
    gate, rows = ConsentGate(registry), np.arange(len(table))
    of_table = gate.admit(table.seal(rows), Purpose.TRAINING, SHOP)
    sealed = asked(Vault(registry), "train", away)
    of_vault = gate.admit(sealed, Purpose.TRAINING, SHOP)
    assert of_vault.counts == of_table.counts
    found = Admission.of(sealed, of_vault)
    assert found.counts == of_table.counts.as_dict() | {
        "refused": {
            unit: dict(sorted(counts.items()))
            for unit, counts in of_table.counts.as_dict()["refused"].items()
        }
    }
    for name in ("images", "label", "person", "face_id"):
        assert np.array_equal(getattr(found.faces, name), getattr(of_table.faces, name)), name


@pytest.mark.parametrize("reason", AWAY)
def test_nobody_can_take_the_place_of_a_stand_in(registry: ConsentRegistry, reason: Any) -> None:
    """Its id is one that no registry takes; so its reason cannot change."""
    vault = Vault(registry)
    sealed = asked(vault, "train", {reason: Counted(faces=5, persons=3)})
    counts = ConsentGate(registry).admit(sealed, Purpose.TRAINING, SHOP).counts
    assert counts.refused_faces == {reason: 5}
    assert counts.refused_persons == {reason: 3}
    for name in set(sealed.person.tolist()):
        assert not name.isprintable()
        with pytest.raises(ValueError, match="printable"):
            registry.grant(
                name,
                [Purpose.TRAINING],
                age_band=AgeBand.FROM_25,
                jurisdiction="IE",
                notice=registry.notices()[0],
            )


def test_a_part_is_captured_for_its_purpose(registry: ConsentRegistry, table: FaceTable) -> None:
    registry.withdraw("ann", [Purpose.TRAINING])
    registry.withdraw("bob", [Purpose.FAIRNESS_AUDIT])
    taken(registry, table, "train")
    vault = Vault(registry)
    held = [(p, i.facts["part"]) for p in ("ann", "bob") for i in vault.of_person(p)]
    assert held == [("bob", "train")] * 2


def test_sensitive_columns_are_kept_of_held_out_faces_alone(
    registry: ConsentRegistry, table: FaceTable
) -> None:
    """EU AI Act 10(5)."""
    taken(registry, table, "train", sensitive=["gender", "age_band"])
    assert Vault(registry).counts()[ItemKind.DEMOGRAPHIC] == 0


def test_sensitive_columns_come_out_for_the_audit_alone(
    registry: ConsentRegistry, table: FaceTable
) -> None:
    taken(registry, table, "test", sensitive=["gender", "age_band"])
    vault, gate = Vault(registry), ConsentGate(registry)
    assert {person for person, _ in demographics(vault, gate, SHOP)} == {"ann", "bob"}
    for person in ("ann", "bob"):
        assert not any("woman" in str(item.facts) for item in vault.of_person(person))
    registry.withdraw("ann", [Purpose.FAIRNESS_AUDIT])
    found = demographics(vault, gate, SHOP)
    first = str(table.face_id[2])
    assert found["bob", first] == {"gender": "woman", "age_band": "35_44"}
    assert {person for person, _ in found} == {"bob"}


def test_a_missing_column_is_named_before_any_face_is_kept(
    registry: ConsentRegistry, table: FaceTable
) -> None:
    with pytest.raises(DataError, match="no column 'skin'"):
        taken(registry, table, "test", sensitive=["skin"])
    assert not Vault(registry).counts()[ItemKind.FACE]


def test_the_challenge_age_of_the_store_holds_at_the_door(
    registry: ConsentRegistry, table: FaceTable
) -> None:
    away = taken(registry, table, challenge_age=31)
    assert away["suspected_minor"].persons == 4  # Ann of 30 and Cid of 29 too
    assert Vault(registry).of_person("ann") == []


def test_nothing_is_captured_at_work(registry: ConsentRegistry, table: FaceTable) -> None:
    office = Context(setting="workplace", jurisdiction="IE")
    with pytest.raises(DataError, match="wrong_context"):
        capture(registry, table, np.arange(4), part="train", context=office)
    assert not any(Vault(registry).counts().values())


def test_no_rows_no_faces(registry: ConsentRegistry, table: FaceTable) -> None:
    none = np.empty(0, dtype=np.int64)
    assert capture(registry, table, none, part="train", context=SHOP) == {}
    assert len(faces_of([])) == 0


def item(body: bytes = bytes(2304), **facts: Any) -> Item:
    return Item(person="ann", item_id="f", facts={"label": 1} | facts, body=body)


@pytest.mark.parametrize(
    ("items", "told"),
    [
        ([item(bytes(2303))], "2303 bytes"),
        ([item(b"")], "of 0 bytes"),
        ([item(), item(bytes(6912))], "the same for all"),
        ([item(label=4)], "four labels"),
        ([item(label=-1)], "four labels"),
        ([item(label="happy")], "four labels"),
        ([item(label=True)], "four labels"),
        ([item(label=None)], "four labels"),
    ],
)
def test_what_is_no_face_is_refused(items: list[Item], told: str) -> None:
    with pytest.raises(DataError, match=told):
        faces_of(items)
