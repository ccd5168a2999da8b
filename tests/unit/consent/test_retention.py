"""Every kept thing has a term; faces fall due at the earliest of three moments."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from privemo_consent.errors import MalformedError, ValidityRefused
from privemo_consent.retention import (
    LONGEST_DAYS,
    MIN_LOG_DAYS,
    SCHEDULE,
    DueRule,
    Kept,
    Term,
    check_schedule,
    due,
)

DAY = timedelta(days=1)
GRANTED = datetime(2026, 3, 1, 9, tzinfo=UTC)


def test_the_schedule_holds_and_names_a_source_for_each_kind() -> None:
    check_schedule(SCHEDULE)
    assert set(SCHEDULE) == set(Kept)
    assert all(term.clause and term.since and term.reason for term in SCHEDULE.values())


def test_what_proves_a_consent_outlives_it() -> None:
    # The longest consent (`policy.MAX_VALIDITY`, 2 years) and the years its record is kept.
    from privemo_consent.policy import MAX_VALIDITY

    record = SCHEDULE[Kept.CONSENT_RECORD].days
    assert SCHEDULE[Kept.LOG_LEAF].days >= MAX_VALIDITY.days + record
    assert SCHEDULE[Kept.FACE].days <= record


def term(**changes: Any) -> Term:
    return Term(**({"days": 365, "since": "then", "clause": "a law", "reason": "so"} | changes))


@pytest.mark.parametrize("kind", Kept)
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        # COPPA 312.10: an endless term is none.
        ({"days": math.inf}, "endless"),
        ({"days": None}, "endless"),
        ({"days": LONGEST_DAYS + 1}, "endless"),
        ({"days": 0}, "want 1 to"),
        ({"days": -1}, "want 1 to"),
        ({"days": True}, "want 1 to"),
        ({"days": 30.5}, "want 1 to"),
        ({"clause": " "}, "its clause"),
        ({"since": ""}, "counts from"),
    ],
)
def test_a_schedule_with_a_term_that_is_none_is_refused(
    kind: Kept, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValidityRefused, match=rf"{kind.value}.*{reason}"):
        check_schedule(dict(SCHEDULE) | {kind: term(**changes)})


@pytest.mark.parametrize("kind", Kept)
def test_a_kind_without_a_term_is_refused(kind: Kept) -> None:
    rest = {other: SCHEDULE[other] for other in Kept if other is not kind}
    with pytest.raises(ValidityRefused, match=kind.value):
        check_schedule(rest)


@pytest.mark.parametrize("kind", [Kept.LOG_LEAF, Kept.USE_RECORD])
def test_logs_stay_six_months(kind: Kept) -> None:
    # AI Act 19(1), 26(6)
    with pytest.raises(ValidityRefused, match="at least 183"):
        check_schedule(dict(SCHEDULE) | {kind: term(days=MIN_LOG_DAYS - 1)})
    check_schedule(dict(SCHEDULE) | {kind: term(days=MIN_LOG_DAYS)})


@pytest.mark.parametrize(
    ("asked", "at", "rule"),
    [
        # the notice's term, while consent runs
        ({}, GRANTED + 365 * DAY, DueRule.NOTICE_TERM),
        ({"retention_days": 1}, GRANTED + DAY, DueRule.NOTICE_TERM),
        # all consents ended: at once
        ({"ended": GRANTED + DAY}, GRANTED + DAY, DueRule.PURPOSE_SATISFIED),
        ({"ended": GRANTED}, GRANTED, DueRule.PURPOSE_SATISFIED),
        # an end after the notice's term changes nothing
        ({"ended": GRANTED + 400 * DAY}, GRANTED + 365 * DAY, DueRule.NOTICE_TERM),
        # three years without the person; renewals moved the notice's term beyond
        (
            {"granted": GRANTED, "retention_days": 1098},
            datetime(2029, 3, 1, 9, tzinfo=UTC),
            DueRule.LAST_INTERACTION,
        ),
        (
            {"last_interaction": datetime(2024, 2, 29, 12, tzinfo=UTC), "retention_days": 1000},
            datetime(2027, 2, 28, 12, tzinfo=UTC),
            DueRule.LAST_INTERACTION,
        ),
        # two rules at one moment: the first is named
        ({"ended": GRANTED + 365 * DAY}, GRANTED + 365 * DAY, DueRule.PURPOSE_SATISFIED),
        # moments out of order: the earliest wins
        ({"ended": GRANTED - DAY}, GRANTED - DAY, DueRule.PURPOSE_SATISFIED),
    ],
)
def test_when_faces_fall_due(asked: dict[str, Any], at: datetime, rule: DueRule) -> None:
    # BIPA 15(a)
    arguments: dict[str, Any] = {
        "last_interaction": GRANTED,
        "ended": None,
        "granted": GRANTED,
        "retention_days": 365,
    }
    found = due(**(arguments | asked))
    assert (found.at, found.rule) == (at, rule)


def test_other_zones_name_the_same_moment() -> None:
    there = timezone(timedelta(hours=9))
    found = due(
        last_interaction=GRANTED,
        ended=(GRANTED + DAY).astimezone(there),
        granted=GRANTED.astimezone(there),
        retention_days=1,
    )
    assert (found.at, found.rule) == (GRANTED + DAY, DueRule.PURPOSE_SATISFIED)


@pytest.mark.parametrize("field", ["last_interaction", "ended", "granted"])
@pytest.mark.parametrize(
    "value", [datetime(2026, 3, 1), datetime(9999, 12, 31, tzinfo=UTC), 0, "2026-03-01"]
)
def test_a_moment_is_one(field: str, value: object) -> None:
    moments: dict[str, Any] = {"last_interaction": GRANTED, "ended": None, "granted": GRANTED}
    with pytest.raises(MalformedError, match="time zone"):
        due(**(moments | {field: value}), retention_days=365)


@pytest.mark.parametrize("days", [0, -1, None, math.inf, 30.5, True, LONGEST_DAYS + 1])
def test_a_term_is_finite(days: Any) -> None:
    with pytest.raises(MalformedError, match="retention"):
        due(last_interaction=GRANTED, ended=None, granted=GRANTED, retention_days=days)
