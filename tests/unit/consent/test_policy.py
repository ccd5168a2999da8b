from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from privemo_consent import AgeBand, ConsentRegistry, ConsentStatus, Purpose, Role, Setting
from privemo_consent.errors import (
    MalformedError,
    TransitionRefused,
    UnknownAgeRefused,
    UnknownPersonError,
    ValidityRefused,
)
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


# Every step a record can take, written by hand: from the row to the column. `.` is refused.
#   U unknown  Q requested  D deferred  F refused  G given
#   E expired  I invalidated  K revoked  W withdrawn  N renewed
STEPS = """
            U Q D F G E I K W N
    none    . Q . F G . I . . .
    U       . Q . F G . I . . .
    Q       . Q D F G . I . . .
    D       . Q . F G . I . . .
    F       . Q . F G . I . . .
    G       . . . . . E I K W N
    E       . Q . F G E I K W N
    I       . Q . F G . I . . .
    K       . Q . F G . I . . .
    W       . Q . F G . I . . .
    N       . . . . . E I K W N
"""
LETTERS = dict(zip("UQDFGEIKWN", ConsentStatus, strict=True))


def steps() -> list[tuple[ConsentStatus | None, ConsentStatus, bool]]:
    rows = [line.split() for line in STEPS.strip().splitlines()]
    found = []
    for row in rows[1:]:
        before = None if row[0] == "none" else LETTERS[row[0]]
        for letter, cell in zip(rows[0], row[1:], strict=True):
            assert cell in (".", letter)
            found.append((before, LETTERS[letter], cell == letter))
    return found


def test_the_table_of_steps_is_whole() -> None:
    assert set(TRANSITIONS) == set(ConsentStatus)
    assert len({(before, after) for before, after, _ in steps()}) == 11 * 10


@pytest.mark.parametrize(("before", "after", "allowed"), steps())
def test_a_record_takes_the_steps_of_the_table_and_no_other(
    before: ConsentStatus | None, after: ConsentStatus, allowed: bool
) -> None:
    assert (before in TRANSITIONS[after]) is allowed


T = (Purpose.TRAINING,)
ASK: dict[str, Callable[[ConsentRegistry, str, dict[str, Any]], object]] = {
    "Q": lambda r, who, yes: r.request(who, T, **yes),
    "D": lambda r, who, yes: r.defer(who, T),
    "F": lambda r, who, yes: r.refuse(who, T, **yes),
    "G": lambda r, who, yes: r.grant(who, T, valid_for=timedelta(days=10), **yes),
    "I": lambda r, who, yes: r.grant(who, T, **yes | {"age_band": AgeBand.UNKNOWN}),
    "K": lambda r, who, yes: r.revoke(who, T),
    "W": lambda r, who, yes: r.withdraw(who, T),
    "N": lambda r, who, yes: r.renew(who, T, valid_for=timedelta(days=10)),
}
#: How a person comes to each state; E by time alone.
ROADS = {"none": "", "Q": "Q", "D": "QD", "F": "F", "G": "G", "E": "G", "I": "GI"}
ROADS |= {"K": "GK", "W": "GW", "N": "GN"}


def outcome(before: str, asked: str) -> str:
    """What the registry has to answer: the state that stands afterwards, or the error."""
    if before == "none" and asked in "DKWN":
        return "UnknownPersonError"
    if asked == "I":  # no age told ends what was given, and leaves no record of its own
        return "I" if before in "GEN" else before
    if asked == "F" and before in "GN":
        return "W"  # a no is a no
    if asked == "W" and before not in "GEN":
        return before  # nothing to withdraw: no event, no error
    allowed = (None if before == "none" else LETTERS[before]) in TRANSITIONS[LETTERS[asked]]
    return asked if allowed else "TransitionRefused"


def last_state(registry: ConsentRegistry, person: str) -> str:
    events = registry.history(person) if person in registry.persons() else ()
    letters = {status: letter for letter, status in LETTERS.items()}
    return letters[events[-1].status] if events else "none"


@pytest.mark.parametrize("before", ROADS)
def test_the_registry_takes_no_other_step(
    registry: ConsentRegistry, clock: Any, yes: Any, before: str
) -> None:
    for person in ASK:
        for step in ROADS[before]:
            with suppress(UnknownAgeRefused):
                ASK[step](registry, person, yes())
    if before == "E":
        clock.forward(days=11)
    for asked in ASK:
        stood = last_state(registry, asked)
        assert stood == ("G" if before == "E" else before)
        try:
            ASK[asked](registry, asked, yes())
            got = last_state(registry, asked)
        except UnknownAgeRefused:
            got = last_state(registry, asked)
        except (TransitionRefused, UnknownPersonError) as error:
            got = type(error).__name__
            assert last_state(registry, asked) == stood  # refused, and nothing was written
        wanted = outcome(before, asked)
        assert got == ("G" if wanted == before == "E" else wanted), f"{before} to {asked}"


def test_no_step_can_be_added_at_run_time() -> None:
    with pytest.raises(TypeError):
        TRANSITIONS[ConsentStatus.GIVEN] = frozenset(ConsentStatus)  # type: ignore[index]
    with pytest.raises(TypeError):
        AGE_OF_CONSENT["IE"] = 0  # type: ignore[index]


def test_no_step_leads_to_a_live_state_without_a_yes() -> None:
    live = {ConsentStatus.GIVEN, ConsentStatus.RENEWED}
    assert not TRANSITIONS[ConsentStatus.GIVEN] & live
    # a renewal renews something: never a refusal, a withdrawal, or nothing
    assert TRANSITIONS[ConsentStatus.RENEWED] == live | {ConsentStatus.EXPIRED}
    for ending in (ConsentStatus.WITHDRAWN, ConsentStatus.REVOKED, ConsentStatus.INVALIDATED):
        assert live <= TRANSITIONS[ending], "a live consent can always end"
