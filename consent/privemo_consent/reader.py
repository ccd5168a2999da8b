"""What a registry answers: decisions, snapshots, histories, proofs, and whether it is whole."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from . import leaves, schema
from .errors import ClockBackwardsError, ConsentError, MalformedError, TamperedError
from .handle import RegistryHandle
from .keyfolder.folder import KeyFolder
from .keys import KeyRing
from .leaves import KINDS, PURPOSES, STATUSES
from .policy import CHALLENGE_AGE, AgeRule, check_challenge_age
from .records import ConsentEvent, Context, Decision, Notice, Use
from .rules import REASONS
from .signing import latest_checkpoint
from .snapshot import Snapshot
from .state import State
from .storage import Store
from .terms import AgeBand, ConsentStatus, Purpose, Reason
from .times import Clock, from_us, to_us, utcnow
from .uses import LoggedDecision
from .verify import Verified, verify_registry

if TYPE_CHECKING:
    from .exporting import LogExported

__all__ = ["LogHead", "RegistryReader"]

_LOGGER = logging.getLogger("privemo.consent")
_ENDED = (
    ConsentStatus.REFUSED,
    ConsentStatus.EXPIRED,
    ConsentStatus.INVALIDATED,
    ConsentStatus.REVOKED,
    ConsentStatus.WITHDRAWN,
)


class _Question(NamedTuple):
    """What is asked of one person."""

    person: str
    purpose: Purpose
    at: int | None
    ages: list[float] | None
    bands: list[str] | None


class LogHead(NamedTuple):
    """How long the log is, and the root of its tree in hexadecimal."""

    seq: int
    root: str


class RegistryReader(RegistryHandle):
    """The reading half of `ConsentRegistry`."""

    def __init__(self, store: Store, keys: KeyFolder | None, clock: Clock) -> None:
        super().__init__(store, keys, clock)
        self._snapshots: dict[Purpose, Snapshot] = {}
        self._past = self._journal.fresh_state()

    # -- deciding ------------------------------------------------------------------------------

    def decide(
        self,
        person: str,
        purpose: Purpose,
        context: Context,
        at: datetime | None = None,
        estimated_age: float | None = None,
        *,
        attested_age_band: AgeBand | str | None = None,
        challenge_age: float = CHALLENGE_AGE,
    ) -> Decision:
        """Answer whether this person's face may be used, here and now. Fails closed.

        The answer is logged as a use before it is given, against the very state of the log that it saw: no
        withdrawal can slip in between (GDPR 7(3); AI Act 12). It survives the death of the process; the
        next durable change makes it survive a power failure. What cannot be logged is refused, as
        ``not_logged``. `preview` asks without a trace.

        Args:
            person: pseudonymous id.
            purpose: what for.
            context: where.
            at: the moment of the use, now by default.
            estimated_age: years; None or NaN for no estimate.
            attested_age_band: the answer given in this session, where one was asked. A minor has
                no record by design, so this is the only source of the reason ``minor``.
            challenge_age: years; at least 18.

        Raises:
            MalformedError: an argument is not what it should be. Nothing else is raised: whatever
                goes wrong in deciding refuses, as ``registry_unreadable`` or ``clock_backwards``.

        """
        question = self._question(person, purpose, at, estimated_age, attested_age_band)
        check_challenge_age(challenge_age)
        found: Decision | None = None
        try:
            with self._journal.lock, self._store.write(durable=False) as connection:
                self._journal.catch_up(connection)
                found = self._answer(question, context, challenge_age)
                pid = self._journal.state.people.pid(person)
                self._uses.record_decision(connection, found, context, pid)
        except Exception as error:  # fail closed: no failure may let a face through
            if found is None:
                return self._refusal(question, reason_of(error))
            if not found.permit:
                return found  # a refusal stands, logged or not
            reason_of(error)
            return self._refusal(question, Reason.NOT_LOGGED, found.log_seq)
        return found

    def preview(
        self,
        person: str,
        purpose: Purpose,
        context: Context,
        at: datetime | None = None,
        estimated_age: float | None = None,
        *,
        attested_age_band: AgeBand | str | None = None,
        challenge_age: float = CHALLENGE_AGE,
    ) -> Decision:
        """Return what `decide` would answer, without logging it. For screens and reports.

        Not a permission: ask `decide`, or the gate, before a face is used. Arguments as there.
        """
        question = self._question(person, purpose, at, estimated_age, attested_age_band)
        check_challenge_age(challenge_age)
        try:
            with self._journal.lock:
                self._journal.refresh()
                return self._answer(question, context, challenge_age)
        except Exception as error:
            return self._refusal(question, reason_of(error))

    @staticmethod
    def _question(
        person: str,
        purpose: Purpose,
        at: datetime | None,
        estimated_age: float | None,
        attested_age_band: AgeBand | str | None,
    ) -> _Question:
        if not isinstance(person, str):
            raise MalformedError(f"person: got {type(person).__name__}, want a text")
        moment = None if at is None else to_us(at)
        ages = None if estimated_age is None else [estimated_age]
        bands = None if attested_age_band is None else [str(attested_age_band)]
        return _Question(person, Purpose(purpose), moment, ages, bands)

    def _answer(self, question: _Question, context: Context, challenge_age: float) -> Decision:
        """Decide on the state as it is. The caller holds the lock and has brought it up to date."""
        snapshot = self._present(question.purpose)
        now = self._journal.now()
        moment = now if question.at is None else question.at
        for at in dict.fromkeys((moment, max(moment, now))):
            # Of a moment in the past as well as of now: a date is no way round an end.
            verdicts = snapshot.decide_many(
                [question.person],
                context,
                at=from_us(at),
                estimated_age=question.ages,
                attested_age_band=question.bands,
                challenge_age=challenge_age,
            )
            reason = REASONS[int(verdicts.codes[0])]
            if reason is not Reason.PERMITTED:
                break
        return Decision(
            permit=reason is Reason.PERMITTED,
            reason=reason,
            person=question.person,
            purpose=question.purpose,
            at=from_us(moment),
            log_seq=snapshot.log_seq,
        )

    @staticmethod
    def _refusal(question: _Question, reason: Reason, log_seq: int = -1) -> Decision:
        return Decision(
            permit=False,
            reason=reason,
            person=question.person,
            purpose=question.purpose,
            at=utcnow() if question.at is None else from_us(question.at),
            log_seq=log_seq,
        )

    def snapshot(self, purpose: Purpose, *, log_seq: int | None = None) -> Snapshot:
        """Return the states of one purpose, now or as they were after ``log_seq`` events.

        Immutable; the same object again while nothing was appended. Reading the past is quickest
        in rising order of ``log_seq``.

        Raises:
            RegistryError: the file cannot be read.
            MalformedError: the log is not that long.

        """
        purpose = Purpose(purpose)
        with self._journal.lock:
            state = self._journal.refresh()
            if log_seq is not None and log_seq != state.seq:
                return self._make_snapshot(purpose, self._past_state(log_seq, state.seq))
            return self._present(purpose)

    def _present(self, purpose: Purpose) -> Snapshot:
        """Return the snapshot of the state as it is in memory. The caller holds the lock."""
        self._journal.check_witnessed()
        self._journal.check_here()
        state, found = self._journal.state, self._snapshots.get(purpose)
        if found is None or found.log_seq != state.seq or found.people is not state.people:
            found = self._snapshots[purpose] = self._make_snapshot(purpose, state)
        return found

    def _make_snapshot(self, purpose: Purpose, state: State) -> Snapshot:
        return Snapshot(
            purpose=purpose,
            log_seq=state.seq,
            production=not self._journal.simulated,
            recorded=state.recorded,
            view=state.view(PURPOSES.index(purpose)),
            people=state.people,
        )

    def _past_state(self, log_seq: int, size: int) -> State:
        if not 0 <= log_seq <= size:
            raise MalformedError(f"got log_seq {log_seq}, the log has {size} entries")
        if log_seq < self._past.seq:
            self._past = self._journal.fresh_state()
        with self._store.read() as connection:
            self._past.advance(connection, log_seq)
        return self._past

    # -- the log -------------------------------------------------------------------------------

    @property
    def log_seq(self) -> int:
        """The number of events, as of now."""
        with self._store.read() as connection:
            return self._journal.log.size(connection)

    def head(self) -> LogHead:
        """Return length and root of the log as of one moment."""
        with self._store.read() as connection:
            size = self._journal.log.size(connection)
            return LogHead(size, self._journal.log.root(connection, size).hex())

    def log_root(self, size: int | None = None) -> str:
        """Return the RFC 9162 root over the first ``size`` events (all by default), as hex."""
        if size is None:
            return self.head().root
        with self._store.read() as connection:
            self._check_size(size, self._journal.log.size(connection))
            return self._journal.log.root(connection, size).hex()

    def uses_head(self) -> LogHead:
        """Return length and root of the log of uses."""
        with self._store.read() as connection:
            size = self._uses.log.size(connection)
            return LogHead(size, self._uses.log.root(connection, size).hex())

    def changed_since(self, seq: int) -> bool:
        """Return whether anything was appended after the first ``seq`` events; one small query."""
        return self.log_seq != seq

    def withdrawn_since(self, seq: int, purpose: Purpose | None = None) -> tuple[str, ...]:
        """Return the persons who said no, or whose consent was ended, after the first ``seq`` events.

        By withdrawal, refusal, revocation or invalidation; in the order of the log. Terms that merely
        ran out leave no event: decisions see to those.
        """
        table = schema.events
        query = (
            sa.select(table.c.pid)
            .where(
                table.c.seq >= seq,
                table.c.status.in_([STATUSES.index(status) for status in _ENDED]),
            )
            .order_by(table.c.seq)
        )
        if purpose is not None:
            query = query.where(table.c.purpose == PURPOSES.index(Purpose(purpose)))
        with self._store.read() as connection:
            pids = list(dict.fromkeys(connection.execute(query).scalars()))
            names = self._journal.state.people.names(connection, pids)
        return tuple(names[pid] for pid in pids if pid in names)

    def inclusion_proof(self, seq: int, size: int | None = None) -> list[bytes]:
        """Return the proof that event ``seq`` is in the log; check it with `merkle`."""
        with self._store.read() as connection:
            size = self._journal.log.size(connection) if size is None else size
            return self._journal.log.inclusion_proof(connection, seq, size)

    def consistency_proof(self, size1: int, size2: int | None = None) -> list[bytes]:
        """Return the proof that the log of ``size2`` events extends that of ``size1``."""
        with self._store.read() as connection:
            size2 = self._journal.log.size(connection) if size2 is None else size2
            return self._journal.log.consistency_proof(connection, size1, size2)

    def checkpoint(self, *, uses: bool = False) -> str:
        """Return the last signed head of the log (a C2SP signed note), or of the log of uses.

        Raises:
            MalformedError: nothing was signed yet.

        """
        log = schema.USES_LOG if uses else schema.EVENTS_LOG
        with self._store.read() as connection:
            found = latest_checkpoint(connection, log)
        if found is None:
            raise MalformedError("no head of this log was signed yet")
        return found[1]

    def check_witnessed(self) -> None:
        """Say so when nobody could ask the witness whether this is an old copy.

        Raises:
            WitnessMissingError: until it is plugged in and asked, nobody is permitted.

        """
        self._journal.check_witnessed()

    def export_log(self, folder: str | os.PathLike[str]) -> LogExported:
        """Write both logs as plain files that anybody verifies offline; no entry names a person.

        Entries that no head covers yet (decisions since the last batch) are left out:
        `ConsentRegistry.sign_heads` signs them.

        Raises:
            RegistryExistsError, RegistryFullError: nothing was written.

        """
        from .exporting import export_log

        return export_log(self, folder)

    @property
    def ring(self) -> KeyRing:
        """The signing keys of the log and their periods, as the log itself tells them."""
        with self._journal.lock:
            return self._journal.refresh().keys.ring

    @property
    def origin(self) -> str:
        """The name of the log in its checkpoints."""
        with self._journal.lock:
            return self._journal.refresh().keys.origin

    def leaf(self, seq: int) -> bytes:
        """Return the stored bytes of event ``seq``; they hold no identifier."""
        query = sa.select(schema.events.c.leaf).where(schema.events.c.seq == seq)
        with self._store.read() as connection:
            found = connection.execute(query).scalar()
        if found is None:
            raise MalformedError(f"the log has no event {seq}")
        return bytes(found)

    def verify(self) -> Verified:
        """Recompute everything from the stored bytes.

        Raises:
            TamperedError: its ``entry`` names the first bad entry.
            RegistryUnreadableError: the file cannot be read.

        """
        return verify_registry(self._journal, self._uses)

    # -- what is held --------------------------------------------------------------------------

    def history(self, person: str) -> tuple[ConsentEvent, ...]:
        """Return every event of one person, oldest first; empty for someone unknown."""
        table = schema.events
        with self._journal.lock:
            pid = self._journal.refresh().people.pid(person)
        if pid is None:
            return ()
        query = (
            sa.select(table.c.seq, table.c.leaf)
            .where(table.c.pid == pid, table.c.kind == KINDS.index("consent"))
            .order_by(table.c.seq)
        )
        with self._store.read() as connection:
            rows = connection.execute(query).all()
        try:
            return tuple(leaves.event_of(bytes(leaf), person=person, seq=seq) for seq, leaf in rows)
        except ValueError as error:
            raise TamperedError("history", str(error).splitlines()[0]) from error

    def histories(self) -> Iterator[ConsentEvent]:
        """Yield every event of everybody, oldest first, but of people who were erased.

        For whoever reads all of a log, such as an audit: `history` of one person after the other asks the
        database for each.

        Raises:
            TamperedError: an entry is no event.

        """
        table = schema.events
        with self._journal.lock:
            people = self._journal.refresh().people
        query = (
            sa.select(table.c.seq, table.c.leaf, table.c.pid)
            .where(table.c.kind == KINDS.index("consent"))
            .order_by(table.c.seq)
        )
        with self._store.read() as connection:
            names = people.names(connection, range(people.size))
            rows = connection.execute(query).all()
        for seq, leaf, pid in rows:
            person = names.get(pid)
            if person is None:
                continue
            try:
                yield leaves.event_of(bytes(leaf), person=person, seq=seq)
            except ValueError as error:
                raise TamperedError("history", str(error).splitlines()[0]) from error

    def persons(self) -> tuple[str, ...]:
        """Return every person with a record, in the order of their first."""
        with self._journal.lock:
            people = self._journal.refresh().people
        with self._store.read() as connection:
            names = people.names(connection, range(people.size))
        return tuple(names[pid] for pid in sorted(names))

    def notices(self) -> tuple[Notice, ...]:
        """Return every notice ever in force, oldest first."""
        return self._book.all()

    def age_refusals(self) -> dict[AgeRule, int]:
        """Return how many people were refused at the door for their age, by rule."""
        query = sa.select(schema.events.c.leaf).where(
            schema.events.c.kind == KINDS.index("age_refusal")
        )
        counts = dict.fromkeys(AgeRule, 0)
        with self._store.read() as connection:
            for leaf in connection.execute(query).scalars():
                value = leaves.parse(leaf)
                counts[AgeRule(value["rule"])] += int(value["count"])
        return counts

    # -- uses ----------------------------------------------------------------------------------

    def record_use(
        self,
        persons: Sequence[str] | npt.NDArray[np.str_],
        purpose: Purpose,
        *,
        run: str,
        round: int,  # noqa: A002 - the word of the field, as in the run's files
        store: str,
        batch: int,
        log_seq: int,
        at: datetime | None = None,
    ) -> int:
        """Append, durably, who was in a batch; return the entry's number.

        Call it before the batch is used: a crash then over-counts uses and never hides one.

        Args:
            persons: shape (n,), person ids; each as often as they should be counted.
            purpose: what for.
            run: id of the run.
            round: of the run, from 1; 0 before the first.
            store: name of the store.
            batch: number of the batch in its round.
            log_seq: the log the admission relied on (``Admitted.log_seq``).
            at: the moment of the use, now by default.

        Raises:
            UnknownPersonError: someone has no record; nothing was written.
            MalformedError, BackdatedRefused, ClockBackwardsError, RegistryError

        """
        return self._uses.record(
            persons,
            Purpose(purpose),
            run=run,
            round_=round,
            store=store,
            batch=batch,
            log_seq=log_seq,
            at=at,
        )

    def uses(self) -> Iterator[Use]:
        """Yield every recorded batch, oldest first."""
        return self._uses.read()

    def decisions(self) -> Iterator[LoggedDecision]:
        """Yield every answer of `decide`, oldest first."""
        return self._uses.decisions()

    def now(self) -> datetime:
        """Read the clock that decisions use.

        Raises:
            ClockBackwardsError: it reads earlier than before, or than the log's last event.

        """
        return from_us(self._journal.now())

    @staticmethod
    def _check_size(size: int, have: int) -> None:
        if not 0 <= size <= have:
            raise MalformedError(f"got size {size}, the log has {have} entries")


def reason_of(error: Exception) -> Reason:
    """Return the refusal a failure in deciding means, and leave a trace without identifiers."""
    if isinstance(error, ClockBackwardsError):
        return Reason.CLOCK_BACKWARDS
    told = str(error) if isinstance(error, ConsentError) else ""
    _LOGGER.warning("deciding failed, refused: %s %s", type(error).__name__, told)
    return Reason.REGISTRY_UNREADABLE
