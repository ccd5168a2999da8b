"""Who is who: between a person's id and the number of their row, and the keys in between.

The database finds a person by a keyed handle and tells nobody's id. What was looked up once is
remembered in this process, so that a table of faces costs a dictionary lookup for each face.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from .errors import ErasedKeyError, KeyFileError, TamperedError
from .keyfolder import KeyFolder
from .schema import persons
from .sealing import PersonSecrets, handle_of, open_person

__all__ = ["People"]

_CHUNK = 500  # SQLite allows 999 parameters in older builds


class People:
    """The rows of ``persons``, as one process knows them. Its owner locks what writes."""

    def __init__(self, keys: KeyFolder | None, registry_id: str) -> None:
        self._keys = keys
        self._registry_id = registry_id
        self._epoch = 0
        self._handles: dict[bytes, int] = {}
        self._handle_of: list[bytes] = []
        self._pids: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._lookup = b""
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
                "give keys=..."
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
        for pid, handle, epoch in connection.execute(query).all():
            if pid != self.size:
                raise TamperedError(f"person row {self.size}", "missing")
            handle = b"" if handle is None else bytes(handle)
            self._handle_of.append(handle)
            if handle:
                self._handles[handle] = pid
                if epoch != self._epoch:  # rows of one moment are all of one epoch
                    self._epoch, self._lookup = epoch, b""
            self.size += 1

    def forget(self, pids: Iterable[int]) -> None:
        """Forget people who were erased, in every snapshot that leans on this object."""
        for pid in pids:
            if pid < len(self._handle_of):  # else: read later, and empty by then
                self._handles.pop(self._handle_of[pid], None)
            name = self._names.pop(pid, None)
            if name is not None:
                self._pids.pop(name, None)
        if self._keys is not None:
            self._keys.refresh()

    def renumber(self, connection: sa.Connection) -> None:
        """Read every handle again after person keys were rotated.

        Raises:
            TamperedError: a row is missing.

        """
        self._handles.clear()
        self._handle_of.clear()
        size, self.size = self.size, 0
        self.read(connection)
        if self.size < size:
            raise TamperedError(f"person row {self.size}", "missing")

    # -- finding -------------------------------------------------------------------------------

    def rows(self, names: Sequence[str]) -> list[int]:
        """Return the row number of each name, -1 for whoever has none.

        Raises:
            KeyFileError: the registry was opened without its key folder.

        """
        known = self._pids
        try:
            return [known[name] for name in names]  # the usual case: everyone was asked before
        except KeyError:
            pass
        if not self._handles:
            self.keys  # noqa: B018 - without keys nobody can be told apart: refuse, not "no record"
            return [-1] * len(names)
        found, handles, lookup = [], self._handles, self._lookup_key()
        seen = self._names
        for name in names:
            pid = known.get(name)
            if pid is None:
                pid = handles.get(handle_of(lookup, name), -1)
                if pid >= 0:
                    known[name] = pid
                    seen[pid] = name
            found.append(pid)
        return found

    def pid(self, name: str) -> int | None:
        """Return the row number of one name, or None."""
        pid = self._pids.get(name)
        if pid is None and self._handles:
            pid = self._handles.get(handle_of(self._lookup_key(), name))
            if pid is not None:
                self._pids[name] = pid
                self._names[pid] = name
        return pid

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
