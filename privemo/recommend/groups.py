"""Who gains: every group of shoppers alike? Nothing that ranks could ask, since it knows no groups.

For each age band and each gender: what its shoppers gain over the shop's order, and how far that is from
what all others gain, in the same repetitions. An adaptation that suits most people can be worth nothing to
a group that is misread more often, and can do harm to one whose tastes go the other way. Intervals are over
repetitions; those of the differences, and all verdicts, are widened for the number of groups (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

__all__ = ["by_group", "interval", "student"]

LEVEL = 0.95


def by_group(repetitions: Sequence[dict[str, float]]) -> list[dict[str, Any]]:
    """Gains by group.

    Args:
        repetitions: of each the mean gain of every group, and of all others under "not GROUP".

    Returns: For each group: `group`, its `gain`, the `difference` to all others, and a `verdict`: "worse
        off" when its own gain is surely negative; else "behind" or "ahead" of the others when surely so;
        else "no difference shown".
    """
    names = sorted(name for name in repetitions[0] if not name.startswith("not "))
    level = 1 - (1 - LEVEL) / len(names)
    found = []
    for name in names:
        gain = interval([each[name] for each in repetitions])
        apart = interval([each[name] - each[f"not {name}"] for each in repetitions], level)
        verdict = "no difference shown"
        if interval([each[name] for each in repetitions], level)["high"] < 0:
            verdict = "worse off"
        elif apart["high"] < 0:
            verdict = "behind"
        elif apart["low"] > 0:
            verdict = "ahead"
        found.append({"group": name, "gain": gain, "difference": apart, "verdict": verdict})
    return found


def interval(values: Sequence[float], level: float = LEVEL) -> dict[str, float]:
    """Mean and interval by Student's t, of at least five independent values."""
    n = len(values)
    mean = math.fsum(values) / n
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = student(n - 1, level) * deviation / math.sqrt(n)
    return {"mean": mean, "low": mean - half, "high": mean + half}


def student(freedom: int, level: float = LEVEL) -> float:
    """Student's t, two-sided: at 95% right to two in a thousand from four degrees of freedom on.

    Source:
        Abramowitz and Stegun (1964), 26.7.5: no scipy on a small computer.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / freedom**power for power, term in enumerate(terms, 1))
