"""What privacy was spent: the claim, recomputed by other accountants, for the person most exposed.

GDPR 35(7): the report states unit, epsilon, delta, sampler, accountant and neighbour relation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from . import ledger
from .accounting import Release, epsilon_dp_accounting, epsilon_of_curve, epsilon_rdp, rdp_curve
from .report import LedgerRound, Privacy, StorePrivacy, Violation
from .runfiles import Line, Run

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
            return _larger(self.claimed_prv, self.pld)
        return _larger(self.claimed_rdp, self.rdp)


def measure_privacy(
    run: Run, observed_sets: Sequence[frozenset[str]] = ()
) -> tuple[Privacy, list[Violation]]:
    """Recompute the privacy spend from the ledgers.

    Args:
        run: the run.
        observed_sets: sets of stores in which one and the same person was seen in use; those that
            the run does not declare are accounted too.

    Returns:
        The privacy block, and what was found wrong: chain breaks, arrived updates without an
        entry, claims below the recomputed epsilon, undeclared sets of stores.
    """
    breaks = [v for s, lines in run.ledgers.items() for v in ledger.chain_breaks(s, lines)]
    if not run.info.privacy.private:
        return _not_private(run, breaks), breaks
    sets, undeclared = _store_sets(run, observed_sets)
    singles = {s: _spend_of_store(run, s) for s in run.info.stores}
    spends = {g: _spend_of_set(run, g, singles) for g in sets}
    found = [
        *breaks,
        *ledger.uncovered_updates(run),
        *ledger.foreign_entries(run),
        *_underclaims(run, singles),
        *undeclared,
    ]
    return _private(run, singles, spends, breaks), found


def _delta(run: Run) -> float:
    return run.info.privacy.delta or DEFAULT_DELTA


def _spend_of_store(run: Run, store: str) -> Spend:
    lines = run.ledgers[store]
    done = ledger.releases(lines)
    last = lines[-1].entry if lines else None
    return Spend(
        claimed_rdp=last.epsilon_rdp if last else 0.0,
        claimed_prv=last.epsilon_prv if last else 0.0,
        rdp=epsilon_rdp(done, _delta(run)),
        dp_rdp=epsilon_dp_accounting(done, _delta(run), "rdp"),
        pld=epsilon_dp_accounting(done, _delta(run), "pld"),
    )


def _spend_of_set(run: Run, group: tuple[str, ...], singles: dict[str, Spend]) -> Spend:
    """Compose a set's ledgers; no store can claim for the others, so only one store alone claims."""
    if len(group) == 1:
        return singles[group[0]]
    done: list[Release] = [r for s in group for r in ledger.releases(run.ledgers[s])]
    return Spend(
        claimed_rdp=None,
        claimed_prv=None,
        rdp=epsilon_rdp(done, _delta(run)),
        dp_rdp=epsilon_dp_accounting(done, _delta(run), "rdp"),
        pld=epsilon_dp_accounting(done, _delta(run), "pld"),
    )


def _store_sets(
    run: Run, observed: Sequence[frozenset[str]]
) -> tuple[list[tuple[str, ...]], list[Violation]]:
    """Every set of stores to account for one person, and the observed ones nobody declared.

    Every store alone is always accounted: its own people are exposed to it.
    """
    declared = {frozenset(s) for s in run.info.store_sets} | {
        frozenset([s]) for s in run.info.stores
    }
    extra = [s for s in observed if not any(s <= d for d in declared)]
    violations = [
        Violation(
            kind="undeclared_store_set",
            store=" + ".join(sorted(s)),
            round=None,
            person=None,
            detail="someone was used in all of these stores, but run.json does not declare it",
        )
        for s in extra
    ]
    most = run.info.privacy.max_stores_per_person
    violations += [
        Violation(
            kind="too_many_stores",
            store=" + ".join(sorted(s)),
            round=None,
            person=None,
            detail=f"{len(s)} stores for one person; the run promises at most {most}",
        )
        for s in sorted(declared, key=sorted)
        if len(s) > most
    ]
    known = set(run.info.stores)
    groups = sorted(tuple(sorted(s & known)) for s in {*declared, *extra} if s & known)
    return groups, violations


def _underclaims(run: Run, singles: dict[str, Spend]) -> list[Violation]:
    """A claim below what the releases cost. PLD is tight, so no true claim lies below it."""
    found = []
    for store, spend in singles.items():
        pairs = (
            ("rdp", spend.claimed_rdp, spend.rdp),
            ("prv", spend.claimed_prv, spend.pld),
        )
        for name, claimed, recomputed in pairs:
            low = claimed is not None and claimed < recomputed * (1 - 1e-3) - 1e-6
            if low or (claimed is None and name == run.info.privacy.accountant):
                says = "claims nothing" if claimed is None else f"claims {claimed:.4f}"
                found.append(
                    Violation(
                        kind="epsilon_underclaimed",
                        store=store,
                        round=None,
                        person=None,
                        detail=f"the ledger {says} by {name}, its entries cost {recomputed:.4f}",
                    )
                )
        found += _round_underclaims(run, store)
    return found


def _round_underclaims(run: Run, store: str) -> list[Violation]:
    return [
        Violation(
            kind="epsilon_underclaimed",
            store=store,
            round=r.round,
            person=None,
            detail=f"ledger entry {r.seq} claims {r.epsilon_rdp:.4f} by rdp so far, "
            f"the entries cost {r.recomputed_rdp:.4f}",
        )
        for r in _rounds(run, store)[:-1]  # the last is judged with the store
        if r.epsilon_rdp is not None
        and r.recomputed_rdp is not None
        and r.epsilon_rdp < r.recomputed_rdp * (1 - 1e-3) - 1e-6
    ]


def _rounds(run: Run, store: str) -> list[LedgerRound]:
    done: list[Line] = []
    out = []
    curve = rdp_curve([])
    for line in run.ledgers[store]:
        done.append(line)
        entry = line.entry
        curve = curve + rdp_curve(ledger.releases([line]))
        out.append(
            LedgerRound(
                seq=entry.seq,
                round=entry.round,
                steps=entry.steps,
                noise_multiplier=entry.noise_multiplier,
                sample_rate=entry.sample_rate,
                epsilon_rdp=entry.epsilon_rdp,
                epsilon_prv=entry.epsilon_prv,
                recomputed_rdp=_finite(epsilon_of_curve(curve, _delta(run))),
                arrived=ledger.arrived(run, store, line),
            )
        )
    return out


def _private(
    run: Run,
    singles: dict[str, Spend],
    spends: dict[tuple[str, ...], Spend],
    breaks: list[Violation],
) -> Privacy:
    plan = run.info.privacy
    worst = max(spends, key=lambda g: (spends[g].bound(plan.accountant), -len(g)))
    bound = spends[worst].bound(plan.accountant)
    stores = tuple(
        StorePrivacy(
            store=s,
            epsilon_rdp=spend.claimed_rdp,
            epsilon_prv=spend.claimed_prv,
            recomputed_rdp=_finite(spend.rdp),
            recomputed_pld=_finite(spend.pld),
            rounds=tuple(_rounds(run, s)),
        )
        for s, spend in singles.items()
    )
    late = tuple(
        f"{s.store}: ledger entry {r.seq}, round {r.round}"
        for s in stores
        for r in s.rounds
        if not r.arrived
    )
    return Privacy(
        private=True,
        unbounded=math.isinf(bound),
        epsilon_max_person=_finite(bound),
        epsilon_budget=plan.epsilon_budget,
        delta=_delta(run),
        unit=plan.unit,
        sampler=plan.sampler,
        neighbouring=plan.neighbouring,
        accountant=plan.accountant,
        noise_source=plan.noise_source,
        max_grad_norm=plan.max_grad_norm,
        normaliser=plan.normaliser,
        accountants={
            "rdp": _finite(max(_larger(s.claimed_rdp, s.rdp) for s in spends.values())),
            "prv": _finite(max(_larger(s.claimed_prv, s.pld) for s in spends.values())),
        },
        recomputed={
            "rdp": _finite(max(s.dp_rdp for s in spends.values())),
            "pld": _finite(max(s.pld for s in spends.values())),
            "rdp_quadrature": _finite(max(s.rdp for s in spends.values())),
        },
        most_exposed_stores=worst,
        store_sets=tuple(spends),
        stores=stores,
        ledger_chain=ledger.chain_summary(breaks, run),
        released_not_arrived=late,
        notes=_NOTES,
    )


def _not_private(run: Run, breaks: list[Violation]) -> Privacy:
    return Privacy(
        private=False,
        unbounded=True,
        epsilon_max_person=None,
        epsilon_budget=None,
        delta=None,
        unit=None,
        sampler=None,
        neighbouring=None,
        accountant=None,
        noise_source=None,
        max_grad_norm=None,
        normaliser=None,
        accountants={"rdp": None, "prv": None},
        recomputed={"rdp": None, "pld": None, "rdp_quadrature": None},
        most_exposed_stores=(),
        store_sets=(),
        stores=(),
        ledger_chain=ledger.chain_summary(breaks, run),
        released_not_arrived=(),
        notes=("This run was not private: no noise was added, and there is no privacy guarantee.",),
    )


_NOTES = (
    (
        "The claim for the person most exposed is the largest that the stores state, or the "
        "recomputed value where that is larger, or where someone is in several stores and no store "
        "can claim for the others."
    ),
    (
        "Claims by the RDP accountant are held against the exact Renyi divergence, by quadrature. "
        "dp-accounting's own RDP accountant lies up to about 0.3% above it at fractional orders; its "
        "PLD accountant is the tightest upper bound."
    ),
    "Releases whose update never reached the server count in full.",
)


def _larger(claimed: float | None, recomputed: float) -> float:
    """The larger of the two; a difference of rounding leaves the claim as it is."""
    if claimed is None:
        return recomputed
    return claimed if recomputed <= claimed * (1 + ROUNDING) else recomputed


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
