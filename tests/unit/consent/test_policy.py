from __future__ import annotations

import math
from datetime import timedelta

import pytest

from privemo_consent import AgeBand, ConsentStatus, Role, Setting
from privemo_consent.errors import MalformedError, ValidityRefused
from privemo_consent.policy import (
    AGE_OF_CONSENT,
    CHALLENGE_AGE,
    MAX_VALIDITY,
    TRANSITIONS,
    AgeRule,
    age_of_consent,
    age_rule,
    check_challenge_age,
    check_validity,
    is_staff,
    is_wrong_context,
)


def test_national_ages_lie_where_gdpr_8_allows() -> None:
    assert set(AGE_OF_CONSENT.values()) <= {13, 14, 15, 16}
    assert len(AGE_OF_CONSENT) >= 30
    assert (age_of_consent("IE"), age_of_consent("US-IL"), age_of_consent("ZZ")) == (16, 13, 16)


@pytest.mark.parametrize(
    ("band", "where", "rule"),
    [
        (AgeBand.UNDER_13, "US", AgeRule.BELOW_NATIONAL_AGE),
        (AgeBand.FROM_13, "US", AgeRule.MINOR_NEVER_READ),
        (AgeBand.FROM_13, "IE", AgeRule.BELOW_NATIONAL_AGE),
        (AgeBand.FROM_13, "FR", AgeRule.BELOW_NATIONAL_AGE),
        (AgeBand.FROM_16, "IE", AgeRule.MINOR_NEVER_READ),
        (AgeBand.FROM_16, "ZZ", AgeRule.MINOR_NEVER_READ),
        (AgeBand.UNKNOWN, "IE", AgeRule.UNKNOWN_AGE),
        (AgeBand.FROM_18, "IE", None),
        (AgeBand.FROM_65, "ZZ", None),
    ],
)
def test_which_rule_refuses_an_age(band: AgeBand, where: str, rule: AgeRule | None) -> None:
    assert age_rule(band, where) is rule


@pytest.mark.parametrize("where", [*AGE_OF_CONSENT, "ZZ"])
def test_no_minor_passes_anywhere(where: str) -> None:
    for band in AgeBand:
        assert (age_rule(band, where) is None) is band.is_adult


@pytest.mark.parametrize(
    "term",
    [
        timedelta(0),
        timedelta(days=-1),
        MAX_VALIDITY + timedelta(microseconds=1),
        timedelta.max,
        None,
        math.inf,
        365,
    ],
)
def test_a_term_is_finite_and_real(term: object) -> None:
    with pytest.raises(ValidityRefused, match="validity"):
        check_validity(term)  # type: ignore[arg-type]


def test_the_longest_term_is_allowed() -> None:
    check_validity(MAX_VALIDITY)


@pytest.mark.parametrize("age", [17.999, 0, -5, math.nan, math.inf, "25", None, True])
def test_the_challenge_age_is_never_below_eighteen(age: object) -> None:
    with pytest.raises(MalformedError, match="challenge age"):
        check_challenge_age(age)  # type: ignore[arg-type]


def test_the_challenge_age_may_be_raised() -> None:
    assert [check_challenge_age(age) for age in (18, CHALLENGE_AGE, 40)] == [18.0, 25.0, 40.0]


def test_only_shoppers_in_shops() -> None:
    # EU AI Act 5(1)(f)
    assert [role for role in Role if not is_staff(role)] == [Role.SHOPPER]
    assert [place for place in Setting if not is_wrong_context(place)] == [Setting.RETAIL]


def test_no_step_leads_to_a_live_state_without_a_yes() -> None:
    live = {ConsentStatus.GIVEN, ConsentStatus.RENEWED}
    assert not TRANSITIONS[ConsentStatus.GIVEN] & live
    # a renewal renews something: never a refusal, a withdrawal, or nothing
    assert TRANSITIONS[ConsentStatus.RENEWED] == live | {ConsentStatus.EXPIRED}
    for ending in (ConsentStatus.WITHDRAWN, ConsentStatus.REVOKED, ConsentStatus.INVALIDATED):
        assert live <= TRANSITIONS[ending], "a live consent can always end"
