"""What the log adds up to: the last state of every person, in arrays, brought forward as it grows.

Arrays are indexed by ``pid``, the person's row number. Array values: ``status`` is the position in
`ConsentStatus` or `NO_STATUS`; times are microseconds since 1970, 0 for none; ``nid`` is the
notice's row or -1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from . import leaves
from .canonical import parse_canonical
from .errors import MalformedError, TamperedError
from .keys import KeyPeriod, KeyRing, VerifyingKey
from .leaves import KINDS, PURPOSES
from .people import People
from .schema import events, notices
from .times import from_us, parse_iso

__all__ = ["NO_STATUS", "KeyState", "NoticeRow", "State", "View"]

NO_STATUS = 255
#: Microseconds; later than every moment: nobody was told yet.
NEVER = 2**63 - 1
_CONSENT = KINDS.index("consent")
_ERASURE = KINDS.index("erasure")
_EXPOSURE = KINDS.index("exposure")
_REGISTRY = KINDS.index("registry")
_KEY = KINDS.index("key")
_EPOCH = re.compile(r"epoch:([1-9][0-9]{0,8})", re.ASCII)
_COLUMNS = ("kind", "pid", "purpose", "status", "role", "at", "recorded", "expires", "nid")
_KIND, _PID, _PURPOSE, _STATUS, _ROLE, _AT, _RECORDED, _EXPIRES, _NID, _SIMULATED, _SEQ = range(11)


class NoticeRow(NamedTuple):
    """A registered notice without its text."""

    hash: str
    notice_id: str
    version: int
    #: the jurisdictions it is written for
    places: frozenset[str]


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
    #: microseconds: when people were first told that expressions are read here
    announced: int
    #: by nid: the jurisdictions that the notice is written for
    places: tuple[frozenset[str], ...]


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


class KeyState:
    """What the log says of keys: the signing keys and their periods, the epoch of person keys."""

    def __init__(self) -> None:
        self.ring = KeyRing()
        #: of person keys; new rows are wrapped under it
        self.epoch = 1
        #: whose name new checkpoints carry
        self.origin = ""
        #: the log was closed, and goes on elsewhere under another name
        self.moved = False

    def apply(self, leaf: Mapping[str, Any]) -> None:
        """Take in the genesis entry or an entry of kind ``key``.

        Raises:
            MalformedError: it names no key, revokes one that was never begun, or follows the
                closing of the log without another name.

        """
        at = from_us(parse_iso(leaf["recorded_at"]))
        if leaf["kind"] == "registry":
            if "key" in leaf:
                self._begin(VerifyingKey.parse(leaf["key"]), at, timedelta(0))
            return
        op, key = leaf["op"], leaf["key"]
        if self.moved and op != "begin":
            raise MalformedError("the log was moved: it goes on under another name")
        if op == "moved":
            if key != self.origin:
                raise MalformedError(f"another log than this one was moved, which is {self.origin}")
            self.moved = True
        elif op in ("epoch", "forget"):
            match = _EPOCH.fullmatch(key)
            if match is None:
                raise MalformedError(f"got {key[:30]!r}, want epoch:N")
            if op == "epoch":
                self.epoch = max(self.epoch, int(match[1]))
        elif op == "begin":
            ends = leaf["ends_others"]
            overlap = timedelta(0) if ends is None else from_us(parse_iso(ends)) - at
            self._begin(VerifyingKey.parse(key), at, overlap)
        else:
            self.ring = self.ring.revoke(VerifyingKey.parse(key), at=at)

    def after(self, changes: Iterable[bytes], now: int) -> tuple[KeyState, int]:
        """Return what the log says of keys after these leaves, and the moment; self stays."""
        later = KeyState()
        later.ring, later.epoch, later.origin = self.ring, self.epoch, self.origin
        later.moved = self.moved
        for leaf in changes:
            later.apply(leaves.parse(leaf))
        return later, now

    def _begin(self, key: VerifyingKey, at: Any, overlap: timedelta) -> None:
        if self.moved and key.name == self.origin:
            raise MalformedError("the log was moved: it goes on under another name")
        self.moved = False
        if not self.ring.periods:
            self.ring = KeyRing([KeyPeriod(key=key, begins=at)])
        else:
            self.ring = self.ring.rotate(key, at=at, overlap=overlap)
        self.origin = key.name


def _not_numbers(rows: Iterable[Any]) -> str:
    """Return the first entry with a column that is no number of 64 bits."""
    for row in rows:
        if not all(type(value) is int and -(2**63) <= value < 2**63 for value in row):
            return f"event {row[_SEQ]}"
    return "event"


class State:
    """The last states up to event ``seq``. Not thread-safe: its owner locks.

    Attributes:
        seq: how many events are in.
        recorded: the time of the last of them.
        people: who is who; shared by the snapshots of this state, so that whoever is erased is
            unknown to all of them.
        keys: what the log says of keys.
        announced: when people were first told that expressions are read; microseconds.

    """

    def __init__(self, people: People) -> None:
        self.seq = 0
        self.recorded = 0
        self.people = people
        self.keys = KeyState()
        self.announced = NEVER
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
        self._read_special(connection, size)
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
            there = (row[_SEQ] for row in rows)
            gap = next(
                (n for n, seq in enumerate(there, self.seq) if seq != n), self.seq + len(rows)
            )
            raise TamperedError(f"event {gap}", "missing")
        try:
            flat = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=len(rows) * 11)
        except (ValueError, TypeError, OverflowError):  # a column of SQLite holds any type
            raise TamperedError(_not_numbers(rows), "a column holds no number") from None
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
            announced=self.announced,
            places=tuple(row.places for row in self.notices),
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

    def _read_special(self, connection: sa.Connection, size: int) -> None:
        """Read what the entries say that are about keys, erasures and announcements."""
        query = (
            sa.select(events.c.seq, events.c.kind, events.c.pid, events.c.leaf)
            .where(
                events.c.seq >= self.seq,
                events.c.seq < size,
                events.c.kind.in_((_REGISTRY, _KEY, _ERASURE, _EXPOSURE)),
            )
            .order_by(events.c.seq)
        )
        epoch, erased = self.keys.epoch, []
        for seq, kind, pid, leaf in connection.execute(query).all():
            try:
                if kind == _ERASURE:
                    erased.append(int(pid))
                elif kind == _EXPOSURE:
                    told = parse_iso(leaves.parse(bytes(leaf))["recorded_at"])
                    self.announced = min(self.announced, told)
                else:
                    self.keys.apply(leaves.parse(bytes(leaf)))
            except (MalformedError, TypeError) as error:
                raise TamperedError(f"event {seq}", str(error)) from error
        if self.keys.epoch != epoch and self.people.size:
            self.people.renumber(connection)
        if erased:
            self.people.forget(erased)

    def _read_persons(self, connection: sa.Connection) -> None:
        self.people.read(connection)
        self.size = self.people.size
        for column in chain(*(purpose.columns() for purpose in self._purposes), (self._role,)):
            column.reserve(self.size)

    def _read_notices(self, connection: sa.Connection) -> None:
        query = sa.select(notices).where(notices.c.nid >= len(self.notices)).order_by(notices.c.nid)
        rows = connection.execute(query).all()
        for nid, digest, notice_id, version, body in rows:
            try:
                places = frozenset(parse_canonical(bytes(body))["jurisdictions"])
            except (MalformedError, KeyError, TypeError) as error:
                raise TamperedError(
                    f"notice {nid}", "its text is not the one registered"
                ) from error
            self.notices.append(NoticeRow(digest, notice_id, version, places))
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
