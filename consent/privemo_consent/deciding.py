"""What a registry decides: one person at one moment, or everybody as of one state of the log."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import NamedTuple

from .errors import ClockBackwardsError, ConsentError, MalformedError
from .handle import RegistryHandle
from .keyfolder.folder import KeyFolder
from .leaves import PURPOSES
from .policy import CHALLENGE_AGE, check_challenge_age
from .records import Context, Decision
from .rules import REASONS
from .snapshot import Snapshot
from .state import State
from .storage import Store
from .terms import AgeBand, Purpose, Reason
from .times import Clock, from_us, to_us, utcnow

__all__ = ["RegistryDecider"]

_LOGGER = logging.getLogger("privemo.consent")


class _Question(NamedTuple):
    """What is asked of one person."""

    person: str
    purpose: Purpose
    at: int | None
    ages: list[float] | None
    bands: list[str] | None


class RegistryDecider(RegistryHandle):
    """The layer of a registry that permits or refuses."""

    def __init__(self, store: Store, keys: KeyFolder | None, clock: Clock) -> None:
        super().__init__(store, keys, clock)
        self._snapshots: dict[Purpose, Snapshot] = {}
        self._past = self._journal.fresh_state()

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


def reason_of(error: Exception) -> Reason:
    """Return the refusal a failure in deciding means, and leave a trace without identifiers."""
    if isinstance(error, ClockBackwardsError):
        return Reason.CLOCK_BACKWARDS
    told = str(error) if isinstance(error, ConsentError) else ""
    _LOGGER.warning("deciding failed, refused: %s %s", type(error).__name__, told)
    return Reason.REGISTRY_UNREADABLE
