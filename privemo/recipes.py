"""Default step sizes, from public numbers alone.

A learning rate chosen by trying it on private faces is a release that nobody accounted for. Under
differential privacy most of what a step does is noise, and how far that noise carries the model follows
from settings that are public: so the default keeps *that* distance fixed, and small stores take small
steps.
"""

from __future__ import annotations

import math

from privemo.config import RunSettings

__all__ = ["NOISE_TRAVEL", "PLAIN_LR", "default_lr", "noise_travel"]

NOISE_TRAVEL = 2.0
"""How far (Euclidean norm) noise may be expected to carry the weights over a whole run.

Chosen on people who do not exist, for weights of norm about 30; see the how-to on budgets.
"""

PLAIN_LR = 2e-3
"""For AdamW, without privacy."""

_LARGEST_LR = 0.5


def noise_travel(
    settings: RunSettings, *, noise_multiplier: float, normaliser: float, parameters: int
) -> float:
    """Expected distance that noise carries the averaged model over the run, at learning rate 1.

    In a round a store takes k steps with momentum m; the noise of step i still moves the model in every
    later one, by (1 - m^(k-i+1)) / (1 - m) in all. Averaging over s stores divides by sqrt(s), and
    rounds add in squares.
    """
    if settings.privacy is None:
        return 0.0
    one_step = (
        noise_multiplier * settings.privacy.max_grad_norm * math.sqrt(parameters) / normaliser
    )
    m = settings.momentum
    reach = [(1 - m ** (i + 1)) / (1 - m) for i in range(settings.steps_per_round)]
    one_round = one_step * math.sqrt(sum(r * r for r in reach)) / math.sqrt(settings.stores)
    return settings.server_lr * one_round * math.sqrt(settings.rounds)


def default_lr(
    settings: RunSettings, *, noise_multiplier: float, normaliser: float, parameters: int
) -> float:
    """The learning rate asked for, or else the one at which noise travels `NOISE_TRAVEL`."""
    if settings.lr is not None:
        return settings.lr
    if settings.privacy is None:
        return PLAIN_LR
    travel = noise_travel(
        settings,
        noise_multiplier=noise_multiplier,
        normaliser=normaliser,
        parameters=parameters,
    )
    return min(_LARGEST_LR, NOISE_TRAVEL / travel)
