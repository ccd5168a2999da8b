"""From (noise multiplier, sample rate, steps) to epsilon, and back.

Two of Opacus's accountants are asked every time: RDP (Mironov, Talwar & Zhang 2019, arXiv
1908.10530) and PRV (Gopi, Lee & Wutschitz 2021, arXiv 2106.02848). Both bound the same quantity:
add-or-remove-one-*person* (epsilon, delta) of Poisson sampling with the Gaussian mechanism. RDP is the
looser one and the default for budgets, so that the claim holds under both.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from privemo.errors import BudgetUnreachable, SettingsError

__all__ = ["ACCOUNTANTS", "Mechanism", "Spent", "calibrate_noise", "composed", "spent"]

ACCOUNTANTS = ("rdp", "prv")
_MOST_NOISE = 1e5  # a model under more noise than this has learned nothing
AccountantName = Literal["rdp", "prv"]


@dataclass(frozen=True)
class Mechanism:
    """Some steps of the Poisson-subsampled Gaussian mechanism.

    Attributes:
        noise_multiplier: standard deviation of the noise over the clipping norm.
        sample_rate: probability with which each person joins a batch, independently.
        steps: how many batches; an empty batch is a step as well.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier > 0):
            raise SettingsError(f"A noise multiplier is above 0, not {self.noise_multiplier}.")
        if not 0 < self.sample_rate <= 1:
            raise SettingsError(f"A sample rate is above 0 and at most 1, not {self.sample_rate}.")
        if self.steps < 0:
            raise SettingsError(f"A number of steps is 0 or more, not {self.steps}.")


@dataclass(frozen=True)
class Spent:
    """Epsilon at one delta under each accountant."""

    rdp: float
    prv: float
    delta: float

    def by(self, accountant: str) -> float:
        """Epsilon under the accountant of that name."""
        if accountant not in ACCOUNTANTS:
            raise SettingsError(
                f"There is no accountant {accountant!r}; choose one of {', '.join(ACCOUNTANTS)}."
            )
        return self.rdp if accountant == "rdp" else self.prv


def spent(history: Sequence[Mechanism], *, delta: float) -> Spent:
    """Epsilon of everything in `history` together (composition over all rounds, never the last one).

    Raises:
        SettingsError: `delta` is not between 0 and 1.
    """
    return Spent(
        composed(history, delta=delta, accountant="rdp"),
        composed(history, delta=delta, accountant="prv"),
        delta,
    )


def composed(history: Sequence[Mechanism], *, delta: float, accountant: str) -> float:
    """Epsilon of `history` under one accountant alone.

    Raises:
        SettingsError: `delta` is not between 0 and 1, there is no such accountant, or it cannot cope
            with so much privacy lost.
    """
    _check_delta(delta)
    if accountant not in ACCOUNTANTS:
        raise SettingsError(
            f"There is no accountant {accountant!r}; choose one of {', '.join(ACCOUNTANTS)}."
        )
    merged: dict[tuple[float, float], int] = {}
    for m in history:
        if m.steps:
            key = (m.noise_multiplier, m.sample_rate)
            merged[key] = merged.get(key, 0) + m.steps
    if not merged:
        return 0.0
    whole = tuple(sorted((noise, rate, steps) for (noise, rate), steps in merged.items()))
    try:
        value = _epsilon(accountant, whole, delta)
    except (ArithmeticError, MemoryError, ValueError, RuntimeError) as error:
        raise SettingsError(
            f"The {accountant} accountant cannot bound this history ({error})."
        ) from error
    if math.isnan(value):
        raise SettingsError(f"The {accountant} accountant gives no number for this history.")
    return value


def calibrate_noise(
    *,
    epsilon: float,
    delta: float,
    sample_rate: float,
    steps: int,
    accountant: str = "rdp",
    compositions: int = 1,
) -> float:
    """The smallest noise multiplier (to 0.1%) that keeps `steps` steps within `epsilon`.

    Args:
        epsilon: budget of one person.
        delta: probability with which the bound may fail; below 1 over the number of people.
        sample_rate: see `Mechanism`.
        steps: all steps of the whole run.
        accountant: `rdp` or `prv`.
        compositions: in how many stores one person may take part; each spends its share.

    Raises:
        BudgetUnreachable: no finite noise reaches `epsilon`.
        SettingsError: a value out of range.
    """
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise SettingsError(f"A privacy budget epsilon is a number above 0, not {epsilon}.")
    _check_delta(delta)
    total = steps * compositions
    if total < 1:
        raise SettingsError("Calibrating noise needs at least one step.")

    def cost(noise: float) -> float:
        mechanism = Mechanism(noise, sample_rate, total)
        return composed([mechanism], delta=delta, accountant=accountant)

    if cost(_MOST_NOISE) > epsilon:
        raise BudgetUnreachable(
            f"Epsilon {epsilon:g} at delta {delta:g} cannot be met in {steps} steps at sample rate "
            f"{sample_rate:g}: train fewer rounds or steps, or allow a larger epsilon."
        )
    low, high = 0.0, 1.0
    while cost(high) > epsilon:
        low, high = high, high * 2
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        # Below about 0.2 Opacus's accountants overflow; no budget in use asks for so little noise.
        if middle < 0.2 or cost(middle) > epsilon:
            low = middle
        else:
            high = middle
    return high


@lru_cache(maxsize=512)
def _epsilon(accountant: str, history: tuple[tuple[float, float, int], ...], delta: float) -> float:
    from opacus.accountants import PRVAccountant, RDPAccountant

    engine = RDPAccountant() if accountant == "rdp" else PRVAccountant()
    engine.history = list(history)
    with warnings.catch_warnings():
        # "Optimal order is the largest alpha": the bound is valid, only not the tightest.
        warnings.simplefilter("ignore")
        return float(engine.get_epsilon(delta=delta))


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise SettingsError(f"A delta lies between 0 and 1, not {delta}.")
