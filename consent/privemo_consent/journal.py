"""The append-only write path: drafts become leaves under the write lock, or nothing happens.

A transaction takes the lock, reads what other processes appended, checks every transition against
that, and appends. It commits durably before it returns; whoever is told of a withdrawal can pull
the plug (GDPR 7(3); REQUIREMENTS 11, 32).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from . import leaves, schema
from .errors import ClockBackwardsError, RegistryUnreadableError, TransitionRefused
from .log import MerkleLog, insert_rows
from .records import Notice
from .state import State
from .store import Store, pairs
from .times import Clock, iso, to_us
from .transaction import Draft, Refusal, Transaction, plain_row

__all__ = ["Journal"]

_DAY_US = 86_400_000_000


class Journal:
    """The events log with its state in memory. Every method is safe for threads."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.log = MerkleLog(schema.EVENTS_LOG, schema.events)
        self.lock = threading.RLock()
        self.clock = clock
        self._seen = 0
        self.state = State()
        with store.read() as connection:
            self.meta: dict[str, str] = pairs(connection.execute(sa.select(schema.meta)))
            key = connection.execute(
                sa.select(schema.secrets.c.value).where(schema.secrets.c.name == "subject")
            ).scalar()
        missing = {"mode", "registry_id", "controller"} - self.meta.keys()
        if missing or not isinstance(key, bytes):
            raise RegistryUnreadableError(f"{store.path} is a registry that was never finished")
        self.key: bytes = key
        self.simulated = self.meta["mode"] != "production"

    # -- reading -----------------------------------------------------------------------------

    def now(self) -> int:
        """Read the clock, in microseconds.

        Raises:
            ClockBackwardsError: it reads earlier than this process has read it, or than the log.

        """
        value = to_us(self.clock())
        latest = max(self._seen, self.state.recorded)
        if value < latest:
            raise ClockBackwardsError(
                f"the clock reads {iso(value)}, the log was written until {iso(latest)}: "
                "set the clock; until then every decision refuses"
            )
        self._seen = value
        return value

    def refresh(self) -> State:
        """Bring the state up to what every process has committed. The caller holds ``lock``."""
        with self.store.read() as connection:
            size = self.log.size(connection)
            if size != self.state.seq:
                self._advance(connection, size)
        return self.state

    def _advance(self, connection: sa.Connection, size: int) -> None:
        try:
            self.state.advance(connection, size)
        except BaseException:
            self.state = State()  # half-read arrays must not answer anything
            raise

    # -- writing -----------------------------------------------------------------------------

    def append(self, drafts: Sequence[Draft], refusals: Iterable[Refusal] = ()) -> list[Any]:
        """Append what the drafts ask for and count the refusals, all of it or nothing.

        Returns:
            For each event written, its row: the columns of `schema.events` and ``person``.

        Raises:
            TransitionRefused: a record cannot change so.
            UnknownPersonError: a draft leaves to the last record what no record says.
            BackdatedRefused: an event dated in the future or, in production, before the log's end.
            ClockBackwardsError, RegistryBusyError, RegistryFullError, RegistryUnreadableError

        """
        refusals = [refusal for refusal in refusals if refusal.count]
        if not drafts and not refusals:
            return []
        with self.lock, self.store.write() as connection:
            size = self.log.size(connection)
            self._advance(connection, size)
            now = self._now_for(drafts)
            work = Transaction(self.state, connection, now, key=self.key, simulated=self.simulated)
            # Refusals first: they carry the moment of the entry before them, not their own.
            rows = [self._age_row(refusal, now) for refusal in refusals]
            rows.extend(row for draft in drafts if (row := work.event(draft)) is not None)
            insert_rows(connection, schema.persons, work.new_persons)
            people = [row.pop("person", None) for row in rows]
            self.log.append(connection, size, rows)
        for row, person in zip(rows, people, strict=True):
            row["person"] = person
        return rows

    def _now_for(self, drafts: Sequence[Draft]) -> int:
        try:
            return self.now()
        except ClockBackwardsError:
            # A no must be kept whatever the clock says (GDPR 7(3)); a yes can wait for the clock.
            if any(draft.status.permits for draft in drafts):
                raise
            return max(self._seen, self.state.recorded)

    def register(self, notice: Notice) -> None:
        """Bring a notice into force; a notice that is already registered changes nothing.

        Raises:
            TransitionRefused: a later version stands, or this version with another text.

        """
        with self.lock, self.store.write() as connection:
            size = self.log.size(connection)
            self._advance(connection, size)
            if notice.hash in self.state.notice_rows:
                return
            self._check_version(notice)
            now = self.now()
            connection.execute(
                sa.insert(schema.notices).values(
                    nid=len(self.state.notices),
                    hash=notice.hash,
                    notice_id=notice.notice_id,
                    version=notice.version,
                    body=notice.body,
                )
            )
            leaf = leaves.notice_leaf(
                notice=notice.hash,
                notice_id=notice.notice_id,
                version=notice.version,
                recorded=now,
                simulated=self.simulated,
            )
            row = plain_row("notice", leaf, now, self.simulated, nid=len(self.state.notices))
            self.log.append(connection, size, [row])

    def _check_version(self, notice: Notice) -> None:
        for row in self.state.notices:
            if row.notice_id == notice.notice_id and row.version > notice.version:
                raise TransitionRefused(
                    f"notice {notice.notice_id} has version {row.version}: "
                    f"version {notice.version} comes too late"
                )

    def _age_row(self, refusal: Refusal, now: int) -> dict[str, Any]:
        day = now - now % _DAY_US
        leaf = leaves.age_refusal_leaf(
            rule=refusal.rule.value,
            count=refusal.count,
            jurisdiction=refusal.jurisdiction,
            day=day,
            simulated=self.simulated,
        )
        # Not the moment: with a camera's recording at hand a moment would be an identifier.
        row = plain_row("age_refusal", leaf, day, self.simulated)
        row["recorded"] = self.state.recorded
        return row
