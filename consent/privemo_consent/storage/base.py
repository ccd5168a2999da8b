"""One database under a registry: consistent reading, durable writing, errors in plain words.

Durability (REQUIREMENTS 32): a commit returns only after the database flushed its log to the disk.
A writer takes the one write lock before it reads what it builds upon, so that two processes cannot
append to the same tree head.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from .. import schema
from ..errors import RegistryBusyError, RegistryError, RegistryFullError, RegistryUnreadableError

__all__ = ["BUSY_TIMEOUT_MS", "Store", "pairs"]

BUSY_TIMEOUT_MS = 30_000

#: What an engine's connections are for; "quick" are writes that need not be durable.
Work = Literal["base", "read", "write", "quick"]
#: Where in a unit of work a failure came: a lost commit may have been recorded.
Stage = Literal["read", "write", "commit"]


class Store(ABC):
    """One database. Safe for threads; after a fork the child opens its own connections.

    Attributes:
        where: names it in messages; a URL without its password.
        path: the SQLite file; None on a server.
        dialect: ``"sqlite"`` or ``"postgresql"``.
        readonly: every write is refused.

    """

    dialect: str

    def __init__(
        self, where: str, path: Path | None, *, readonly: bool, busy_timeout_ms: int
    ) -> None:
        self.where = where
        self.path = path
        self.readonly = readonly
        self._busy_timeout_ms = busy_timeout_ms
        self._made_here = False
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._engines: dict[Work, sa.Engine] = {}
        self._inherited: list[sa.Engine] = []

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.where!r})"

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Yield a connection inside one consistent snapshot of the database.

        Raises:
            RegistryBusyError, RegistryUnreadableError

        """
        with self._translated("read"), self._engine_for("read").connect() as connection:
            yield connection

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sa.Connection]:
        """Yield a connection that holds the write lock; commit, or roll back and raise.

        Args:
            durable: return only when a power failure cannot undo the commit. Otherwise it may
                undo the last commits, though a death of this process cannot; the next durable
                commit makes them durable too.

        Raises:
            RegistryBusyError: the lock was not free within the busy timeout.
            RegistryFullError: the disk is full or the database may not be written.
            RegistryUnreadableError: the database is damaged or gone.

        """
        if self.readonly:
            raise RegistryFullError(
                f"{self.where} was opened for reading and may not be written: "
                "open it without readonly"
            )
        with (
            self._translated("write"),
            self._engine_for("write" if durable else "quick").connect() as connection,
            connection.begin() as transaction,
        ):
            self._hold(connection, durable)
            yield connection
            with self._translated("commit"):
                transaction.commit()

    def close(self) -> None:
        """Close every connection of this process."""
        if self._pid == os.getpid():
            for engine in self._engines.values():
                engine.dispose()

    def version(self, connection: sa.Connection) -> int:
        """Return the version of the schema.

        Raises:
            RegistryUnreadableError: it says none.

        """
        found = self._version(connection)
        if found is None:
            raise RegistryUnreadableError(f"{self.where} is no consent registry: check the path")
        return found

    @abstractmethod
    def discard(self) -> None:
        """Close, and remove what `create_store` made through this object and nothing else."""

    @abstractmethod
    def scrub(self) -> None:
        """Clear deleted rows out of the write-ahead log and free space, after an erasure.

        Raises:
            RegistryBusyError: readers held on to an older snapshot for the busy timeout.

        """

    @abstractmethod
    def check(self, connection: sa.Connection) -> None:
        """Check the database's own integrity, and that tables and guards equal a fresh one's.

        Raises:
            TamperedError: names the first part that differs, as ``"trigger events_no_update"``.

        """

    @abstractmethod
    def _version(self, connection: sa.Connection) -> int | None: ...

    @abstractmethod
    def _make_engines(self) -> dict[Work, sa.Engine]:
        """Return an engine for each kind of work; none connects yet."""

    @abstractmethod
    def _hold(self, connection: sa.Connection, durable: bool) -> None:
        """Take the write lock, before anything is read."""

    @abstractmethod
    def _explain(self, error: BaseException, stage: Stage) -> RegistryError:
        """Return what a driver's error means to whoever runs the registry."""

    def listen(self, event: str, handler: Callable[..., object]) -> None:
        """Call ``handler`` at an event of SQLAlchemy's engines, as ``"before_cursor_execute"``.

        For faults to be injected and times to be measured; this process, until `close` or a fork.
        """
        self._engine_for("base")
        for engine in self._engines.values():
            if type(engine) is sa.Engine:  # the others hand on what happens to their parent
                sa.event.listen(engine, event, handler)

    def _engine_for(self, work: Work) -> sa.Engine:
        with self._lock:
            if self._pid != os.getpid():
                # Connections must not cross a fork (https://sqlite.org/howtocorrupt.html 2.6; two
                # processes would talk into one socket). Kept, not closed: closing speaks.
                for engine in self._engines.values():
                    engine.dispose(close=False)
                self._inherited.extend(self._engines.values())
                self._engines = {}
                self._pid = os.getpid()
            if not self._engines:
                self._engines = self._make_engines()
            return self._engines[work]

    @contextmanager
    def _translated(self, stage: Stage) -> Iterator[None]:
        try:
            yield
        except sa_exc.DBAPIError as error:
            raise self._explain(error.orig or error, stage) from self._cause(error)
        except sa_exc.TimeoutError as error:
            raise RegistryBusyError(
                f"every connection of this process to {self.where} is in use: try again"
            ) from error
        except (sa_exc.SQLAlchemyError, UnicodeDecodeError) as error:
            # UnicodeDecodeError: sqlite3 tells of a damaged schema with the damaged bytes.
            raise RegistryUnreadableError(
                f"{self.where} cannot be read: {type(error).__name__}"
            ) from error

    def _cause(self, error: BaseException) -> BaseException | None:
        """Return what a traceback may show of a driver's error."""
        return error

    def _check_version(self, connection: sa.Connection) -> None:
        found = self.version(connection)
        if found < schema.SCHEMA_VERSION:
            raise RegistryUnreadableError(
                f"{self.where} has schema {found}, this privemo reads {schema.SCHEMA_VERSION}: "
                "run `privemo registry migrate`"
            )
        if found > schema.SCHEMA_VERSION:
            raise RegistryUnreadableError(
                f"{self.where} has schema {found}, this privemo reads {schema.SCHEMA_VERSION}: "
                "use the privemo that wrote it, or a later one"
            )


def pairs(result: Iterable[Any]) -> dict[Any, Any]:
    """Return rows of two columns as a dict."""
    return dict(map(tuple, result))
