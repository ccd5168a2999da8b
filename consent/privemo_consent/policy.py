"""Who may consent to what, as data with its sources; pure functions, no state.

This is engineering, not legal advice. privemo refuses every minor in every jurisdiction, so the
national ages below never open a door: they only say which rule refused (REQUIREMENTS 15).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType

from .errors import MalformedError, ValidityRefused
from .jurisdictions import STRICTEST_AGE_OF_CONSENT, age_of_consent, jurisdictions
from .terms import AgeBand, ConsentStatus, Role, Setting

__all__ = [
    "ADULT_AGE",
    "AGE_OF_CONSENT",
    "CHALLENGE_AGE",
    "MAX_VALIDITY",
    "STRICTEST_AGE_OF_CONSENT",
    "TRANSITIONS",
    "AgeRule",
    "age_of_consent",
    "age_rule",
    "check_challenge_age",
    "check_validity",
    "covers",
    "is_staff",
    "is_wrong_context",
    "status_at",
]

ADULT_AGE = 18
#: A face that looks younger than this is a suspected minor's. Retail practice for age-restricted
#: goods ("Challenge 25"): an estimator errs by years, so the line stands well above 18.
CHALLENGE_AGE = 25.0
#: No consent outlives this without renewal (DPV guide 8.5.4 asks a finite term; two years is ours).
MAX_VALIDITY = timedelta(days=2 * 366)

#: The age from which a child consents alone to information-society services, by country: GDPR 8(1)
#: and the national laws under it; for the US, COPPA (16 CFR 312). Each with its source in
#: `jurisdictions`.
AGE_OF_CONSENT: Mapping[str, int] = MappingProxyType(
    {place.code: place.age_of_consent for place in jurisdictions() if len(place.code) == 2}
)

_LOWEST_AGE = {AgeBand.UNDER_13: 0, AgeBand.FROM_13: 13, AgeBand.FROM_16: 16}


class AgeRule(StrEnum):
    """Which rule refused a person by age; kept with the count, never with the person."""

    #: no answer, or none understood: treated as a child's (AADC 3)
    UNKNOWN_AGE = "unknown_age"
    #: below the national age a guardian would have to consent (GDPR 8); privemo asks no guardian
    BELOW_NATIONAL_AGE = "below_national_age"
    #: old enough for the national law, still a minor: privemo never reads minors (AADC 7, 9, 12)
    MINOR_NEVER_READ = "minor_never_read"


def age_rule(age_band: AgeBand, jurisdiction: str) -> AgeRule | None:
    """Return the rule that refuses this age band, or None for an adult.

    A band counts as below the national age when any age in it is.
    """
    if age_band.is_adult:
        return None
    if not age_band.is_minor:
        return AgeRule.UNKNOWN_AGE
    if _LOWEST_AGE[age_band] < age_of_consent(jurisdiction):
        return AgeRule.BELOW_NATIONAL_AGE
    return AgeRule.MINOR_NEVER_READ


def is_staff(role: Role) -> bool:
    """EU AI Act 5(1)(f): emotions of workers and students are not inferred."""
    return role is not Role.SHOPPER


def is_wrong_context(setting: Setting) -> bool:
    """EU AI Act 5(1)(f): not in areas of workplace and education."""
    return setting is not Setting.RETAIL


def check_validity(valid_for: timedelta) -> None:
    """Hold a term to DPV guide 8.5.4: finite, and neither empty nor longer than `MAX_VALIDITY`.

    Raises:
        ValidityRefused: it is not.

    """
    if not isinstance(valid_for, timedelta) or not timedelta(0) < valid_for <= MAX_VALIDITY:
        raise ValidityRefused(
            f"got a validity of {valid_for!r}, want more than nothing and at most "
            f"{MAX_VALIDITY.days} days: an endless consent is no consent (DPV guide 8.5.4)"
        )


def check_challenge_age(age: float) -> float:
    """Return the challenge age in years when it is one: finite and at least `ADULT_AGE`.

    Raises:
        MalformedError: it is not; a lower line would admit minors.

    """
    if isinstance(age, bool) or not isinstance(age, (int, float)) or not math.isfinite(age):
        raise MalformedError(f"got challenge age {age!r}, want a number of years")
    if age < ADULT_AGE:
        raise MalformedError(
            f"got challenge age {age}, want at least {ADULT_AGE}: it may be raised, not lowered"
        )
    return float(age)


_S = ConsentStatus
_NOT_LIVE = frozenset(_S) - {_S.GIVEN, _S.RENEWED}
_ONCE_LIVE = frozenset({_S.GIVEN, _S.RENEWED, _S.EXPIRED})
#: From which states each state may be reached; ``None`` is "no record yet". A live consent whose
#: term is over counts as ``ConsentExpired`` here, with or without an event that says so. The states
#: and what each means are DPV's (guide to 27560, 8.5.2); which steps a record can take is ours:
#:
#: - nobody is asked while their consent is live: the request would end it; they renew instead;
#: - only a request that stands open can be put off (DPV: a notice dismissed without an answer);
#: - a yes, a no and a request are open to whoever has no live consent, whatever came before:
#:   people may change their minds (GDPR 7(3));
#: - what ends a consent needs one to end; after it nothing is left to withdraw or revoke;
#: - a record can be found invalid at any time, also before anyone asked (staff; a child's yes);
#: - nothing is ever written as unknown: that is how a record is read that came from elsewhere.
TRANSITIONS: Mapping[ConsentStatus, frozenset[ConsentStatus | None]] = MappingProxyType(
    {
        _S.UNKNOWN: frozenset(),
        _S.REQUESTED: _NOT_LIVE | {None},
        _S.REQUEST_DEFERRED: frozenset({_S.REQUESTED}),
        _S.REFUSED: _NOT_LIVE | {None},
        _S.GIVEN: _NOT_LIVE | {None},
        _S.RENEWED: _ONCE_LIVE,
        _S.EXPIRED: _ONCE_LIVE,
        _S.WITHDRAWN: _ONCE_LIVE,
        _S.REVOKED: _ONCE_LIVE,
        _S.INVALIDATED: frozenset(_S) | {None},
    }
)


def covers(places: Collection[str], jurisdiction: str) -> bool:
    """Return whether a notice for ``places`` serves a jurisdiction: one for US serves US-IL."""
    return jurisdiction in places or jurisdiction.partition("-")[0] in places


def status_at(status: ConsentStatus | None, expires: int, at: int) -> ConsentStatus | None:
    """Return what a record says at a moment: a live state whose term is over counts as expired.

    Args:
        status: the last one recorded; None for none.
        expires: its end, in microseconds.
        at: the moment, in microseconds.

    """
    over = status is not None and status.permits and expires <= at
    return ConsentStatus.EXPIRED if over else status
