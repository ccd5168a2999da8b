"""Who is who: between a person's id and the number of their row, and the keys in between.

The database finds a person by a keyed handle and tells nobody's id. Names are remembered here only once
their rows were opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from .errors import ErasedKeyError, KeyFileError, TamperedError
from .handles import HandleIndex
from .keyfolder.folder import KeyFolder
from .keyfolder.load import PersonKeys
from .schema import persons
from .sealing import PersonSecrets, handle_of, handles_of, open_person

__all__ = ["People"]

_CHUNK = 500  # SQLite allows 999 parameters in older builds


class People:
    """The rows of ``persons``, as one process knows them. Its owner locks what writes."""

    def __init__(self, keys: KeyFolder | None, registry_id: str) -> None:
        self._keys = keys
        self._registry_id = registry_id
        self._epoch = 0
        self._handles = HandleIndex()
        self._names: dict[int, str] = {}
        self._lookup = b""
        #: the keys as they were when those they open no more were last forgotten, and who that was
        self._known_keys: PersonKeys | None = None
        self._gone: frozenset[int] = frozenset()
        self.size = 0

    @property
    def keys(self) -> KeyFolder:
        """The key folder.

        Raises:
            KeyFileError: the registry was opened without one.

        """
        if self._keys is None:
            raise KeyFileError(
                "this registry was opened without its key folder: nobody in it can be named; "
                "give keys=..., or --keys DIR"
            )
        return self._keys

    # -- growing -------------------------------------------------------------------------------

    def read(self, connection: sa.Connection) -> None:
        """Take in the rows that were added.

        Raises:
            TamperedError: a row is missing.

        """
        columns = (persons.c.pid, persons.c.handle, persons.c.epoch)
        query = sa.select(*columns).where(persons.c.pid >= self.size).order_by(persons.c.pid)
        rows = connection.execute(query).all()
        for number, row in enumerate(rows, start=self.size):
            if row[0] != number:
                raise TamperedError(f"person row {number}", "missing")
        there = [row for row in rows if row[1] is not None]
        if there and there[-1][2] != self._epoch:  # rows of one moment are all of one epoch
            self._epoch, self._lookup = there[-1][2], b""
        self._drop_erased()
        there = [row for row in there if row[0] not in self._gone]
        self._handles.add([bytes(row[1]) for row in there], [row[0] for row in there])
        self.size += len(rows)

    def forget(self, pids: Iterable[int]) -> None:
        """Forget people who were erased, in every snapshot that leans on this object."""
        try:
            if self._keys is not None:
                self._keys.refresh()
            self._drop_erased()
        finally:
            self._let_go(set(pids) - self._gone)

    def _let_go(self, pids: Set[int]) -> None:
        self._handles.remove(pids)
        for pid in pids:
            self._names.pop(pid, None)

    def _drop_erased(self) -> None:
        """Forget everyone whose key was destroyed, whatever the database says of them.

        An old copy of it still holds their handles, and the past states of this process their
        names; neither may bring a consent back to life (GDPR 17). One comparison while no key was.
        """
        keys = None if self._keys is None else self._keys._persons.get(self._epoch)
        if keys is None or keys is self._known_keys:
            return
        gone = frozenset(keys.tree.indices_punctured())
        self._let_go(gone - self._gone)
        self._known_keys, self._gone = keys, gone

    def renumber(self, connection: sa.Connection) -> None:
        """Read every handle again after person keys were rotated.

        Raises:
            TamperedError: a row is missing.

        """
        self._handles = HandleIndex()
        size, self.size = self.size, 0
        self.read(connection)
        if self.size < size:
            raise TamperedError(f"person row {self.size}", "missing")

    # -- finding -------------------------------------------------------------------------------

    def find(self, names: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the row number of each name, shape (n,), -1 for whoever has none.

        Raises:
            KeyFileError: the registry was opened without its key folder.

        """
        self._drop_erased()
        if not len(self._handles):
            self.keys  # noqa: B018 - without keys nobody can be told apart: refuse, not "no record"
            return np.full(len(names), -1, dtype=np.int64)
        return self._handles.find(handles_of(self._lookup_key(), names))

    def rows(self, names: Sequence[str]) -> list[int]:
        """Return `find` as a list of plain integers."""
        found: list[int] = self.find(names).tolist()
        return found

    def pid(self, name: str) -> int | None:
        """Return the row number of one name, or None."""
        self._drop_erased()
        if not len(self._handles):
            return None
        found = self._handles.find_one(handle_of(self._lookup_key(), name))
        return None if found < 0 else found

    def _lookup_key(self) -> bytes:
        if not self._lookup:
            self._lookup = self.keys.lookup_key(self._epoch)
        return self._lookup

    # -- opening -------------------------------------------------------------------------------

    def secrets(self, connection: sa.Connection, pids: Sequence[int]) -> dict[int, PersonSecrets]:
        """Open the rows of ``pids``; those erased since are left out.

        Raises:
            KeyFileError, TamperedError

        """
        found: dict[int, PersonSecrets] = {}
        for row in _rows(connection, sorted(set(pids))):
            try:
                found[row["pid"]] = open_person(self.keys, self._registry_id, row)
            except ErasedKeyError:
                continue
        return found

    def names(self, connection: sa.Connection, pids: Sequence[int]) -> dict[int, str]:
        """Return the ids of ``pids``; those erased since are left out."""
        if self._keys is not None:
            self._keys.refresh()  # names are remembered, and another process may have erased some
        self._drop_erased()
        missing = [pid for pid in set(pids) if pid not in self._names]
        for pid, secrets in self.secrets(connection, missing).items():
            self._names[pid] = secrets.person
        known = self._names
        return {pid: known[pid] for pid in pids if pid in known}


def _rows(connection: sa.Connection, pids: Sequence[int]) -> Iterator[Any]:
    if len(pids) > 0 and len(pids) == pids[-1] - pids[0] + 1:  # a run without gaps: one range
        query = sa.select(persons).where(persons.c.pid >= pids[0], persons.c.pid <= pids[-1])
        yield from connection.execute(query.order_by(persons.c.pid)).mappings()
        return
    for at in range(0, len(pids), _CHUNK):
        query = sa.select(persons).where(persons.c.pid.in_(pids[at : at + _CHUNK]))
        yield from connection.execute(query.order_by(persons.c.pid)).mappings()
