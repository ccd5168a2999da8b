"""What right guesses about who took part prove of epsilon.

Steinke, Nasr & Jagielski 2023 (arXiv 2305.08846).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

__all__ = ["GUESSED", "LARGEST", "chance_of_guessing", "epsilon_of_guesses", "guessed"]

GUESSED = (0.1, 0.3, 1.0)
"""Shares of the people whom guesses are made about; chosen beforehand, so each costs a part of the 5%."""

LARGEST = 60.0


def chance_of_guessing(
    persons: int, guesses: int, right: int, epsilon: float, delta: float
) -> float:
    """Most that (epsilon, delta) leaves anybody of guessing so many right (arXiv 2305.08846).

    Args:
        persons: whose coins were thrown.
        guesses: how many of them were guessed about.
        right: of these.
        epsilon: bound of the mechanism.
        delta: likewise.
    """
    truth = 1 / (1 + math.exp(-epsilon))
    # How far below `right` a binomial may fall and still be lifted to it by mechanisms that fail with delta.
    below = np.arange(1, right + 1)
    between = np.cumsum(binom.pmf(right - below, guesses, truth))
    worst = float((between / below).max(initial=0.0))
    return min(1.0, float(binom.sf(right - 1, guesses, truth)) + 2 * persons * delta * worst)


def epsilon_of_guesses(persons: int, guesses: int, right: int, delta: float, alpha: float) -> float:
    """The largest epsilon that so many right guesses refute; 0 where they refute none."""
    low, high = 0.0, LARGEST
    if chance_of_guessing(persons, guesses, right, low, delta) > alpha:
        return 0.0
    for _ in range(50):
        middle = (low + high) / 2
        if chance_of_guessing(persons, guesses, right, middle, delta) <= alpha:
            low = middle
        else:
            high = middle
    return low


def guessed(
    scores: NDArray[np.float64], took_part: NDArray[np.bool_], share: float
) -> tuple[int, int]:
    """Guesses and right ones: "took part" of the highest scores, "did not" of the lowest."""
    half = max(1, int(share * len(scores) / 2))
    part = took_part[np.argsort(scores, kind="stable")]
    return 2 * half, int(part[-half:].sum() + (~part[:half]).sum())
