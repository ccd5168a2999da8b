"""From a file that privemo 0.1 wrote: whole before, whole after, and nothing of the old left."""

from __future__ import annotations

import lzma
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from privemo_consent import schema
from privemo_consent.errors import (
    ConsentError,
    RegistryBusyError,
    RegistryMissingError,
    RegistryUnreadableError,
    TamperedError,
)
from privemo_consent.storage import create_store, insert_rows, open_store, upgrade
from privemo_consent.storage.upgrade import migrate
from tests.support.consent import KILLED, in_child

# 20 people with records of every kind, made by tests/support/consent.py of that release
OLD = Path(__file__).parents[1] / "data" / "consent-v1.sqlite.xz"
NAMES = [f"p{i:02d}".encode() for i in range(20)]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "consent.sqlite"
    path.write_bytes(lzma.decompress(OLD.read_bytes()))
    return path


def convert(connection: sa.Connection) -> None:
    """Carry the rows over; what is sealed means nothing here."""
    key = connection.exec_driver_sql("SELECT value FROM secrets WHERE name = 'subject'").scalar()
    assert isinstance(key, bytes)
    rows = connection.exec_driver_sql("SELECT pid, person, nonce FROM persons_v1 ORDER BY pid")
    people: list[dict[str, Any]] = []
    for pid, person, nonce in rows:
        assert len(nonce) == 32
        handle = bytes(value ^ 0x5A for value in person.encode())
        people.append({"pid": pid, "handle": handle, "sealed": b"s", "wrapped": b"w", "epoch": 1})
    insert_rows(connection, schema.persons, people)


def rows_of(path: Path, table: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()  # noqa: S608
    finally:
        connection.close()


def version_of(path: Path) -> int:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


def left_of(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(path.parent.iterdir()))


def test_an_old_file_says_how_to_migrate_it(old: Path) -> None:
    with pytest.raises(RegistryUnreadableError, match="privemo registry migrate"):
        open_store(old)


def test_what_was_recorded_is_there_and_the_file_equals_a_fresh_one(old: Path) -> None:
    tables = ("meta", "notices", "events", "uses", "nodes")
    before = {table: rows_of(old, table) for table in tables}
    assert len(before["events"]) > 20
    assert migrate(old, convert=convert) == (1, schema.SCHEMA_VERSION)
    assert {table: rows_of(old, table) for table in tables} == before
    store = open_store(old)
    with store.read() as connection:
        store.check(connection)
        assert store.version(connection) == schema.SCHEMA_VERSION
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    store.close()
    assert len(rows_of(old, "persons")) == 21


def test_the_guards_stand_again(old: Path) -> None:
    migrate(old, convert=convert)
    connection = sqlite3.connect(old)
    for table in {*schema.metadata.tables, "alembic_version"} - {"items", "checkpoints"}:
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(f"DELETE FROM {table}")  # noqa: S608
    connection.close()


def test_nothing_of_the_old_is_left_in_the_file(old: Path) -> None:
    key = rows_of(old, "secrets")[0][1]
    nonces = [row[2] for row in rows_of(old, "persons")]
    assert key in left_of(old)
    assert all(name in left_of(old) for name in NAMES)
    migrate(old, convert=convert)
    left = left_of(old)
    assert not [secret for secret in (key, *nonces, *NAMES) if secret in left]
    assert rows_of(old, "events")[5][11] in left, "and what should be is there"


def test_migrating_twice_changes_nothing(old: Path) -> None:
    migrate(old, convert=convert)
    before = {table: rows_of(old, table) for table in schema.metadata.tables}

    def never(_connection: sa.Connection) -> None:
        pytest.fail("there is nothing to convert")

    assert migrate(old, convert=never) == (schema.SCHEMA_VERSION, schema.SCHEMA_VERSION)
    assert {table: rows_of(old, table) for table in schema.metadata.tables} == before


def fails(_connection: sa.Connection) -> None:
    raise ZeroDivisionError


def loses_a_person(connection: sa.Connection) -> None:
    connection.exec_driver_sql("DELETE FROM persons_v1 WHERE pid = 20")
    convert(connection)


def leaves_a_table(connection: sa.Connection) -> None:
    convert(connection)
    connection.exec_driver_sql("CREATE TABLE strange (a)")


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (fails, ZeroDivisionError),
        (loses_a_person, TamperedError),
        (leaves_a_table, TamperedError),
    ],
)
def test_what_goes_wrong_leaves_the_old_file_whole(
    old: Path, bad: Callable[[sa.Connection], None], error: type[Exception]
) -> None:
    before = [rows_of(old, table) for table in ("persons", "secrets", "events", "sqlite_master")]
    with pytest.raises(error):
        migrate(old, convert=bad)
    assert [
        rows_of(old, table) for table in ("persons", "secrets", "events", "sqlite_master")
    ] == before
    assert version_of(old) == 1


def die_at(step: int) -> None:
    """Kill this process at the ``step``-th statement, commit or step of SQLite's own from now."""
    left = count(step, -1)

    def tick(*_arguments: object) -> None:
        if next(left) < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    original = upgrade._MigratingFile._connect

    def connect(self: Any, synchronous: str) -> sqlite3.Connection:
        connection = original(self, synchronous)
        connection.set_progress_handler(tick, 1000)
        connection.set_trace_callback(tick)
        return connection

    upgrade._MigratingFile._connect = connect  # type: ignore[method-assign] # in a forked child


@pytest.mark.parametrize(
    "every", [pytest.param(1, marks=pytest.mark.slow), 3], ids=["each", "third"]
)
def test_killed_at_any_step_the_old_is_whole_or_the_new(old: Path, every: int) -> None:
    image = old.read_bytes()
    before = [rows_of(old, table) for table in ("persons", "secrets", "events", "sqlite_master")]
    seen = []
    for step in count(0, every):
        for file in old.parent.iterdir():
            file.unlink()
        old.write_bytes(image)

        def act(step: int = step) -> None:
            die_at(step)
            migrate(old, convert=convert)

        code = in_child(act)
        assert code in (0, KILLED)
        seen.append(version_of(old))
        if seen[-1] == 1:
            assert [
                rows_of(old, table) for table in ("persons", "secrets", "events", "sqlite_master")
            ] == before
        assert migrate(old, convert=convert) == (seen[-1], schema.SCHEMA_VERSION)
        store = open_store(old)
        with store.read() as connection:
            store.check(connection)
        store.close()
        assert not [name for name in NAMES if name in left_of(old)]
        if code == 0:
            break
    assert seen.count(1) > 10 / every, "killed at many points before the commit"
    assert seen.count(schema.SCHEMA_VERSION) > 2 / every, "and after it, before the old was cleared"
    assert seen == sorted(seen)


def test_a_reader_of_the_old_is_told_of_and_the_rest_is_done_when_it_went(old: Path) -> None:
    reader = sqlite3.connect(old, isolation_level=None)
    reader.execute("PRAGMA journal_mode = WAL")
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM persons").fetchone() == (21,)
    with pytest.raises(RegistryBusyError, match="migrate` again"):
        migrate(old, convert=convert, busy_timeout_ms=80)
    reader.execute("ROLLBACK")
    with pytest.raises(sqlite3.OperationalError):
        reader.execute("SELECT person FROM persons")  # the old privemo decides nothing from here
    reader.close()
    assert migrate(old, convert=convert)[0] == schema.SCHEMA_VERSION
    assert not [name for name in NAMES if name in left_of(old)]


def test_a_writer_is_waited_for(old: Path) -> None:
    writer = sqlite3.connect(old, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    with pytest.raises(RegistryBusyError):
        migrate(old, convert=convert, busy_timeout_ms=80)
    writer.execute("ROLLBACK")
    writer.close()
    assert migrate(old, convert=convert) == (1, schema.SCHEMA_VERSION)


def test_a_registry_from_the_future_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "consent.sqlite"
    create_store(path, lambda connection: None).close()
    raw = sqlite3.connect(path)
    raw.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION + 1}")
    raw.close()
    for act in (open_store, lambda where: migrate(where, convert=convert)):
        with pytest.raises(RegistryUnreadableError, match="later"):
            act(path)


@pytest.mark.parametrize("content", [b"", b"not a database at all" * 400])
def test_what_is_no_registry_is_not_migrated(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "consent.sqlite"
    with pytest.raises(RegistryMissingError):
        migrate(path, convert=convert)
    path.write_bytes(content)
    with pytest.raises(ConsentError):
        migrate(path, convert=convert)
    assert path.read_bytes() == content


@pytest.fixture
def memory() -> Iterator[sa.Connection]:
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def test_the_frozen_first_revision_is_what_that_release_made(
    old: Path, memory: sa.Connection
) -> None:
    upgrade.run_revisions(memory, "0001")
    memory.exec_driver_sql("DROP TABLE alembic_version")
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master"
    made = {tuple(row) for row in memory.exec_driver_sql(query)}
    raw = sqlite3.connect(old)
    assert made == set(raw.execute(query))
    for pragma in ("application_id", "user_version"):
        want = raw.execute(f"PRAGMA {pragma}").fetchone()[0]
        assert memory.exec_driver_sql(f"PRAGMA {pragma}").scalar() == want
    raw.close()


def test_the_last_revision_is_the_version_of_the_schema() -> None:
    heads = ScriptDirectory(str(upgrade._SCRIPTS)).get_heads()
    assert heads == [f"{schema.SCHEMA_VERSION:04d}"]
