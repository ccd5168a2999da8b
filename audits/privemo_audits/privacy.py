"""What privacy was spent: the claim, recomputed by other accountants, for the person most exposed.

GDPR 35(7): the report states unit, epsilon, delta, sampler, accountant and neighbour relation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from . import ledger
from .accounting import epsilon_of_curve, rdp_curve
from .heldout import measure_held_out, measured_elsewhere
from .report import Violation
from .report_privacy import LedgerRound, Privacy, StorePrivacy
from .runfiles import Line, Run
from .spending import Spend, delta_of, larger, spend_after_earlier, spend_of_set, spend_of_store


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
    held_out, unlike = measure_held_out(run)
    breaks = [v for s, lines in run.ledgers.items() for v in ledger.chain_breaks(s, lines)]
    breaks += [v for v in unlike if v.kind == "ledger_chain"]
    if not run.info.privacy.private:
        return _not_private(run, breaks), breaks
    sets, undeclared = _store_sets(run, observed_sets)
    singles = {s: spend_of_store(run, s) for s in run.info.stores}
    measured = measured_elsewhere(run)
    spends = {g: spend_of_set(run, g, singles, measured) for g in sets}
    found = [
        *breaks,
        *ledger.uncovered_updates(run),
        *ledger.foreign_entries(run),
        *ledger.thin_sums(run),
        *_underclaims(run, singles),
        *(v for v in unlike if v.kind != "ledger_chain"),
        *undeclared,
    ]
    privacy = _private(run, singles, spends, breaks)
    if held_out is not None:
        chain = ledger.chain_summary(breaks, run, sum(s.releases for s in held_out.stores))
        privacy = privacy.model_copy(update={"held_out": held_out, "ledger_chain": chain})
    return privacy, found


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
                recomputed_rdp=_finite(epsilon_of_curve(curve, delta_of(run))),
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
    earlier = ledger.of_other_runs(run)
    late = tuple(
        f"{s.store}: ledger entry {r.seq}, round {r.round}"
        for s in stores
        for r in s.rounds
        if not r.arrived and (s.store, r.seq) not in earlier
    )
    return Privacy(
        private=True,
        unbounded=math.isinf(bound),
        epsilon_max_person=_finite(bound),
        epsilon_budget=plan.epsilon_budget,
        delta=delta_of(run),
        unit=plan.unit,
        sampler=plan.sampler,
        neighbouring=plan.neighbouring,
        accountant=plan.accountant,
        noise_source=plan.noise_source,
        max_grad_norm=plan.max_grad_norm,
        normaliser=plan.normaliser,
        accountants={
            "rdp": _finite(max(larger(s.claimed_rdp, s.rdp) for s in spends.values())),
            "prv": _finite(max(larger(s.claimed_prv, s.pld) for s in spends.values())),
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
        notes=(*_NOTES, *_notes_on_earlier_runs(run, earlier)),
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


def _notes_on_earlier_runs(run: Run, entries: set[tuple[str, int]]) -> list[str]:
    notes = []
    if run.info.privacy.spent_before:
        before = spend_after_earlier(run, []).bound(run.info.privacy.accountant)
        notes.append(
            f"Epsilon counts what was spent on the same people before this run: {before:.3f}, as "
            "run.json states it. The budget file holds the whole account."
        )
    if entries:
        notes.append(
            f"Ledger entries of other runs of these stores: {len(entries)}. All of them count."
        )
    return notes


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
