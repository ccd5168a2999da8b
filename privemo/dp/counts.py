"""A count of people that may be published: noised, and charged to their budget first.

Exact counts published twice, before and after somebody joined, say that they did. Here the geometric
mechanism (Ghosh, Roughgarden & Sundararajan 2012) adds an integer z with probability in proportion to
exp(-epsilon |z|): pure epsilon for a number that one person changes by at most 1. Integers from
exact coin tosses (Canonne, Kamath & Steinke 2020, arXiv 2004.00010, algorithms 1 and 2) leave nothing to
the low bits of floating-point numbers.

For counts of people. Faces are no such thing: one person may have many.
"""

from __future__ import annotations

import secrets
from fractions import Fraction
from typing import TYPE_CHECKING

from privemo.errors import SettingsError
from privemo.releases import Stated

if TYPE_CHECKING:
    from privemo.budget import Budget

__all__ = ["coin", "noised_count"]

_FINEST = 1000  # epsilon is taken down to a thousandth, so that coins stay short


def noised_count(
    count: int,
    *,
    epsilon: float,
    budget: Budget,
    what: str,
    epsilon_budget: float,
    delta: float,
    accountant: str = "rdp",
) -> int:
    """A count of people plus noise, possibly negative; 95% lie within about 3 / epsilon.

    Args:
        count: how many people; each counted once.
        epsilon: what this count may cost each of them; down to a thousandth is used.
        budget: file that is charged before the number is returned.
        what: was counted, in a few words.
        epsilon_budget: most that any of these people may lose altogether.
        delta: probability with which that may fail; the count itself uses none of it.
        accountant: `rdp` or `prv`.

    Raises:
        BudgetExhausted: the count does not fit into what is left; nothing was charged.
        LedgerError: the budget file is damaged or cannot be written.
        SettingsError: epsilon is below a thousandth, or above 1,000.
    """
    thousandths = int(epsilon * _FINEST) if 0 < epsilon <= 1000 else 0
    if thousandths < 1:
        raise SettingsError(f"A count costs an epsilon of 0.001 to 1000, not {epsilon}.")
    cost = Stated(thousandths / _FINEST)
    budget.state(what, cost, epsilon=epsilon_budget, delta=delta, accountant=accountant)
    return count + _geometric(Fraction(thousandths, _FINEST))


def _geometric(epsilon: Fraction) -> int:
    """An integer z with probability in proportion to exp(-epsilon |z|)."""
    while True:
        size, negative = _tail(epsilon), secrets.randbelow(2) == 1
        if size or not negative:  # zero has one sign
            return -size if negative else size


def _tail(epsilon: Fraction) -> int:
    """An integer k >= 0 with probability in proportion to exp(-epsilon k)."""
    s, t = epsilon.numerator, epsilon.denominator
    while True:
        u = secrets.randbelow(t)
        if coin(Fraction(u, t)):
            break
    v = 0
    while coin(Fraction(1)):
        v += 1
    return (u + t * v) // s


def coin(gamma: Fraction) -> bool:
    """Heads with probability exp(-gamma), for gamma >= 0, from fair integers alone."""
    while gamma > 1:  # all of several coins
        if not coin(Fraction(1)):
            return False
        gamma -= 1
    k = 1
    while secrets.randbelow(gamma.denominator * k) < gamma.numerator:
        k += 1
    return k % 2 == 1
