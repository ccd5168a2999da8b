"""One of several public things, chosen by what people's data say of each: the exponential mechanism.

Each thing has a loss, a whole number; it is chosen with probability in proportion to exp(-epsilon x loss /
most), where `most` is what one person moves the difference of any two losses by at most. So whoever joins or
leaves changes the odds between any two things by a factor of at most exp(epsilon) (McSherry & Talwar 2007):
epsilon is pure.

Odds that change by no more than that ("bounded range") compose better than pure epsilon says: the
Renyi divergence of order a is at most a epsilon^2 / 8 (Cesar & Rogers 2021, arXiv 2004.07223), which is that
of the Gaussian mechanism with a noise multiplier of 2 / epsilon. So accountants take it as one, at whole
orders, and whoever recomputes needs nothing new. Alone it costs its pure epsilon, less than they say.

Chosen exactly: losses are whole, epsilon is a fraction, coins are tossed in integers (`privemo.dp.counts`).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from privemo.dp.counts import coin
from privemo.errors import SettingsError
from privemo.releases import Mechanism

__all__ = ["Choice"]

_FINEST = 1000  # epsilon is taken down to a thousandth, so that coins stay short

Losses = NDArray[np.int64]


@dataclass(frozen=True)
class Choice:
    """What one choice costs each person; the fields are those of a held-out ledger, where it stands as noise.

    Attributes:
        resolution: epsilon is 2 x resolution / scale.
        scale: see there.
        tables: 1; a person speaks once.
        noise_stores: 1; one place chooses.

    Raises:
        SettingsError: a value that is none of these.
    """

    resolution: int
    scale: int = 2 * _FINEST
    tables: int = 1
    noise_stores: int = 1
    name = "exponential"

    def __post_init__(self) -> None:
        if self.resolution < 1 or self.scale < 1 or (self.tables, self.noise_stores) != (1, 1):
            raise SettingsError("A choice costs something, and is made once and in one place.")

    @classmethod
    def of(cls, epsilon: float) -> Choice:
        """A choice that costs each person `epsilon`, taken down to a thousandth.

        Raises:
            SettingsError: epsilon is below a thousandth, above 1,000, or no number.
        """
        thousandths = int(epsilon * _FINEST + 1e-6) if 0 < epsilon <= 1000 else 0
        if thousandths < 1:
            raise SettingsError(f"A choice costs an epsilon of 0.001 to 1000, not {epsilon}.")
        return cls(thousandths)

    @property
    def epsilon(self) -> Fraction:
        """What it costs a person, alone: pure."""
        return Fraction(2 * self.resolution, self.scale)

    @property
    def noise_multiplier(self) -> float:
        """Of the Gaussian mechanism that loses as much at every order."""
        return self.scale / self.resolution

    @property
    def mechanism(self) -> Mechanism:
        """What it costs, as accountants take it."""
        return Mechanism(self.noise_multiplier, 1.0, 1, discrete=True)

    def log_odds(self, losses: Losses, most: int) -> NDArray[np.float64]:
        """(k,) logarithms of the probabilities with which `draw` chooses."""
        gamma = float(self.epsilon) * (losses - losses.min()) / most
        return np.asarray(-gamma - np.log(np.exp(-gamma).sum()), dtype=np.float64)

    def draw(self, losses: Losses, most: int) -> int:
        """Which one: an index, from the operating system's randomness; no seed makes it again.

        Args:
            losses: (k,) of each thing.
            most: what one person moves the difference of two of them by, at most; a public number.

        Raises:
            SettingsError: nothing to choose from, or a person who may say nothing.
        """
        if not len(losses) or most < 1:
            raise SettingsError("A choice is among something, and a person moves it by 1 or more.")
        least = int(losses.min())
        while True:  # rejection: each time one is kept with a probability of 1 / k at least
            which = secrets.randbelow(len(losses))
            if coin(self.epsilon * (int(losses[which]) - least) / most):
                return which
