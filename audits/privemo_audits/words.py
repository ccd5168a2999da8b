"""Numbers and reasons as the pages write them; a dash stands where a number is not stated."""

from __future__ import annotations

import math
import re

__all__ = [
    "chance",
    "count",
    "epsilon",
    "group",
    "interval",
    "of_a_hundred",
    "percent",
    "plain_number",
    "points",
    "reason_words",
    "span_of_a_hundred",
]

_NONE = "\N{EN DASH}"
_REASONS = {
    "no_record": "had never been asked",
    "not_given": "had not answered yet",
    "refused": "said no",
    "withdrawn": "took their consent back",
    "expired": "had a consent that ran out",
    "wrong_purpose": "had agreed to something else only",
    "minor": "said they are under 18",
    "below_consent_age": "are below the age of consent",
    "unknown_age": "gave no age",
    "suspected_minor": "looked too young",
    "staff": "work or study there",
    "wrong_context": "were in a place where reading emotions is not allowed",
    "notice_changed": "had agreed to an older notice",
    "simulated_in_production": "had a simulated consent only",
    "clock_backwards": "came while the clock was wrong",
    "other_reasons": "had other reasons, each of a few people",
    "registry_unreadable": "came while the consent registry could not be read",
}


def percent(value: float | None, digits: int = 1) -> str:
    """``81.3%``."""
    return _NONE if value is None else f"{value:.{digits}%}"


def interval(value: tuple[float, float] | None, digits: int = 1) -> str:
    """``75.0% to 86.1%``."""
    return _NONE if value is None else f"{value[0]:.{digits}%} to {value[1]:.{digits}%}"


def points(value: tuple[float, float] | None) -> str:
    """The interval of a difference of shares: ``1.2 to 8.9 points``."""
    return _NONE if value is None else f"{100 * value[0]:.1f} to {100 * value[1]:.1f} points"


def epsilon(value: float | None) -> str:
    """``7.934``."""
    return _NONE if value is None else f"{value:.3f}"


def chance(value: float | None) -> str:
    """A p-value; below a thousandth it says so."""
    if value is None:
        return _NONE
    return f"{value:.3f}" if value >= 0.001 else "below 0.001"


def count(value: int | None) -> str:
    """``12,345``."""
    return _NONE if value is None else f"{value:,}"


def span_of_a_hundred(value: tuple[float, float] | None) -> str:
    """An interval likewise, rounded outwards: ``75 to 87``."""
    if value is None:
        return _NONE
    low, high = math.floor(100 * value[0] + 1e-9), math.ceil(100 * value[1] - 1e-9)
    return f"{low} to {high}"


def group(name: str) -> str:
    """A group's name as a person would write it: ``18_24`` gets a dash, ``skin_tone`` a blank."""
    return re.sub(r"(?<=\d)_(?=\d)", _NONE, name).replace("_", " ")


def of_a_hundred(value: float | None) -> str:
    """A share for people who do not read percentages: ``81 of 100``; never 0 or 100 where it is not quite."""
    if value is None:
        return _NONE
    if 0 < value < 0.005:
        return "fewer than 1 of 100"
    if 0.995 <= value < 1:
        return "more than 99 of 100"
    return f"{100 * value:.0f} of 100"


def reason_words(reason: str) -> str:
    """A refusal reason in plain words, after "people who ..."."""
    return _REASONS.get(reason, reason.replace("_", " "))


def plain_number(value: float | None) -> str:
    """A small number without an exponent: 0.00001, not 1e-05."""
    return _NONE if value is None else f"{value:.12f}".rstrip("0").rstrip(".")
