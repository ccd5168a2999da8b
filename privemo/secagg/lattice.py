"""Sums of clipped gradients as integers, and the noise that stores add to them.

A store's sum of clipped gradients is scaled, rounded to whole numbers and noised with a discrete Gaussian; so
what secure aggregation adds up is a sum of whole numbers and of discrete Gaussians, which has a proof
(Kairouz, Liu & Steinke 2021, arXiv 2102.06387). Each store's share is so wide that the noise is whole as soon
as `noise_stores` of them are in the sum; further shares only add to it.

Rounding may move a sum a little further than the clipping norm when a person joins it. Two whole numbers that
real ones a distance x apart are rounded to lie at most x + 1 apart, so one person moves a vector of d by at
most the clipping norm + sqrt(d). Twice that is reckoned with: sums are float32 before they are rounded, and
may differ in their last digits by the order in which people are added up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privemo.dp.discrete import WIDEST
from privemo.errors import SettingsError

__all__ = ["Lattice"]

_FINEST = 1 << 18
"""Whole numbers in a clipping norm, at most: there rounding costs 1% of noise with 1.4 million parameters."""

_SPAN = 1 << 31
"""A sum lies between minus and plus this: it is known modulo 2^32."""

_NARROWEST = 20
"""From this scale on a sum of discrete Gaussians is as private as a Gaussian: what is between the two, a sum
of exp(-2 pi^2 scale^2 k / (k + 1)), is below exp(-3900), and no floating-point number."""


@dataclass(frozen=True)
class Lattice:
    """How gradients become whole numbers, and how wide each store's noise is. All of it is public.

    Attributes:
        resolution: whole numbers in a clipping norm.
        max_grad_norm: the clipping norm.
        parameters: length of a sum.
        share: scale of the discrete noise that each store adds.
    """

    resolution: int
    max_grad_norm: float
    parameters: int
    share: int

    @classmethod
    def of(
        cls,
        *,
        noise_multiplier: float,
        noise_stores: int,
        max_grad_norm: float,
        parameters: int,
        people: float,
    ) -> Lattice:
        """The finest lattice on which sums fit 32 bits.

        Args:
            noise_multiplier: of the sum: scale of all noise together over the most that one person moves it.
            noise_stores: fewest stores whose shares have to make it.
            max_grad_norm: clipping norm.
            parameters: length of a sum.
            people: public number of people that a step expects, all stores together.

        Raises:
            SettingsError: noise and people do not fit 32 bits together, or a share would be too narrow.
        """
        resolution, slack = _FINEST, 2 * math.sqrt(parameters)
        while resolution >= slack:  # coarser, and rounding would cost more than the clipping norm
            reach = resolution + slack
            share = math.ceil(noise_multiplier * reach / math.sqrt(noise_stores))
            # Twice as many people as expected, all of one mind, and noise of ten deviations.
            largest = 2 * people * resolution + 10 * noise_multiplier * reach * math.sqrt(2)
            if share <= WIDEST and largest < _SPAN:
                if share < _NARROWEST:
                    break
                return cls(resolution, max_grad_norm, parameters, share)
            resolution //= 2
        raise SettingsError(
            f"Shared noise of multiplier {noise_multiplier:g} over {noise_stores} stores and steps of "
            f"{people:,.0f} people do not fit 32 bits: take smaller steps, or fewer stores."
        )

    def encode(self, total: NDArray[np.floating]) -> NDArray[np.int64]:
        """Whole numbers (parameters,) nearest to a sum of clipped gradients (parameters,).

        Raises:
            SettingsError: the sum is not finite, or of another length.
        """
        if total.shape != (self.parameters,) or not np.isfinite(total).all():
            raise SettingsError(f"A sum holds {self.parameters:,} finite numbers.")
        scaled = total.astype(np.float64) * (self.resolution / self.max_grad_norm)
        # No honest sum comes near the bound; without it a broken one could not be an int64.
        return np.rint(np.clip(scaled, -_SPAN, _SPAN)).astype(np.int64)

    def decode(self, total: NDArray[np.uint32]) -> NDArray[np.float64]:
        """The sum of gradients (parameters,) that whole numbers modulo 2^32 stand for."""
        signed = total.view(np.int32).astype(np.float64)
        return np.asarray(signed * (self.max_grad_norm / self.resolution))
