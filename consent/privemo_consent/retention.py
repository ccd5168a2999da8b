"""How long each kind of item is kept, with its source, and when a person's faces fall due.

Every kept item has a written, finite term (COPPA 312.10; BIPA 15(a)). Pure functions and data:
what is overdue is listed and destroyed elsewhere. This is engineering, not legal advice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from .errors import MalformedError, ValidityRefused

__all__ = [
    "LONGEST_DAYS",
    "MIN_LOG_DAYS",
    "SCHEDULE",
    "Due",
    "DueRule",
    "Kept",
    "Term",
    "check_schedule",
    "due",
    "record_due",
]

#: Six months as whole days: AI Act 19(1), 26(6).
MIN_LOG_DAYS = 183
#: Nothing here is kept longer. Ours: no law read sets a limit, and a term must be finite.
LONGEST_DAYS = 10 * 366
_INTERACTION_YEARS = 3
_THREE_YEARS = 3 * 365
#: No clock reads later; room is left for a term.
_LAST_YEAR = 9000


class Kept(StrEnum):
    """The kinds of things that are kept."""

    FACE = "face"
    DEMOGRAPHIC_LABEL = "demographic_label"
    PREDICTION = "prediction"
    CONSENT_RECORD = "consent_record"
    LOG_LEAF = "log_leaf"
    USE_RECORD = "use_record"
    RECEIPT = "receipt"
    AGE_REFUSAL_COUNT = "age_refusal_count"


@dataclass(frozen=True, slots=True)
class Term:
    """How long one kind is kept.

    Attributes:
        days: at most; whole.
        since: what the days count from.
        clause: that asks for a term, or for this one.
        reason: why this long.

    """

    days: int
    since: str
    clause: str
    reason: str


#: The longest each kind may be kept. A notice may promise less for faces; `due` heeds both.
SCHEDULE: Mapping[Kept, Term] = MappingProxyType(
    {
        Kept.FACE: Term(
            days=_THREE_YEARS,
            since="the last interaction",
            clause="BIPA 15(a); COPPA 312.10; GDPR 13(2)(a)",
            reason="or the notice's term, or the end of all consents: whichever comes first (due)",
        ),
        Kept.DEMOGRAPHIC_LABEL: Term(
            days=30,
            since="the audit that used it",
            clause="AI Act 10(5)(e)",
            reason="deleted once the bias is measured; a month to repeat the measurement",
        ),
        Kept.PREDICTION: Term(
            days=_THREE_YEARS,
            since="the last interaction",
            clause="GDPR 5(1)(e), 17(1)(b)",
            reason="or the notice's term, or the end of the consent to be measured: whichever comes "
            "first (due); the store deletes the table earlier, when its audit is over",
        ),
        Kept.CONSENT_RECORD: Term(
            days=_THREE_YEARS,
            since="the end of the consent",
            clause="GDPR 7(1), 5(1)(e)",
            reason="consent must be shown for as long as its use can be questioned: ours",
        ),
        Kept.LOG_LEAF: Term(
            days=6 * 366,
            since="the day it was written",
            clause="AI Act 19(1), 26(6)",
            reason="six months at least; outlives the records it proves (3 years of consent and 3 "
            "after). A leaf names nobody, and leaves a log only with the whole log",
        ),
        Kept.USE_RECORD: Term(
            days=_THREE_YEARS,
            since="the use",
            clause="AI Act 12, 19(1), 26(6)",
            reason="six months at least; as long as the consent it relied on is kept",
        ),
        Kept.RECEIPT: Term(
            days=_THREE_YEARS,
            since="the end of the consent",
            clause="27560 6.4",
            reason="the controller's copy, if there is one; the person's own is theirs",
        ),
        Kept.AGE_REFUSAL_COUNT: Term(
            days=6 * 366,
            since="the day it counts",
            clause="COPPA 312.10; AADC 2",
            reason="a number and a day, about nobody; stands in the log and goes with it",
        ),
    }
)
_LOGS = frozenset({Kept.LOG_LEAF, Kept.USE_RECORD})


def check_schedule(schedule: Mapping[Kept, Term]) -> None:
    """Hold a schedule to the law: a term for everything, none endless, logs long enough.

    Raises:
        ValidityRefused: a kind without a term, a term that is not a whole number of days from 1 to
            `LONGEST_DAYS`, a source missing, or a log kept for under `MIN_LOG_DAYS`.

    """
    missing = [kind.value for kind in Kept if kind not in schedule]
    if missing:
        raise ValidityRefused(f"no term for {', '.join(missing)}: give each one (COPPA 312.10)")
    for kind in Kept:
        term = schedule[kind]
        if type(term.days) is not int or not 1 <= term.days <= LONGEST_DAYS:
            raise ValidityRefused(
                f"{kind.value}: got {term.days!r} days, want 1 to {LONGEST_DAYS}: an endless term "
                "is none (COPPA 312.10)"
            )
        if not (term.clause.strip() and term.since.strip()):
            raise ValidityRefused(f"{kind.value}: say what the term counts from, and its clause")
        if kind in _LOGS and term.days < MIN_LOG_DAYS:
            raise ValidityRefused(
                f"{kind.value}: got {term.days} days, want at least {MIN_LOG_DAYS} "
                "(AI Act 19(1), 26(6))"
            )


class DueRule(StrEnum):
    """Why a person's faces, or the record of their consent, must be destroyed."""

    #: every consent has ended: nothing is left to use them for (BIPA 15(a); GDPR 5(1)(e))
    PURPOSE_SATISFIED = "purpose_satisfied"
    #: the term the notice promised is over (GDPR 13(2)(a); COPPA 312.10)
    NOTICE_TERM = "notice_term"
    #: three years without the person (BIPA 15(a))
    LAST_INTERACTION = "last_interaction"
    #: the term of the record that shows the consent is over too (GDPR 7(1), 5(1)(e))
    RECORD_TERM = "record_term"


@dataclass(frozen=True, slots=True)
class Due:
    """When a person's faces must be destroyed, and by which rule."""

    at: datetime
    rule: DueRule


def due(
    *, last_interaction: datetime, ended: datetime | None, granted: datetime, retention_days: int
) -> Due:
    """Return the earliest moment at which destruction falls due (BIPA 15(a)).

    ======================================  ====================================================
    consents run on (``ended`` None)        the notice's term or three years, the earlier
    moments out of order                    the earliest wins all the same: nothing is kept longer
    two rules give one moment               the first in `DueRule`'s order is named
    29 February, three years on             28 February: the earlier day
    ======================================  ====================================================

    Args:
        last_interaction: when the person last did something: consented, renewed, came to a kiosk.
        ended: when the last of all consents ended, by withdrawal, refusal or expiry; None while
            one runs.
        granted: when the faces' consent was last given; its notice's term counts from here.
        retention_days: the notice's term, at least 1.

    Raises:
        MalformedError: a moment without time zone or after the year 9000, or a term that is no
            whole number of days from 1 to `LONGEST_DAYS`.

    """
    for moment in (last_interaction, ended, granted):
        if moment is not None and (
            not isinstance(moment, datetime)
            or moment.utcoffset() is None
            or moment.year > _LAST_YEAR
        ):
            raise MalformedError(f"got {moment!r}, want a moment with a time zone (UTC)")
    if type(retention_days) is not int or not 1 <= retention_days <= LONGEST_DAYS:
        raise MalformedError(
            f"got a retention of {retention_days!r}, want 1 to {LONGEST_DAYS} days"
        )
    moments = [] if ended is None else [Due(ended, DueRule.PURPOSE_SATISFIED)]
    moments.append(Due(granted + timedelta(days=retention_days), DueRule.NOTICE_TERM))
    moments.append(Due(_three_years_after(last_interaction), DueRule.LAST_INTERACTION))
    return min(moments, key=lambda found: found.at)


def _three_years_after(moment: datetime) -> datetime:
    try:
        return moment.replace(year=moment.year + _INTERACTION_YEARS)
    except ValueError:  # 29 February
        return moment.replace(year=moment.year + _INTERACTION_YEARS, day=28)


def record_due(ended: datetime) -> Due:
    """Return when the record of a consent falls due: `SCHEDULE`'s term after the consent ended.

    Args:
        ended: when the last of all consents ended; of someone who was only asked, the last answer.

    """
    return Due(ended + timedelta(days=SCHEDULE[Kept.CONSENT_RECORD].days), DueRule.RECORD_TERM)


check_schedule(SCHEDULE)  # a schedule that does not hold must not be imported
