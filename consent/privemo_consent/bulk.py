"""From what people answered to what may be written: the rules at the door of the registry.

Age comes before everything (REQUIREMENTS 15-17): a minor's or an unknown age leaves a count and no
identifier. Staff leave an invalidated record, so that the gate knows them (AI Act 5(1)(f)).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

import sqlalchemy as sa

from . import schema
from .canonical import parse_canonical, sha256_hex
from .errors import MalformedError, NoticeRefused, SimulatedRefused, TamperedError
from .journal import Journal
from .leaves import PURPOSES, STATUSES
from .policy import AgeRule, age_rule, check_validity, covers, is_staff
from .records import JURISDICTION, Grant, Notice
from .terms import AgeBand, ConsentStatus, Purpose, Reason, Role
from .times import to_us
from .transaction import Draft, Refusal

__all__ = ["BulkOutcome", "Intake", "NoticeBook", "check_person"]

_JURISDICTION = re.compile(JURISDICTION)
_MICROSECOND = timedelta(microseconds=1)
_LONGEST_ID = 200
_ONCE_GIVEN = frozenset(
    STATUSES.index(status)
    for status in (ConsentStatus.GIVEN, ConsentStatus.RENEWED, ConsentStatus.EXPIRED)
)


@dataclass(frozen=True, slots=True)
class BulkOutcome:
    """What a bulk import did.

    Attributes:
        events: how many events were written.
        granted: how many rows gave consent.
        refused: how many rows did not, by reason (minor, unknown_age, staff).

    """

    events: int
    granted: int
    refused: Mapping[Reason, int]


def check_person(person: str) -> str:
    """Return a usable person id: 1 to 200 printable characters without blanks at the ends.

    Raises:
        MalformedError: anything else, without repeating it.

    """
    if (
        not isinstance(person, str)
        or not 0 < len(person) <= _LONGEST_ID
        or not person.isprintable()
        or person[0] == " "
        or person[-1] == " "
    ):
        raise MalformedError(
            f"a person id is 1 to {_LONGEST_ID} printable characters without blanks at its ends"
        )
    return person


class NoticeBook:
    """The registered notices, checked against their hashes when first read."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._known: dict[str, Notice] = {}

    def get(self, digest: str) -> Notice:
        """Return a registered notice.

        Raises:
            NoticeRefused: none is registered under this hash.
            TamperedError: the stored text is not the one that was registered.

        """
        found = self._known.get(digest)
        if found is None:
            with self._journal.store.read() as connection:
                body = connection.execute(
                    sa.select(schema.notices.c.body).where(schema.notices.c.hash == digest)
                ).scalar()
            if body is None:
                raise NoticeRefused(
                    f"no notice {str(digest)[:12]} is registered: call registry.notice(notice) "
                    "before people are shown it"
                )
            if sha256_hex(body) != digest:
                raise TamperedError(f"notice {digest[:12]}", "its text is not the one registered")
            found = self._known[digest] = Notice.model_validate(parse_canonical(body))
        return found

    def all(self) -> tuple[Notice, ...]:
        """Return every registered notice, oldest first."""
        with self._journal.store.read() as connection:
            query = sa.select(schema.notices.c.hash).order_by(schema.notices.c.nid)
            digests = list(connection.execute(query).scalars())
        return tuple(self.get(digest) for digest in digests)


class Intake:
    """Collects rows for one transaction. The caller holds the journal's lock, state refreshed."""

    def __init__(self, journal: Journal, book: NoticeBook) -> None:
        self._journal = journal
        self._book = book
        self._fit: set[tuple[str, tuple[Purpose, ...], str | None]] = set()
        self._by_age: Counter[tuple[AgeRule, str]] = Counter()
        self._places: set[str] = set()
        self._rules: dict[tuple[AgeBand, str], AgeRule | None] = {}
        self._named: dict[tuple[Purpose, ...], tuple[Purpose, ...]] = {}
        self.drafts: list[Draft] = []
        self.granted = 0
        self.refused: Counter[Reason] = Counter()
        #: who has a record as an adult and now says otherwise: to be erased once that is written
        self.minors: list[str] = []

    @property
    def refusals(self) -> list[Refusal]:
        """The counts of people refused for their age."""
        return [Refusal(rule, where, n) for (rule, where), n in self._by_age.items()]

    def outcome(self, events: int) -> BulkOutcome:
        """Return the result once ``events`` were written."""
        return BulkOutcome(events, self.granted, MappingProxyType(dict(self.refused)))

    def grant(self, row: Grant) -> Reason:
        """Take one person's yes; return what became of it.

        Raises:
            MalformedError, NoticeRefused, SimulatedRefused, ValidityRefused

        """
        reason = self.screen_age(row.person, row.age_band, row.jurisdiction)
        if reason is not Reason.PERMITTED:
            return reason
        if row.simulated and not self._journal.simulated:
            raise SimulatedRefused("this consent is simulated: a production registry refuses it")
        check_validity(row.valid_for)
        purposes = self.check_purposes(row.purposes)
        nid = self.notice(row.notice, purposes, row.jurisdiction)
        role = Role(row.role)
        staff = is_staff(role)
        self.write(
            row.person,
            purposes,
            ConsentStatus.INVALIDATED if staff else ConsentStatus.GIVEN,
            role=role,
            jurisdiction=row.jurisdiction,
            nid=nid,
            at=row.at,
            valid_for=row.valid_for,
            entity="registry" if staff else "data_subject",
        )
        reason = Reason.STAFF if staff else Reason.PERMITTED
        if staff:
            self.refused[reason] += 1
        else:
            self.granted += 1
        return reason

    def grant_all(self, rows: Iterable[Grant]) -> None:
        """Take many answers; one answer that is no adult's bars all rows of that person."""
        answers = list(rows)
        barred: dict[str, AgeBand] = {}
        for row in answers:
            band = AgeBand(row.age_band)
            # Of two such answers the younger counts: minor before unknown.
            if not band.is_adult and not (row.person in barred and barred[row.person].is_minor):
                barred[row.person] = band
        for row in answers:
            if row.person in barred:
                self.screen_age(row.person, barred[row.person], row.jurisdiction)
            else:
                self.grant(row)

    def screen_age(self, person: str, age_band: AgeBand, jurisdiction: str) -> Reason:
        """Return ``PERMITTED`` for an adult; else count the refusal under its rule.

        Someone who has a record as an adult and now says otherwise loses it at once: what was
        given is invalidated (AADC 3), and whoever says to be a minor is erased after that, row, key
        and faces, so that no entry can be tied to them.
        """
        rule = self._age_rule(age_band, jurisdiction)
        if rule is None:
            return Reason.PERMITTED
        reason = Reason.UNKNOWN_AGE if rule is AgeRule.UNKNOWN_AGE else Reason.MINOR
        self._by_age[(rule, jurisdiction)] += 1
        self.refused[reason] += 1
        pid = self._journal.state.people.pid(person)
        if pid is not None:
            given = [
                purpose
                for code, purpose in enumerate(PURPOSES)
                if self._journal.state.last(pid, code)[0] in _ONCE_GIVEN
            ]
            self.write(person, tuple(given), ConsentStatus.INVALIDATED, entity="registry")
            if reason is Reason.MINOR and person not in self.minors:
                self.minors.append(person)
        return reason

    def _age_rule(self, age_band: AgeBand, jurisdiction: str) -> AgeRule | None:
        key = (age_band, jurisdiction)
        if key not in self._rules:
            _check_jurisdiction(jurisdiction)
            self._rules[key] = age_rule(AgeBand(age_band), jurisdiction)
        return self._rules[key]

    def check_purposes(self, purposes: tuple[Purpose, ...]) -> tuple[Purpose, ...]:
        """Return ``purposes`` when they are some, each once.

        Raises:
            MalformedError: they are not.

        """
        found = self._named.get(purposes)
        if found is None:
            found = self._named[purposes] = _purposes(purposes)
        return found

    def notice(
        self,
        notice: Notice | str,
        purposes: tuple[Purpose, ...],
        jurisdiction: str | None = None,
    ) -> int:
        """Return the row of a notice in force that names all ``purposes``, and the place.

        Raises:
            NoticeRefused: unregistered, superseded, silent on a purpose (ISO/IEC 29184 5.5), or
                written for other jurisdictions.

        """
        digest = notice if isinstance(notice, str) else notice.hash
        state = self._journal.state
        nid = state.notice_rows.get(digest)
        if nid is None:
            self._book.get(digest)  # raises with the remedy
            raise NoticeRefused("the notice was registered a moment ago: try again")
        if state.is_superseded(nid):
            raise NoticeRefused(
                f"notice {state.notices[nid].notice_id} version {state.notices[nid].version} is "
                "superseded: show the person the version in force"
            )
        if (digest, purposes, jurisdiction) not in self._fit:
            shown = self._book.get(digest)
            missing = set(purposes) - set(shown.purposes)
            if missing:
                raise NoticeRefused(f"the notice does not name {', '.join(sorted(missing))}")
            if jurisdiction is not None and not covers(shown.jurisdictions, jurisdiction):
                raise NoticeRefused(
                    f"the notice is for {', '.join(shown.jurisdictions)}, not for {jurisdiction}"
                )
            self._fit.add((digest, purposes, jurisdiction))
        return nid

    def write(
        self,
        person: str,
        purposes: tuple[Purpose, ...],
        status: ConsentStatus,
        *,
        role: Role | None = None,
        jurisdiction: str | None = None,
        nid: int | None = None,
        at: datetime | None = None,
        valid_for: timedelta | None = None,
        entity: str = "data_subject",
    ) -> None:
        """Add one draft for each purpose."""
        check_person(person)
        if jurisdiction is not None and jurisdiction not in self._places:
            _check_jurisdiction(jurisdiction)
            self._places.add(jurisdiction)
        moment = None if at is None else to_us(at)
        term = None if valid_for is None else valid_for // _MICROSECOND
        for purpose in purposes:
            self.drafts.append(
                Draft(
                    person=person,
                    purpose=purpose,
                    status=status,
                    entity=entity,
                    role=role,
                    jurisdiction=jurisdiction,
                    nid=nid,
                    at=moment,
                    valid_for=term,
                )
            )


def _check_jurisdiction(jurisdiction: str) -> None:
    if not isinstance(jurisdiction, str) or not _JURISDICTION.fullmatch(jurisdiction):
        raise MalformedError(f"got jurisdiction {jurisdiction!r}, want ISO 3166 as IE or US-IL")


def _purposes(purposes: tuple[Purpose, ...]) -> tuple[Purpose, ...]:
    if isinstance(purposes, str):
        raise MalformedError("purposes: got one string, want a tuple of Purpose")
    found = tuple(Purpose(purpose) for purpose in purposes)
    if not found or len(set(found)) != len(found):
        raise MalformedError(
            f"got purposes {[p.value for p in found]}, want at least one, each once"
        )
    return found
