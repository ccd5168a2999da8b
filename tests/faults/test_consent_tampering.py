"""Whoever has the file and SQL can change it; `verify` says what and where.

Triggers are taken away and put back around each attack, so that the entry itself must be found.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from privemo_consent import (
    ConsentError,
    ConsentRegistry,
    Context,
    KeyFileError,
    MalformedError,
    Purpose,
    Reason,
    RegistryUnreadableError,
    TamperedError,
    merkle,
    schema,
)
from privemo_consent.storage import guards
from tests.support.consent import make_registry

SHOP = Context(setting="retail", jurisdiction="IE")


def attack(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA foreign_keys = OFF")
        for name in guards.triggers():
            raw.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            before = list(raw.iterdump())
            raw.execute(statement)
            assert list(raw.iterdump()) != before, f"nothing was attacked by {statement}"
        for sql in guards.triggers().values():
            raw.execute(sql)
    raw.close()


def keys_of(path: Path) -> Path:
    """The key folder; copies of the database are opened with that of the original."""
    return path.parent / "consent.keys"


def verdict(path: Path) -> str:
    """The entry that verify names, or an empty text."""
    try:
        with ConsentRegistry.open(path, mode="production", keys=keys_of(path)) as registry:
            registry.verify()
    except TamperedError as error:
        return error.entry if error.entry in str(error) else "unnamed"
    return ""


def verdict_raw(path: Path) -> None:
    with ConsentRegistry.open(path, mode="production") as registry:
        registry.verify()


def test_an_untouched_registry_is_whole(whole: Path) -> None:
    assert verdict(whole) == ""
    attack(whole)  # taking the triggers away and putting them back is no change
    assert verdict(whole) == ""


def flip_leaf(where: str) -> str:
    text = "CAST(leaf AS TEXT)"
    other = f"CAST(replace({text}, '\"schema\"', '\"schemb\"') AS BLOB)"
    return f"UPDATE events SET leaf = {other} WHERE {where}"  # noqa: S608


def swap(column: str) -> str:
    """Give row 7 what row 8 holds."""
    other = f"(SELECT {column} FROM persons WHERE pid = 8)"  # noqa: S608
    return f"UPDATE persons SET {column} = {other} WHERE pid = 7"  # noqa: S608


COPY = (
    "INSERT INTO events SELECT 26, kind, pid, purpose, status, role, at, recorded, expires, nid,"
    " simulated, leaf, leaf_hash FROM events WHERE seq = 9"
)


@pytest.mark.parametrize(
    ("statements", "entry"),
    [
        # one leaf, first, middle and last
        ([flip_leaf("seq = 0")], "event 0"),
        ([flip_leaf("seq = 9")], "event 9"),
        ([flip_leaf("seq = 25")], "event 25"),
        (["UPDATE events SET leaf_hash = zeroblob(32) WHERE seq = 9"], "event 9"),
        # columns that decisions read, without the leaf
        (["UPDATE events SET status = 4 WHERE seq = 24"], "event 24"),
        (["UPDATE events SET expires = expires * 2 WHERE seq = 9"], "event 9"),
        (["UPDATE events SET purpose = 1 WHERE seq = 9"], "event 9"),
        (["UPDATE events SET role = 0 WHERE seq = 23"], "event 23"),
        (["UPDATE events SET at = at - 1 WHERE seq = 9"], "event 9"),
        (["UPDATE events SET recorded = recorded + 1 WHERE seq = 9"], "event 9"),
        (["UPDATE events SET simulated = 1 WHERE seq = 9"], "event 9"),
        (["UPDATE events SET kind = 3 WHERE seq = 9"], "event 9"),
        (["UPDATE events SET nid = NULL WHERE seq = 9"], "event 9"),
        # somebody's consent made another's
        (["UPDATE events SET pid = 5 WHERE seq = 24"], "event 24"),
        (["UPDATE events SET pid = NULL WHERE seq = 9"], "event 9"),
        (["UPDATE persons SET handle = zeroblob(16) WHERE pid = 7"], "person row 7"),
        (["UPDATE persons SET sealed = zeroblob(60) WHERE pid = 7"], "person row 7"),
        (["UPDATE persons SET wrapped = zeroblob(60) WHERE pid = 7"], "person row 7"),
        (["UPDATE persons SET epoch = 2 WHERE pid = 7"], "person row 7"),
        ([swap("sealed")], "person row 7"),
        ([swap("wrapped")], "person row 7"),
        (["UPDATE persons SET handle = NULL WHERE pid = 7"], "person row 7"),
        # an erasure that nobody logged
        (
            [
                (
                    "UPDATE persons SET handle = NULL, sealed = NULL, wrapped = NULL, epoch = NULL"
                    " WHERE pid = 7"
                )
            ],
            "person row 7",
        ),
        # entries dropped, swapped, repeated, added
        (["DELETE FROM events WHERE seq = 9"], "event 9"),
        (["DELETE FROM persons WHERE pid = 7"], "person row 7"),
        (
            ["INSERT INTO persons VALUES (21, zeroblob(16), zeroblob(60), zeroblob(60), 1)"],
            "person row 21",
        ),
        (
            [
                "UPDATE events SET seq = 1000 WHERE seq = 9",
                "UPDATE events SET seq = 9 WHERE seq = 10",
                "UPDATE events SET seq = 10 WHERE seq = 1000",
            ],
            "events node 4/0",
        ),
        ([COPY], "event 26"),
        # the tree
        (["UPDATE nodes SET hash = zeroblob(32) WHERE log = 0"], "events node 4/0"),
        (["DELETE FROM nodes WHERE log = 0"], "events node 4/0"),
        (["INSERT INTO nodes VALUES (0, 4, 7, zeroblob(32))"], "events nodes"),
        (["INSERT INTO nodes VALUES (0, 5, 0, zeroblob(32))"], "events nodes"),
        (["UPDATE nodes SET hash = zeroblob(32) WHERE log = 1"], "uses node 4/0"),
        # signed heads
        (
            ["UPDATE checkpoints SET note = replace(note, 'privemo', 'primevo') WHERE log = 0"],
            "events checkpoint 26",
        ),
        (
            ["UPDATE checkpoints SET note = substr(note, 1, length(note) - 2) || '+' || char(10)"],
            "events checkpoint 26",
        ),
        (["UPDATE checkpoints SET size = 25 WHERE log = 0"], "events checkpoint 25"),
        (["DELETE FROM checkpoints WHERE log = 0"], "event 0"),
        (
            ["UPDATE checkpoints SET note = (SELECT note FROM checkpoints WHERE log = 1)"],
            "events checkpoint 26",
        ),
        # the vault
        (["UPDATE items SET head = zeroblob(60)"], "item"),
        (["UPDATE items SET body = zeroblob(60)"], "item"),
        (["UPDATE items SET pid = 9"], "item"),
        (["UPDATE items SET kind = 1"], "item"),
        (["UPDATE items SET iid = iid + 1"], "item"),
        # what the registry is
        (["UPDATE meta SET value = 'production2' WHERE key = 'registry_id'"], "meta registry_id"),
        (["UPDATE meta SET value = replace(value, 'Main', 'Side')"], "meta controller"),
        (["INSERT INTO meta VALUES ('admin', 'mallory')"], "meta"),
        # notices
        (["UPDATE notices SET body = replace(body, 'would', 'must')"], "notice 0"),
        (["UPDATE notices SET version = 9"], "notice 0"),
        (["UPDATE notices SET hash = 'a' || substr(hash, 2)"], "notice 0"),
        # uses
        (["UPDATE uses SET persons = zeroblob(8) WHERE seq = 4"], "use 4"),
        (["UPDATE uses SET leaf = replace(leaf, 'run-1', 'run-2') WHERE seq = 4"], "use 4"),
        (["UPDATE uses SET leaf_hash = zeroblob(32) WHERE seq = 4"], "use 4"),
        (["UPDATE uses SET recorded = recorded + 1 WHERE seq = 4"], "use 4"),
        (["DELETE FROM uses WHERE seq = 4"], "use 4"),
    ],
)
def test_every_change_is_found_and_named(whole: Path, statements: list[str], entry: str) -> None:
    attack(whole, *statements)
    named = verdict(whole)
    assert (named.split()[0] if entry == "item" else named) == entry


@pytest.mark.parametrize(
    ("statement", "entry"),
    [
        ("DROP TRIGGER events_no_update", "trigger events_no_update"),
        ("DROP INDEX events_by_person", "index events_by_person"),
        ("CREATE TABLE extra (a)", "table extra"),
        (
            "CREATE TRIGGER late AFTER INSERT ON events BEGIN DELETE FROM uses; END",
            "trigger late",
        ),
        ("CREATE VIEW peek AS SELECT * FROM persons", "view peek"),
    ],
)
def test_a_changed_schema_is_named(whole: Path, statement: str, entry: str) -> None:
    with sqlite3.connect(whole) as raw:
        raw.execute(statement)
    raw.close()
    assert verdict(whole) == entry


def test_a_weakened_trigger_is_named(whole: Path) -> None:
    with sqlite3.connect(whole) as raw:
        raw.execute("DROP TRIGGER events_no_update")
        raw.execute(
            "CREATE TRIGGER events_no_update BEFORE UPDATE ON events WHEN NEW.seq < 0"
            " BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    raw.close()
    assert verdict(whole) == "trigger events_no_update"


def logical(path: Path) -> list[str]:
    with sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True) as raw:
        raw.text_factory = bytes
        found = [
            repr(raw.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall())  # noqa: S608
            for name in sorted(schema.metadata.tables)
        ]
        found.append(repr(raw.execute("SELECT * FROM sqlite_master").fetchall()))
    raw.close()
    return found


def flip(path: Path, copy: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    for leftover in copy.parent.glob(f"{copy.name}-*"):
        leftover.unlink()
    copy.write_bytes(data)


def harmless_or_named(path: Path, copy: Path, bit: int, before: list[str]) -> bool:
    """Flip; return whether it was named; fail when it changed something and nobody said so."""
    flip(path, copy, bit)
    try:
        with ConsentRegistry.open(copy, mode="production", keys=keys_of(copy)) as registry:
            registry.verify()
    except KeyFileError as error:
        pytest.fail(f"the keys are whole: {error}")
    except ConsentError:
        return True
    assert logical(copy) == before, f"bit {bit} changed the registry and verify said nothing"
    return False


def test_flipped_bits_are_harmless_or_named(whole: Path, tmp_path: Path) -> None:
    before, size = logical(whole), whole.stat().st_size * 8
    rng = random.Random(7)  # noqa: S311 - which bits, not a secret
    copy = tmp_path / "copy.sqlite"
    named = sum(harmless_or_named(whole, copy, rng.randrange(size), before) for _ in range(120))
    assert named > 12


@pytest.mark.slow
def test_bits_all_over_the_file_are_harmless_or_named(tmp_path: Path) -> None:
    whole = make_registry(tmp_path / "consent.sqlite", people=4)
    before = logical(whole)
    rng = random.Random(11)  # noqa: S311
    copy = tmp_path / "copy.sqlite"
    for byte in range(0, whole.stat().st_size, whole.stat().st_size // 2500):
        harmless_or_named(whole, copy, byte * 8 + rng.randrange(8), before)


def test_every_bit_of_a_leaf_is_found(whole: Path, tmp_path: Path) -> None:
    with ConsentRegistry.open(whole, mode="production") as registry:
        leaf = registry.leaf(9)
    at = whole.read_bytes().find(leaf)
    assert at > 0
    copy = tmp_path / "copy.sqlite"
    for byte in range(at, at + len(leaf), 7):
        flip(whole, copy, byte * 8 + byte % 8)
        assert verdict(copy) == "event 9"


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_refused(whole: Path, share: float) -> None:
    data = whole.read_bytes()
    whole.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ConsentError) as caught:
        verdict_raw(whole)
    assert isinstance(caught.value, TamperedError | RegistryUnreadableError)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:4096] + b"\xff" * (len(data) - 4096),
        lambda data: data[:100] + bytes(len(data) - 100),
    ],
)
def test_a_damaged_file_permits_nobody(whole: Path, damage: Callable[[bytes], bytes]) -> None:
    whole.write_bytes(damage(whole.read_bytes()))
    try:
        registry = ConsentRegistry.open(whole, mode="production")
    except RegistryUnreadableError:
        return
    with registry:
        decision = registry.decide("p05", Purpose.TRAINING, SHOP)
        assert decision.reason is Reason.REGISTRY_UNREADABLE


def test_a_rolled_back_file_does_not_extend_the_head_that_was_seen(
    whole: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old.sqlite"
    shutil.copy(whole, old)
    with ConsentRegistry.open(whole, mode="production") as registry:
        registry.withdraw("p05")
        seen = registry.head()
    shutil.copy(old, whole)
    with ConsentRegistry.open(whole, mode="production") as registry:
        registry.verify()  # whole in itself: only a head kept elsewhere tells
        with pytest.raises(MalformedError, match="want 0 <= first <= second"):
            registry.consistency_proof(seen.seq)
        registry.withdraw("p06")  # a fork of the same length
        head = registry.head()
        assert head.seq == seen.seq
        with pytest.raises(ConsentError, match="two roots of one size"):
            merkle.verify_consistency(
                seen.seq,
                head.seq,
                registry.consistency_proof(seen.seq),
                bytes.fromhex(seen.root),
                bytes.fromhex(head.root),
            )


def test_a_rollback_under_an_open_registry_refuses_everyone(whole: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.sqlite"
    shutil.copy(whole, old)
    with ConsentRegistry.open(whole, mode="production") as registry:
        registry.withdraw("p05")
        assert registry.decide("p06", Purpose.TRAINING, SHOP).permit
        registry.close()
        for leftover in tmp_path.glob("consent.sqlite-*"):
            leftover.unlink()
        shutil.copy(old, whole)
        decision = registry.decide("p05", Purpose.TRAINING, SHOP)
        assert decision.reason is Reason.REGISTRY_UNREADABLE
