"""From (noise multiplier, sample rate, steps) to epsilon, and back.

Two of Opacus's accountants are asked every time: RDP (Mironov, Talwar & Zhang 2019, arXiv
1908.10530) and PRV (Gopi, Lee & Wutschitz 2021, arXiv 2106.02848). Both bound the same quantity:
add-or-remove-one-*person* (epsilon, delta) of Poisson sampling with the Gaussian mechanism. RDP is the
looser one and the default for budgets, so that the claim holds under both.

| edge case | what happens |
|---|---|
| nothing was released | epsilon is 0 |
| deltas of stated releases use up all of delta | infinity: no epsilon holds at that delta |
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from privemo.dp.bounds import prv_bound, rdp_bound
from privemo.errors import BudgetExhausted, BudgetUnreachable, SettingsError
from privemo.releases import Mechanism, Release, Stated, merged, worst_of

__all__ = [
    "ACCOUNTANTS",
    "Mechanism",
    "Release",
    "Spent",
    "Stated",
    "calibrate_noise",
    "calibrate_scale",
    "check_delta",
    "composed",
    "exposed",
    "spent",
    "worst_of",
]

ACCOUNTANTS = ("rdp", "prv")
AccountantName = Literal["rdp", "prv"]

_MOST_NOISE = 1e5  # a model under more noise than this has learned nothing
_LEAST_NOISE = 0.2  # stores accept no less (`privemo.orders`); no budget in use asks for it
_PRECISION = 2e-5  # of a search, relative
_CRUMBS = 1e-3  # share of a budget that a search leaves over, and no training can use


@dataclass(frozen=True)
class Spent:
    """Epsilon at one delta under each accountant."""

    rdp: float
    prv: float
    delta: float

    def by(self, accountant: str) -> float:
        """Epsilon under the accountant of that name."""
        _check_accountant(accountant)
        return self.rdp if accountant == "rdp" else self.prv


def spent(history: Sequence[Release], *, delta: float) -> Spent:
    """Epsilon of everything in `history` together (composition over all rounds, never the last one).

    Raises:
        SettingsError: `delta` is not between 0 and 1.
    """
    return Spent(
        composed(history, delta=delta, accountant="rdp"),
        composed(history, delta=delta, accountant="prv"),
        delta,
    )


def composed(history: Sequence[Release], *, delta: float, accountant: str) -> float:
    """Epsilon of `history` under one accountant alone.

    Releases of the Gaussian mechanism may differ in noise and rate. Of `Stated` ones the epsilons are
    added, and their deltas are taken off `delta` first.

    Raises:
        SettingsError: `delta` is not between 0 and 1, there is no such accountant, or it cannot cope
            with so much privacy lost.
    """
    _check_delta(delta)
    _check_accountant(accountant)
    gaussian, stated = merged(history)
    if not gaussian:
        return stated.epsilon if stated.delta <= delta else math.inf
    left = delta - stated.delta
    if left <= 0:
        return math.inf
    epsilon = rdp_bound(gaussian, left) if accountant == "rdp" else prv_bound(gaussian, left)
    if not math.isfinite(epsilon):
        raise SettingsError(f"The {accountant} accountant gives no number for this history.")
    return stated.epsilon + epsilon


def exposed(
    ledgers: Mapping[str, Sequence[Release]],
    groups: Iterable[Collection[str]],
    *,
    delta: float,
) -> dict[tuple[str, ...], Spent]:
    """Epsilon of a person who was in all stores of a group, for each group.

    Stores may have used other noise, rates and deltas: what counts of a Gaussian release is its
    mechanism, and one delta is chosen here for all of them.

    Args:
        ledgers: what each store released, by its name.
        groups: sets of stores that have a person in common.
        delta: see `composed`.

    Raises:
        SettingsError: a group names a store without a ledger, or names none; or its stores share sums.
    """
    found = {}
    for group in groups:
        names = tuple(sorted(set(group)))
        if not names:
            raise SettingsError("A set of stores that share a person names at least one.")
        for name in names:
            if name not in ledgers:
                raise SettingsError(f"There is no ledger of a store {name!r}; add it.")
        every = [release for name in names for release in ledgers[name]]
        if len(names) > 1 and any(isinstance(r, Mechanism) and r.discrete for r in every):
            raise SettingsError(
                f"{', '.join(names)} share sums: whoever is in several of them moves one sum several times, "
                "and no epsilon is known for that."
            )
        found[names] = spent(every, delta=delta)
    return found


def check_delta(delta: float, people: int) -> None:
    """Hold delta against the number of people it is promised to.

    At delta = 1 / people, publishing somebody drawn at random as a whole would keep the promise
    (Dwork & Roth 2014, section 2.3).

    Args:
        delta: probability with which the bound may fail.
        people: public number of people in the whole run, all stores together.

    Raises:
        SettingsError: `delta` is out of range, or at least 1 / people.
    """
    _check_delta(delta)
    if people < 1:
        raise SettingsError(f"A number of people is 1 or more, not {people}.")
    if delta * people >= 1:
        raise SettingsError(
            f"Delta {delta:g} is too large for {people:,} people: below 1 / people it promises "
            f"something, so choose {0.1 / people:.0e} or less."
        )


def calibrate_noise(
    *,
    epsilon: float,
    delta: float,
    sample_rate: float,
    steps: int,
    accountant: str = "rdp",
    compositions: int = 1,
    past: Sequence[Release] = (),
    discrete: bool = False,
) -> float:
    """The smallest noise multiplier (to 0.01%, 0.2 at least) that keeps `steps` steps within `epsilon`.

    Args:
        epsilon: budget of one person, with everything in `past`.
        delta: probability with which the bound may fail; below 1 over the number of people.
        sample_rate: see `Mechanism`.
        steps: all steps of the whole run.
        accountant: `rdp` or `prv`.
        compositions: in how many stores one person may take part; each spends its share.
        past: what was released about the same people before.
        discrete: see `Mechanism`.

    Raises:
        BudgetExhausted: `past` leaves nothing of `epsilon`.
        BudgetUnreachable: no finite noise reaches `epsilon`.
        SettingsError: a value out of range.
    """
    plan = [Mechanism(1.0, sample_rate, steps, discrete)]
    return calibrate_scale(
        plan,
        epsilon=epsilon,
        delta=delta,
        accountant=accountant,
        compositions=compositions,
        past=past,
    )


def calibrate_scale(
    plan: Sequence[Mechanism],
    *,
    epsilon: float,
    delta: float,
    accountant: str = "rdp",
    compositions: int = 1,
    past: Sequence[Release] = (),
) -> float:
    """The smallest factor (to 0.01%) on each noise multiplier of `plan` that keeps it within `epsilon`.

    For schedules whose noise or sample rate changes over the rounds; the rest as `calibrate_noise`.

    Raises:
        BudgetExhausted: `past` leaves nothing of `epsilon`.
        BudgetUnreachable: no finite noise reaches `epsilon`.
        SettingsError: a value out of range.
    """
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise SettingsError(f"A privacy budget epsilon is a number above 0, not {epsilon}.")
    _check_delta(delta)
    _check_accountant(accountant)
    if compositions < 1:
        raise SettingsError(f"A person is in at least one store, not {compositions}.")
    coming, _ = merged(m.times(compositions) for m in plan)
    if not coming:
        raise SettingsError("Calibrating noise needs at least one step.")
    gaussian, stated = merged(past)
    before = composed([*gaussian, stated], delta=delta, accountant=accountant)
    if not before < epsilon * (1 - _CRUMBS):
        raise BudgetExhausted(
            f"These people have lost epsilon {before:.3f} already, and {epsilon:g} is all they may: "
            "nothing is left to train with. Start with new people."
        )
    return _search(coming, gaussian, stated, epsilon, delta, accountant)


@lru_cache(maxsize=256)
def _search(
    plan: tuple[Mechanism, ...],
    past: tuple[Mechanism, ...],
    stated: Stated,
    epsilon: float,
    delta: float,
    accountant: str,
) -> float:
    from scipy.optimize import brentq

    def cost(log_factor: float) -> float:
        factor = math.exp(log_factor)
        scaled = [replace(m, noise_multiplier=m.noise_multiplier * factor) for m in plan]
        return composed([*past, *scaled, stated], delta=delta, accountant=accountant)

    def too_much(log_factor: float) -> float:  # above 0 where the budget is passed; near a line
        return math.log(max(cost(log_factor), 1e-12) / epsilon)

    noises = [m.noise_multiplier for m in plan]
    least, most = math.log(_LEAST_NOISE / min(noises)), math.log(_MOST_NOISE / max(noises))
    if cost(most) > epsilon:
        steps = sum(m.steps for m in plan)
        rates = ", ".join(f"{rate:g}" for rate in sorted({m.sample_rate for m in plan}))
        raise BudgetUnreachable(
            f"Epsilon {epsilon:g} at delta {delta:g} cannot be met in {steps} steps at sample rate "
            f"{rates}: train fewer rounds or steps, or allow a larger epsilon."
        )
    high = min(max(least, 0.0), most)
    while high < most and cost(high) > epsilon:
        high = min(high + math.log(2), most)
    low = high
    while low > least and cost(low) <= epsilon:
        low = max(low - math.log(1.5), least)
    if cost(low) <= epsilon:
        return math.exp(low)
    found = float(brentq(too_much, low, high, xtol=_PRECISION))
    while cost(found) > epsilon:  # the root is met from either side; the promise from one alone
        found += _PRECISION
    return math.exp(found)


def _check_accountant(accountant: str) -> None:
    if accountant not in ACCOUNTANTS:
        raise SettingsError(
            f"There is no accountant {accountant!r}; choose one of {', '.join(ACCOUNTANTS)}."
        )


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise SettingsError(f"A delta lies between 0 and 1, not {delta}.")
