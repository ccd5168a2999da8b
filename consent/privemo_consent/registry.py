"""ConsentRegistry: who agreed to what, as an append-only log with a tree over it.

Every change appends one leaf; nothing is overwritten (GDPR 7(1)). Withdrawing takes one call, as
granting does, and is on the disk before it returns (GDPR 7(3)).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from . import leaves
from .bulk import BulkOutcome, Intake, check_person
from .custody import RegistryCustody
from .erasing import erase
from .errors import (
    MinorRefused,
    NoticeRefused,
    StaffRefused,
    TransitionRefused,
    UnknownAgeRefused,
    UnknownPersonError,
)
from .keeping import RegistryKeeping
from .leaves import PURPOSES, STATUSES
from .notices.checking import check_notice
from .policy import check_validity
from .records import ConsentEvent, Grant, Notice
from .terms import AgeBand, ConsentStatus, Purpose, Reason, Role

__all__ = ["DEFAULT_VALIDITY", "Bulk", "ConsentRegistry"]

#: A year, when the caller names no term.
DEFAULT_VALIDITY = timedelta(days=365)
_LIVE = frozenset(STATUSES.index(s) for s in (ConsentStatus.GIVEN, ConsentStatus.RENEWED))
_ONCE_GIVEN = _LIVE | {STATUSES.index(ConsentStatus.EXPIRED)}
_ANY = frozenset(range(len(STATUSES)))


@dataclass(slots=True)
class Bulk:
    """An open bulk transaction: what to write, and afterwards how many events were written."""

    intake: Intake
    written: int = 0


class ConsentRegistry(RegistryCustody, RegistryKeeping):
    """One registry: a file, or a schema of a PostgreSQL database.

    Safe for threads, and for several processes at once.

    Open it once per process; it is a context manager. After a fork the child goes on with
    connections of its own.
    """

    # -- notices -------------------------------------------------------------------------------

    def notice(self, notice: Notice) -> str:
        """Bring a notice into force and return its hash; twice is as good as once.

        In production it has to tell everything that people must be told (GDPR 13; REQUIREMENTS 24):
        `check_notice` lists what is missing. A higher version of the same ``notice_id`` supersedes
        the lower ones at once: consent given to them refuses as ``notice_changed`` until renewed
        (ISO/IEC 29184 5.5).

        Raises:
            NoticeRefused: it does not tell all that people must be told.
            TransitionRefused: a later version is in force already.

        """
        with self._journal.lock:
            known = notice.hash in self._journal.refresh().notice_rows
        if not known and not self._journal.simulated:
            check_notice(notice, translations=self.notices()).raise_for_errors()
        self._journal.register(notice)
        return notice.hash

    # -- answers people give -------------------------------------------------------------------

    def grant(
        self,
        person: str,
        purposes: Sequence[Purpose],
        *,
        age_band: AgeBand,
        jurisdiction: str,
        notice: Notice | str,
        valid_for: timedelta = DEFAULT_VALIDITY,
        role: Role = Role.SHOPPER,
        at: datetime | None = None,
    ) -> tuple[ConsentEvent, ...]:
        """Record a person's explicit yes; one event for each purpose (GDPR 4(11)).

        Args:
            person: pseudonymous id, 1 to 200 printable characters; never a name or a faceprint.
            purposes: each at most once; all named in the notice.
            age_band: what the person stated; not kept beyond "adult".
            jurisdiction: ISO 3166, as ``IE`` or ``US-IL``.
            notice: the notice shown, or its hash; registered with `notice`.
            valid_for: the term; at most `policy.MAX_VALIDITY` (DPV guide 8.5.4).
            role: anything but a shopper is recorded as invalidated and refused.
            at: when the person agreed, now by default; dated back in simulations only.

        Raises:
            MinorRefused, UnknownAgeRefused: nothing was kept but a count.
            StaffRefused: an invalidated record was kept (EU AI Act 5(1)(f)).
            NoticeRefused, ValidityRefused, TransitionRefused, BackdatedRefused: nothing changed.
            MalformedError: an argument is not what it should be; nothing changed.
            ClockBackwardsError, RegistryError: nothing was acknowledged.

        """
        row = Grant(
            person=person,
            purposes=tuple(purposes),
            age_band=age_band,
            jurisdiction=jurisdiction,
            notice=notice,
            valid_for=valid_for,
            role=role,
            at=at,
        )
        with self._journal.lock:
            intake = self._intake()
            reason = intake.grant(row)
            written = self._write(intake)
            self._forget_minors(intake)
        _raise_refusal(reason)
        return written

    def answer(
        self,
        person: str,
        answers: Mapping[Purpose, bool],
        *,
        age_band: AgeBand,
        jurisdiction: str,
        notice: Notice | str,
        valid_for: timedelta = DEFAULT_VALIDITY,
        role: Role = Role.SHOPPER,
        at: datetime | None = None,
    ) -> tuple[ConsentEvent, ...]:
        """Record all that a person answered, each yes and each no, in one durable transaction.

        Args:
            person: as in `grant`.
            answers: yes or no to each purpose that was asked for.
            age_band: what the person stated; not kept beyond "adult".
            jurisdiction: ISO 3166, as ``IE`` or ``US-IL``.
            notice: the notice shown, or its hash.
            valid_for: the term of each yes.
            role: anything but a shopper is recorded as invalidated and refused.
            at: as in `grant`.

        Raises:
            As `grant`; nothing of an answer is ever recorded without the rest of it.

        """
        asked = tuple(answers)
        yes = tuple(purpose for purpose in asked if answers[purpose])
        no = tuple(purpose for purpose in asked if not answers[purpose])
        with self._journal.lock:
            intake = self._intake()
            intake.check_purposes(asked)
            if yes or role is not Role.SHOPPER:
                reason = intake.grant(
                    Grant(
                        person=person,
                        purposes=yes or asked,
                        age_band=age_band,
                        jurisdiction=jurisdiction,
                        notice=notice,
                        valid_for=valid_for,
                        role=role,
                        at=at,
                    )
                )
            else:
                reason = intake.screen_age(person, age_band, jurisdiction)
            if reason is Reason.PERMITTED and no:
                nid = intake.notice(notice, no, jurisdiction)
                intake.write(
                    person,
                    no,
                    ConsentStatus.REFUSED,
                    role=role,
                    jurisdiction=jurisdiction,
                    nid=nid,
                    at=at,
                )
            written = self._write(intake)
            self._forget_minors(intake)
        _raise_refusal(reason)
        return written

    def grant_many(self, rows: Iterable[Grant]) -> BulkOutcome:
        """Record many answers in one durable transaction: all of them, or none if one is wrong.

        Minors, unknown ages and staff are no error here: they are counted in the outcome.

        Raises:
            As `grant`, but for MinorRefused, UnknownAgeRefused and StaffRefused.

        """
        with self._bulk() as bulk:
            bulk.intake.grant_all(rows)
        return bulk.intake.outcome(bulk.written)

    def renew(
        self,
        person: str,
        purposes: Sequence[Purpose] | None = None,
        *,
        notice: Notice | str | None = None,
        valid_for: timedelta = DEFAULT_VALIDITY,
        at: datetime | None = None,
    ) -> tuple[ConsentEvent, ...]:
        """Record that a person agrees again, to the notice in force.

        Args:
            person: someone with a record.
            purposes: by default all that were given, expired or not.
            notice: the notice shown; may be left out while the one on record is in force.
            valid_for: the new term, from ``at``.
            at: as in `grant`.

        Raises:
            UnknownPersonError, StaffRefused, NoticeRefused, ValidityRefused, TransitionRefused

        """
        check_validity(valid_for)
        with self._journal.lock:
            intake = self._intake()
            state, pid = self._journal.state, self._pid(person)
            if leaves.ROLES[state.role(pid)] is not Role.SHOPPER:
                raise StaffRefused("staff and students are never read (EU AI Act 5(1)(f))")
            asked = self._recorded(pid, purposes, _ONCE_GIVEN)
            if not asked:
                raise TransitionRefused("nothing was given that could be renewed: use grant")
            for purpose in asked:
                _, _, old, seq = state.last(pid, PURPOSES.index(purpose))
                shown = state.notices[old].hash if notice is None and old >= 0 else notice
                if shown is None:
                    raise NoticeRefused(f"{purpose.value} was never given: use grant")
                place = None if seq < 0 else str(leaves.parse(self.leaf(seq))["jurisdiction"])
                nid = intake.notice(shown, (purpose,), place)
                intake.write(
                    person, (purpose,), ConsentStatus.RENEWED, nid=nid, at=at, valid_for=valid_for
                )
            return self._write(intake)

    def request(
        self,
        person: str,
        purposes: Sequence[Purpose],
        *,
        age_band: AgeBand,
        jurisdiction: str,
        notice: Notice | str,
        at: datetime | None = None,
    ) -> tuple[ConsentEvent, ...]:
        """Record that an adult was shown the notice and asked, and has not answered yet.

        Nothing is permitted by it. Arguments as in `grant`.

        Raises:
            MinorRefused, UnknownAgeRefused: nothing was kept but a count.
            TransitionRefused: a purpose is given already; nothing changed.
            NoticeRefused, BackdatedRefused

        """
        with self._journal.lock:
            intake = self._intake()
            reason = intake.screen_age(person, age_band, jurisdiction)
            if reason is Reason.PERMITTED:
                asked = intake.check_purposes(tuple(purposes))
                intake.write(
                    person,
                    asked,
                    ConsentStatus.REQUESTED,
                    jurisdiction=jurisdiction,
                    nid=intake.notice(notice, asked, jurisdiction),
                    at=at,
                    entity="registry",
                )
            written = self._write(intake)
            self._forget_minors(intake)
        _raise_refusal(reason)
        return written

    def defer(
        self, person: str, purposes: Sequence[Purpose], *, at: datetime | None = None
    ) -> tuple[ConsentEvent, ...]:
        """Record that a person who was asked wants to decide later.

        Raises:
            UnknownPersonError: no record under this id.
            TransitionRefused: a purpose was not asked for.

        """
        with self._journal.lock:
            intake = self._intake()
            self._pid(person)
            asked = intake.check_purposes(tuple(purposes))
            intake.write(person, asked, ConsentStatus.REQUEST_DEFERRED, at=at)
            return self._write(intake)

    def refuse(
        self,
        person: str,
        purposes: Sequence[Purpose] | None = None,
        *,
        age_band: AgeBand | None = None,
        jurisdiction: str | None = None,
        notice: Notice | str | None = None,
        role: Role | None = None,
        at: datetime | None = None,
    ) -> tuple[ConsentEvent, ...]:
        """Record a person's no; where consent was live, it is withdrawn.

        Args:
            person: pseudonymous id.
            purposes: by default all that have a record, or all when ``notice`` is given.
            age_band: what the person stated; needed for someone without a record.
            jurisdiction: ISO 3166; needed with ``age_band``.
            notice: the notice shown; needed for someone without a record.
            role: as in `grant`; unchanged by default.
            at: as in `grant`.

        Raises:
            MinorRefused, UnknownAgeRefused: nothing was kept but a count.
            UnknownPersonError: no record yet, and age, jurisdiction or notice missing.

        """
        with self._journal.lock:
            intake = self._intake()
            known = self._journal.state.people.pid(check_person(person)) is not None
            if not known and (age_band is None or jurisdiction is None or notice is None):
                raise UnknownPersonError(
                    "no record under this id: a first record needs age_band, jurisdiction, notice"
                )
            reason = Reason.PERMITTED
            if age_band is not None:
                reason = intake.screen_age(person, age_band, jurisdiction or "")
            if reason is Reason.PERMITTED:
                everything = tuple(Purpose) if notice is not None else None
                wanted = everything if purposes is None else tuple(purposes)
                if wanted is None:
                    wanted = tuple(self._recorded(self._pid(person), None, _ANY))
                nid = None if notice is None else intake.notice(notice, (), jurisdiction)
                intake.write(
                    person,
                    wanted,
                    ConsentStatus.REFUSED,
                    role=role,
                    jurisdiction=jurisdiction,
                    nid=nid,
                    at=at,
                )
            written = self._write(intake)
            self._forget_minors(intake)
        _raise_refusal(reason)
        return written

    def withdraw(
        self,
        person: str,
        purposes: Sequence[Purpose] | None = None,
        *,
        at: datetime | None = None,
    ) -> tuple[ConsentEvent, ...]:
        """Withdraw; on the disk when this returns, and no later decision permits (GDPR 7(3)).

        Args:
            person: someone with a record.
            purposes: by default all.
            at: as in `grant`.

        Returns:
            One event for each purpose that was given; none for what was not given any more.

        Raises:
            UnknownPersonError: no record under this id. Silence here would let a person with a
                mistyped id believe they had withdrawn.

        """
        with self._journal.lock:
            intake = self._intake()
            self._end(intake, person, purposes, ConsentStatus.WITHDRAWN, at, "data_subject")
            return self._write(intake)

    def withdraw_many(
        self, persons: Iterable[str], purposes: Sequence[Purpose] | None = None
    ) -> int:
        """Withdraw for many people in one durable transaction; return the number of events.

        Raises:
            UnknownPersonError: one of them has no record; nothing changed.

        """
        with self._bulk() as bulk:
            for person in persons:
                self._end(
                    bulk.intake, person, purposes, ConsentStatus.WITHDRAWN, None, "data_subject"
                )
        return bulk.written

    def revoke(
        self, person: str, purposes: Sequence[Purpose] | None = None
    ) -> tuple[ConsentEvent, ...]:
        """End consent from the controller's side, for good cause; acts as a withdrawal does.

        Raises:
            UnknownPersonError: no record under this id.
            TransitionRefused: a purpose named was not given.

        """
        with self._journal.lock:
            intake = self._intake()
            self._end(intake, person, purposes, ConsentStatus.REVOKED, None, "registry")
            return self._write(intake)

    def _end(
        self,
        intake: Intake,
        person: str,
        purposes: Sequence[Purpose] | None,
        status: ConsentStatus,
        at: datetime | None,
        entity: str,
    ) -> None:
        found = self._recorded(self._pid(person), purposes, _ONCE_GIVEN)
        intake.write(person, tuple(found), status, at=at, entity=entity)

    def _recorded(
        self, pid: int, purposes: Sequence[Purpose] | None, states: Iterable[int]
    ) -> list[Purpose]:
        if purposes is not None:
            return [Purpose(purpose) for purpose in purposes]
        state, wanted = self._journal.state, frozenset(states)
        return [p for i, p in enumerate(PURPOSES) if state.last(pid, i)[0] in wanted]

    def _pid(self, person: str) -> int:
        pid = self._journal.state.people.pid(check_person(person))
        if pid is None:
            raise UnknownPersonError("no record under this person id: check the id")
        return pid

    def _intake(self) -> Intake:
        self._journal.refresh()
        return Intake(self._journal, self._book)

    @contextmanager
    def _bulk(self) -> Iterator[Bulk]:
        with self._journal.lock:
            bulk = Bulk(self._intake())
            yield bulk
            rows = self._journal.append(bulk.intake.drafts, bulk.intake.refusals)
            bulk.written = sum(row["pid"] is not None for row in rows)
            self._forget_minors(bulk.intake)

    def _forget_minors(self, intake: Intake) -> None:
        """Erase whoever had a record as an adult and turns out a minor: a count is what is kept."""
        known = [
            person for person in intake.minors if self._journal.state.people.pid(person) is not None
        ]
        if known:
            erase(self._journal, known, cause="controller")

    def _write(self, intake: Intake) -> tuple[ConsentEvent, ...]:
        rows = self._journal.append(intake.drafts, intake.refusals)
        return tuple(
            leaves.event_of(row["leaf"], person=row["person"], seq=row["seq"])
            for row in rows
            if row["pid"] is not None
        )


def _raise_refusal(reason: Reason) -> None:
    if reason is Reason.MINOR:
        raise MinorRefused("minors are never read; nothing was kept but a count")
    if reason is Reason.UNKNOWN_AGE:
        raise UnknownAgeRefused(
            "an unknown age is treated as a child's (AADC 3); nothing was kept but a count"
        )
    if reason is Reason.STAFF:
        raise StaffRefused("staff and students are never read (EU AI Act 5(1)(f))")
