"""The two bounds, by Opacus: every number of an accountant comes from here.

| edge case | what happens |
|---|---|
| an order of RDP that Opacus cannot compute | it is left out; fewer orders are still a bound |
| discrete noise: proved for whole orders alone | other orders are left out, and PRV is RDP's bound |
| PRV fails, or says more than RDP (its error of 0.01 at tiny epsilons) | RDP's bound, valid as well |
| PRV where RDP is above 50 | RDP's bound: PRV would take seconds each, and nobody plans there |
| PRV of more than 64 kinds of steps (noise and rate vary) | RDP's bound: PRV would take minutes |
| an accountant says less than nothing (Opacus issue 585) | 0 |

RDP adds up over steps, so a curve is computed once for each (noise, rate) and kept: the next round of
the same kind costs microseconds.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from functools import lru_cache
from typing import Any

from privemo.releases import Mechanism

__all__ = ["prv_bound", "rdp_bound"]

_PRV_UP_TO = 50.0
_PRV_KINDS = 64
_MORE_ORDERS = (11.0, 64.0, 128.0, 256.0)  # Opacus leaves out 11 and stops at 63


def rdp_bound(history: tuple[Mechanism, ...], delta: float) -> float:
    """Epsilon by RDP; `history` holds each kind of steps once. Infinity where nothing bounds it."""
    from opacus.accountants.analysis.rdp import get_privacy_spent

    orders = _orders()
    curve = [0.0] * len(orders)
    for m in history:
        one = _rdp_curve(m.noise_multiplier, m.sample_rate, m.discrete)
        curve = [total + m.steps * value for total, value in zip(curve, one, strict=True)]
    with warnings.catch_warnings():
        # "Optimal order is the largest alpha": the bound is valid, only not the tightest.
        warnings.simplefilter("ignore")
        epsilon, _ = get_privacy_spent(orders=list(orders), rdp=curve, delta=delta)
    return max(0.0, float(epsilon))


@lru_cache(maxsize=1)
def _orders() -> tuple[float, ...]:
    from opacus.accountants import RDPAccountant

    return tuple(map(float, (*RDPAccountant.DEFAULT_ALPHAS, *_MORE_ORDERS)))


@lru_cache(maxsize=1024)
def _rdp_curve(noise: float, rate: float, discrete: bool) -> tuple[float, ...]:
    """Renyi divergence of one step at each order; infinity where it cannot be computed.

    A sum of wide discrete Gaussians has at most the divergence of the Gaussian of its variance, at any
    order (Kairouz, Liu & Steinke 2021, arXiv 2102.06387, section 4; `privemo.secagg.lattice` holds the
    term that has to vanish). Its draws are as likely mirrored between two sums, so what sampling takes off at
    a whole order follows from divergences at whole orders alone (Mironov, Talwar & Zhang 2019,
    arXiv 1908.10530, theorem 5 and section 3.3), term by term as for the Gaussian.
    """
    from opacus.accountants.analysis.rdp import compute_rdp

    found = []
    for order in _orders():
        if discrete and not order.is_integer():
            found.append(math.inf)
            continue
        try:
            value = float(compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=order))
        except (ArithmeticError, ValueError):
            value = math.inf
        found.append(math.inf if math.isnan(value) else max(0.0, value))
    return tuple(found)


@lru_cache(maxsize=4096)
def prv_bound(history: tuple[Mechanism, ...], delta: float) -> float:
    """Epsilon by PRV, or by RDP where that is smaller or PRV has no answer; both bound the same."""
    bound = rdp_bound(history, delta)
    discrete = any(m.discrete for m in history)
    if discrete or not bound <= _PRV_UP_TO or len(history) > _PRV_KINDS:
        return bound
    engine = _prv_accountant()
    engine.history = [(m.noise_multiplier, m.sample_rate, m.steps) for m in history]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # log(0) at sample rate 1 is -inf, as it should be
            # The *upper* end of its error interval: 0.01 in epsilon, a thousandth of delta.
            value = float(engine.get_epsilon(delta=delta))
    except (ArithmeticError, MemoryError, ValueError, RuntimeError):
        return bound
    return bound if math.isnan(value) else min(bound, max(0.0, value))


def _prv_accountant() -> Any:
    """Opacus's PRV accountant, whose domain comes from RDP curves that are kept.

    Nine tenths of its time go into computing those curves anew for each answer. The width is that of
    the paper's remark 5.6 and of Opacus: a tail bound of the whole, and one of each step.
    """
    from opacus.accountants import PRVAccountant
    from opacus.accountants.analysis.prv import Domain

    class Accountant(PRVAccountant):  # type: ignore[misc]  # Opacus carries no types
        def _get_domain(
            self, prvs: Any, num_self_compositions: Any, eps_error: float, delta_error: float
        ) -> Any:
            steps = sum(num_self_compositions)
            whole = tuple(Mechanism(*steps) for steps in self.history)
            tails = [rdp_bound(whole, delta_error / 4), eps_error]
            tails += [
                rdp_bound((replace(one, steps=1),), delta_error / (8 * steps)) for one in whole
            ]
            width = max(tails) + 3
            mesh = eps_error / math.sqrt(steps * math.log(12 / delta_error) / 2)
            return Domain.create_aligned(-width, width, mesh)

    return Accountant()
