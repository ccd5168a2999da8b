"""The SQLite file: opening, durable writing, consistent reading, and errors in plain words.

Durability (REQUIREMENTS 32): WAL with ``synchronous=FULL``, so that a commit returns only after
the log was flushed to the disk (https://sqlite.org/pragma.html#pragma_synchronous). Writers take
the lock with ``BEGIN IMMEDIATE`` before they read what they build upon, so that two processes
cannot append to the same tree head.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from . import schema
from .errors import (
    ConsentError,
    RegistryBusyError,
    RegistryError,
    RegistryExistsError,
    RegistryFullError,
    RegistryMissingError,
    RegistryUnreadableError,
)

__all__ = ["BUSY_TIMEOUT_MS", "Store", "pairs"]

BUSY_TIMEOUT_MS = 30_000


class Store:
    """One database file. Safe for threads; after a fork the child opens its own connections."""

    def __init__(self, path: Path, *, readonly: bool, busy_timeout_ms: int) -> None:
        self.path = path
        self.readonly = readonly
        self._busy_timeout_ms = busy_timeout_ms
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._engine = self._make_engine()

    @classmethod
    def create(
        cls,
        path: Path,
        fill: Callable[[sa.Connection], None],
        *,
        busy_timeout_ms: int = BUSY_TIMEOUT_MS,
    ) -> Store:
        """Make a new file, readable by its owner alone, with what ``fill`` puts into the tables.

        Tables and filling are one transaction: a crash leaves no half-made registry that opens.

        Raises:
            RegistryExistsError: something stands at ``path``.
            RegistryFullError: no space, or the folder is not writable.
            RegistryMissingError: the folder does not exist.

        """
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            raise RegistryExistsError(
                f"{path} exists: open it with ConsentRegistry.open, or choose another path"
            ) from None
        except FileNotFoundError:
            raise RegistryMissingError(f"{path.parent} does not exist: make the folder") from None
        except OSError as error:
            raise RegistryFullError(f"{path} cannot be created: {error.strerror}") from error
        store = cls(path, readonly=False, busy_timeout_ms=busy_timeout_ms)
        try:
            with store.write() as connection:
                schema.make(connection)
                fill(connection)
        except BaseException:
            store.discard()
            raise
        return store

    @classmethod
    def open(
        cls, path: Path, *, readonly: bool = False, busy_timeout_ms: int = BUSY_TIMEOUT_MS
    ) -> Store:
        """Open an existing file after checking that it is a registry of this schema.

        Raises:
            RegistryMissingError: no file at ``path``.
            RegistryUnreadableError: not a registry, of another schema, or damaged.

        """
        if not path.is_file():
            raise RegistryMissingError(
                f"no registry at {path}: create one with ConsentRegistry.create"
            )
        store = cls(path, readonly=readonly, busy_timeout_ms=busy_timeout_ms)
        try:
            with store.read() as connection:
                kind = connection.exec_driver_sql("PRAGMA application_id").scalar()
                version = connection.exec_driver_sql("PRAGMA user_version").scalar()
        except ConsentError:
            store.close()
            raise
        if kind != schema.APPLICATION_ID:
            store.close()
            raise RegistryUnreadableError(f"{path} is no consent registry: check the path")
        if version != schema.SCHEMA_VERSION:
            store.close()
            raise RegistryUnreadableError(
                f"{path} has schema {version}, this privemo reads {schema.SCHEMA_VERSION}: "
                "use the privemo that wrote it, or migrate it"
            )
        return store

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Yield a connection inside one consistent snapshot of the file."""
        with self._translated(), self._engine_here().connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Yield a connection that holds the write lock; commit durably, or roll back and raise.

        Raises:
            RegistryBusyError: the lock was not free within the busy timeout.
            RegistryFullError: the disk is full or the file may not be written.
            RegistryUnreadableError: the file is damaged.

        """
        with self._translated():
            engine = self._engine_here().execution_options(privemo_begin="BEGIN IMMEDIATE")
            with engine.begin() as connection:
                yield connection

    def close(self) -> None:
        """Close every connection of this process."""
        self._engine.dispose()

    def discard(self) -> None:
        """Close, and remove what a failed `create` left."""
        self.close()
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)

    def _engine_here(self) -> sa.Engine:
        if self._pid != os.getpid():
            # SQLite connections must not cross a fork (https://sqlite.org/howtocorrupt.html 2.6).
            with self._lock:
                if self._pid != os.getpid():
                    self._engine.dispose(close=False)
                    self._engine = self._make_engine()
                    self._pid = os.getpid()
        return self._engine

    def _uri(self) -> str:
        uri = f"file:{quote(str(self.path.absolute()))}?mode={'ro' if self.readonly else 'rw'}"
        # A WAL file in a folder where no -shm can be made opens as immutable only; that is sound
        # when no -wal waits beside it.
        frozen = not os.access(self.path.parent, os.W_OK) and not Path(f"{self.path}-wal").exists()
        if self.readonly and frozen:
            uri += "&immutable=1"
        return uri

    def _make_engine(self) -> sa.Engine:
        # hide_parameters: an error's text must not carry person ids.
        engine = sa.create_engine(
            "sqlite://",
            creator=self._connect,
            poolclass=sa.pool.QueuePool,
            hide_parameters=True,
        )
        sa.event.listen(engine, "begin", _begin)
        return engine

    def _connect(self) -> Any:
        import sqlite3

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
                connection.execute("PRAGMA synchronous = FULL")
            for pragma in (
                "secure_delete = ON",  # freed pages are overwritten with zeros
                "recursive_triggers = ON",  # REPLACE fires DELETE triggers
                "foreign_keys = ON",
                "trusted_schema = OFF",
                "cell_size_check = ON",
            ):
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sa_exc.DBAPIError as error:
            raise self._explain(str(error.orig)) from error
        except (sa_exc.SQLAlchemyError, UnicodeDecodeError) as error:
            # UnicodeDecodeError: sqlite3 tells of a damaged schema with the damaged bytes.
            raise RegistryUnreadableError(
                f"{self.path} cannot be read: {type(error).__name__}"
            ) from error

    def _explain(self, cause: str) -> RegistryError:
        text = cause.lower()
        if "locked" in text or "busy" in text:
            return RegistryBusyError(
                f"{self.path} is locked by another process for more than "
                f"{self._busy_timeout_ms / 1000:g} s: try again"
            )
        if "is full" in text:
            return RegistryFullError(f"{self.path}: no space left; free some, nothing was recorded")
        if "readonly" in text:
            return RegistryFullError(f"{self.path} may not be written: check its permissions")
        return RegistryUnreadableError(f"{self.path} cannot be read or written: {cause}")


def pairs(result: Iterable[Any]) -> dict[Any, Any]:
    """Return rows of two columns as a dict."""
    return dict(map(tuple, result))


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("privemo_begin", "BEGIN"))
