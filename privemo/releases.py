"""What was released about people, as accountants take it. Light: settings files may hold these.

| edge case | what happens |
|---|---|
| noise 0, negative, NaN or infinite | `SettingsError`: no accountant bounds it |
| a sample rate of 0 or above 1 | `SettingsError` |
| no steps | allowed: nothing was released, nothing is spent |
| epsilon 0 and delta 0 | allowed: says nothing about anyone |
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from privemo.errors import SettingsError

__all__ = ["Mechanism", "Release", "Stated", "merged", "worst_of"]


@dataclass(frozen=True)
class Mechanism:
    """Some steps of the Poisson-subsampled Gaussian mechanism.

    Attributes:
        noise_multiplier: standard deviation of the noise over the most that one person moves the sum: the
            clipping norm, and where sums are rounded a little more.
        sample_rate: probability with which each person joins a batch, independently.
        steps: how many batches; an empty batch is a step as well.
        discrete: the noise is a sum of discrete Gaussians (`privemo.dp.DiscreteGaussian`). What is proved of
            it is its Renyi divergence at whole orders, so an accountant may use those alone.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int
    discrete: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier > 0):
            raise SettingsError(f"A noise multiplier is above 0, not {self.noise_multiplier}.")
        if not 0 < self.sample_rate <= 1:
            raise SettingsError(f"A sample rate is above 0 and at most 1, not {self.sample_rate}.")
        if self.steps < 0:
            raise SettingsError(f"A number of steps is 0 or more, not {self.steps}.")

    def times(self, compositions: int) -> Mechanism:
        """The same steps for somebody who takes part `compositions` times."""
        return replace(self, steps=self.steps * compositions)


@dataclass(frozen=True)
class Stated:
    """A release of another kind, of which (epsilon, delta) is all that is known.

    It is added in the simple way (Dwork & Roth 2014, theorem 3.16): epsilons add up, and so do deltas.

    Attributes:
        epsilon: what it costs a person.
        delta: probability with which that may fail; 0 for a noised count.
    """

    epsilon: float
    delta: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epsilon) and self.epsilon >= 0):
            raise SettingsError(f"A stated epsilon is 0 or more, not {self.epsilon}.")
        if not 0 <= self.delta < 1:
            raise SettingsError(f"A stated delta is at least 0 and below 1, not {self.delta}.")


Release = Mechanism | Stated


def merged(history: Iterable[Release]) -> tuple[tuple[Mechanism, ...], Stated]:
    """Steps alike put together, in a fixed order; and the sum of what is only stated."""
    steps: Counter[tuple[float, float, bool]] = Counter()
    epsilon, delta = [], []
    for release in history:
        if isinstance(release, Stated):
            epsilon.append(release.epsilon)
            delta.append(release.delta)
        elif release.steps:
            steps[_kind(release)] += release.steps
    gaussian = tuple(_of_kind(kind, n) for kind, n in sorted(steps.items()))
    return gaussian, Stated(math.fsum(epsilon), min(math.fsum(delta), math.nextafter(1, 0)))


def worst_of(ledgers: Iterable[Sequence[Mechanism]], compositions: int = 1) -> list[Mechanism]:
    """What any one person can have lost at most, who was in no more than `compositions` of the stores.

    For each kind of steps the most of any store, `compositions` times. Whatever store a person was
    in, its ledger holds no more than that, and more steps never cost less.
    """
    most: dict[tuple[float, float, bool], int] = {}
    for ledger in ledgers:
        for one in merged(ledger)[0]:
            most[_kind(one)] = max(most.get(_kind(one), 0), one.steps)
    return [_of_kind(kind, n * compositions) for kind, n in sorted(most.items())]


def _kind(steps: Mechanism) -> tuple[float, float, bool]:
    """What an accountant distinguishes."""
    return steps.noise_multiplier, steps.sample_rate, steps.discrete


def _of_kind(kind: tuple[float, float, bool], steps: int) -> Mechanism:
    noise, rate, discrete = kind
    return Mechanism(noise, rate, steps, discrete)
