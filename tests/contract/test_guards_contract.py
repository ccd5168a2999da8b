"""Append-only, even to someone with SQL (GDPR 7(1)), and what was done to the guards is named."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from privemo_consent.errors import RegistryError, TamperedError
from privemo_consent.storage import Store, create_store
from tests.contract.store_rows import everything, fill
from tests.support.postgres import PostgresServer

# ruff: noqa: S608

EVENT = "kind, pid, purpose, status, role, at, recorded, expires, nid, simulated, leaf, leaf_hash"

# Each row an attempt to rewrite history; tables hold what `fill` put there.
ATTEMPTS = [
    "UPDATE events SET status = 4",
    "UPDATE events SET seq = seq + 100",
    "UPDATE events SET seq = 20 WHERE seq = 19",
    "DELETE FROM events",
    "DELETE FROM events WHERE seq = (SELECT max(seq) FROM events)",
    f"INSERT INTO events (seq, {EVENT}) SELECT seq + 30, {EVENT} FROM events",
    f"INSERT INTO events (seq, {EVENT}) SELECT seq - 20, {EVENT} FROM events",
    f"INSERT INTO events (seq, {EVENT}) SELECT -1, {EVENT} FROM events WHERE seq = 3",
    f"INSERT INTO events (seq, {EVENT}) SELECT 2 * seq + 20, {EVENT} FROM events WHERE seq < 3",
    f"INSERT INTO events (seq, {EVENT}) SELECT 3, {EVENT} FROM events WHERE seq = 3",
    "INSERT INTO uses SELECT seq + 50, recorded, persons, leaf, leaf_hash FROM uses",
    "UPDATE uses SET persons = leaf",
    "DELETE FROM uses",
    "UPDATE nodes SET hash = hash",
    "DELETE FROM nodes",
    "INSERT INTO nodes SELECT * FROM nodes",
    "UPDATE meta SET value = 'simulation'",
    "DELETE FROM meta",
    "INSERT INTO meta VALUES ('mode', 'simulation')",
    "UPDATE notices SET body = body",
    "DELETE FROM notices",
    "INSERT INTO notices SELECT nid + 1, hash, notice_id, version, body FROM notices",
    "INSERT INTO notices SELECT nid + 2, 'h9', notice_id, version, body FROM notices",
    "UPDATE checkpoints SET note = 'forged'",
    "UPDATE checkpoints SET size = 21 WHERE size = 20",
    "DELETE FROM checkpoints",
    "INSERT INTO checkpoints VALUES (0, 20, 'forged')",
    "UPDATE items SET pid = 2",
    "UPDATE items SET body = head",
    "INSERT INTO items SELECT iid, 2, kind, head, body FROM items WHERE pid = 0",
    "DELETE FROM persons",
    "DELETE FROM persons WHERE pid = 4",
    "UPDATE persons SET sealed = wrapped",
    "UPDATE persons SET handle = NULL",
    "UPDATE persons SET wrapped = NULL",
    "UPDATE persons SET handle = NULL, wrapped = NULL, epoch = NULL WHERE pid = 3",
    "UPDATE persons SET handle = NULL, sealed = NULL, wrapped = NULL WHERE pid = 3",
    (
        "UPDATE persons SET pid = 5, handle = NULL, sealed = NULL, wrapped = NULL, epoch = NULL "
        "WHERE pid = 4"
    ),
    # wrapped anew, but not all of it, or more than that
    "UPDATE persons SET epoch = 2",
    "UPDATE persons SET wrapped = sealed, epoch = 2",
    "UPDATE persons SET handle = sealed, epoch = 2",
    "UPDATE persons SET handle = sealed, wrapped = sealed",
    "UPDATE persons SET handle = sealed, wrapped = sealed, epoch = 1",
    "UPDATE persons SET handle = sealed, wrapped = sealed, epoch = 0",
    "UPDATE persons SET handle = sealed, wrapped = sealed, epoch = NULL",
    "UPDATE persons SET handle = sealed, wrapped = NULL, epoch = 2",
    "UPDATE persons SET handle = sealed, wrapped = sealed, epoch = 2, sealed = wrapped",
    "UPDATE persons SET handle = sealed, wrapped = sealed, epoch = 2, pid = 7 WHERE pid = 4",
    "INSERT INTO persons SELECT pid + 77, sealed, sealed, wrapped, 1 FROM persons WHERE pid = 1",
    "INSERT INTO persons SELECT 5, handle, sealed, wrapped, 1 FROM persons WHERE pid = 1",
    "INSERT INTO persons SELECT 1, sealed, sealed, wrapped, 1 FROM persons WHERE pid = 1",
    "UPDATE alembic_version SET version_num = '0001'",
    "DELETE FROM alembic_version",
]
ON_SQLITE = [
    "INSERT OR REPLACE INTO events SELECT * FROM events WHERE seq = 3",
    "REPLACE INTO events SELECT * FROM events WHERE seq = 3",
    "UPDATE OR IGNORE events SET leaf = x'00' WHERE seq = 3",
    "REPLACE INTO uses SELECT * FROM uses",
    "REPLACE INTO nodes SELECT log, level, idx, x'00' FROM nodes",
    "REPLACE INTO meta VALUES ('mode', 'simulation')",
    "REPLACE INTO notices SELECT nid + 1, hash, notice_id, version, body FROM notices",
    "REPLACE INTO checkpoints VALUES (0, 20, 'forged')",
    "REPLACE INTO items SELECT iid, 2, kind, head, body FROM items",
    "REPLACE INTO persons SELECT 5, handle, sealed, wrapped, 1 FROM persons WHERE pid = 3",
    "REPLACE INTO persons VALUES (3, x'00', x'00', x'00', 1)",
    "REPLACE INTO persons (pid) VALUES (3)",
    (
        "UPDATE OR REPLACE persons SET wrapped = sealed, epoch = 2, "
        "handle = (SELECT handle FROM persons WHERE pid = 2) WHERE pid = 1"
    ),
    (
        "INSERT INTO events SELECT * FROM events WHERE true "
        "ON CONFLICT (seq) DO UPDATE SET leaf = x'00'"
    ),
]
ON_POSTGRES = [
    "TRUNCATE events",
    "TRUNCATE nodes",
    "TRUNCATE items",
    "TRUNCATE persons, events, items",
    "TRUNCATE meta, uses, checkpoints",
    "INSERT INTO events SELECT * FROM events ON CONFLICT (seq) DO UPDATE SET status = 4",
    "INSERT INTO meta VALUES ('mode', '') ON CONFLICT (key) DO UPDATE SET value = ''",
    "MERGE INTO events e USING uses u ON e.seq = u.seq WHEN MATCHED THEN DELETE",
    "WITH gone AS (DELETE FROM events RETURNING seq) SELECT * FROM gone",
    "SET LOCAL session_replication_role = replica; UPDATE events SET status = 4",
    "SET LOCAL session_replication_role = replica; DELETE FROM checkpoints",
    # another table of that name, found first, tells the guard what it wants to hear
    (
        "CREATE TEMP TABLE events (seq bigint) ON COMMIT DROP; INSERT INTO pg_temp.events VALUES (98); "
        "SET LOCAL search_path = pg_temp, {schema}; "
        f"INSERT INTO {{schema}}.events (seq, {EVENT}) "
        f"SELECT 99, {EVENT} FROM {{schema}}.events WHERE seq = 3"
    ),
]

# What somebody who owns the database can do to the guards, and the part that `check` then names.
SABOTAGE = [
    ("CREATE TABLE strange (a integer)", "table strange"),
    ("CREATE VIEW strange AS SELECT 1 AS a", "view strange"),
    ("ALTER TABLE events ADD COLUMN more integer", "table events"),
    ("ALTER TABLE uses RENAME COLUMN persons TO people", "table uses"),
    ("DROP INDEX events_by_person", "index events_by_person"),
    ("CREATE INDEX strange ON events (at)", "index strange"),
    ("DROP TABLE nodes", "table nodes"),
    ("INSERT INTO alembic_version VALUES ('0001')", "table alembic_version"),
]
SABOTAGE_SQLITE = [
    ("DROP TRIGGER events_no_update", "trigger events_no_update"),
    ("DROP TRIGGER persons_no_insert_twice", "trigger persons_no_insert_twice"),
    (
        "CREATE TRIGGER strange AFTER INSERT ON events BEGIN DELETE FROM items; END",
        "trigger strange",
    ),
    (
        (
            "DROP TRIGGER meta_no_delete; CREATE TRIGGER meta_no_delete BEFORE DELETE ON meta "
            "BEGIN SELECT 1; END"
        ),
        "trigger meta_no_delete",
    ),
]
SABOTAGE_POSTGRES = [
    ("DROP TRIGGER events_no_update ON events", "trigger events_no_update"),
    ("ALTER TABLE events DISABLE TRIGGER events_no_delete", "trigger events_no_delete"),
    ("ALTER TABLE events ENABLE TRIGGER events_no_delete", "trigger events_no_delete"),
    ("ALTER TABLE events ENABLE REPLICA TRIGGER events_no_delete", "trigger events_no_delete"),
    ("ALTER TABLE items DISABLE TRIGGER ALL", "table items"),
    (
        (
            "DROP TRIGGER meta_no_update ON meta; CREATE TRIGGER meta_no_update BEFORE UPDATE OF key "
            "ON meta FOR EACH STATEMENT EXECUTE FUNCTION privemo_refuse('append-only'); "
            "ALTER TABLE meta ENABLE ALWAYS TRIGGER meta_no_update"
        ),
        "trigger meta_no_update",
    ),
    (
        (
            "CREATE OR REPLACE FUNCTION privemo_refuse() RETURNS trigger LANGUAGE plpgsql "
            "AS 'BEGIN RETURN NULL; END'"
        ),
        "function privemo_refuse",
    ),
    ("ALTER FUNCTION privemo_person() SECURITY DEFINER", "function privemo_person"),
    ("ALTER FUNCTION privemo_person() SET search_path = public", "function privemo_person"),
    (
        "CREATE FUNCTION strange() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "function strange",
    ),
    (
        "CREATE FUNCTION privemo_refuse(a integer) RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "function privemo_refuse",
    ),
    (
        "CREATE TRIGGER strange BEFORE DELETE ON items EXECUTE FUNCTION privemo_refuse()",
        "trigger strange",
    ),
    ("CREATE SEQUENCE strange", "sequence strange"),
    ("CREATE TABLE strange () INHERITS (events)", "table events"),
    ("CREATE RULE quiet AS ON UPDATE TO events DO INSTEAD NOTHING", "table events"),
    ("ALTER TABLE events ENABLE ROW LEVEL SECURITY", "table events"),
    ("ALTER TABLE events ALTER COLUMN leaf DROP NOT NULL", "table events"),
    ("ALTER TABLE events ALTER COLUMN status SET DEFAULT 4", "table events"),
    ("ALTER TABLE events DROP CONSTRAINT events_pkey", "table events"),
    ("ALTER TABLE persons DROP CONSTRAINT persons_handle_key", "table persons"),
    (
        (
            "ALTER TABLE events DROP CONSTRAINT events_pid_fkey; ALTER TABLE events ADD CONSTRAINT "
            "events_pid_fkey FOREIGN KEY (pid) REFERENCES persons NOT VALID"
        ),
        "table events",
    ),
    ("ALTER TABLE uses ALTER COLUMN recorded TYPE integer USING 0", "table uses"),
    ("ALTER TABLE uses SET UNLOGGED", "table uses"),
]
REFUSED = (
    r"append-only|only ever erased|without gaps|kept to the newest"
    r"|unique constraint|ON CONFLICT DO UPDATE"
)


class GuardContract(ABC):
    @abstractmethod
    def store(self) -> Store:
        """Return a registry with what `fill` puts into it."""

    @pytest.mark.parametrize("attempt", ATTEMPTS)
    def test_history_cannot_be_rewritten(self, store: Store, attempt: str) -> None:
        refused(store, attempt)

    def test_a_signed_head_may_go_once_a_later_one_stands(self, store: Store) -> None:
        run(store, "INSERT INTO checkpoints VALUES (1, 7, 'of the other log')")
        run(store, "DELETE FROM checkpoints WHERE log = 0 AND size < 20")
        with store.read() as connection:
            sizes = [row[:2] for row in everything(connection)["checkpoints"]]
        assert sizes == [(0, 20), (1, 7)]
        refused(store, "DELETE FROM checkpoints WHERE log = 1")
        refused(store, "DELETE FROM checkpoints WHERE size = 20")


def refused(store: Store, *attempts: str) -> None:
    with store.read() as connection:
        before = everything(connection)
    with pytest.raises(RegistryError, match=REFUSED):
        run(store, *attempts)
    with store.read() as connection:
        assert everything(connection) == before


def run(store: Store, *statements: str) -> None:
    with store.write() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def named(store: Store, sabotage: str, entry: str) -> None:
    # Not cut inside the body of a trigger or function.
    statements = re.split(r"; (?=DROP|CREATE|ALTER)", sabotage)
    with store.read() as connection:
        store.check(connection)

    def act() -> None:
        with store.write() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
            store.check(connection)

    with pytest.raises(TamperedError) as caught:
        act()
    assert caught.value.entry == entry
    with store.read() as connection:
        store.check(connection)  # rolled back


class TestSqliteGuards(GuardContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:  # type: ignore[override]
        store = create_store(tmp_path / "consent.sqlite", fill)
        yield store
        store.close()

    @pytest.mark.parametrize("recursive", ["ON", "OFF"])
    @pytest.mark.parametrize("attempt", [*ATTEMPTS, *ON_SQLITE])
    def test_nor_with_replace(self, store: Store, attempt: str, recursive: str) -> None:
        refused(store, f"PRAGMA recursive_triggers = {recursive}", attempt)

    @pytest.mark.parametrize(("sabotage", "entry"), [*SABOTAGE, *SABOTAGE_SQLITE])
    def test_a_missing_guard_is_named(self, store: Store, sabotage: str, entry: str) -> None:
        named(store, sabotage, entry)

    def test_a_torn_page_is_named(self, store: Store) -> None:
        store.scrub()
        store.close()
        assert store.path is not None
        with store.path.open("r+b") as file:
            file.seek(4096 * 3 + 3)
            file.write(b"\xff\xff")
        with store.read() as connection, pytest.raises(TamperedError) as caught:
            store.check(connection)
        assert caught.value.entry == "database file"


class TestPostgresGuards(GuardContract):
    @pytest.fixture
    def store(self, postgres: PostgresServer) -> Iterator[Store]:  # type: ignore[override]
        store = create_store(postgres.fresh(), fill)
        yield store
        store.close()

    @pytest.mark.parametrize("attempt", ON_POSTGRES)
    def test_nor_with_the_server_s_own_means(self, store: Store, attempt: str) -> None:
        with store.read() as connection:
            namespace = connection.execute(sa.select(sa.func.current_schema())).scalar_one()
        refused(store, *attempt.replace("{schema}", str(namespace)).split("; "))

    @pytest.mark.parametrize(("sabotage", "entry"), [*SABOTAGE, *SABOTAGE_POSTGRES])
    def test_a_missing_guard_is_named(self, store: Store, sabotage: str, entry: str) -> None:
        named(store, sabotage, entry)
