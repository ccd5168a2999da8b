"""A registry in one SQLite file.

WAL with ``synchronous=FULL``: a commit returns only after the log was flushed to the disk
(https://sqlite.org/pragma.html#pragma_synchronous). Commits that need not be durable go through
connections with ``synchronous=NORMAL`` to the same log, which the next durable commit flushes.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from .. import schema
from ..errors import (
    ConsentError,
    RegistryBusyError,
    RegistryError,
    RegistryExistsError,
    RegistryFullError,
    RegistryMissingError,
    RegistryUnreadableError,
    TamperedError,
)
from . import guards
from .base import Stage, Store, Work, pairs

__all__ = ["SqliteStore"]

_SPACE = re.compile(r"[ \t\n]+")
_MAGIC = b"SQLite format 3\0"
_BESIDE = ("", "-wal", "-shm", "-journal")


class SqliteStore(Store):
    """One database file."""

    dialect = "sqlite"
    path: Path
    pragmas: tuple[str, ...] = (
        "secure_delete = ON",  # freed pages are overwritten with zeros
        "recursive_triggers = ON",  # REPLACE fires DELETE triggers
        "foreign_keys = ON",
        "trusted_schema = OFF",
        "cell_size_check = ON",
        "cache_size = -16000",  # KiB; what is found by keyed hashes lies all over its index
    )

    def __init__(self, path: Path, *, readonly: bool, busy_timeout_ms: int) -> None:
        # Absolute: whoever changes the folder later means this one, and what lies beside it.
        path = path.absolute()
        super().__init__(str(path), path, readonly=readonly, busy_timeout_ms=busy_timeout_ms)
        self._alone = readonly and not any(map(Path.exists, self._beside()))

    @classmethod
    def create(
        cls, path: Path, fill: Callable[[sa.Connection], None], *, busy_timeout_ms: int
    ) -> SqliteStore:
        """Make a new file, readable by its owner alone; see `storage.create_store`."""
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            raise RegistryExistsError(
                f"{path} exists: open it with ConsentRegistry.open or name it with --registry, or "
                "choose another path"
            ) from None
        except FileNotFoundError:
            raise RegistryMissingError(f"{path.parent} does not exist: make the folder") from None
        except OSError as error:
            raise RegistryFullError(f"{path} cannot be created: {error.strerror}") from error
        store = cls(path, readonly=False, busy_timeout_ms=busy_timeout_ms)
        store._made_here = True
        try:
            with store.write() as connection:
                guards.make(connection)
                fill(connection)
        except BaseException:
            store.discard()
            raise
        return store

    @classmethod
    def open(cls, path: Path, *, readonly: bool, busy_timeout_ms: int) -> SqliteStore:
        """Open an existing file; see `storage.open_store`."""
        look_at(path)
        store = cls(path, readonly=readonly, busy_timeout_ms=busy_timeout_ms)
        try:
            with store.read() as connection:
                store._check_version(connection)
        except ConsentError:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close every connection of this process; whoever only read leaves the folder as it was found.

        SQLite makes -wal and -shm for a reader too, and leaves them where the last to close may not write.
        Only SQLite knows whether somebody else uses them by now, so it is asked to take them away.
        """
        super().close()
        wal, _ = self._beside()
        with suppress(OSError, sqlite3.Error):
            if self._alone and wal.exists() and not wal.stat().st_size:
                last = sqlite3.connect(
                    f"file:{quote(str(self.path.absolute()))}?mode=rw", uri=True, timeout=0
                )
                with closing(last):
                    last.execute("SELECT count(*) FROM sqlite_master").fetchone()

    def _beside(self) -> tuple[Path, Path]:
        return Path(f"{self.path}-wal"), Path(f"{self.path}-shm")

    def discard(self) -> None:
        """Close, and remove the file if this object made it."""
        self.close()
        for suffix in _BESIDE if self._made_here else ():
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)

    def scrub(self) -> None:
        """Copy the write-ahead log into the file and cut it to nothing.

        ``secure_delete`` has zeroed deleted rows and freed pages in the file itself. SQLite waits
        for readers of older snapshots up to the busy timeout.

        Raises:
            RegistryBusyError: a reader or writer did not let go.

        """
        if self._outside("PRAGMA wal_checkpoint(TRUNCATE)")[0]:
            raise RegistryBusyError(
                f"{self.where} is being read by another process: what was deleted still stands "
                "in its -wal file; try again"
            )

    def compact(self) -> None:
        """Write the file anew without its free space, then `scrub`.

        Raises:
            RegistryBusyError, RegistryFullError

        """
        self._outside("VACUUM")
        self.scrub()

    def _outside(self, statement: str) -> tuple[Any, ...]:
        """Run what SQLite refuses inside a transaction; return its first row."""
        with self._translated("write"):
            connection = self._engine_for("base").raw_connection()
            try:
                cursor = connection.cursor()
                cursor.execute(statement)
                return tuple(cursor.fetchone() or ())
            except sqlite3.Error as error:
                raise self._explain(error, "write") from error
            finally:
                connection.close()

    def check(self, connection: sa.Connection) -> None:
        """Check the file's pages, and its tables, indexes and triggers against a fresh one's."""
        try:
            found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
        except sa_exc.DBAPIError as error:
            raise TamperedError("database file", str(error.orig)) from error
        if found != "ok":
            raise TamperedError("database file", str(found))
        have = _schema(connection)
        engine = sa.create_engine("sqlite://")
        with engine.connect() as fresh:
            guards.make(fresh)
            want = _schema(fresh)
        engine.dispose()
        for name, sql in want.items():
            if have.pop(name, None) != sql:
                raise TamperedError(name, "missing or altered: rows may be overwritten unseen")
        if have:
            raise TamperedError(min(have), "is none of this registry's")
        marks = list(connection.execute(sa.select(guards.versions)).scalars())
        if marks != [guards.revision(self.version(connection))]:
            raise TamperedError("table alembic_version", f"got {marks}")

    def _version(self, connection: sa.Connection) -> int | None:
        if connection.exec_driver_sql("PRAGMA application_id").scalar() != schema.APPLICATION_ID:
            return None
        return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())

    def _hold(self, connection: sa.Connection, durable: bool) -> None:
        """BEGIN IMMEDIATE holds it already."""

    def _uri(self) -> str:
        uri = f"file:{quote(str(self.path.absolute()))}?mode={'ro' if self.readonly else 'rw'}"
        # A WAL file in a folder where no -shm can be made opens as immutable only; that is sound
        # when no -wal waits beside it.
        frozen = not os.access(self.path.parent, os.W_OK) and not Path(f"{self.path}-wal").exists()
        if self.readonly and frozen:
            uri += "&immutable=1"
        return uri

    def _make_engines(self) -> dict[Work, sa.Engine]:
        full = self._make_engine("FULL")
        return {
            "base": full,
            "read": full,
            "write": full.execution_options(privemo_begin="BEGIN IMMEDIATE"),
            "quick": self._make_engine("NORMAL", privemo_begin="BEGIN IMMEDIATE"),
        }

    def _make_engine(self, synchronous: str, **options: str) -> sa.Engine:
        # Whoever may only read opens anew each time: a file taken for immutable never changes for
        # the connection that took it so, and a withdrawal would not be seen.
        kept = sa.pool.NullPool if self.readonly else sa.pool.QueuePool
        dialect = _dialect()

        def connect() -> Any:
            return self._connect(synchronous)

        # hide_parameters: an error's text must not carry person ids.
        engine = sa.Engine(
            kept(connect, dialect=dialect),
            dialect,
            sa.make_url("sqlite://"),
            hide_parameters=True,
            execution_options={**options, "compiled_cache": _COMPILED},
        )
        sa.event.listen(engine, "begin", _begin)
        return engine

    def _connect(self, synchronous: str) -> sqlite3.Connection:
        # isolation_level=None: transactions begin where `_begin` says, not where Python guesses.
        connection = sqlite3.connect(
            self._uri(),
            uri=True,
            timeout=self._busy_timeout_ms / 1000,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            if not self.readonly:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(f"PRAGMA synchronous = {synchronous}")
            for pragma in self.pragmas:
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _translated(self, stage: Stage) -> Iterator[None]:
        try:
            with super()._translated(stage):
                yield
        except sqlite3.Error as error:  # `insert_row` and `fetch_row` speak to sqlite3 itself
            raise self._explain(error, stage) from error

    def _explain(self, error: BaseException, stage: Stage) -> RegistryError:
        cause = str(error)
        text = cause.lower()
        if "locked" in text or "busy" in text:
            return RegistryBusyError(
                f"{self.where} is locked by another process for more than "
                f"{self._busy_timeout_ms / 1000:g} s: try again"
            )
        if "is full" in text:
            return RegistryFullError(
                f"{self.where}: no space left; free some, nothing was recorded"
            )
        if "readonly" in text:
            return RegistryFullError(f"{self.where} may not be written: check its permissions")
        return RegistryUnreadableError(f"{self.where} cannot be read or written: {cause}")


_COMPILED: dict[Any, Any] = {}
"""What statements of this package are in SQL: put into words once in a process, not once for each file."""


@cache
def _dialect() -> sa.Dialect:
    """SQLite's, which has asked the library what it can; it is the same for every file."""
    engine = sa.create_engine("sqlite://")
    with engine.connect():
        pass
    engine.dispose()
    return engine.dialect


def look_at(path: Path) -> None:
    """Refuse what is no registry before SQLite writes its own marks into it.

    Raises:
        RegistryMissingError: no file.
        RegistryUnreadableError: an empty or strange one, or another program's database.

    """
    if not path.is_file():
        raise RegistryMissingError(
            f"no registry at {path}: create one with ConsentRegistry.create, or with "
            "`privemo registry new`"
        )
    try:
        with path.open("rb") as file:
            head = file.read(72)
        waiting = Path(f"{path}-wal").exists() and Path(f"{path}-wal").stat().st_size
    except OSError as error:
        raise RegistryUnreadableError(f"{path} cannot be read: {error.strerror}") from error
    # https://sqlite.org/fileformat.html#the_database_header; a log that waits may hold a later one.
    if head[:16] == _MAGIC and head[68:] == schema.BACKUP_ID.to_bytes(4):
        raise RegistryUnreadableError(
            f"{path} is a backup, not a registry: bring it back with `privemo registry restore`"
        )
    if not waiting and (head[:16] != _MAGIC or head[68:] != schema.APPLICATION_ID.to_bytes(4)):
        raise RegistryUnreadableError(f"{path} is no consent registry: check the path")


def _schema(connection: sa.Connection) -> dict[str, str]:
    query = "SELECT type || ' ' || name, tbl_name || ': ' || coalesce(sql, '') FROM sqlite_master"
    found = pairs(connection.exec_driver_sql(query))
    # Releases of SQLAlchemy differ in where they break lines.
    return {name: _SPACE.sub(" ", sql) for name, sql in found.items()}


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("privemo_begin", "BEGIN"))
