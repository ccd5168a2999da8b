"""A registry in one schema of a PostgreSQL database, through psycopg 3.

``postgresql://user@host/database?schema=name``: one registry fills one schema, ``privemo`` where
the URL names none. Every session's ``search_path`` is that schema alone.

Durability: ``synchronous_commit`` is at least ``on``, and a server with ``fsync = off`` is refused.
Sessions keep these settings, so a pooler between must not share them by transaction.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import psycopg
import sqlalchemy as sa

from .. import schema
from ..errors import (
    ConsentError,
    RegistryError,
    RegistryExistsError,
    RegistryFullError,
    RegistryMissingError,
    TamperedError,
)
from . import guards, pgcheck
from .base import Stage, Store, Work
from .pgerrors import explain
from .places import parse_url, shown

__all__ = ["PostgresStore"]

# A dead server or cable is noticed in half a minute, not in the two hours of TCP's own defaults.
_CONNECT = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
#: Asking before every use would double the time of a decision.
_IDLE_S = 1.0


class PostgresStore(Store):
    """One schema of one database."""

    dialect = "postgresql"
    path: None

    def __init__(self, url: str, *, readonly: bool, busy_timeout_ms: int) -> None:
        self._url, self.schema = parse_url(url)
        super().__init__(shown(url), None, readonly=readonly, busy_timeout_ms=busy_timeout_ms)
        name = f"privemo.registry/{self.schema}".encode()
        self._lock_number = int.from_bytes(blake2b(name, digest_size=8).digest(), signed=True)
        self._made_schema = False

    @classmethod
    def create(
        cls, url: str, fill: Callable[[sa.Connection], None], *, busy_timeout_ms: int
    ) -> PostgresStore:
        """Make a registry in a schema that is empty or not there; see `storage.create_store`."""
        store = cls(url, readonly=False, busy_timeout_ms=busy_timeout_ms)
        try:
            with store.write() as connection:
                store._check_durable(connection)
                store._make_schema(connection)
                guards.make(connection)
                fill(connection)
        except BaseException:
            store.close()  # what was made went with the transaction
            raise
        store._made_here = True
        return store

    @classmethod
    def open(cls, url: str, *, readonly: bool, busy_timeout_ms: int) -> PostgresStore:
        """Open an existing registry; see `storage.open_store`."""
        store = cls(url, readonly=readonly, busy_timeout_ms=busy_timeout_ms)
        try:
            with store.read() as connection:
                store._check_version(connection)
                if not readonly:
                    store._check_durable(connection)
        except ConsentError:
            store.close()
            raise
        return store

    def discard(self) -> None:
        """Drop what `create` made: the tables, their functions, and the schema if it was new."""
        if self._made_here:
            with self.write() as connection:
                guards.remove(connection)
                for table in (*reversed(schema.metadata.sorted_tables), guards.versions):
                    connection.exec_driver_sql(f'DROP TABLE "{table.name}"')
                if self._made_schema:
                    connection.exec_driver_sql(f'DROP SCHEMA "{self.schema}"')
            self._made_here = False
        self.close()

    def scrub(self) -> None:
        """VACUUM the tables that rows were erased from.

        That removes dead rows no open snapshot can see. Their bytes may remain in the page until
        it is written over, in the server's write-ahead log and its archive, and on standbys: all
        of it ciphertext under a key that is destroyed.

        Raises:
            RegistryFullError: this role may not vacuum the tables.

        """
        told: list[str | None] = []
        with self._translated("write"):
            engine = self._engine_for("base").execution_options(isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                raw: Any = connection.connection.dbapi_connection
                listen = lambda notice: told.append(notice.severity_nonlocalized)  # noqa: E731
                raw.add_notice_handler(listen)
                try:
                    for table in (schema.persons, schema.items):
                        connection.exec_driver_sql(f'VACUUM "{table.name}"')
                finally:
                    raw.remove_notice_handler(listen)
        if "WARNING" in told:  # skipped: only their owner may
            raise RegistryFullError(
                f"{self.where}: this role may not VACUUM persons and items: "
                "run VACUUM on them as their owner"
            )

    def check(self, connection: sa.Connection) -> None:
        """Check tables, indexes, triggers and functions against those a fresh registry has.

        The server checks its pages as they are read, where its data checksums are on.
        """
        pgcheck.check(connection, self.schema, guards.versions)
        marks = list(connection.execute(sa.select(guards.versions)).scalars())
        if marks != [guards.revision(schema.SCHEMA_VERSION)]:
            raise TamperedError("table alembic_version", f"got {marks}")

    def _version(self, connection: sa.Connection) -> int | None:
        tables = connection.exec_driver_sql(
            "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace(%s)::oid "
            "AND relname IN ('alembic_version', 'meta', 'events', 'persons')",
            (self.schema,),
        ).scalar_one()
        if tables == 0:
            raise RegistryMissingError(
                f"no registry at {self.where}: create one with ConsentRegistry.create, or with "
                "`privemo registry new`"
            )
        if tables != 4:
            return None
        found = connection.execute(sa.select(guards.versions)).scalars().all()
        return int(found[0]) if len(found) == 1 and str(found[0]).isdecimal() else None

    def _make_schema(self, connection: sa.Connection) -> None:
        found = connection.exec_driver_sql("SELECT to_regnamespace(%s)", (self.schema,)).scalar()
        if found is None:
            connection.exec_driver_sql(f'CREATE SCHEMA "{self.schema}"')
            self._made_schema = True
        elif strange := pgcheck.relations(connection, self.schema):
            raise RegistryExistsError(
                f"{self.where} holds {min(strange)}: if that is a registry, open it with "
                "ConsentRegistry.open or name it with --registry; or choose an empty schema "
                "(?schema=name)"
            )

    def _check_durable(self, connection: sa.Connection) -> None:
        # REQUIREMENTS 32: no session can make up for a server that does not flush.
        if connection.exec_driver_sql("SHOW fsync").scalar() != "on":
            raise RegistryFullError(
                f"{self.where}: the server runs with fsync = off, a withdrawal would not survive a "
                "power failure; set fsync = on"
            )

    def _hold(self, connection: sa.Connection, durable: bool) -> None:
        lasting = "" if durable else ", set_config('synchronous_commit', 'off', true)"
        connection.exec_driver_sql(
            f"SELECT pg_advisory_xact_lock(%s){lasting}",
            (self._lock_number,),
        )

    def _make_engines(self) -> dict[Work, sa.Engine]:
        engine = sa.create_engine(
            self._url,
            hide_parameters=True,
            connect_args={k: v for k, v in _CONNECT.items() if k not in self._url.query},
        )
        sa.event.listen(engine, "connect", self._prepare)
        sa.event.listen(engine, "checkin", _note_use)
        sa.event.listen(engine, "after_cursor_execute", _note_cursor)
        sa.event.listen(engine, "checkout", _check_alive)
        # READ COMMITTED: what is read after the lock was granted is what its last holder wrote.
        writing = engine.execution_options(isolation_level="READ COMMITTED")
        reading = engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        return {"base": engine, "read": reading, "write": writing, "quick": writing}

    def _prepare(self, connection: Any, _record: object) -> None:
        # row_security off: a policy that hides rows is an error, not a shorter answer.
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT set_config('search_path', %s, false), set_config('lock_timeout', %s, false),"
                " set_config('row_security', 'off', false), set_config('synchronous_commit',"
                " CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply'"
                " ELSE 'on' END, false)",
                (f'"{self.schema}", pg_temp', f"{max(1, self._busy_timeout_ms)}ms"),
            )
        connection.commit()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Yield a connection inside one consistent snapshot; see `Store.read`."""
        with super().read() as connection:
            try:
                yield connection
            finally:  # whoever reads the first rows of many leaves a cursor open on the server
                gone = connection.invalidated or connection.closed
                for cursor in () if gone else connection.info.pop("cursors", ()):
                    cursor.close()

    @contextmanager
    def _translated(self, stage: Stage) -> Iterator[None]:
        try:
            with super()._translated(stage):
                yield
        except psycopg.Error as error:  # COPY speaks to psycopg itself
            raise self._explain(error, stage) from self._cause(error)

    def _cause(self, error: BaseException) -> BaseException | None:
        # The driver's text quotes the row that did not fit.
        state = getattr(getattr(error, "orig", error), "sqlstate", None)
        return error if state is None else None

    def _explain(self, error: BaseException, stage: Stage) -> RegistryError:
        return explain(self.where, error, stage)


def _note_cursor(
    connection: sa.Connection, cursor: Any, _sql: str, _values: Any, _context: Any, _many: bool
) -> None:
    if isinstance(cursor, psycopg.ServerCursor):
        connection.info.setdefault("cursors", []).append(cursor)


def _note_use(connection: Any, record: Any) -> None:
    record.info["used"] = time.monotonic()
    if connection is not None:
        connection.read_only = None  # SQLAlchemy resets to READ WRITE: the server may say otherwise


def _check_alive(connection: Any, record: Any, _proxy: object) -> None:
    """Ask a connection that lay idle whether its server is still there; the pool makes another."""
    if time.monotonic() - record.info.get("used", math.inf) > _IDLE_S:
        try:
            connection.execute("SELECT 1")
            connection.rollback()
        except psycopg.Error as error:
            raise sa.exc.DisconnectionError from error
