"""Epsilon from (noise multiplier, sample rate, steps) alone, independently of the training code.

Three accountants of the Poisson-subsampled Gaussian mechanism, for adding or removing one person:

* `rdp_curve`: Renyi divergences by numerical quadrature, ours. It agrees with Opacus to nine
  digits.
* dp-accounting's `RdpAccountant`. At fractional orders its series adds the magnitudes of
  alternating terms, so it lies above the true value by up to about 0.3%: a valid bound, but not
  one to hold a budget against that was planned with the exact value.
* dp-accounting's `PLDAccountant`, pessimistic discretisation: the tightest upper bound of the
  three.

Sources: Mironov, Talwar, Zhang 2019 (arXiv:1908.10530); Canonne, Kamath, Steinke 2020
(arXiv:2004.00010, proposition 12) for the conversion to (epsilon, delta); Doroshenko et al. 2022.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import MissingExtraError

if TYPE_CHECKING:
    from dp_accounting import PrivacyAccountant

#: Everything Opacus looks at, and larger orders for very small epsilon.
ORDERS = np.array(
    [1 + x / 10 for x in range(1, 100)] + [float(x) for x in range(11, 65)] + [128.0, 256.0]
)
#: The first is ten times faster than dp-accounting's default, and within 1e-4 of it for epsilon up to
#: 100. An epsilon below a hundred intervals is asked for again on a finer grid.
PLD_INTERVALS = (1e-3, 1e-4, 1e-5)


class Release(NamedTuple):
    """One release: `steps` noisy sums with one noise and one rate."""

    noise_multiplier: float
    sample_rate: float
    steps: int
    discrete: bool = False
    """A sum of discrete Gaussians: its divergence is proved at whole orders alone (arXiv:2102.06387)."""


WHOLE = np.floor(ORDERS) == ORDERS


@lru_cache(maxsize=4096)
def _step_curve(noise: float, rate: float) -> NDArray[np.float64]:
    """(len(ORDERS),) Renyi divergence of one step, by trapezoid over the Gaussian's own scale.

    D_a = log E_{z ~ N(0, s^2)} [((1-q) + q exp((2z-1) / (2 s^2)))^a] / (a - 1)
    (arXiv:1908.10530, section 3.3).
    The integrand is analytic and decays like a Gaussian around 0 and around a, so the trapezoid's
    error falls exponentially; a tenth of s is far finer than needed.
    """
    if noise == 0:
        return np.full(len(ORDERS), np.inf)
    step = noise / 10
    out = np.empty(len(ORDERS))
    for i, order in enumerate(ORDERS):
        z = np.arange(-14 * noise, order + 14 * noise, step)
        with np.errstate(divide="ignore"):  # rate 1: log 0 is -inf, as it should be
            ratio = np.logaddexp(np.log1p(-rate), np.log(rate) + (2 * z - 1) / (2 * noise**2))
        log_terms = -(z**2) / (2 * noise**2) + order * ratio
        top = log_terms.max()
        total = np.exp(log_terms - top).sum() * step / (noise * math.sqrt(2 * math.pi))
        out[i] = (top + math.log(total)) / (order - 1)
    return np.maximum(out, 0.0)


def rdp_curve(releases: Iterable[Release]) -> NDArray[np.float64]:
    """(len(ORDERS),) Renyi divergence of all releases together; it adds up."""
    total = np.zeros(len(ORDERS))
    for release in releases:
        if release.steps:
            curve = _step_curve(release.noise_multiplier, release.sample_rate)
            total = total + release.steps * (
                np.where(WHOLE, curve, np.inf) if release.discrete else curve
            )
    return total


def epsilon_of_curve(curve: NDArray[np.float64], delta: float) -> float:
    """Convert a Renyi curve to epsilon (arXiv:2004.00010, proposition 12); inf when unbounded."""
    if not curve.any():
        return 0.0
    epsilon = curve + np.log1p(-1 / ORDERS) - np.log(delta * ORDERS) / (ORDERS - 1)
    return max(0.0, float(epsilon.min()))


def epsilon_rdp(releases: Iterable[Release], delta: float) -> float:
    """Epsilon by our quadrature."""
    return epsilon_of_curve(rdp_curve(releases), delta)


def epsilon_dp_accounting(releases: Iterable[Release], delta: float, kind: str) -> float:
    """Epsilon by dp-accounting: `kind` is "rdp" or "pld". 0 for no release, inf without noise.

    Of discrete noise both are `rdp` at whole orders: no more is proved of its sum.

    Raises:
        MissingExtraError: dp-accounting is not installed.
    """
    counts: Counter[tuple[float, float]] = Counter()
    discrete = False
    for release in releases:
        if release.steps:
            counts[release.noise_multiplier, release.sample_rate] += release.steps
            discrete |= release.discrete
    found = tuple(sorted(counts.items()))
    return _by_dp_accounting(found, delta, "rdp at whole orders" if discrete else kind)


@lru_cache(maxsize=4096)
def _by_dp_accounting(
    counts: tuple[tuple[tuple[float, float], int], ...], delta: float, kind: str
) -> float:
    if not counts:
        return 0.0
    if any(noise == 0 for (noise, _), _ in counts):
        return math.inf
    try:
        import dp_accounting
        from dp_accounting.pld import PLDAccountant
        from dp_accounting.rdp import RdpAccountant
    except ImportError as error:
        raise MissingExtraError.of(error.name) from error
    neighbours = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE

    def asked(accountant: PrivacyAccountant) -> float:
        with _no_order_warnings():
            for (noise, rate), steps in counts:
                gaussian = dp_accounting.GaussianDpEvent(noise)
                event = dp_accounting.PoissonSampledDpEvent(rate, gaussian)
                accountant.compose(event, steps)
            return float(accountant.get_epsilon(delta))

    if kind.startswith("rdp"):
        return asked(RdpAccountant(list(ORDERS if kind == "rdp" else ORDERS[WHOLE]), neighbours))
    value = math.inf
    for interval in PLD_INTERVALS:
        value = min(value, asked(PLDAccountant(neighbours, value_discretization_interval=interval)))
        if value > 100 * interval:
            break
    return value


@contextmanager
def _no_order_warnings() -> Iterator[None]:
    """Silence dp-accounting's warning of orders left out: fewer orders are still a valid bound."""

    def other(record: logging.LogRecord) -> bool:
        return "failed to converge" not in record.getMessage()

    logger = logging.getLogger("absl")
    logger.addFilter(other)
    try:
        yield
    finally:
        logger.removeFilter(other)
