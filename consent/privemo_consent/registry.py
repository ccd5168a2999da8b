"""ConsentRegistry: who agreed to what, as an append-only log with a tree over it.

Every change appends one leaf; nothing is overwritten (GDPR 7(1)). Withdrawing takes one call, as
granting does, and is on the disk before it returns (GDPR 7(3)).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from . import leaves
from .bulk import BulkOutcome, check_person
from .ending import ONCE_GIVEN, RegistryEnding
from .errors import NoticeRefused, StaffRefused, TransitionRefused, UnknownPersonError
from .keeping import RegistryKeeping
from .leaves import PURPOSES, STATUSES
from .notices.checking import check_notice
from .policy import check_validity
from .recording import NOT_STAFF, Answer
from .records import ConsentEvent, Grant, Notice
from .terms import AgeBand, ConsentStatus, Purpose, Reason, Role

__all__ = ["DEFAULT_VALIDITY", "ConsentRegistry"]

#: A year, when the caller names no term.
DEFAULT_VALIDITY = timedelta(days=365)
_ANY = frozenset(range(len(STATUSES)))


class ConsentRegistry(RegistryEnding, RegistryKeeping):
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
        with self._answering() as answer:
            answer.reason = answer.intake.grant(
                Grant(
                    person=person,
                    purposes=tuple(purposes),
                    age_band=age_band,
                    jurisdiction=jurisdiction,
                    notice=notice,
                    valid_for=valid_for,
                    role=role,
                    at=at,
                )
            )
        return answer.events

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
        said = Grant(
            person=person,
            purposes=yes or asked,
            age_band=age_band,
            jurisdiction=jurisdiction,
            notice=notice,
            valid_for=valid_for,
            role=role,
            at=at,
        )
        with self._answering() as answer:
            answer.intake.check_purposes(asked)
            if yes or role is not Role.SHOPPER:
                answer.reason = answer.intake.grant(said)
            else:
                answer.reason = answer.intake.screen_age(person, age_band, jurisdiction)
            no = tuple(purpose for purpose in asked if not answers[purpose])
            if answer.reason is Reason.PERMITTED and no:
                _decline(answer, said, no)
        return answer.events

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
                raise StaffRefused(NOT_STAFF)
            asked = self._recorded(pid, purposes, ONCE_GIVEN)
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
        with self._answering() as answer:
            intake = answer.intake
            answer.reason = intake.screen_age(person, age_band, jurisdiction)
            if answer.reason is Reason.PERMITTED:
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
        return answer.events

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
        with self._answering() as answer:
            intake = answer.intake
            known = self._journal.state.people.pid(check_person(person)) is not None
            if not known and (age_band is None or jurisdiction is None or notice is None):
                raise UnknownPersonError(
                    "no record under this id: a first record needs age_band, jurisdiction, notice"
                )
            if age_band is not None:
                answer.reason = intake.screen_age(person, age_band, jurisdiction or "")
            if answer.reason is Reason.PERMITTED:
                intake.write(
                    person,
                    self._declined(person, purposes, everything=notice is not None),
                    ConsentStatus.REFUSED,
                    role=role,
                    jurisdiction=jurisdiction,
                    nid=None if notice is None else intake.notice(notice, (), jurisdiction),
                    at=at,
                )
        return answer.events

    def _declined(
        self, person: str, purposes: Sequence[Purpose] | None, *, everything: bool
    ) -> tuple[Purpose, ...]:
        """What a no is about: what is named, or all that there is, or all that has a record."""
        if purposes is not None:
            return tuple(purposes)
        if everything:
            return tuple(Purpose)
        return tuple(self._recorded(self._pid(person), None, _ANY))


def _decline(answer: Answer, said: Grant, purposes: tuple[Purpose, ...]) -> None:
    """Record no to some purposes of an answer, beside the yes to others."""
    answer.intake.write(
        said.person,
        purposes,
        ConsentStatus.REFUSED,
        role=said.role,
        jurisdiction=said.jurisdiction,
        nid=answer.intake.notice(said.notice, purposes, said.jurisdiction),
        at=said.at,
    )
