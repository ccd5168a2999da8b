"""Append-only, even to someone with SQL (GDPR 7(1)): each row an attempt to rewrite history."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from privemo_consent import ConsentRegistry, Purpose, schema


@pytest.fixture
def raw(registry: ConsentRegistry, yes: Any) -> Any:
    for i in range(20):
        registry.grant(f"p{i}", [Purpose.TRAINING], **yes())
    registry.record_use(["p1"], Purpose.TRAINING, run="r", round=1, store="s", batch=0, log_seq=5)
    connection = sqlite3.connect(registry.path)
    yield connection
    connection.close()


@pytest.mark.parametrize("recursive", ["ON", "OFF"])
@pytest.mark.parametrize(
    "attempt",
    [
        "UPDATE events SET status = 4",
        "UPDATE events SET seq = seq + 100",
        "DELETE FROM events",
        "DELETE FROM events WHERE seq = (SELECT max(seq) FROM events)",
        "INSERT OR REPLACE INTO events SELECT * FROM events WHERE seq = 3",
        "REPLACE INTO events SELECT * FROM events WHERE seq = 3",
        "INSERT INTO uses SELECT seq + 50, recorded, persons, leaf, leaf_hash FROM uses",
        "UPDATE OR IGNORE events SET leaf = x'00' WHERE seq = 3",
        "UPDATE uses SET persons = x''",
        "DELETE FROM uses",
        "REPLACE INTO uses SELECT * FROM uses",
        "UPDATE nodes SET hash = x'00'",
        "DELETE FROM nodes",
        "REPLACE INTO nodes SELECT log, level, idx, x'00' FROM nodes",
        "UPDATE meta SET value = 'production'",
        "DELETE FROM meta",
        "REPLACE INTO meta VALUES ('mode', 'production')",
        "UPDATE secrets SET value = x'00'",
        "DELETE FROM secrets",
        "REPLACE INTO secrets VALUES ('subject', x'00')",
        "UPDATE notices SET body = x'00'",
        "DELETE FROM notices",
        "REPLACE INTO notices SELECT nid + 1, hash, notice_id, version, body FROM notices",
        "DELETE FROM persons",
        "UPDATE persons SET person = 'x' || person",
        "UPDATE persons SET nonce = NULL",
        "UPDATE persons SET person = NULL",
        "UPDATE persons SET pid = 99, person = NULL, nonce = NULL WHERE pid = 3",
        "REPLACE INTO persons VALUES (20, 'p3', x'00')",
        "REPLACE INTO persons VALUES (3, 'mallory', x'00')",
        "INSERT INTO persons VALUES (77, 'mallory', x'00')",
    ],
)
def test_history_cannot_be_rewritten(raw: Any, attempt: str, recursive: str) -> None:
    raw.execute(f"PRAGMA recursive_triggers = {recursive}")
    before = list(raw.iterdump())
    with pytest.raises(sqlite3.IntegrityError, match=r"append-only|only ever erased|without gaps"):
        raw.execute(attempt)
    raw.rollback()
    assert list(raw.iterdump()) == before


def test_erasing_a_person_is_the_one_change_and_only_once(
    registry: ConsentRegistry, raw: Any
) -> None:
    raw.execute("UPDATE persons SET person = NULL, nonce = NULL WHERE pid = 3")
    raw.commit()
    with pytest.raises(sqlite3.IntegrityError, match="only ever erased"):
        raw.execute("UPDATE persons SET person = 'p3', nonce = x'00' WHERE pid = 3")
    registry.verify()  # the proofs still hold, and nobody can say whose event it was
    assert registry.history("p3") == ()


def test_every_table_is_guarded() -> None:
    guarded = {sql.split(" ON ")[1].split()[0] for sql in schema.triggers().values()}
    assert guarded == set(schema.metadata.tables)


@pytest.mark.parametrize(
    ("pragma", "value"), [("journal_mode", "wal"), ("synchronous", 2), ("secure_delete", 1)]
)
def test_the_durable_settings_are_on(registry: ConsentRegistry, pragma: str, value: Any) -> None:
    # REQUIREMENTS 32: https://sqlite.org/pragma.html#pragma_synchronous, FULL is 2
    with registry._store.read() as connection:
        assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value
