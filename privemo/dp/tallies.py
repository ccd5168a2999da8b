"""Noise for counts of people over many cells at once: discrete Gaussian, in whole numbers.

Each person adds a one to one cell of each of `tables` tables. Their count vector is whole and has the
length sqrt(tables) in L2, whatever they look like: nothing has to be clipped afterwards, and nothing
rounded. Somebody who joins or leaves moves the counts by just that vector.

Counts are multiplied by `resolution`, noised, and divided again at the very end. So the scale of the noise
can be a whole number without being coarse, and each store's share of a sum is wide enough for the proof of
sums (Kairouz, Liu & Steinke 2021, arXiv 2102.06387, section 4). A single discrete Gaussian costs what the
Gaussian of its scale does (Canonne, Kamath & Steinke 2020, arXiv 2004.00010, theorem 4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from privemo.dp.accounting import calibrate_noise
from privemo.dp.discrete import DiscreteGaussian
from privemo.errors import SettingsError
from privemo.releases import Mechanism

__all__ = ["TallyNoise"]

_NARROWEST = 64
"""Least scale of a share: rounding it up costs 1.6% at most, and the term of sums vanishes (from 20 on)."""

_WIDEST = 1 << 20

_SPAN = 1 << 31
"""Sums are known modulo 2^32."""


@dataclass(frozen=True)
class TallyNoise:
    """What noise a count vector gets; all of it is public.

    Attributes:
        tables: in how many tables a person counts once; the square of how far one person moves the counts.
        resolution: whole numbers in one person.
        scale: of the discrete Gaussian that each store adds to each number.
        noise_stores: fewest stores whose shares are in the result; 1 where a store is by itself.

    Raises:
        SettingsError: a value that is none of these.
    """

    tables: int
    resolution: int
    scale: int
    noise_stores: int = 1

    def __post_init__(self) -> None:
        if self.tables < 1 or self.resolution < 1 or self.noise_stores < 1:
            raise SettingsError("Noise for counts is of one table, store and step at least.")
        if not 1 <= self.scale <= _WIDEST:
            raise SettingsError(
                f"Counts take noise of a scale of 1 to {_WIDEST}, not {self.scale}: ask for more epsilon."
            )

    @classmethod
    def of(
        cls,
        *,
        epsilon: float,
        delta: float,
        tables: int,
        noise_stores: int = 1,
        accountant: str = "rdp",
    ) -> TallyNoise:
        """The least noise with which one release costs no more than (epsilon, delta).

        Raises:
            BudgetUnreachable, SettingsError: epsilon or delta is out of range.
        """
        multiplier = calibrate_noise(
            epsilon=epsilon,
            delta=delta,
            sample_rate=1.0,
            steps=1,
            accountant=accountant,
            discrete=True,
        )
        share = multiplier * math.sqrt(tables / noise_stores)
        resolution = 1
        while share * resolution < _NARROWEST:
            resolution *= 2
        return cls(tables, resolution, math.ceil(share * resolution), noise_stores)

    @property
    def name(self) -> Literal["discrete_gaussian", "discrete_gaussian_sum"]:
        """What ledgers call it."""
        return "discrete_gaussian" if self.noise_stores == 1 else "discrete_gaussian_sum"

    @property
    def noise_multiplier(self) -> float:
        """Scale of all noise together over the most that one person moves the counts."""
        return math.sqrt(self.noise_stores / self.tables) * self.scale / self.resolution

    @property
    def mechanism(self) -> Mechanism:
        """What it costs, as accountants take it."""
        return Mechanism(self.noise_multiplier, 1.0, 1, discrete=True)

    def most_people(self, stores: int = 1) -> int:
        """So many people in one store, and a sum of so many stores still fits 32 bits."""
        noise = 20 * self.scale * math.sqrt(stores)
        return int((_SPAN - noise) / (self.resolution * stores))

    def noised(self, counts: NDArray[np.int64], *, stores: int = 1) -> NDArray[np.int64]:
        """Counts (n,) in units of 1 / resolution person, each with noise of its own.

        The key of the noise is drawn from the operating system; no seed makes it again.

        Args:
            counts: (n,) people in each cell.
            stores: how many stores add up.

        Raises:
            SettingsError: a count so large that the sum would not fit.
        """
        if counts.min(initial=0) < 0 or counts.max(initial=0) > self.most_people(stores):
            raise SettingsError(
                f"A cell of this store holds more than {self.most_people(stores):,} people, or fewer than "
                "none: that does not fit a sum. Take a smaller epsilon, which makes coarser numbers."
            )
        return counts * self.resolution + DiscreteGaussian(self.scale).draw(len(counts))

    def rounded(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The nearest whole people; it tells no more than the numbers did."""
        return np.asarray((2 * numbers + self.resolution) // (2 * self.resolution), np.int64)
