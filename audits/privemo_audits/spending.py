"""Epsilon of one person: of a store's ledger alone, of several stores, and of earlier runs with them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import ledger
from .accounting import Release, epsilon_dp_accounting, epsilon_rdp
from .runfiles import Run
from .runschema import Earlier

#: Two exact computations of one quantity differ by rounding only.
ROUNDING = 1e-6
DEFAULT_DELTA = 1e-5


@dataclass(frozen=True)
class Spend:
    """Epsilon of the releases of one set of stores, by each accountant; inf = unbounded."""

    claimed_rdp: float | None
    claimed_prv: float | None
    rdp: float
    dp_rdp: float
    pld: float

    def bound(self, accountant: str) -> float:
        """The larger of claimed and recomputed, by the accountant the budget is written in."""
        if accountant == "prv":
            return larger(self.claimed_prv, self.pld)
        return larger(self.claimed_rdp, self.rdp)


def delta_of(run: Run) -> float:
    """The delta that every epsilon of this run is stated at."""
    return run.info.privacy.delta or DEFAULT_DELTA


def spend_of_store(run: Run, store: str) -> Spend:
    """Of one store's own ledger: what it claims, and what its entries cost."""
    lines = run.ledgers[store]
    done = ledger.releases(lines)
    last = lines[-1].entry if lines else None
    return Spend(
        claimed_rdp=last.epsilon_rdp if last else 0.0,
        claimed_prv=last.epsilon_prv if last else 0.0,
        rdp=epsilon_rdp(done, delta_of(run)),
        dp_rdp=epsilon_dp_accounting(done, delta_of(run), "rdp"),
        pld=epsilon_dp_accounting(done, delta_of(run), "pld"),
    )


def spend_of_set(
    run: Run,
    group: tuple[str, ...],
    singles: dict[str, Spend],
    measured: Mapping[str, Sequence[Release]] | None = None,
) -> Spend:
    """Compose a set's ledgers, and what was spent on the same people before the run.

    No store can claim for the others or for earlier runs: only one store alone, of people who are new,
    claims. `measured` is what stores released, in other runs, of people whom they measured.
    """
    before = [r for s in group for r in (measured or {}).get(s, ())]
    if len(group) == 1 and not run.info.privacy.spent_before and not before:
        return singles[group[0]]
    done = [*before, *(r for s in group for r in ledger.releases(run.ledgers[s]))]
    if len(group) > 1 and any(release.discrete for release in done):
        # In several stores of one secure sum a person moves it several times: nothing bounds that here.
        return Spend(None, None, math.inf, math.inf, math.inf)
    return spend_after_earlier(run, done)


def spend_after_earlier(run: Run, done: Sequence[Release]) -> Spend:
    """Of `done` after all that came before. What is only stated is added: its epsilon and its delta."""
    before = run.info.privacy.spent_before
    whole = [*_gaussian(before), *done]
    epsilon = math.fsum(b.epsilon for b in before if b.epsilon is not None)
    left = delta_of(run) - math.fsum(b.delta for b in before)
    if left <= 0:
        return Spend(None, None, math.inf, math.inf, math.inf)
    return Spend(
        claimed_rdp=None,
        claimed_prv=None,
        rdp=epsilon + epsilon_rdp(whole, left),
        dp_rdp=epsilon + epsilon_dp_accounting(whole, left, "rdp"),
        pld=epsilon + epsilon_dp_accounting(whole, left, "pld"),
    )


def _gaussian(before: Sequence[Earlier]) -> list[Release]:
    return [
        Release(b.noise_multiplier, b.sample_rate, b.steps, b.discrete)
        for b in before
        if b.noise_multiplier is not None and b.sample_rate is not None and b.steps is not None
    ]


def larger(claimed: float | None, recomputed: float) -> float:
    """The larger of the two; a difference of rounding leaves the claim as it is."""
    if claimed is None:
        return recomputed
    return claimed if recomputed <= claimed * (1 + ROUNDING) else recomputed
