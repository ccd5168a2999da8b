"""The vault: what enters, what comes out and in which order, what goes. On both databases."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from privemo_consent import (
    AgeBand,
    ConsentGate,
    ConsentRegistry,
    Context,
    Item,
    ItemKind,
    KeyFileError,
    MalformedError,
    NewItem,
    Notice,
    Party,
    Purpose,
    Reason,
    RegistryBusyError,
    Role,
    StaffRefused,
    Vault,
    schema,
)
from privemo_consent.vault import Asked
from privemo_consent.vaultdoor import age_columns
from tests.unit.consent.conftest import MovableClock, Yes

TRAINING, AUDIT = Purpose.TRAINING, Purpose.FAIRNESS_AUDIT


@pytest.fixture(params=["sqlite", "postgresql"])
def registry(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    party: Party,
    notice: Notice,
    clock: MovableClock,
    yes: Yes,
) -> Iterator[ConsentRegistry]:
    """Ann, Bob and Cid agreed to everything, Dan to training only."""
    where: Any = tmp_path / "consent.sqlite"
    if request.param == "postgresql":
        where = request.getfixturevalue("postgres").fresh()
    with ConsentRegistry.create(
        where, mode="production", controller=party, keys=tmp_path / "keys", clock=clock
    ) as opened:
        opened.notice(notice)
        for person in ("ann", "bob", "cid"):
            opened.grant(person, [TRAINING, AUDIT], **yes())
        opened.grant("dan", [TRAINING], **yes())
        yield opened


@pytest.fixture
def vault(registry: ConsentRegistry) -> Vault:
    return Vault(registry)


def face(person: str, item_id: str = "f", body: bytes = b"px", **facts: Any) -> NewItem:
    return NewItem(person=person, item_id=item_id, body=body, facts=facts)


def read(vault: Vault, registry: ConsentRegistry, shop: Context, **of: Any) -> list[Item]:
    return ConsentGate(registry).admit(vault.sealed(**of), TRAINING, shop).faces


def held(vault: Vault) -> dict[str, int]:
    return {kind.value: count for kind, count in vault.counts().items() if count}


# -- in --------------------------------------------------------------------------------------------


def test_what_was_put_comes_out_through_the_gate(
    vault: Vault, registry: ConsentRegistry, shop: Context
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, 6912, dtype=np.uint8).tobytes()
    done = vault.put([face("ann", "f1", pixels, label=2), face("bob", "f2", b"", label=0)], shop)
    assert (done.stored, done.refused) == (2, {})
    found = read(vault, registry, shop)
    assert [(i.person, i.item_id, i.facts, i.body) for i in found] == [
        ("ann", "f1", {"label": 2}, pixels),
        ("bob", "f2", {"label": 0}, b""),
    ]
    registry.verify()


AWAY = [
    ("said no", "no", {}, Reason.REFUSED),
    ("took it back", "gone", {}, Reason.WITHDRAWN),
    ("term is over", "late", {}, Reason.EXPIRED),
    ("agreed to something else", "else", {}, Reason.WRONG_PURPOSE),
    ("works there", "clerk", {}, Reason.STAFF),
    ("never came to the kiosk", "stranger", {}, Reason.NO_RECORD),
    ("says under 18", "ann", {"attested_age_band": "16_17"}, Reason.MINOR),
    ("did not say an age", "ann", {"attested_age_band": "unknown"}, Reason.UNKNOWN_AGE),
    ("says nonsense", "ann", {"attested_age_band": "old enough"}, Reason.UNKNOWN_AGE),
    ("looks too young", "ann", {"estimated_age": 24.9}, Reason.SUSPECTED_MINOR),
    ("looks impossible", "ann", {"estimated_age": -1}, Reason.SUSPECTED_MINOR),
]
NAMELESS = {Reason.NO_RECORD, Reason.MINOR, Reason.UNKNOWN_AGE, Reason.SUSPECTED_MINOR}


@pytest.fixture
def crowd(registry: ConsentRegistry, clock: MovableClock, yes: Yes) -> ConsentRegistry:
    """One person for each way to be turned away."""
    registry.refuse("no", [TRAINING], **yes())
    registry.grant("gone", [TRAINING], **yes())
    registry.withdraw("gone")
    registry.grant("late", [TRAINING], **yes(valid_for=timedelta(hours=1)))
    registry.grant("else", [AUDIT], **yes())
    with pytest.raises(StaffRefused):
        registry.grant("clerk", [TRAINING], **yes(role=Role.EMPLOYEE))
    clock.forward(hours=2)
    return registry


@pytest.mark.parametrize(
    ("person", "facts", "reason"), [r[1:] for r in AWAY], ids=[r[0] for r in AWAY]
)
def test_nothing_enters_without_live_consent(
    crowd: ConsentRegistry, shop: Context, person: str, facts: dict[str, Any], reason: Reason
) -> None:
    """BIPA 15(b): the release comes before the capture. Of minors not even a note is kept."""
    vault = Vault(crowd)
    done = vault.put([face(person, **facts), face("bob")], shop, purposes=[TRAINING])
    assert done.reasons == (reason, Reason.PERMITTED)
    assert (done.stored, done.refused) == (1, {reason: 1})
    noted = vault.put([face(person, body=b"", **facts)], shop, kind=ItemKind.REFUSAL)
    want = {"face": 1} if reason in NAMELESS else {"face": 1, "refusal": 1}
    assert held(vault) == want
    assert noted.reasons == (reason if reason in NAMELESS else Reason.PERMITTED,)


def test_nothing_is_captured_at_work(vault: Vault) -> None:
    office = Context(setting="workplace", jurisdiction="IE")
    for kind in ItemKind:
        assert vault.put([face("ann")], office, kind=kind).refused == {Reason.WRONG_CONTEXT: 1}
    assert held(vault) == {}


def test_a_face_is_captured_for_a_purpose(vault: Vault, shop: Context) -> None:
    assert vault.put([face("dan")], shop, purposes=[AUDIT]).refused == {Reason.WRONG_PURPOSE: 1}
    assert vault.put([face("dan")], shop, purposes=[AUDIT, TRAINING]).stored == 1
    assert vault.put([face("dan", "g")], shop).stored == 1  # any live consent will do


def test_labels_of_groups_have_a_purpose_of_their_own(vault: Vault, shop: Context) -> None:
    """EU AI Act 10(5)."""
    kind = ItemKind.DEMOGRAPHIC
    assert vault.put([face("dan")], shop, kind=kind).refused == {Reason.WRONG_PURPOSE: 1}
    assert vault.put([face("ann")], shop, kind=kind).stored == 1
    for purposes in ([TRAINING], [TRAINING, AUDIT], []):
        with pytest.raises(MalformedError, match="kept for"):
            vault.put([face("bob")], shop, kind=kind, purposes=purposes)
    assert held(vault) == {"demographic": 1}


def test_one_young_face_turns_all_faces_of_the_person_away(vault: Vault, shop: Context) -> None:
    items = [face("ann", "a", estimated_age=40), face("ann", "b", estimated_age=20), face("bob")]
    assert vault.put(items, shop).refused == {Reason.SUSPECTED_MINOR: 2}
    assert vault.put(items[:1], shop, challenge_age=41).refused == {Reason.SUSPECTED_MINOR: 1}
    with pytest.raises(MalformedError, match="18"):
        vault.put(items, shop, challenge_age=17)


def test_what_one_session_said_is_not_forgotten_because_another_said_nothing() -> None:
    ages, bands = age_columns([{}, {"attested_age_band": "under_13"}, {"estimated_age": 3}])
    assert bands is not None
    assert bands[1] == "under_13"
    assert all(AgeBand(band).is_adult for band in (bands[0], bands[2]))
    assert [math.isnan(age) for age in ages] == [True, True, False]
    assert age_columns([{}, {}])[1] is None


@pytest.mark.parametrize(
    ("item", "told"),
    [
        (face("ann", ""), "id"),
        (face("ann", "x" * 201), "id"),
        (face("ann", "a\x1fb"), "id"),
        (face("ann", "a\0"), "id"),
        (face("ann", 5), "id"),  # type: ignore[arg-type]
        (face("ann", body="text"), "bytes"),  # type: ignore[arg-type]
        (face("ann", body=bytearray(b"px")), "bytes"),  # type: ignore[arg-type]
        (face("ann", estimated_age=math.nan), "estimated_age"),
        (face("ann", estimated_age=math.inf), "estimated_age"),
        (face("ann", estimated_age="30"), "estimated_age"),
        (face("ann", estimated_age=True), "estimated_age"),
        (face("ann", attested_age_band=25), "attested_age_band"),
        (face("ann", label=math.nan), "JSON"),
        (face("ann", label=np.int64(3)), "JSON"),
        (NewItem(person="ann", item_id="f", body=b"", facts={1: 2}), "text"),  # type: ignore[dict-item]
    ],
)
def test_what_could_not_be_read_again_is_not_kept_and_nothing_beside_it(
    vault: Vault, shop: Context, item: NewItem, told: str
) -> None:
    with pytest.raises(MalformedError, match=told) as caught:
        vault.put([face("bob"), item], shop)
    assert "ann" not in str(caught.value)
    assert held(vault) == {}


@pytest.mark.parametrize("calls", [1, 2])
def test_an_item_is_kept_once(vault: Vault, shop: Context, calls: int) -> None:
    again = [face("ann", "f1", b"one"), face("ann", "f2")]
    if calls == 2:
        vault.put([face("ann", "f1", b"other")], shop)
    with pytest.raises(MalformedError, match="already, or stands twice"):
        vault.put(again if calls == 2 else [*again, face("ann", "f1")], shop)
    assert held(vault) == ({"face": 1} if calls == 2 else {})
    vault.put([face("bob", "f1"), face("ann", "f1x")], shop)  # another's, and another
    vault.put([face("ann", "f1")], shop, kind=ItemKind.DEMOGRAPHIC)


def test_nothing_is_nothing(vault: Vault, registry: ConsentRegistry, shop: Context) -> None:
    assert vault.put([], shop).stored == 0
    assert read(vault, registry, shop) == []
    assert vault.of_person("ann") == vault.of_person("stranger") == vault.turned_away() == []
    assert vault.delete(kind=ItemKind.FACE) == vault.delete(kind=ItemKind.FACE, persons=[]) == 0


# -- out -------------------------------------------------------------------------------------------


def test_the_order_is_that_of_the_ids_and_numbers_count_up(
    vault: Vault, registry: ConsentRegistry, shop: Context
) -> None:
    names = [f"d-{n}" for n in (10, 2, 33, 1, 100)]
    for name in names:  # one at a time: the order of arrival is another
        vault.put([face("bob", name), face("ann", name)], shop)
    found = [(i.item_id, i.person) for i in read(vault, registry, shop)]
    assert found == [(f"d-{n}", p) for n in (1, 2, 10, 33, 100) for p in ("ann", "bob")]
    assert [i.item_id for i in vault.of_person("ann")] == [f"d-{n}" for n in (1, 2, 10, 33, 100)]


def test_ids_of_people_and_items_do_not_run_into_each_other(
    vault: Vault, registry: ConsentRegistry, shop: Context, yes: Yes
) -> None:
    registry.grant("a/b", [TRAINING], **yes())
    registry.grant("a", [TRAINING], **yes())
    vault.put([face("a/b", "c"), face("a", "b/c")], shop)
    assert {(i.person, i.item_id) for i in read(vault, registry, shop)} == {
        ("a/b", "c"),
        ("a", "b/c"),
    }


def test_a_table_may_be_a_part(vault: Vault, registry: ConsentRegistry, shop: Context) -> None:
    vault.put([face("ann", "f1", part="train"), face("bob", "f2", part="test")], shop)
    found = read(vault, registry, shop, where=lambda facts: facts["part"] == "test")
    assert [i.item_id for i in found] == ["f2"]


def test_the_gate_decides_anew_each_time(
    vault: Vault, registry: ConsentRegistry, shop: Context
) -> None:
    """A face stays until it is erased or falls due; it is not admitted on yesterday's word."""
    vault.put([face("ann"), face("bob")], shop)
    sealed = vault.sealed()
    registry.withdraw("ann")
    assert [i.person for i in ConsentGate(registry).admit(sealed, TRAINING, shop).faces] == ["bob"]
    assert [i.person for i in read(vault, registry, shop)] == ["bob"]
    assert held(vault) == {"face": 2}
    assert [i.body for i in vault.of_person("ann")] == [b"px"]  # the person may see it (GDPR 15)


def test_whoever_was_turned_away_is_asked_about_and_never_opened(
    vault: Vault, registry: ConsentRegistry, shop: Context, yes: Yes
) -> None:
    registry.refuse("eve", [TRAINING], **yes())
    vault.put([face("ann")], shop)
    vault.put([face("eve", "f1", b"", age="kept")], shop, kind=ItemKind.REFUSAL)
    stand_in = Asked(person="\x1fminor", facts={"attested_age_band": "under_13"})
    assert [(a.person, a.facts) for a in vault.turned_away()] == [("eve", {"age": "kept"})]

    def ask() -> Any:
        table = vault.sealed(also=[*vault.turned_away(), stand_in])
        return ConsentGate(registry).admit(table, TRAINING, shop)

    first = ask()
    assert first.counts.refused_faces == {Reason.REFUSED: 1, Reason.MINOR: 1}
    assert (first.counts.asked_faces, len(first.faces)) == (3, 1)
    registry.grant("eve", [TRAINING], **yes())
    then = ask()
    assert then.rows.tolist() == [0, 1]
    assert [i.person for i in then.faces] == ["ann"]  # there is nothing of Eve to open


def test_a_deleted_item_is_not_taken_for_a_tampered_one(
    vault: Vault, registry: ConsentRegistry, shop: Context
) -> None:
    vault.put([face("ann"), face("bob")], shop)
    gate, sealed = ConsentGate(registry), vault.sealed()
    vault.delete(kind=ItemKind.FACE, persons=["ann"])
    with pytest.raises(RegistryBusyError, match="read it again"):
        gate.admit(sealed, TRAINING, shop)
    assert [i.person for i in gate.admit(vault.sealed(), TRAINING, shop).faces] == ["bob"]


def test_without_keys_nothing_is_named_and_sizes_are_all_there_is(
    registry: ConsentRegistry, vault: Vault, shop: Context, tmp_path: Path
) -> None:
    if registry._store.path is None:
        pytest.skip("a server's registry is opened with its keys or not at all")
    vault.put([face("ann")], shop)
    with ConsentRegistry.open(registry.path, mode="production", readonly=True) as blind:
        assert Vault(blind).counts()[ItemKind.FACE] == 1
        for look in (Vault(blind).sealed, Vault(blind).turned_away):
            with pytest.raises(KeyFileError, match="key folder"):
                look()


def test_new_keys_for_people_leave_every_face_as_it_lies(
    vault: Vault, registry: ConsentRegistry, shop: Context
) -> None:
    """Wrapped anew without opening: the ciphertexts stay, byte for byte."""

    def rows() -> list[Any]:
        with registry._store.read() as connection:
            return list(connection.execute(sa.select(schema.items).order_by(schema.items.c.iid)))

    vault.put([face("ann"), face("bob")], shop)
    before = rows()
    registry.rotate_person_keys()
    assert rows() == before
    assert len(read(vault, registry, shop)) == 2
    with pytest.raises(MalformedError, match="already"):
        vault.put([face("ann")], shop)
    registry.verify()


# -- gone ------------------------------------------------------------------------------------------


def test_a_kind_goes_for_some_people_or_for_all(
    vault: Vault, registry: ConsentRegistry, shop: Context
) -> None:
    for kind in ItemKind:
        vault.put([face("ann"), face("bob"), face("cid")], shop, kind=kind)
    assert vault.delete(kind=ItemKind.DEMOGRAPHIC) == 3
    assert vault.delete(kind=ItemKind.FACE, persons=["ann", "bob", "ann", "stranger"]) == 2
    assert held(vault) == {"face": 1, "refusal": 3}
    assert [i.person for i in read(vault, registry, shop)] == ["cid"]
    registry.verify()
    vault.put([face("ann")], shop)  # may come again


def test_erasure_takes_every_item_with_it(
    vault: Vault, registry: ConsentRegistry, shop: Context
) -> None:
    for kind in ItemKind:
        vault.put([face("ann", "f1"), face("ann", "f2"), face("bob")], shop, kind=kind)
    assert registry.erase("ann").items == 6
    assert held(vault) == {"face": 1, "demographic": 1, "refusal": 1}
    assert vault.of_person("ann") == []
    assert vault.put([face("ann")], shop).refused == {Reason.NO_RECORD: 1}
    registry.verify()


# -- many ------------------------------------------------------------------------------------------


def test_putting_costs_the_same_however_much_is_held(vault: Vault, shop: Context) -> None:
    def put(start: int) -> float:
        items = [face(("ann", "bob", "cid")[n % 3], f"f{start + n}") for n in range(100)]
        began = time.perf_counter()
        vault.put(items, shop)
        return time.perf_counter() - began

    times = [put(100 * n) for n in range(40)]
    assert np.median(times[-5:]) < 5 * np.median(times[:5]) + 0.05
    assert vault.counts()[ItemKind.FACE] == 4000
