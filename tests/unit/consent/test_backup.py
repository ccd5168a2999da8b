"""Backups and what comes out of them: nobody erased comes back, no ended consent lives again."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from privemo_consent import (
    AgeBand,
    ClockBackwardsError,
    ConsentRegistry,
    ConsentStatus,
    Context,
    ForkedError,
    MalformedError,
    ModeMismatchError,
    Notice,
    Purpose,
    Reason,
    RegistryExistsError,
    RegistryMissingError,
    RegistryUnreadableError,
    TamperedError,
    UnknownPersonError,
)
from privemo_consent import leaves as log_leaves
from privemo_consent.copies.backup import Restored, restore, write_backup
from privemo_consent.errors import (
    ConsentError,
    KeyFileError,
    WitnessMissingError,
)
from privemo_consent.handle import new_signing_key
from privemo_consent.keyfolder import KeyFolder
from privemo_consent.vault import NewItem, Vault
from tests.support.postgres import PostgresServer
from tests.unit.consent.conftest import MovableClock, Yes

TRAINING = Purpose.TRAINING
USE: dict[str, Any] = {"run": "r", "round": 1, "store": "s", "batch": 0, "log_seq": 1}


class Shop:
    """A registry with four people, a backup of it, and the place where it is restored."""

    def __init__(self, registry: ConsentRegistry, yes: Yes, clock: MovableClock) -> None:
        self.registry, self.yes, self.clock = registry, yes, clock
        self.folder = registry.path.parent
        self.keys = self.folder / "consent.keys"
        self.copy = self.folder / "copy.bak"
        for name in ("anna", "ben", "cy", "dora"):
            self.grant(name)
        registry.withdraw("dora")
        registry.record_use(["anna", "ben"], TRAINING, **USE)
        context = Context(setting="retail", jurisdiction="IE")
        faces = [NewItem(person=name, item_id="f", body=b"pixels") for name in ("anna", "ben")]
        Vault(registry).put(faces, context)

    def grant(self, name: str, registry: ConsentRegistry | None = None) -> None:
        (registry or self.registry).grant(name, [TRAINING], **self.yes())  # type: ignore[arg-type]

    def back_up(self) -> Shop:
        write_backup(self.registry, self.copy)
        self.clock.forward(minutes=1)
        return self

    def restore(self, name: str = "new.sqlite", **changes: Any) -> Restored:
        options: dict[str, Any] = {"keys": self.keys, "mode": "production", "clock": self.clock}
        source = changes.pop("source", self.copy)
        return restore(source, self.folder / name, **(options | changes))

    def open(self, name: str = "new.sqlite") -> ConsentRegistry:
        return ConsentRegistry.open(
            self.folder / name, keys=self.keys, mode="production", clock=self.clock
        )


@pytest.fixture
def house(registry: ConsentRegistry, yes: Yes, clock: MovableClock) -> Shop:
    return Shop(registry, yes, clock)


# -- writing -------------------------------------------------------------------------------------


def test_a_backup_holds_rows_and_neither_keys_nor_names(house: Shop) -> None:
    made = write_backup(house.registry, house.copy)
    head = house.registry.head()
    assert (made.events, made.root, made.uses) == (head.seq, head.root, 1)
    assert made.checkpoint == house.registry.checkpoint()
    assert house.copy.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in house.folder.iterdir() if "copy" in path.name] == ["copy.bak"]
    data, keys = house.copy.read_bytes(), house.registry.keys
    secret = [keys.registry_key, keys.lookup_key(1), *(keys.wrap_key(1, pid) for pid in range(4))]
    secret += [keys.signer(key_id).secret() for key_id in keys.signers]
    secret += [b"anna", b"dora", b"pixels"]
    assert not [at for at, value in enumerate(secret) if value in data]
    with sqlite3.connect(house.copy) as connection:
        handles = connection.execute("SELECT handle FROM persons").fetchall()
    assert handles == [(None,)] * 4


@pytest.mark.parametrize("readonly", [True, False])
def test_a_backup_never_opens_as_a_registry(house: Shop, readonly: bool) -> None:
    house.back_up()
    with pytest.raises(RegistryUnreadableError):
        ConsentRegistry.open(
            house.copy, keys=house.keys, mode="production", readonly=readonly, clock=house.clock
        )


def test_what_stands_in_the_way_is_left_alone(house: Shop) -> None:
    house.copy.write_text("mine")
    with pytest.raises(RegistryExistsError):
        write_backup(house.registry, house.copy)
    assert house.copy.read_text() == "mine"
    with pytest.raises(RegistryMissingError):
        write_backup(house.registry, house.folder / "nowhere" / "copy.bak")


def test_a_log_that_nobody_signed_is_not_copied(house: Shop) -> None:
    with house.registry._store.write() as connection:
        row = connection.exec_driver_sql("SELECT * FROM events ORDER BY seq DESC").first()
        assert row is not None
        values = (row[0] + 1, *row[1:])
        marks = ",".join("?" * len(values))
        connection.exec_driver_sql(f"INSERT INTO events VALUES ({marks})", values)  # noqa: S608
    with pytest.raises(TamperedError, match="no signed head covers it"):
        write_backup(house.registry, house.copy)
    assert not house.copy.exists()


# -- what is shown to be whole -------------------------------------------------------------------


def nothing(house: Shop) -> dict[str, Any]:
    return {}


def both_heads(house: Shop) -> dict[str, Any]:
    return {"newest": house.registry.head(), "newest_uses": house.registry.uses_head()}


def events_head(house: Shop) -> dict[str, Any]:
    return {"newest": house.registry.head()}


def uses_head(house: Shop) -> dict[str, Any]:
    return {"newest_uses": house.registry.uses_head()}


def witness(house: Shop) -> dict[str, Any]:
    house.registry.set_witness(house.folder / "witness")
    return {}


def witness_that_saw_a_withdrawal(house: Shop) -> dict[str, Any]:
    house.registry.set_witness(house.folder / "witness")
    house.registry.withdraw("cy")
    return {}


def witness_against_an_old_note(house: Shop) -> dict[str, Any]:
    return {**both_heads(house), **witness_that_saw_a_withdrawal(house)}


def witness_that_saw_a_use(house: Shop) -> dict[str, Any]:
    house.registry.set_witness(house.folder / "witness")
    house.registry.record_use(["anna"], TRAINING, **USE)
    return {}


def away_at_a_withdrawal(house: Shop) -> dict[str, Any]:
    """The witness comes back and nothing is written any more: it remembers an end that is none."""
    witness(house)
    (house.folder / "witness").rename(house.folder / "unplugged")
    house.registry.withdraw("cy")
    (house.folder / "unplugged").rename(house.folder / "witness")
    return {}


def away_at_a_use(house: Shop) -> dict[str, Any]:
    witness(house)
    (house.folder / "witness").rename(house.folder / "unplugged")
    house.registry.record_use(["anna"], TRAINING, **USE)
    (house.folder / "unplugged").rename(house.folder / "witness")
    return {}


def head_after_a_withdrawal(house: Shop) -> dict[str, Any]:
    house.registry.withdraw("cy")
    return both_heads(house)


def note_that_hides_an_erasure(house: Shop) -> dict[str, Any]:
    known = both_heads(house)
    house.registry.erase("cy")
    return known


def note_that_hides_a_newcomers_erasure(house: Shop) -> dict[str, Any]:
    known = both_heads(house)
    house.grant("eve")
    house.registry.erase("eve")
    return known


def note_that_hides_a_revoked_key(house: Shop) -> dict[str, Any]:
    known = both_heads(house)
    house.registry.revoke_signing_key(house.registry.keys.signers[0].hex())
    return known


def head_from_before_the_copy(house: Shop) -> dict[str, Any]:
    registry = house.registry
    from privemo_consent.reader import LogHead

    return {"newest": LogHead(3, registry.log_root(3))}


def both_heads_and_doubt(house: Shop) -> dict[str, Any]:
    return {**both_heads(house), "suspend": True}


@pytest.mark.parametrize(
    ("known", "permits", "same_origin"),
    [
        (nothing, False, False),
        (both_heads, True, True),
        (both_heads_and_doubt, False, False),
        (events_head, True, False),  # a use may be missing: the name must not be signed twice
        (uses_head, False, False),
        (witness, True, True),
        (witness_that_saw_a_withdrawal, False, False),
        (witness_against_an_old_note, False, False),
        (witness_that_saw_a_use, True, False),
        (away_at_a_withdrawal, False, False),
        (away_at_a_use, False, False),
        (head_after_a_withdrawal, False, False),
        (head_from_before_the_copy, False, False),
        (note_that_hides_an_erasure, False, False),
        (note_that_hides_a_newcomers_erasure, False, False),
        (note_that_hides_a_revoked_key, False, False),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_consent_lives_on_only_where_nothing_is_shown_to_be_lost(
    house: Shop,
    shop: Context,
    known: Callable[[Shop], dict[str, Any]],
    permits: bool,
    same_origin: bool,
) -> None:
    origin = house.registry.origin
    evidence = known(house.back_up())
    found = house.restore(**evidence)
    assert found.whole is permits
    assert (found.origin == origin) is same_origin
    with house.open() as restored:
        restored.verify()
        assert restored.decide("anna", TRAINING, shop).permit is permits
        assert restored.decide("dora", TRAINING, shop).reason is Reason.WITHDRAWN
        assert restored.origin == found.origin
        assert (restored.head().seq, restored.head().root) == (found.events, found.root)
        assert restored.checkpoint() == found.checkpoint
        house.grant("new", restored)
        restored.record_use(["new"], TRAINING, **USE)
        assert restored.decide("new", TRAINING, shop).permit
        restored.verify()


@pytest.mark.parametrize("evidence", [nothing, witness_that_saw_a_withdrawal, events_head])
def test_a_withdrawal_after_the_backup_is_never_forgotten(
    house: Shop, shop: Context, evidence: Callable[[Shop], dict[str, Any]]
) -> None:
    house.back_up()
    house.registry.withdraw("ben")
    house.restore(**evidence(house))
    with house.open() as restored:
        found = restored.decide("ben", TRAINING, shop)
        assert not found.permit


def test_suspended_people_are_asked_again(house: Shop, shop: Context) -> None:
    found = house.back_up().restore()
    assert found.suspended == 3
    with house.open() as restored:
        last = restored.history("anna")[-1]
        assert last.status is ConsentStatus.INVALIDATED
        assert last.entity == "registry"
        house.clock.forward(days=1)
        house.grant("anna", restored)
        assert restored.decide("anna", TRAINING, shop).permit


def test_a_term_that_is_over_is_suspended_too(house: Shop) -> None:
    house.back_up()
    house.clock.forward(days=800)
    assert house.restore().suspended == 3


@pytest.mark.parametrize(
    "newest", [(1,), (-1, "0" * 64), (1, "zz" * 32), (1, "00"), (True, "0" * 64)]
)
def test_a_head_that_is_none_is_refused(house: Shop, newest: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - unpacking has no message of ours
        house.back_up().restore(newest=newest)
    assert not (house.folder / "new.sqlite").exists()


def test_another_history_is_no_copy(house: Shop) -> None:
    from privemo_consent.reader import LogHead

    house.back_up()
    with pytest.raises(ForkedError):
        house.restore(newest=LogHead(3, "ab" * 32))


def test_a_witness_that_is_away_is_waited_for(house: Shop) -> None:
    witness(house.back_up())
    (house.folder / "witness").rename(house.folder / "unplugged")
    with pytest.raises(WitnessMissingError):
        house.restore()
    (house.folder / "unplugged").rename(house.folder / "witness")
    assert house.restore().whole


def test_a_witness_that_was_told_again_proves_again(house: Shop, shop: Context) -> None:
    away_at_a_withdrawal(house)
    assert house.registry.keys.witness_behind is not None
    house.grant("eve")
    assert house.registry.keys.witness_behind is None
    house.back_up()
    house.registry.close()
    house.registry.path.unlink()
    assert house.restore().whole
    with house.open() as restored:
        assert restored.decide("anna", TRAINING, shop).permit
        assert restored.decide("cy", TRAINING, shop).reason is Reason.WITHDRAWN


def test_a_change_that_nobody_could_be_told_of_is_not_acknowledged(house: Shop) -> None:
    """The witness is away, and the key folder cannot be written: a restore would forget it."""
    witness(house)
    (house.folder / "witness").rename(house.folder / "unplugged")
    (house.keys / "folder.json.new").mkdir()
    with pytest.raises(KeyFileError, match=r"folder\.json cannot be written"):
        house.registry.withdraw("cy")
    (house.keys / "folder.json.new").rmdir()
    assert house.registry.history("cy")[-1].status is ConsentStatus.WITHDRAWN
    house.grant("eve")
    assert house.registry.keys.witness_behind is not None


# -- who was erased ------------------------------------------------------------------------------


def test_whoever_was_erased_after_the_backup_stays_erased(house: Shop) -> None:
    house.back_up()
    house.registry.erase("ben")
    found = house.restore()
    assert (found.erased, found.suspended) == (1, 2)
    with house.open() as restored:
        restored.verify()
        assert restored.persons() == ("anna", "cy", "dora")
        assert restored.history("ben") == ()
        assert sum(Vault(restored).counts().values()) == 1
        assert [use.persons for use in restored.uses()] == [("anna", None)]
        with pytest.raises(UnknownPersonError):
            restored.withdraw("ben")
        entries = [log_leaves.parse(restored.leaf(seq)) for seq in range(found.events)]
    assert [leaf["cause"] for leaf in entries if leaf["kind"] == "erasure"] == ["restore"]


def test_nobody_to_come_shares_a_key_with_somebody_lost(house: Shop, shop: Context) -> None:
    house.back_up()
    house.grant("eve")  # takes the row that the next person in the restored registry takes
    write_backup(house.registry, house.folder / "later.bak")
    before = house.registry.keys.wrap_key(1, 4)
    house.registry.erase("eve")
    house.restore()
    with house.open() as restored:
        house.grant("frank", restored)
        assert restored.decide("frank", TRAINING, shop).permit
        epoch = restored.keys.epoch
        assert restored.keys.wrap_key(epoch, 4) != before
    found = house.restore("later.sqlite", source=house.folder / "later.bak")
    assert found.erased == 1
    with house.open("later.sqlite") as later:
        later.verify()
        assert "eve" not in later.persons()


def test_erasing_in_the_restored_registry_reaches_older_backups(house: Shop) -> None:
    house.back_up().restore()
    with house.open() as restored:
        restored.erase("anna")
    found = house.restore("again.sqlite")
    assert found.erased == 1
    with house.open("again.sqlite") as again:
        assert again.persons() == ("ben", "cy", "dora")
        again.verify()


def test_every_restore_goes_on_under_a_name_of_its_own(
    house: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    witness(house.back_up())
    house.registry.withdraw("cy")
    origins = [house.restore(f"r{i}.sqlite").origin for i in range(3)]
    assert [origin.rpartition("/")[2] for origin in origins] == ["2", "3", "4"]
    for i in range(3):  # the witness remembers all of them, side by side
        with house.open(f"r{i}.sqlite") as restored:
            house.grant("new", restored)
            restored.verify()
    assert "the witness was not told" not in caplog.text


def test_a_name_that_the_witness_knows_is_not_taken(house: Shop) -> None:
    witness(house.back_up())
    house.registry.withdraw("cy")
    elsewhere = new_signing_key(house.registry.registry_id, 2)
    house.restore("r0.sqlite")
    keys = KeyFolder.open(house.keys)
    mine = [key for key in keys.signers if keys.signer(key).name == elsewhere.name]
    keys.drop_signer(mine[0])  # as a copy of the folder would be that never made that restore
    assert house.restore("r1.sqlite").origin.endswith("/3")


def test_a_key_revoked_since_stays_revoked(house: Shop) -> None:
    house.back_up()
    key_id = house.registry.keys.signers[0]
    house.registry.revoke_signing_key(key_id.hex())
    house.restore()
    with house.open() as restored:
        periods = {p.key.key_id: p.revoked is not None for p in restored.ring.periods}
        assert periods[key_id]
        assert not all(periods.values())
        restored.verify()


def test_an_epoch_that_was_forgotten_opens_no_backup(house: Shop) -> None:
    house.back_up()
    house.registry.rotate_person_keys()
    found = house.restore("kept.sqlite")
    assert found.erased == 0
    house.registry.forget_person_keys(1)
    with pytest.raises(KeyFileError, match="epoch 1 of the person keys was forgotten"):
        house.restore()


# -- what is no backup ---------------------------------------------------------------------------


def test_a_registry_is_no_backup(house: Shop) -> None:
    with pytest.raises(RegistryUnreadableError, match="is a registry, want a backup"):
        house.restore(source=house.registry.path)
    with pytest.raises(RegistryMissingError, match="no backup at"):
        house.restore(source=house.folder / "none.bak")
    (house.folder / "text.bak").write_text("no database " * 100)
    with pytest.raises(RegistryUnreadableError):
        house.restore(source=house.folder / "text.bak")


def test_mode_clock_and_keys_must_be_those_of_the_registry(
    house: Shop, simulation: ConsentRegistry, clock: MovableClock
) -> None:
    house.back_up()
    with pytest.raises(ModeMismatchError):
        house.restore(mode="simulation")
    with pytest.raises(MalformedError):
        house.restore(mode="both")
    with pytest.raises(TamperedError, match="of other keys"):
        house.restore(keys=simulation.keys)
    clock.forward(hours=-2)
    with pytest.raises(ClockBackwardsError):
        house.restore()
    assert not (house.folder / "new.sqlite").exists()


def test_a_log_of_nobody_by_foreign_keys_is_refused(
    house: Shop, notice: Notice, clock: MovableClock
) -> None:
    """Forged from nothing: without people there is no key of a person that would not open."""
    path = house.folder / "forged.sqlite"
    with ConsentRegistry.create(
        path, mode="production", controller=house.registry.controller, clock=clock
    ) as forged:
        write_backup(forged, house.folder / "forged.bak")
    with pytest.raises(TamperedError, match="a signing key that the key folder never held"):
        house.restore(source=house.folder / "forged.bak")


def test_a_place_that_is_taken_is_left_alone(house: Shop) -> None:
    house.back_up()
    (house.folder / "new.sqlite").write_text("mine")
    with pytest.raises(RegistryExistsError):
        house.restore()
    assert (house.folder / "new.sqlite").read_text() == "mine"
    assert KeyFolder.open(house.keys).epoch == 1, "no key was made for a restore that was refused"


def alter(path: Path, *statements: str) -> None:
    """Change a backup as someone would who has the file: guards are taken off and put back."""
    connection = sqlite3.connect(path, isolation_level=None)
    guards = connection.execute("SELECT name, sql FROM sqlite_master WHERE type='trigger'")
    for name, _ in (found := guards.fetchall()):
        connection.execute(f"DROP TRIGGER {name}")
    connection.create_function("flip", 1, lambda data: bytes([data[0] ^ 1]) + data[1:])
    connection.create_function("edit", 3, lambda data, a, b: data.replace(a.encode(), b.encode()))
    for statement in statements:
        assert connection.execute(statement).rowcount != 0
    for _, sql in found:
        connection.execute(sql)
    connection.close()


LAST_GONE = "DELETE FROM events WHERE seq = (SELECT max(seq) FROM events)"


@pytest.mark.parametrize(
    ("entry", "statements"),
    [
        ("event 3", ["UPDATE events SET leaf_hash = flip(leaf_hash) WHERE seq = 3"]),
        ("event 3", ["UPDATE events SET leaf = edit(leaf, 'Given', 'GivEn') WHERE seq = 3"]),
        ("event 6", ["UPDATE events SET status = 4 WHERE seq = 6"]),
        ("event 3", ["DELETE FROM events WHERE seq = 3"]),
        ("event 3", ["UPDATE events SET pid = 2 WHERE seq = 3"]),
        ("event", [LAST_GONE]),
        (
            "event",
            [
                LAST_GONE,
                "DELETE FROM checkpoints WHERE log = 0",
            ],
        ),
        ("events checkpoint", ["UPDATE checkpoints SET note = replace(note, 'o', 'O') WHERE log = 0"]),
        ("uses checkpoint", ["UPDATE checkpoints SET size = 2 WHERE log = 1"]),
        ("use 0", ["UPDATE uses SET persons = flip(persons)"]),
        ("person row 1", ["UPDATE persons SET wrapped = flip(wrapped) WHERE pid = 1"]),
        ("person row 1", ["UPDATE persons SET sealed = (SELECT sealed FROM persons LIMIT 1) WHERE pid = 1"]),
        ("person row 1", ["UPDATE persons SET wrapped = NULL WHERE pid = 1"]),
        ("person row 1", ["UPDATE persons SET (sealed, wrapped, epoch) = (NULL, NULL, NULL) WHERE pid = 1"]),
        ("person row 1", ["UPDATE persons SET handle = sealed WHERE pid = 1"]),
        ("notice 0", ["UPDATE notices SET body = edit(body, 'face', 'hand')"]),
        ("item", ["UPDATE items SET pid = 2 WHERE pid = 0"]),
        ("item", ["UPDATE items SET body = flip(body) WHERE pid = 0"]),
        ("meta registry_id", ["UPDATE meta SET value = 'x' WHERE key = 'registry_id'"]),
        ("meta controller", ["UPDATE meta SET value = replace(value, 'Shop', 'Shed')"]),
        ("trigger extra", ["CREATE TRIGGER extra AFTER INSERT ON meta BEGIN SELECT 1; END"]),
    ],
)  # fmt: skip
def test_a_copy_that_was_changed_is_named_and_nothing_is_made(
    house: Shop, entry: str, statements: list[str]
) -> None:
    alter(house.back_up().copy, *statements)
    with pytest.raises(TamperedError) as caught:
        house.restore()
    assert re.match(entry, caught.value.entry), caught.value.entry
    assert not (house.folder / "new.sqlite").exists()


def test_every_flipped_bit_of_a_stretch_is_named_or_harmless(house: Shop, shop: Context) -> None:
    house.back_up()
    whole = house.copy.read_bytes()
    for at in range(7, len(whole), len(whole) // 60):
        house.copy.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        (house.folder / "new.sqlite").unlink(missing_ok=True)
        try:
            found = house.restore()
        except ConsentError:
            assert not (house.folder / "new.sqlite").exists()
            continue
        assert found.suspended == 3
        with house.open() as restored:
            restored.verify()


# -- on a server ---------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [True, False])
def test_to_a_server_and_back(
    house: Shop, postgres: PostgresServer, shop: Context, whole: bool
) -> None:
    known = both_heads(house) if whole else {}
    there = postgres.fresh()
    options: dict[str, Any] = {"keys": house.keys, "mode": "production", "clock": house.clock}
    found = restore(house.back_up().copy, there, **options, **known)
    assert found.whole is whole
    with ConsentRegistry.open(there, **options) as restored:
        restored.verify()
        assert restored.preview("anna", TRAINING, shop).permit is whole
        house.grant("eve", restored)
        restored.erase("ben")
        made = write_backup(restored, house.folder / "server.bak")
        heads = {"newest": restored.head(), "newest_uses": restored.uses_head()}
    back = restore(made.path, house.folder / "back.sqlite", **options, **heads)
    assert (back.root, back.whole) == (made.root, True)
    with house.open("back.sqlite") as again:
        again.verify()
        assert again.persons() == ("anna", "cy", "dora", "eve")
        assert again.decide("eve", TRAINING, shop).permit


def test_a_minor_leaves_a_count_in_a_backup_too(house: Shop, notice: Notice) -> None:
    with pytest.raises(ConsentError):
        house.registry.grant(
            "kid", [TRAINING], age_band=AgeBand.FROM_13, jurisdiction="IE", notice=notice
        )
    house.back_up().restore()
    with house.open() as restored:
        assert sum(restored.age_refusals().values()) == 1
        restored.verify()
