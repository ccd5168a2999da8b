"""A store's ledger: is its hash chain whole, and does it cover every update that arrived?"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import rfc8785

from .accounting import Release
from .report import Violation
from .report_privacy import LedgerChain
from .runfiles import Line, Run

FIRST = "0" * 64
MECHANISM = "poisson_subsampled_gaussian"
SHARED = "poisson_subsampled_discrete_gaussian_sum"


def entry_hash(raw: dict[str, object]) -> str:
    """SHA-256 hex over the RFC 8785 bytes of a ledger entry without its `hash`."""
    body = {key: value for key, value in raw.items() if key != "hash"}
    return hashlib.sha256(rfc8785.dumps(body)).hexdigest()  # type: ignore[arg-type]


def chain_breaks(store: str, lines: Sequence[Line]) -> list[Violation]:
    """Name every entry whose own hash, whose link to the one before, or whose number is wrong."""
    found: list[Violation] = []
    previous = FIRST
    for number, line in enumerate(lines):
        entry = line.entry
        faults = []
        if entry_hash(line.raw) != entry.hash:
            faults.append(
                "its content does not match its hash: it was changed after it was written"
            )
        if entry.prev != previous:
            faults.append("it does not follow the entry before it: one was removed, added or moved")
        if entry.seq != number:
            faults.append(f"it is numbered {entry.seq}, {number} was due")
        found += [
            _violation("ledger_chain", store, entry.round, f"ledger entry {number}: {fault}")
            for fault in faults
        ]
        previous = entry.hash
    return found


def chain_summary(breaks: Sequence[Violation], run: Run, other: int = 0) -> LedgerChain:
    """Summarise the breaks of all stores; `other` entries stand in ledgers of another kind."""
    return LedgerChain(
        intact=not breaks,
        entries=other + sum(len(lines) for lines in run.ledgers.values()),
        breaks=tuple(f"{b.store}: {b.detail}" for b in breaks),
    )


def uncovered_updates(run: Run) -> list[Violation]:
    """Name every update that reached the server and stands in no ledger: spent, not accounted."""
    if not run.info.privacy.private:
        return []
    found = []
    for item in run.rounds:
        for store, did in sorted(item.stores.items()):
            if did.status != "trained":
                continue
            known = {(line.entry.round, line.entry.update_sha256) for line in run.ledgers[store]}
            if (item.round, did.update_sha256) not in known:
                found.append(
                    _violation(
                        "update_without_ledger_entry",
                        store,
                        item.round,
                        f"update {str(did.update_sha256)[:12]} arrived, but no ledger entry "
                        "accounts for it",
                    )
                )
    return found


def thin_sums(run: Run) -> list[Violation]:
    """Name every entry whose noise was to come from several stores, and did not come from so many."""
    sums = {item.round: item.secure_sum for item in run.rounds}
    found = _unlike(run)
    for store, lines in run.ledgers.items():
        for line in lines:
            entry = line.entry
            if entry.mechanism != SHARED or not arrived(run, store, line):
                continue
            one = sums[entry.round]
            if one is None or store not in one.summed:
                fault = "arrived by itself, under no more than its own share of the noise"
            elif len(one.summed) < entry.noise_stores:
                fault = (
                    f"was in a sum of {len(one.summed)} stores, and its noise is whole from "
                    f"{entry.noise_stores} on"
                )
            else:
                continue
            found.append(
                _violation(
                    "noise_not_whole", store, entry.round, f"ledger entry {entry.seq} {fault}"
                )
            )
    return found


def _unlike(run: Run) -> list[Violation]:
    """Entries of one sum that state other noise or another rate than the sum's other entries.

    The noise of a sum is that of all its stores: one that added less left all of them with less.
    """
    kinds: dict[int, dict[tuple[float, float, int], list[str]]] = {}
    for store, lines in run.ledgers.items():
        for line in lines:
            e = line.entry
            if e.mechanism == SHARED and arrived(run, store, line):
                kind = (e.noise_multiplier, e.sample_rate, e.noise_stores)
                kinds.setdefault(e.round, {}).setdefault(kind, []).append(store)
    return [
        _violation(
            "noise_not_whole",
            " + ".join(sorted(stores)),
            number,
            f"in one sum stores added noise of {len(found)} kinds; here multiplier {kind[0]:g} at rate "
            f"{kind[1]:g}",
        )
        for number, found in sorted(kinds.items())
        if len(found) > 1
        for kind, stores in sorted(found.items())
    ]


def foreign_entries(run: Run) -> list[Violation]:
    """Name every entry that is not a person-level release of this store under the declared delta."""
    found = []
    plan = run.info.privacy
    for store, lines in run.ledgers.items():
        for line in lines:
            entry = line.entry
            faults = []
            if entry.store != store:
                faults.append(f"belongs to store {entry.store!r}")
            if entry.mechanism not in (MECHANISM, SHARED):
                faults.append(
                    f"states the mechanism {entry.mechanism!r}, which cannot be recomputed"
                )
            if plan.unit is not None and entry.unit != plan.unit:
                faults.append(f"protects a {entry.unit!r}, the run promises a {plan.unit!r}")
            if plan.delta is not None and entry.delta > plan.delta * (1 + 1e-9):
                faults.append(f"has delta {entry.delta:g}, the run promises {plan.delta:g}")
            found += [
                _violation("ledger_entry", store, entry.round, f"ledger entry {entry.seq} {fault}")
                for fault in faults
            ]
    return found


def arrived(run: Run, store: str, line: Line) -> bool:
    """Whether the update of a ledger entry reached the server."""
    entry = line.entry
    return any(
        item.round == entry.round
        and store in item.stores
        and item.stores[store].update_sha256 == entry.update_sha256
        for item in run.rounds
    )


def of_other_runs(run: Run) -> set[tuple[str, int]]:
    """Store and number of each entry of another run: a store's ledger outlives its runs."""
    return {
        (store, line.entry.seq)
        for store, lines in run.ledgers.items()
        for line in lines
        if line.entry.run_id != run.info.run_id
    }


def releases(lines: Sequence[Line]) -> list[Release]:
    """What the entries released, arrived or not: a release counts once it is written."""
    return [
        Release(e.noise_multiplier, e.sample_rate, e.steps, e.mechanism == SHARED)
        for e in (line.entry for line in lines)
    ]


def _violation(kind: str, store: str, number: int, detail: str) -> Violation:
    return Violation(kind=kind, store=store, round=number, person=None, detail=detail)
