"""Proportions of noised counts: intervals that reckon with the people drawn and with the noise, both at once.

Right and wrong answers are noised sums, r and w, of unknown people. If p is the true accuracy, then
(1 - p) r - p w is zero on average, whatever the group's size, and its variance is

    n p (1 - p)  +  (1 - p)^2 Var(noise of r)  +  p^2 Var(noise of w)

of chance and of noise. The interval holds every p under which what was seen lies within its usual deviations:
Fieller's interval of a ratio (1954, Journal of the Royal Statistical Society B 16), which without noise is
Wilson's (1927). Half a person is added as Yates' correction. Where even the size is unknown, everything from
0 to 1 may be true, and the interval says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .intervals import ALPHA, Interval

__all__ = ["Noisy", "deviations", "difference_of"]

_GRID = np.linspace(0.0, 1.0, 2001)


@dataclass(frozen=True)
class Noisy:
    """A noised number of right answers, and one of wrong ones.

    Attributes:
        right, wrong: as they came, possibly negative.
        right_variance, wrong_variance: of the noise in each; the two are independent.
    """

    right: int
    wrong: int
    right_variance: float
    wrong_variance: float

    @property
    def people(self) -> int:
        """All, as noised."""
        return self.right + self.wrong

    @property
    def spread(self) -> float:
        """Standard deviation of the noise in `people`."""
        return math.sqrt(self.right_variance + self.wrong_variance)

    @property
    def share(self) -> float | None:
        """Right answers over all, within 0 and 1; None where nobody seems to be there."""
        return min(1.0, max(0.0, self.right / self.people)) if self.people > 0 else None

    def at_least(self, alpha: float) -> float:
        """So many people are there at least, with a chance of alpha to be wrong."""
        return self.people - deviations(2 * alpha) * self.spread

    def interval(self, alpha: float = ALPHA) -> Interval:
        """Interval of the true share, which misses it in alpha of all cases at most."""
        if self.people <= 0:  # two negative numbers have a ratio as well, which says nothing
            return (0.0, 1.0)
        z, p = deviations(alpha), _GRID
        people = (
            max(self.people, 1) + self.spread
        )  # more people, more that chance may do: never too narrow
        seen = np.abs((1 - p) * self.right - p * self.wrong)
        noise = (1 - p) ** 2 * self.right_variance + p**2 * self.wrong_variance
        holds = np.maximum(seen - 0.5, 0.0) <= z * np.sqrt(people * p * (1 - p) + noise)
        found = np.flatnonzero(holds)
        if not found.size:  # r or w is far below zero: nothing fits, so nothing is known
            return (0.0, 1.0)
        step = float(p[1])
        low, high = float(p[found[0]]), float(p[found[-1]])
        return (max(0.0, low - step), min(1.0, high + step))


def deviations(alpha: float) -> float:
    """Standard deviations beyond which, to both sides together, a normal number lies with chance alpha."""
    from scipy.stats import norm

    return float(norm.isf(alpha / 2))


def difference_of(high: Noisy, low: Noisy, alpha: float) -> Interval:
    """Interval of the difference of two shares, from their own (Newcombe 1998, method 10)."""
    from .intervals import difference_interval

    p, q = (x.share for x in (high, low))
    if p is None or q is None:
        return (-1.0, 1.0)
    return difference_interval((p, high.interval(alpha)), (q, low.interval(alpha)))
