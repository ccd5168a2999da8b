"""Discrete Gaussian noise: integers, drawn exactly.

Secure aggregation adds integers. Rounded real noise has no proof; the discrete Gaussian has one: a sum of
discrete Gaussians is as private as one Gaussian of their joint variance, but for a term that vanishes where
each is wide (Kairouz, Liu & Steinke 2021, arXiv 2102.06387). Nothing here is a floating-point number, so no
pattern of rounding can tell what was noised (Mironov 2012).

Drawn by rejection with integers alone: the method of Karney (2016, arXiv 1303.6257, algorithm D), with the
Bernoulli trials of Canonne, Kamath & Steinke (2020, arXiv 2004.00010, algorithm 1), for many at once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from privemo.dp.stream import KeyStream
from privemo.errors import SettingsError

__all__ = ["WIDEST", "DiscreteGaussian"]

WIDEST = 1 << 24
"""Largest scale: its square times a small number has to fit 64 bits."""

_AT_ONCE = 1 << 15
_MOST_SCALES = 12
"""Draws beyond so many scales have a probability under 2^-100, and are drawn again."""

U64 = NDArray[np.uint64]
_Trial = Callable[[NDArray[np.intp]], NDArray[np.bool_]]


class DiscreteGaussian:
    """An endless stream of integers x, each with probability proportional to exp(-x^2 / (2 scale^2)).

    The scale is that of the continuous density; from 1 up the standard deviation is the same to 7 digits.

    Args:
        scale: a whole number from 1 to `WIDEST`.
        key: 32 secret bytes that determine the stream; from the operating system when omitted.

    Raises:
        SettingsError: another scale, or a key of another length.
    """

    def __init__(self, scale: int, key: bytes | None = None) -> None:
        if not 1 <= scale <= WIDEST:
            raise SettingsError(
                f"The scale of discrete noise is a whole number from 1 to {WIDEST}, not {scale}."
            )
        self.scale = scale
        self._stream = KeyStream(key)

    def __repr__(self) -> str:
        return f"DiscreteGaussian(scale={self.scale})"

    def draw(self, count: int) -> NDArray[np.int64]:
        """The next `count` draws: int64, shape (count,)."""
        out = np.empty(count, np.int64)
        done = 0
        while done < count:
            # About half of all candidates pass.
            some = self._candidates(min(_AT_ONCE, 2 * (count - done) + 64))[: count - done]
            out[done : done + len(some)] = some
            done += len(some)
        return out

    def _candidates(self, count: int) -> NDArray[np.int64]:
        """What passes of `count` candidates k * scale + j, in whose place a sign may stand."""
        k = self._whole_scales(count)
        j = self._stream.below(np.full(len(k), self.scale, np.uint64))
        k, j = self._thinned(k, j)
        negative = (self._stream.uint64(len(k)) & np.uint64(1)).astype(bool)
        twice_zero = negative & (k == 0) & (j == 0)
        size: NDArray[np.int64] = (k * np.uint64(self.scale) + j).astype(np.int64)
        size[negative] *= -1
        kept: NDArray[np.int64] = size[~twice_zero]
        return kept

    def _whole_scales(self, count: int) -> U64:
        """Whole numbers k with probability proportional to exp(-k^2 / 2), of `count` candidates."""
        k = np.zeros(count, np.uint64)
        on = np.arange(count)
        while len(on):  # exp(-k / 2) ...
            on = on[self._halves(len(on))]
            k[on] += np.uint64(1)
        k = k[k <= _MOST_SCALES]
        trials = k * (k - np.minimum(k, np.uint64(1)))  # ... times exp(-k (k - 1) / 2)
        return k[self._all_pass(trials, lambda left: self._halves(len(left)))]

    def _thinned(self, k: U64, j: U64) -> tuple[U64, U64]:
        """Those that pass with probability exp(-x (2 k + x) / 2) at x = j / scale.

        The exponent is under k + 1/2; each of k + 1 trials takes its share, which is under 1.
        """
        scale = np.uint64(self.scale)
        above = j * (np.uint64(2) * k * scale + j)
        below = np.uint64(2) * scale * scale * (k + np.uint64(1))
        passed = self._all_pass(
            k + np.uint64(1), lambda left: self._exp_trials(above[left], below[left])
        )
        return k[passed], j[passed]

    def _all_pass(self, trials: U64, trial: _Trial) -> NDArray[np.bool_]:
        """Who passes as many trials as asked of each; `trial` tells it for the positions given."""
        passed = np.ones(len(trials), bool)
        left = np.flatnonzero(trials)
        for number in range(1, int(trials.max(initial=0)) + 1):
            ok = trial(left)
            passed[left[~ok]] = False
            left = left[ok]
            left = left[trials[left] > number]
        return passed

    def _halves(self, count: int) -> NDArray[np.bool_]:
        """Trials of probability exp(-1/2)."""
        return self._exp_trials(np.ones(count, np.uint64), np.full(count, 2, np.uint64))

    def _exp_trials(self, above: U64, below: U64) -> NDArray[np.bool_]:
        """Trials of probability exp(-above / below), for above <= below.

        The first n such that a trial of probability above / (below n) fails is odd with just that
        probability.
        """
        odd = np.empty(len(above), bool)
        left = np.arange(len(above))
        n = 1
        while len(left):
            bound = below[left] * np.uint64(n)
            failed = self._stream.below(bound) >= above[left]
            odd[left[failed]] = n % 2 == 1
            left = left[~failed]
            n += 1
        return odd
