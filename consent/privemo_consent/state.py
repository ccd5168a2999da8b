"""What the log adds up to: the last state of every person, in arrays, brought forward as it grows.

Arrays are indexed by ``pid``, the person's row number. Array values: ``status`` is the position in
`ConsentStatus` or `NO_STATUS`; times are microseconds since 1970, 0 for none; ``nid`` is the
notice's row or -1.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from .errors import TamperedError
from .leaves import KINDS, PURPOSES
from .schema import events, notices, persons

__all__ = ["NO_STATUS", "NoticeRow", "State", "View"]

NO_STATUS = 255
_CONSENT = KINDS.index("consent")
_COLUMNS = ("kind", "pid", "purpose", "status", "role", "at", "recorded", "expires", "nid")
_KIND, _PID, _PURPOSE, _STATUS, _ROLE, _AT, _RECORDED, _EXPIRES, _NID, _SIMULATED, _SEQ = range(11)


class NoticeRow(NamedTuple):
    """A registered notice without its text."""

    hash: str
    notice_id: str
    version: int


@dataclass(frozen=True, slots=True)
class View:
    """One purpose's arrays, each of shape (persons,), never written again."""

    status: npt.NDArray[np.uint8]
    expires: npt.NDArray[np.int64]
    at: npt.NDArray[np.int64]
    nid: npt.NDArray[np.int32]
    simulated: npt.NDArray[np.bool_]
    role: npt.NDArray[np.uint8]
    #: by nid: a later version is in force; the last place answers for nid -1
    superseded: npt.NDArray[np.bool_]


class _Column:
    """An array that grows, and copies itself before a write when a view was handed out."""

    def __init__(self, dtype: npt.DTypeLike, empty: int) -> None:
        self._empty = empty
        self._data = np.full(16, empty, dtype=dtype)
        self._shared = False

    def put(self, where: npt.NDArray[np.int64], what: npt.NDArray[np.int64]) -> None:
        """Write; where an index repeats, the last value stays (NumPy's rule for assignment)."""
        if self._shared:
            self._data = self._data.copy()
            self._shared = False
        self._data[where] = what

    def reserve(self, size: int) -> None:
        if size > len(self._data):
            grown = np.full(max(size, 2 * len(self._data)), self._empty, dtype=self._data.dtype)
            grown[: len(self._data)] = self._data
            self._data = grown
            self._shared = False

    def get(self, index: int) -> int:
        return int(self._data[index])

    def view(self, size: int) -> npt.NDArray[np.generic]:
        self._shared = True
        view = self._data[:size]
        view.flags.writeable = False
        return view


class _Purpose:
    def __init__(self) -> None:
        self.status = _Column(np.uint8, NO_STATUS)
        self.expires = _Column(np.int64, 0)
        self.at = _Column(np.int64, 0)
        self.nid = _Column(np.int32, -1)
        self.simulated = _Column(np.bool_, 0)
        self.seq = _Column(np.int64, -1)

    def columns(self) -> tuple[_Column, ...]:
        return (self.status, self.expires, self.at, self.nid, self.simulated, self.seq)


class State:
    """The last states up to event ``seq``. Not thread-safe: its owner locks.

    Attributes:
        seq: how many events are in.
        recorded: the time of the last of them.
        index: person -> pid; only ever gains entries, so that older snapshots may share it.

    """

    def __init__(self) -> None:
        self.seq = 0
        self.recorded = 0
        self.index: dict[str, int] = {}
        self.size = 0
        self.notices: list[NoticeRow] = []
        self.notice_rows: dict[str, int] = {}
        self._superseded = np.ones(1, dtype=np.bool_)
        self._role = _Column(np.uint8, 0)
        self._purposes = [_Purpose() for _ in PURPOSES]

    def advance(self, connection: sa.Connection, size: int) -> None:
        """Read the events ``seq .. size - 1``.

        Raises:
            TamperedError: the log is shorter than it was, or refers to what is not there.

        """
        if size == self.seq:
            return
        if size < self.seq:
            raise TamperedError(f"event {size}", f"the log had {self.seq} entries, now {size}")
        self._read_persons(connection)
        self._read_notices(connection)
        query = (
            sa.select(
                *(sa.func.coalesce(events.c[name], -1) for name in _COLUMNS),
                events.c.simulated.cast(sa.Integer),
                events.c.seq,
            )
            .where(events.c.seq >= self.seq, events.c.seq < size)
            .order_by(events.c.seq)
        )
        rows = connection.execute(query).all()
        if len(rows) != size - self.seq:
            raise TamperedError(f"event {self.seq + len(rows)}", "entries are missing")
        flat = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=len(rows) * 11)
        self._apply(flat.reshape(-1, 11))
        self.seq = size

    def view(self, purpose: int) -> View:
        """Return the arrays of one purpose, to be read only; later events do not show in them."""
        columns = self._purposes[purpose]
        superseded = self._superseded
        return View(
            status=columns.status.view(self.size),  # type: ignore[arg-type]
            expires=columns.expires.view(self.size),  # type: ignore[arg-type]
            at=columns.at.view(self.size),  # type: ignore[arg-type]
            nid=columns.nid.view(self.size),  # type: ignore[arg-type]
            simulated=columns.simulated.view(self.size),  # type: ignore[arg-type]
            role=self._role.view(self.size),  # type: ignore[arg-type]
            superseded=superseded,
        )

    def last(self, pid: int, purpose: int) -> tuple[int, int, int, int]:
        """Return ``(status, expires, nid, seq)`` of a person's last event for a purpose."""
        columns = self._purposes[purpose]
        return (
            columns.status.get(pid),
            columns.expires.get(pid),
            columns.nid.get(pid),
            columns.seq.get(pid),
        )

    def role(self, pid: int) -> int:
        """Return the position in `Role` of what the person last was."""
        return self._role.get(pid)

    def is_superseded(self, nid: int) -> bool:
        """Return whether a later version of this notice is registered."""
        return bool(self._superseded[nid])

    def _read_persons(self, connection: sa.Connection) -> None:
        query = sa.select(persons.c.pid, persons.c.person).where(persons.c.pid >= self.size)
        for pid, person in connection.execute(query.order_by(persons.c.pid)).all():
            if pid != self.size:
                raise TamperedError(f"person row {self.size}", "missing")
            if person is not None:
                self.index[person] = pid
            self.size += 1
        for column in chain(*(purpose.columns() for purpose in self._purposes), (self._role,)):
            column.reserve(self.size)

    def _read_notices(self, connection: sa.Connection) -> None:
        query = (
            sa.select(notices.c.nid, notices.c.hash, notices.c.notice_id, notices.c.version)
            .where(notices.c.nid >= len(self.notices))
            .order_by(notices.c.nid)
        )
        rows = connection.execute(query).all()
        for nid, digest, notice_id, version in rows:
            self.notices.append(NoticeRow(digest, notice_id, version))
            self.notice_rows[digest] = nid
        if not rows:
            return
        newest: dict[str, int] = {}
        for row in self.notices:
            newest[row.notice_id] = max(row.version, newest.get(row.notice_id, 0))
        self._superseded = np.array(
            [row.version < newest[row.notice_id] for row in self.notices] + [True], dtype=np.bool_
        )

    def _apply(self, rows: npt.NDArray[np.int64]) -> None:
        self.recorded = max(self.recorded, int(rows[:, _RECORDED].max()))
        rows = rows[rows[:, _KIND] == _CONSENT]
        if not len(rows):
            return
        bad = (rows[:, _PID] < 0) | (rows[:, _PID] >= self.size) | (rows[:, _NID] < 0)
        bad |= rows[:, _NID] >= len(self.notices)
        bad |= (rows[:, _PURPOSE] < 0) | (rows[:, _PURPOSE] >= len(PURPOSES))
        if bad.any():
            entry = int(rows[bad][0, _SEQ])
            raise TamperedError(f"event {entry}", "refers to a person, notice or purpose unknown")
        self._role.put(rows[:, _PID], rows[:, _ROLE])
        for code, columns in enumerate(self._purposes):
            part = rows[rows[:, _PURPOSE] == code]
            if not len(part):
                continue
            where = part[:, _PID]
            columns.status.put(where, part[:, _STATUS])
            columns.expires.put(where, part[:, _EXPIRES])
            columns.at.put(where, part[:, _AT])
            columns.nid.put(where, part[:, _NID])
            columns.simulated.put(where, part[:, _SIMULATED])
            columns.seq.put(where, part[:, _SEQ])
