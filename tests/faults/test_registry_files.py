"""All files of a registry at once: database, WAL of a killed process, keys, mirror, witness.

Whatever somebody does to one of them, the registry either is what it was, to the last decision, or a
ConsentError says what is wrong: at opening, or when it is verified.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from privemo_consent import (
    AgeBand,
    ConsentError,
    ConsentRegistry,
    Context,
    ForkedError,
    KeyFileError,
    KeyFolder,
    MalformedError,
    Purpose,
    Reason,
    RolledBackError,
    SignatureError,
    SigningKey,
    TamperedError,
    Vault,
    WitnessMissingError,
    leaves,
    schema,
    verify_receipt,
)
from privemo_consent.items import ItemKind
from privemo_consent.journal import Journal
from privemo_consent.signing import Signer
from privemo_consent.storage import guards, open_store
from privemo_consent.times import utcnow
from privemo_consent.transaction import plain_row
from tests.support.consent import KILLED, consent_notice, grant, in_child, make_registry

SHOP = Context(setting="retail", jurisdiction="IE")
TRAINING = Purpose.TRAINING
Files = dict[str, bytes]
DATABASE, WAL = "consent.sqlite", "consent.sqlite-wal"


def opened(folder: Path, **how: object) -> ConsentRegistry:
    return ConsentRegistry.open(
        folder / DATABASE,
        mode="production",
        busy_timeout_ms=200,
        **how,  # type: ignore[arg-type]
    )


def build(folder: Path) -> None:
    """A registry with a mirror and a witness, whose last writer was killed."""
    folder.mkdir()
    path = make_registry(folder / DATABASE, people=6)
    with opened(folder) as registry:
        registry.keys.add_mirror(folder / "mirror")
        registry.set_witness(folder / "witness")
        registry.announce_reading(consent_notice().hash, place="the entrance")
        registry.erase("p05")

    def act() -> None:
        registry = ConsentRegistry.open(path, mode="production")
        registry.grant_many([grant("late", purposes=tuple(Purpose)), grant("later")])
        registry.decide("late", TRAINING, SHOP)
        registry.withdraw("p02")
        registry.record_use(["p03"], TRAINING, run="r", round=1, store="s", batch=9, log_seq=9)
        registry.withdraw("p03")
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(act) == KILLED
    assert (folder / WAL).stat().st_size > 0


def read(folder: Path) -> Files:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def put(folder: Path, files: Files) -> None:
    """Make the folder hold these files and no others, each its owner's alone."""
    for file in folder.rglob("*"):
        if file.is_file() and str(file.relative_to(folder)) not in files:
            file.unlink()
    for name, data in files.items():
        place = folder / name
        place.parent.mkdir(mode=0o700, exist_ok=True)
        if not place.is_file() or place.read_bytes() != data:
            place.write_bytes(data)
            place.chmod(0o600)


def told(registry: ConsentRegistry, at: datetime) -> tuple[object, ...]:
    """Return everything that a registry says, to the last decision."""
    people = ["p00", "p01", "p02", "p03", "p04", "p05", "late", "later", "clerk", "child", "nobody"]
    vault = Vault(registry)
    registry.snapshot(TRAINING)  # says so where the witness is away, and everybody is refused
    return (
        [registry.preview(p, purpose, SHOP, at).reason for p in people for purpose in Purpose],
        registry.persons(),
        [registry.history(person) for person in people],
        list(registry.uses()),
        list(registry.decisions()),
        registry.notices(),
        registry.age_refusals(),
        registry.head(),
        registry.uses_head(),
        registry.checkpoint(),
        [vault.of_person(person, kind=kind) for person in people for kind in ItemKind],
        registry.keys.epoch,
        [registry.keys.punctured(pid) for pid in range(12)],
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Files]:
    folder = tmp_path_factory.mktemp("files") / "shop"
    build(folder)
    return folder, read(folder)


@pytest.fixture
def shop(made: tuple[Path, Files]) -> Iterator[Path]:
    folder, files = made
    put(folder, files)
    yield folder
    for leftover in folder.iterdir():
        if leftover.name not in {Path(name).parts[0] for name in files}:
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


@pytest.fixture(scope="module")
def whole(made: tuple[Path, Files]) -> tuple[datetime, tuple[object, ...]]:
    """What the untouched registry says, at a moment to come."""
    folder, files = made
    put(folder, files)
    with opened(folder) as registry:
        registry.verify()
        at = registry.now() + timedelta(hours=1)
        found = told(registry, at)
        assert registry.decide("late", TRAINING, SHOP).permit
    put(folder, files)
    return at, found


def name_of_fault(folder: Path, whole: tuple[datetime, tuple[object, ...]]) -> str:
    """Return the error that named a fault, "" when it changed nothing; fail when it went unsaid."""
    at, want = whole
    try:
        with opened(folder) as registry:
            registry.verify()
            have = told(registry, at)
    except ConsentError as error:
        return type(error).__name__ if str(error) else pytest.fail("an error without a word")
    assert have == want, "something changed and nobody said so"
    return ""


class Attack:
    """Puts one changed file among the others, and asks."""

    def __init__(
        self, made: tuple[Path, Files], whole: tuple[datetime, tuple[object, ...]]
    ) -> None:
        self.folder, self.files = made
        self._whole = whole

    def change(self, name: str, data: bytes | None) -> str:
        files = {k: v for k, v in self.files.items() if k != name}
        put(self.folder, files if data is None else files | {name: data})
        try:
            return name_of_fault(self.folder, self._whole)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error

    def flip(self, name: str, at: int, bit: int) -> str:
        data = bytearray(self.files[name])
        data[at] ^= 1 << bit
        try:
            return self.change(name, bytes(data))
        except AssertionError as error:
            raise AssertionError(f"byte {at}, bit {bit} of {error}") from error

    def flips(self, name: str, places: Iterable[int], seed: int = 3) -> list[str]:
        rng = random.Random(seed)  # noqa: S311 - which bit, not a secret
        return [self.flip(name, at, rng.randrange(8)) for at in places]


@pytest.fixture
def attack(
    made: tuple[Path, Files], whole: tuple[datetime, tuple[object, ...]]
) -> Iterator[Attack]:
    yield Attack(made, whole)
    put(*made)


def kind(name: str) -> str:
    if name in (DATABASE, WAL):
        return name.removeprefix("consent.")
    return "shm" if name.endswith("-shm") else name.split("/")[0].removeprefix("consent.")


def test_the_files_are_those_meant(made: tuple[Path, Files], attack: Attack) -> None:
    kinds = {kind(name) for name in made[1]}
    assert kinds >= {"sqlite", "sqlite-wal", "keys", "mirror", "witness"}
    assert attack.change("nothing", None) == "", "untouched, it is whole"


# -- flipped bits --------------------------------------------------------------------------------------


def sample(name: str, data: bytes, count: int) -> list[int]:
    """Return places spread over a file, the ends among them."""
    rng = random.Random(name)  # noqa: S311
    return sorted({0, len(data) - 1, *(rng.randrange(len(data)) for _ in range(count))})


def small(files: Files) -> list[str]:
    return [name for name in files if kind(name) in ("keys", "mirror", "witness") and files[name]]


def test_a_flipped_bit_in_a_key_file_is_named(made: tuple[Path, Files], attack: Attack) -> None:
    for name in small(made[1]):
        if kind(name) == "keys" and not name.endswith("lock"):
            named = attack.flips(name, sample(name, made[1][name], 24))
            assert set(named) == {"KeyFileError"}, name


def test_a_flipped_bit_in_a_witness_is_harmless_or_named(
    made: tuple[Path, Files], attack: Attack
) -> None:
    for name in small(made[1]):
        if kind(name) == "witness":
            named = attack.flips(name, sample(name, made[1][name], 12))
            # Only the last line speaks for the newest head; it is the one that counts.
            last = made[1][name].rstrip(b"\n").rfind(b"\n") + 1
            if name.endswith(".jsonl"):
                ends = range(last + 40, len(made[1][name]) - 1, 150)
                assert "" not in attack.flips(name, ends), "a changed last line is named"
            assert set(named) <= {"", "TamperedError", "RolledBackError", "ForkedError"}


def test_a_flipped_bit_in_a_mirror_harms_nothing_and_is_told_at_the_next_erasure(
    made: tuple[Path, Files], attack: Attack
) -> None:
    for name in small(made[1]):
        if kind(name) == "mirror":
            assert set(attack.flips(name, sample(name, made[1][name], 2))) == {""}
    folder, files = made
    name = "mirror/folder.json"
    data = bytearray(files[name])
    data[len(data) // 2] ^= 4
    put(folder, files | {name: bytes(data)})
    with opened(folder) as registry:
        erased = registry.erase("p00")
        assert len(erased.pending) == 1
        assert str(folder / "mirror") in erased.pending[0]
        assert registry.keys.punctured(0)


def test_a_flipped_bit_in_the_wal_of_a_killed_process_is_harmless_or_named(
    made: tuple[Path, Files], attack: Attack
) -> None:
    named = attack.flips(WAL, sample(WAL, made[1][WAL], 60))
    # SQLite drops what does not check, and all that came after: the witness remembers more.
    assert named.count("RolledBackError") > len(named) // 2
    assert set(named) <= {"", "RolledBackError", "RegistryUnreadableError", "TamperedError"}


def test_a_flipped_bit_in_the_database_is_harmless_or_named(
    made: tuple[Path, Files], attack: Attack
) -> None:
    named = attack.flips(DATABASE, sample(DATABASE, made[1][DATABASE], 60))
    assert 1 < sum(map(bool, named)) < len(named), "the WAL holds newer pages over some of them"
    assert "KeyFileError" not in named, "the keys are whole, and are not blamed"


@pytest.mark.slow
def test_every_byte_of_the_small_files_is_harmless_or_named(
    made: tuple[Path, Files], attack: Attack
) -> None:
    for name in small(made[1]):
        data, step = made[1][name], 1 if kind(name) == "keys" else 5
        attack.flips(name, range(0, len(data), step), seed=5)


@pytest.mark.slow
def test_many_bytes_of_database_and_wal_are_harmless_or_named(
    made: tuple[Path, Files], attack: Attack
) -> None:
    for name in (DATABASE, WAL):
        attack.flips(name, sample(f"slow {name}", made[1][name], 900), seed=9)


# -- cut short, grown, gone ----------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.4, 0.97])
def test_a_file_cut_short_is_harmless_or_named(
    made: tuple[Path, Files], attack: Attack, share: float
) -> None:
    for name, data in made[1].items():
        if data:
            named = attack.change(name, data[: int(len(data) * share)])
            if kind(name) == "keys" and not name.endswith("lock"):
                assert named == "KeyFileError", name
            if name == WAL:
                assert named == "RolledBackError"


def test_a_file_that_is_gone_is_harmless_or_named(made: tuple[Path, Files], attack: Attack) -> None:
    named = {name: attack.change(name, None) for name in made[1]}
    for name, error in named.items():
        if kind(name) in ("sqlite", "keys") and not name.endswith("lock"):
            assert error, f"{name} is missed"
    assert named[WAL] == "RolledBackError"
    assert named["witness/privemo-witness.txt"] == "WitnessMissingError"


def test_what_is_added_at_the_end_is_harmless_or_named(
    made: tuple[Path, Files], attack: Attack
) -> None:
    for name, data in made[1].items():
        if not name.endswith("lock"):
            named = attack.change(name, data + b"\x01 more")
            if kind(name) == "keys":
                assert named == "KeyFileError", name


# -- files of two registries ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Files]:
    folder = tmp_path_factory.mktemp("others") / "shop"
    build(folder)
    return folder, read(folder)


@pytest.fixture
def other(others: tuple[Path, Files]) -> Path:
    put(*others)
    return others[0]


@pytest.mark.parametrize("readonly", [False, True])
def test_a_database_with_the_keys_of_another_is_refused_and_destroys_nothing(
    shop: Path, other: Path, readonly: bool
) -> None:
    # Row 5 was erased in both; row 1 here only: that must not cost row 1 of the other its key.
    with opened(shop) as registry:
        registry.erase("p01")
    with pytest.raises(KeyFileError, match="never held a signing key of this log"):
        opened(shop, keys=other / "consent.keys", readonly=readonly)
    assert not KeyFolder.open(other / "consent.keys").punctured(1)
    with opened(other) as registry:
        assert "p01" in registry.persons()
        registry.verify()


def test_a_receipt_of_another_registry_is_refused(shop: Path, other: Path) -> None:
    with opened(shop) as ours, opened(other) as theirs:
        receipt = theirs.receipt("late")
        our_keys = [period.key for period in ours.ring.periods]
        their_keys = [period.key for period in theirs.ring.periods]
        assert verify_receipt(receipt, their_keys, origin=theirs.origin).person == "late"
        with pytest.raises(SignatureError):
            verify_receipt(receipt, our_keys, origin=ours.origin)
        with pytest.raises(MalformedError, match="registry"):
            verify_receipt(receipt, [*our_keys, *their_keys], origin=ours.origin)


def test_the_witness_of_another_registry_is_no_witness(shop: Path, other: Path) -> None:
    shutil.rmtree(shop / "witness")
    shutil.copytree(other / "witness", shop / "witness")
    with pytest.raises(WitnessMissingError, match="remembers nothing of this log"):
        opened(shop)
    with pytest.raises(WitnessMissingError):
        opened(shop, readonly=True)


@pytest.mark.parametrize("name", ["registry.key", "persons-0001.key", "folder.json"])
def test_a_key_file_of_another_folder_is_named(shop: Path, other: Path, name: str) -> None:
    shutil.copy(other / "consent.keys" / name, shop / "consent.keys" / name)
    with pytest.raises(KeyFileError):
        opened(shop)


def test_rows_of_another_registry_do_not_open_here(shop: Path, other: Path) -> None:
    for folder in (shop, other):
        opened(folder).close()  # takes the WAL in
    theirs = rows(other, "SELECT sealed, wrapped FROM persons WHERE pid = 0")[0]
    change(shop, ("UPDATE persons SET sealed = ?, wrapped = ? WHERE pid = 0", theirs))
    assert fault(shop) == "person row 0"


# -- old copies ----------------------------------------------------------------------------------------


def test_a_rolled_back_database_is_told_from_the_newest(
    shop: Path, made: tuple[Path, Files]
) -> None:
    with opened(shop) as registry:
        registry.withdraw("late")
    newer = read(shop)
    for name in (DATABASE, WAL):
        newer.pop(name, None)
    old = {name: data for name, data in made[1].items() if name in (DATABASE, WAL)}
    put(shop, newer | old)
    with pytest.raises(RolledBackError, match="An old copy stands in its place"):
        opened(shop)
    with pytest.raises(RolledBackError):
        opened(shop, readonly=True)


def test_a_rolled_back_database_that_went_on_is_a_fork(
    shop: Path, made: tuple[Path, Files]
) -> None:
    with opened(shop) as registry:
        registry.withdraw("late")
    newer = read(shop)
    put(shop, made[1])
    with opened(shop) as registry:  # as a thief's machine would: an old copy with its own witness
        registry.grant_many([grant(f"new-{n}") for n in range(4)])
    forked = read(shop)
    witness = {name: data for name, data in newer.items() if kind(name) == "witness"}
    rest = {name: data for name, data in forked.items() if kind(name) != "witness"}
    put(shop, rest | witness)
    with pytest.raises(ForkedError, match="is not what the witness saw"):
        opened(shop)


def test_rolled_back_keys_open_nobody_who_was_erased(shop: Path, made: tuple[Path, Files]) -> None:
    with opened(shop) as registry:
        registry.erase_many(["late", "p00"])
    newer = {n: d for n, d in read(shop).items() if kind(n) not in ("keys", "mirror")}
    old = {n: d for n, d in made[1].items() if kind(n) in ("keys", "mirror")}
    put(shop, newer | old)
    assert not KeyFolder.open(shop / "consent.keys").punctured(0), "the old keys are whole again"
    with opened(shop) as registry:  # and destroyed again by whoever opens
        assert registry.keys.punctured(0)
        assert not {"late", "p00"} & set(registry.persons())
        assert registry.decide("late", TRAINING, SHOP).reason is Reason.NO_RECORD
        registry.verify()
    for place in ("consent.keys", "mirror"):
        assert KeyFolder.open(shop / place).punctured(0)


def test_keys_from_before_a_rotation_are_named(shop: Path, made: tuple[Path, Files]) -> None:
    old = {n: d for n, d in made[1].items() if kind(n) == "keys"}
    with opened(shop) as registry:
        registry.rotate_person_keys()
    put(shop, {n: d for n, d in read(shop).items() if kind(n) != "keys"} | old)
    assert fault(shop) == "person row 0", "epoch 2 was never begun in these"
    with opened(shop) as registry:
        assert not registry.decide("late", TRAINING, SHOP).permit
    put(shop, made[1])
    with opened(shop) as registry:
        seq = registry.log_seq
        registry.rotate_signing_key(overlap=timedelta(0))
    put(shop, {n: d for n, d in read(shop).items() if kind(n) != "keys"} | old)
    assert fault(shop) == f"event {seq}", "begins a key that these never held"
    with opened(shop) as registry, pytest.raises(KeyFileError, match="holds no key that may sign"):
        registry.withdraw("late")


# -- rows replayed, reordered, added -------------------------------------------------------------------


def rows(folder: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder / DATABASE)) as raw:
        return raw.execute(query).fetchall()


def change(folder: Path, *statements: tuple[str, tuple[object, ...]]) -> None:
    """Change rows past the guards, and put the guards back."""
    with closing(sqlite3.connect(folder / DATABASE)) as raw, raw:
        raw.execute("PRAGMA foreign_keys = OFF")
        for name in guards.triggers():
            raw.execute(f"DROP TRIGGER {name}")
        for statement, values in statements:
            assert raw.execute(statement, values).rowcount != 0, statement
        for sql in guards.triggers().values():
            raw.execute(sql)


def fault(folder: Path) -> str:
    """Return the entry that verify names, or an empty text."""
    with opened(folder) as registry:
        try:
            registry.verify()
        except TamperedError as error:
            return error.entry
    return ""


COLUMNS = ", ".join(column.name for column in schema.events.c if column.name != "seq")
USES = ", ".join(column.name for column in schema.uses.c if column.name != "seq")


def yes_after_the_no(registry: ConsentRegistry) -> list[tuple[str, tuple[object, ...]]]:
    given = registry.history("p03")[0].seq
    copy = f"INSERT INTO events SELECT ?, {COLUMNS} FROM events WHERE seq = ?"  # noqa: S608
    return [(copy, (registry.log_seq, given))]


def swapped(table: str, first: int, second: int) -> list[tuple[str, tuple[object, ...]]]:
    move = f"UPDATE {table} SET seq = ? WHERE seq = ?"  # noqa: S608
    return [(move, (9999, first)), (move, (first, second)), (move, (second, 9999))]


REPLAYS: dict[
    str, tuple[Callable[[ConsentRegistry], list[tuple[str, tuple[object, ...]]]], str]
] = {
    "a yes replayed after the no": (yes_after_the_no, "event LAST"),
    "two uses change places": (lambda _: swapped("uses", 2, 3), "uses node 4/0"),
    "a use replayed": (
        lambda r: [
            (
                f"INSERT INTO uses SELECT ?, {USES} FROM uses WHERE seq = 3",  # noqa: S608
                (r.uses_head().seq + 1,),
            )
        ],
        "use USES",
    ),
    "the consents of two people change places": (
        lambda r: [
            ("UPDATE events SET pid = -1 WHERE pid = 0", ()),
            ("UPDATE events SET pid = 0 WHERE pid = 4", ()),
            ("UPDATE events SET pid = 4 WHERE pid = -1", ()),
        ],
        "event 3",
    ),
    "a face given to somebody else": (lambda _: [("UPDATE items SET pid = 0", ())], "item"),
}


@pytest.mark.parametrize("name", REPLAYS)
def test_rows_replayed_or_reordered_are_named(shop: Path, name: str) -> None:
    with opened(shop) as registry:
        statements = REPLAYS[name][0](registry)
        sizes = {"LAST": str(registry.log_seq), "USES": str(registry.uses_head().seq)}
    want = REPLAYS[name][1]
    for word, size in sizes.items():
        want = want.replace(word, size)
    change(shop, *statements)
    found = fault(shop)
    assert (found.split()[0] if want == "item" else found) == want


def test_the_row_of_an_erased_person_put_back_opens_for_nobody(shop: Path) -> None:
    opened(shop).close()
    old = rows(shop, "SELECT handle, sealed, wrapped, epoch, pid FROM persons WHERE pid = 4")[0]
    with opened(shop) as registry:
        registry.erase("p04")
    change(
        shop,
        ("UPDATE persons SET handle=?, sealed=?, wrapped=?, epoch=? WHERE pid=?", old),
    )
    assert fault(shop) == "person row 4"
    with opened(shop) as registry:
        assert registry.decide("p04", TRAINING, SHOP).reason is Reason.NO_RECORD
        assert "p04" not in registry.persons()


def test_an_old_wrapping_put_back_after_a_rotation_is_named(shop: Path) -> None:
    opened(shop).close()
    old = rows(shop, "SELECT handle, wrapped, epoch, pid FROM persons WHERE pid = 4")[0]
    with opened(shop) as registry:
        registry.rotate_person_keys()
    change(shop, ("UPDATE persons SET handle=?, wrapped=?, epoch=? WHERE pid=?", old))
    assert fault(shop) == "person row 4"


@pytest.mark.parametrize("same_id", [False, True])
def test_whoever_can_write_the_database_cannot_sign_for_it(
    shop: Path, tmp_path: Path, same_id: bool
) -> None:
    """An entry that begins a key of the thief's own, and a head signed with it: all but the folder.

    With the id of a key that was revoked, even: four bytes, which a search meets.
    """
    opened(shop).close()
    store = open_store(shop / DATABASE)
    journal = Journal(store, None, utcnow)
    journal.refresh()
    own = SigningKey.generate(journal.state.keys.origin)
    folder = KeyFolder.create(tmp_path / "thief.keys")
    folder.add_signer(own)
    if same_id:
        dropped = SigningKey.generate(own.name).verifying.public.hex()
        with (keys := KeyFolder.open(shop / "consent.keys"))._writing():
            keys._record(gone=(own.key_id.hex(),), dropped=(dropped,))
    with store.write() as connection:
        size, now = journal.log.size(connection), journal.now()
        begin = leaves.key_leaf(
            op="begin", key=str(own.verifying), ends_others=None, recorded=now, simulated=False
        )
        told = leaves.exposure_leaf(
            notice=journal.state.notices[0].hash, place="door", recorded=now, simulated=False
        )
        added = [
            plain_row("key", begin, now, False),
            plain_row("exposure", told, now, False, nid=0),
        ]
        journal.log.append(connection, size, added)
        state = journal.state.keys.after([begin], now)
        Signer(folder).sign(connection, journal.log, size + 2, state)
    store.close()
    with opened(shop) as registry, pytest.raises(TamperedError, match="never held") as caught:
        registry.verify()
    assert caught.value.entry == f"event {size}"


def test_a_request_is_no_consent_whatever_is_lost(shop: Path) -> None:
    with opened(shop) as registry:
        asked = {"age_band": AgeBand.FROM_25, "jurisdiction": "IE", "notice": consent_notice()}
        registry.request("asked", [TRAINING], **asked)  # type: ignore[arg-type]
        assert not registry.decide("asked", TRAINING, SHOP).permit
        registry.verify()
