"""What a policy would have earned that was never shown, from the sums alone.

With reactions r to what was shown with probability p, and a policy that shows arm a in situation x with
probability pi(a|x), the mean of pi r / p is an unbiased estimate of what the policy earns (inverse
propensity score, IPS). Its self-normalised form (SNIPS) divides by the mean of pi / p, and is steadier and
a little biased. The doubly robust estimate (DR) adds pi (r - q) / p to a prediction that q makes of the
policy, and is unbiased whatever q is. All means and variances are polynomials in the seven sums of a cell,
so they are exactly those of the single reactions, which nobody keeps.

Intervals are normal ones. They assume independent reactions and some dozens of them. Probabilities that
depended on earlier reactions do no harm to the means; to the intervals little, because none is ever near 0.

Sources: Horvitz and Thompson (1952), JASA 47; Swaminathan and Joachims (2015), NeurIPS 28; Dudik, Langford
and Li (2011), ICML; learned on one half and judged on the other as in Chernozhukov et al. (2018),
Econometrics Journal 21.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privemo.errors import DataError

from .bandit import Bandit
from .policy import SHOP_ORDER, AdaptationPolicy
from .sums import HALVES, Sums

__all__ = ["Estimate", "Evaluation", "doubly_robust", "evaluate", "ips", "snips"]

LEVEL = 0.95
Cells = Mapping[str, NDArray[np.float64]]
Shows = Callable[[str], Mapping[str, float]]
Predicts = Callable[[str], float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimated mean reward, and its doubt.

    Attributes:
        value: the estimate.
        low, high: 95% interval; infinite where fewer than two reactions are there.
        n: reactions.
    """

    value: float
    low: float
    high: float
    n: float

    @classmethod
    def of(cls, value: float, variance: float, n: float) -> Estimate:
        """From the mean of n independent values, and their variance."""
        if n < 2:
            return cls(value, -math.inf, math.inf, n)
        half = NormalDist().inv_cdf((1 + LEVEL) / 2) * math.sqrt(max(0.0, variance) / n)
        return cls(value, value - half, value + half, n)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a learned policy would earn, beside the shop's order.

    Attributes:
        reactions: that were judged on.
        shop: always the shop's order (DR).
        learned: the policy as it is learned (IPS, SNIPS, DR).
        gain: learned less shop (DR), with an interval of its own.
    """

    reactions: float
    shop: Estimate
    learned_ips: Estimate
    learned_snips: Estimate
    learned: Estimate
    gain: Estimate

    @property
    def verdict(self) -> str:
        """One word of what the interval of the gain says: "better", "worse" or "unclear"."""
        if self.gain.low > 0:
            return "better"
        return "worse" if self.gain.high < 0 else "unclear"

    def content(self) -> dict[str, Any]:
        """As JSON; an infinite bound is None."""

        def plain(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: plain(each) for name, each in value.items()}
            return None if isinstance(value, float) and math.isinf(value) else value

        told: dict[str, Any] = plain(asdict(self))
        return {"schema": "privemo.recommend-evaluation/1", **told, "verdict": self.verdict}


def _rows(cells: Cells, shows: Shows) -> list[tuple[str, str, float, list[float]]]:
    found, known = [], dict[str, Mapping[str, float]]()
    for name, sums in cells.items():
        kind, _, arm = name.rpartition("/")
        if kind not in known:
            known[kind] = shows(kind)
        found.append((kind, name, known[kind].get(arm, 0.0), [float(s) for s in sums]))
    return found


def _count(cells: Cells) -> float:
    n = math.fsum(float(sums[0]) for sums in cells.values())
    if n <= 0:
        raise DataError("there are no reactions to judge from yet: show, learn, and come back")
    return n


def _spread(total: float, squares: float, n: float) -> Estimate:
    mean = total / n
    return Estimate.of(mean, (squares - n * mean**2) / (n - 1) if n > 1 else math.inf, n)


def ips(cells: Cells, shows: Shows) -> Estimate:
    """Inverse propensity score. `shows` may be the difference of two policies.

    Raises:
        DataError: there are no reactions.
    """
    n, rows = _count(cells), _rows(cells, shows)
    total = math.fsum(pi * s[3] for _, _, pi, s in rows)
    return _spread(total, math.fsum(pi**2 * s[6] for _, _, pi, s in rows), n)


def snips(cells: Cells, shows: Shows) -> Estimate:
    """Self-normalised; its variance by the delta method.

    Raises:
        DataError: there are no reactions, or none to anything that the policy shows.
    """
    n, rows = _count(cells), _rows(cells, shows)
    weight = math.fsum(pi * s[2] for _, _, pi, s in rows)
    if weight <= 0:
        raise DataError("nothing that the policy shows was ever shown: it cannot be judged")
    value = math.fsum(pi * s[3] for _, _, pi, s in rows) / weight
    squares = math.fsum(pi**2 * (s[6] - 2 * value * s[5] + value**2 * s[4]) for _, _, pi, s in rows)
    return Estimate.of(value, squares / n / (weight / n) ** 2, n)


def doubly_robust(cells: Cells, shows: Shows, predicts: Predicts) -> Estimate:
    """Doubly robust, with a prediction of each cell's mean. `shows` may be the difference of two policies.

    `predicts` must not be learned from the same reactions: then the estimate is unbiased.

    Raises:
        DataError: there are no reactions.
    """
    n, (total, squares) = _count(cells), _robust_sums(cells, shows, predicts)
    return _spread(total, squares, n)


def _robust_sums(cells: Cells, shows: Shows, predicts: Predicts) -> tuple[float, float]:
    totals, squares, direct = [], [], dict[str, float]()
    for kind, name, pi, s in _rows(cells, shows):
        if kind not in direct:
            direct[kind] = math.fsum(
                p * predicts(f"{kind}/{arm}") for arm, p in shows(kind).items()
            )
        d, q = direct[kind], predicts(name)
        rest = pi * (s[3] - q * s[2])  # sum of pi (r - q) / p
        totals.append(s[0] * d + rest)
        squares.append(s[0] * d**2 + 2 * d * rest + pi**2 * (s[6] - 2 * q * s[5] + q**2 * s[4]))
    return math.fsum(totals), math.fsum(squares)


def evaluate(policy: AdaptationPolicy, sums: Sums) -> Evaluation:
    """Judge what would be learned: learned on each half, judged on the other.

    Raises:
        DataError: there are no reactions in one of the halves.
        MissingExtra: Vowpal Wabbit is not installed.
    """
    parts = []
    for half in range(HALVES):
        model = Bandit(policy, sums.half(1 - half))
        parts.append((sums.half(half), model))

    def shop(_kind: str) -> dict[str, float]:
        return {SHOP_ORDER: 1.0}

    def gained(model: Bandit) -> Shows:
        return lambda kind: {
            arm: p - (arm == SHOP_ORDER) for arm, p in model.probabilities(kind).items()
        }

    return Evaluation(
        reactions=math.fsum(_count(cells) for cells, _ in parts),
        shop=_joined([doubly_robust(cells, shop, m.estimate) for cells, m in parts]),
        learned_ips=_joined([ips(cells, m.probabilities) for cells, m in parts]),
        learned_snips=_joined([snips(cells, m.probabilities) for cells, m in parts]),
        learned=_joined([doubly_robust(cells, m.probabilities, m.estimate) for cells, m in parts]),
        gain=_joined([doubly_robust(cells, gained(m), m.estimate) for cells, m in parts]),
    )


def _joined(parts: list[Estimate]) -> Estimate:
    """The estimate of all reactions together, of those of independent parts."""
    n = math.fsum(part.n for part in parts)
    value = math.fsum(part.n * part.value for part in parts) / n
    if any(math.isinf(part.high) for part in parts):
        return Estimate(value, -math.inf, math.inf, n)
    half = math.sqrt(math.fsum((part.n * (part.high - part.value)) ** 2 for part in parts)) / n
    return Estimate(value, value - half, value + half, n)
