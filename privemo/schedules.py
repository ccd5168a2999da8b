"""How sample rate and learning rate change over the rounds of a run. All of it is public."""

from __future__ import annotations

import math
from collections import Counter

from privemo.config import PrivacySettings, RunSettings

__all__ = ["STAGES", "lr_factor", "sample_rate_of", "steps_at_each_rate"]

STAGES = 4
"""Most distinct sample rates in a run: each one costs an accountant a computation of its own."""

_LAST_LR = 0.01


def sample_rate_of(privacy: PrivacySettings, number: int, rounds: int) -> float:
    """The sample rate in round `number` (from 1).

    It grows in equal stages, each as much larger than the one before as the next, and ends at
    `privacy.sample_rate`: noise of a large batch weighs less where gradients have become small.
    """
    stages = min(STAGES, rounds)
    if privacy.rate_growth == 1 or stages == 1:
        return privacy.sample_rate
    stage = (number - 1) * stages // rounds
    first = privacy.sample_rate / privacy.rate_growth
    return first + (privacy.sample_rate - first) * stage / (stages - 1)


def steps_at_each_rate(settings: RunSettings) -> list[tuple[float, int]]:
    """Sample rates of the whole run, and how many of one store's steps have each; for accountants.

    Spare rounds count as the last one, whose rate is the largest.
    """
    if settings.privacy is None:
        return []
    counts: Counter[float] = Counter()
    for number in range(1, settings.rounds + 1):
        rate = sample_rate_of(settings.privacy, number, settings.rounds)
        counts[rate] += settings.steps_per_round
    if settings.privacy.spare_rounds:
        counts[rate] += settings.privacy.spare_rounds * settings.steps_per_round
    return sorted(counts.items())


def lr_factor(settings: RunSettings, number: int) -> float:
    """What the learning rate of round `number` (from 1) is multiplied by."""
    if settings.lr_schedule == "constant" or settings.rounds == 1:
        return 1.0
    done = (number - 1) / (settings.rounds - 1)
    return _LAST_LR + (1 - _LAST_LR) * 0.5 * (1 + math.cos(math.pi * done))
