"""What a registry answers: decisions, snapshots, histories, proofs, and whether it is whole."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from . import leaves, schema
from .errors import ClockBackwardsError, ConsentError, MalformedError, TamperedError
from .handle import RegistryHandle
from .leaves import KINDS, PURPOSES, STATUSES
from .policy import CHALLENGE_AGE, AgeRule, check_challenge_age
from .records import ConsentEvent, Context, Decision, Notice, Use
from .rules import REASONS
from .snapshot import Snapshot
from .state import State
from .store import Store
from .terms import AgeBand, ConsentStatus, Purpose, Reason
from .times import Clock, from_us, to_us, utcnow
from .verify import Verified, verify_registry

__all__ = ["LogHead", "RegistryReader"]

_LOGGER = logging.getLogger("privemo.consent")
_ENDED = (
    ConsentStatus.REFUSED,
    ConsentStatus.EXPIRED,
    ConsentStatus.INVALIDATED,
    ConsentStatus.REVOKED,
    ConsentStatus.WITHDRAWN,
)


class LogHead(NamedTuple):
    """How long the log is, and the root of its tree in hexadecimal."""

    seq: int
    root: str


class RegistryReader(RegistryHandle):
    """The reading half of `ConsentRegistry`."""

    def __init__(self, store: Store, clock: Clock) -> None:
        super().__init__(store, clock)
        self._snapshots: dict[Purpose, Snapshot] = {}
        self._past = State()

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
        purpose = Purpose(purpose)
        check_challenge_age(challenge_age)
        moment = None if at is None else to_us(at)
        seq = -1
        try:
            snapshot = self.snapshot(purpose)
            seq = snapshot.log_seq
            moment = self._journal.now() if moment is None else moment
            verdicts = snapshot.decide_many(
                [person],
                context,
                at=from_us(moment),
                estimated_age=None if estimated_age is None else [estimated_age],
                attested_age_band=None if attested_age_band is None else [attested_age_band],
                challenge_age=challenge_age,
            )
            reason = REASONS[int(verdicts.codes[0])]
        except Exception as error:  # fail closed: no failure may let a face through
            reason = reason_of(error)
        if moment is None:
            moment = to_us(utcnow())
        return Decision(
            permit=reason is Reason.PERMITTED,
            reason=reason,
            person=person,
            purpose=purpose,
            at=from_us(moment),
            log_seq=seq,
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
            found = self._snapshots.get(purpose)
            if found is None or found.log_seq != state.seq or found.index is not state.index:
                found = self._snapshots[purpose] = self._make_snapshot(purpose, state)
            return found

    def _make_snapshot(self, purpose: Purpose, state: State) -> Snapshot:
        return Snapshot(
            purpose=purpose,
            log_seq=state.seq,
            production=not self._journal.simulated,
            recorded=state.recorded,
            view=state.view(PURPOSES.index(purpose)),
            index=state.index,
        )

    def _past_state(self, log_seq: int, size: int) -> State:
        if not 0 <= log_seq <= size:
            raise MalformedError(f"got log_seq {log_seq}, the log has {size} entries")
        if log_seq < self._past.seq:
            self._past = State()
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
        """Return the persons some consent of whom ended after the first ``seq`` events.

        Ended by withdrawal, refusal, revocation or invalidation; in the order of the log. Terms
        that merely ran out leave no event: decisions see to those.
        """
        table = schema.events
        query = (
            sa.select(schema.persons.c.person)
            .join(table, table.c.pid == schema.persons.c.pid)
            .where(
                table.c.seq >= seq,
                table.c.status.in_([STATUSES.index(status) for status in _ENDED]),
                schema.persons.c.person.is_not(None),
            )
            .order_by(table.c.seq)
        )
        if purpose is not None:
            query = query.where(table.c.purpose == PURPOSES.index(Purpose(purpose)))
        with self._store.read() as connection:
            return tuple(dict.fromkeys(connection.execute(query).scalars()))

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
        query = (
            sa.select(table.c.seq, table.c.leaf)
            .join(schema.persons, schema.persons.c.pid == table.c.pid)
            .where(schema.persons.c.person == person)
            .order_by(table.c.seq)
        )
        with self._store.read() as connection:
            rows = connection.execute(query).all()
        try:
            return tuple(leaves.event_of(leaf, person=person, seq=seq) for seq, leaf in rows)
        except ValueError as error:
            raise TamperedError("history", str(error).splitlines()[0]) from error

    def persons(self) -> tuple[str, ...]:
        """Return every person with a record, in the order of their first."""
        query = sa.select(schema.persons.c.person).where(schema.persons.c.person.is_not(None))
        with self._store.read() as connection:
            return tuple(connection.execute(query.order_by(schema.persons.c.pid)).scalars())

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
