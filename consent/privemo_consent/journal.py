"""The append-only write path: drafts become leaves under the write lock, or nothing happens.

A transaction takes the lock, reads what other processes appended, checks every transition against
that, appends, and signs the new head of the log. It commits durably before it returns; whoever is
told of a withdrawal can pull the plug (GDPR 7(3); REQUIREMENTS 11, 32).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from . import beside, leaves, schema
from .errors import (
    ClockBackwardsError,
    RegistryError,
    RegistryUnreadableError,
    TransitionRefused,
    WitnessMissingError,
)
from .keyfolder.folder import KeyFolder
from .log import MerkleLog
from .people import People
from .records import Notice
from .signing import Signer
from .state import KeyState, State
from .storage import Store, fetch_row, insert_rows, pairs
from .terms import ConsentStatus
from .times import Clock, iso, to_us
from .transaction import Draft, Refusal, Transaction, plain_row

__all__ = ["Journal", "Writing"]

_DAY_US = 86_400_000_000
_LIVE = frozenset(code for code, status in enumerate(leaves.STATUSES) if status.permits)
_META = {"mode", "registry_id", "controller"}
# Both at one go: on a server each question is a journey.
_LAST = "SELECT (SELECT max(seq) FROM events), (SELECT max(seq) FROM uses)"


@dataclass(slots=True)
class Writing:
    """One open transaction on the events log: what to append, and on which connection."""

    connection: sa.Connection
    size: int
    rows: list[dict[str, Any]] = field(default_factory=list)


class Journal:
    """The events log with its state in memory. Every method is safe for threads."""

    def __init__(self, store: Store, keys: KeyFolder | None, clock: Clock) -> None:
        self.store = store
        self.keys = keys
        self.log = MerkleLog(schema.EVENTS_LOG, schema.events)
        self.lock = threading.RLock()
        self.clock = clock
        self._seen = 0
        #: why nothing may be permitted: the witness could not be asked whether this is an old copy
        self.unwitnessed: WitnessMissingError | None = None
        #: how long the log of uses was when the state was last brought up to date
        self.uses_size = 0
        with store.read() as connection:
            self.meta: dict[str, str] = pairs(connection.execute(sa.select(schema.meta)))
        if _META - self.meta.keys():
            raise RegistryUnreadableError(f"{store.where} is a registry that was never finished")
        self.registry_id = self.meta["registry_id"]
        self.simulated = self.meta["mode"] != "production"
        self.state = self.fresh_state()
        self.signer = Signer(keys)

    def keys_needed(self) -> KeyFolder:
        """Return the key folder.

        Raises:
            KeyFileError: the registry was opened without one.

        """
        return self.state.people.keys

    def fresh_state(self) -> State:
        """Return a state that has read nothing yet, with lookups of its own."""
        return State(People(self.keys, self.registry_id))

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
            self._catch_up(connection)
        return self.state

    def catch_up(self, connection: sa.Connection) -> int:
        """Bring the state up to date for a write or a decision; return the length of the log.

        Args:
            connection: holds the write lock.

        Raises:
            RegistryError: the registry was moved.

        """
        size = self._catch_up(connection)
        self.check_here()
        return size

    def check_here(self) -> None:
        """Refuse once the log goes on elsewhere: nobody withdraws here any more.

        Raises:
            RegistryError: the registry was moved.

        """
        if self.state.keys.moved:
            raise RegistryError("this registry was moved: use the one it was moved to")

    def _catch_up(self, connection: sa.Connection) -> int:
        """Bring the state up to what ``connection`` sees; return the length of the log."""
        if self.keys is not None:
            self.keys.refresh()  # whatever another process destroyed is dropped here too
        last, last_use = fetch_row(connection, _LAST)
        size = 0 if last is None else int(last) + 1
        self.uses_size = 0 if last_use is None else int(last_use) + 1
        if size != self.state.seq:
            try:
                self.state.advance(connection, size)
            except BaseException:
                self.state = self.fresh_state()  # half-read arrays must not answer anything
                raise
        return size

    # -- writing -----------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[Writing]:
        """Hold the write lock with the state up to date; append and sign what was put into rows.

        Raises:
            RegistryBusyError, RegistryFullError, RegistryUnreadableError, KeyFileError

        """
        with self.lock, self.store.write() as connection:
            work = Writing(connection, self.catch_up(connection))
            yield work
            if work.rows:
                people = [row.pop("person", None) for row in work.rows]
                self.log.append(connection, work.size, work.rows)
                size = work.size + len(work.rows)
                self.signer.sign(connection, self.log, size, self._after(work))
                for row, person in zip(work.rows, people, strict=True):
                    row["person"] = person
        self.signer.publish(self)

    def _after(self, work: Writing) -> tuple[KeyState, int]:
        """Return what the log will say of keys once ``work`` is in."""
        special = (leaves.KINDS.index("registry"), leaves.KINDS.index("key"))
        changes = [row["leaf"] for row in work.rows if row["kind"] in special]
        return self.state.keys.after(changes, max(row["recorded"] for row in work.rows))

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
        with self.writing() as work:
            now = self._now_for(drafts)
            task = self._task(work, now, (draft.person for draft in drafts))
            # Refusals first: they carry the moment of the entry before them, not their own.
            work.rows.extend(self._age_row(refusal, now) for refusal in refusals)
            work.rows.extend(row for draft in drafts if (row := task.event(draft)) is not None)
            beside.make_way(beside.table_of(self), task.new_names)
            insert_rows(work.connection, schema.persons, task.new_persons)
        return work.rows

    def erase(self, persons: Sequence[str], cause: str) -> list[int]:
        """End what people had given, log their erasure, and empty their rows; all or nothing.

        Their keys are not touched: see `erasing.erase`.

        Args:
            persons: each once.
            cause: why, one of `leaves.CAUSES`.

        Returns:
            The numbers of the rows.

        Raises:
            UnknownPersonError: someone has no record; nothing changed.

        """
        with self.writing() as work:
            task = self._task(work, self._now_for(()), persons)
            for person in persons:
                # A log without loose ends: what was given is withdrawn before its person is gone.
                endings = (task.event(draft) for draft in self._endings(person))
                work.rows.extend(row for row in endings if row is not None)
            gone = [task.erasure(person, cause) for person in persons]
            work.rows.extend(gone)
            pids = [row["pid"] for row in gone]
            _erase_rows(work.connection, pids)
        return pids

    def _task(self, work: Writing, now: int, persons: Iterable[str]) -> Transaction:
        return Transaction(
            self.state,
            work.connection,
            now,
            registry_id=self.registry_id,
            simulated=self.simulated,
            known=self._known(persons),
        )

    def _endings(self, person: str) -> list[Draft]:
        pid = self.state.people.pid(person)
        if pid is None:
            return []  # `Transaction.erasure` says so
        return [
            Draft(person=person, purpose=purpose, status=ConsentStatus.WITHDRAWN)
            for code, purpose in enumerate(leaves.PURPOSES)
            if self.state.last(pid, code)[0] in _LIVE
        ]

    def _known(self, names: Iterable[str]) -> dict[str, int]:
        """Return the row number of each of these persons who has one, asked for at one go."""
        distinct = list(dict.fromkeys(names))
        rows = self.state.people.rows(distinct)
        return {name: pid for name, pid in zip(distinct, rows, strict=True) if pid >= 0}

    def check_witnessed(self) -> None:
        """Refuse while the witness that this registry has could not be asked.

        Raises:
            WitnessMissingError: plug it in, and open the registry again.

        """
        if self.unwitnessed is not None:
            raise self.unwitnessed

    def _now_for(self, drafts: Sequence[Draft]) -> int:
        if any(draft.status.permits for draft in drafts):
            self.check_witnessed()
        try:
            return self.now()
        except ClockBackwardsError:
            # A no must be kept whatever the clock says (GDPR 7(3)); a yes can wait for the clock.
            if any(draft.status.permits for draft in drafts):
                raise
            return max(self._seen, self.state.recorded)

    def announce(self, kind: str, leaf_at: Callable[[int], bytes], nid: int | None = None) -> None:
        """Append one entry that is about no person.

        Args:
            kind: of the entry.
            leaf_at: given the moment, in microseconds, returns the leaf.
            nid: the notice's row, where it is about one.

        """
        with self.writing() as work:
            now = self.now()
            work.rows.append(plain_row(kind, leaf_at(now), now, self.simulated, nid=nid))

    def register(self, notice: Notice) -> None:
        """Bring a notice into force; a notice that is already registered changes nothing.

        Raises:
            TransitionRefused: a later version stands, or this version with another text.

        """
        with self.writing() as work:
            if notice.hash in self.state.notice_rows:
                return
            self._check_version(notice)
            now, nid = self.now(), len(self.state.notices)
            values = {
                "nid": nid,
                "hash": notice.hash,
                "notice_id": notice.notice_id,
                "version": notice.version,
                "body": notice.body,
            }
            work.connection.execute(sa.insert(schema.notices), [values])
            leaf = leaves.notice_leaf(
                notice=notice.hash,
                notice_id=notice.notice_id,
                version=notice.version,
                recorded=now,
                simulated=self.simulated,
            )
            work.rows.append(plain_row("notice", leaf, now, self.simulated, nid=nid))

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


def _erase_rows(connection: sa.Connection, pids: Sequence[int]) -> None:
    """Take everything out of the database that tells who these rows were (GDPR 17)."""
    nothing = dict.fromkeys(("handle", "sealed", "wrapped", "epoch"))
    for pid in pids:
        connection.execute(sa.delete(schema.items).where(schema.items.c.pid == pid))
        row = sa.update(schema.persons).where(schema.persons.c.pid == pid)
        connection.execute(row.values(**nothing))
