"""What the people who were measured lost by noised counts and choices: their ledger, read and recomputed.

They are other people than those trained on (`data.held_out` checks it), so what they lost is composed apart,
with what was spent on anybody before the run. Three accountants again: Renyi divergence by quadrature at
whole orders; dp-accounting's accountant of the same; and, where each store added its own noise,
dp-accounting's privacy loss distribution of the discrete Gaussian itself, composed over the tables in which a
person counts.

A choice by the exponential mechanism changes the odds between any two things by exp(epsilon) at most, and has
at most the Renyi divergence of the Gaussian mechanism with a noise multiplier of 2 / epsilon (Cesar & Rogers
2021, arXiv:2004.07223); its entry holds that number as `scale` over `resolution`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

from pydantic import Field

from .accounting import Release, epsilon_dp_accounting, epsilon_rdp
from .errors import MissingExtraError, RunFilesError
from .ledger import FIRST, entry_hash
from .report import Violation
from .report_privacy import HeldOutPrivacy, HeldOutStore
from .runfiles import Run, read_head, read_lines
from .runschema import Hex, Part
from .spending import ROUNDING, Spend, delta_of, spend_after_earlier

__all__ = ["measure_held_out", "measured_elsewhere"]

ONE, SUM, CHOICE = "discrete_gaussian", "discrete_gaussian_sum", "exponential"
NARROWEST = 20
"""Least scale from which on a sum of discrete Gaussians is as private as a Gaussian (arXiv:2102.06387)."""

SLACK = 1e-3

FILE, HEAD_FILE = "heldout-ledger.jsonl", "heldout-ledger.head"


class HeldOutEntry(Part):
    """One line of the ledger: one release of noised counts, or one choice."""

    schema_: Literal["privemo.heldout-ledger/1"] = Field(alias="schema")
    seq: int
    store: str
    run_id: str
    mechanism: str
    unit: str
    tables: int = Field(ge=1, le=10**4)
    resolution: int = Field(ge=1, le=2**20)
    scale: int = Field(ge=1, le=2**20)
    noise_stores: int = Field(ge=1, le=10**4)
    noise_multiplier: float = Field(gt=0)
    delta: float = Field(gt=0, lt=1)
    epsilon_rdp: float = Field(ge=0)
    epsilon_prv: float = Field(ge=0)
    prev: Hex
    hash: Hex

    @property
    def computed_multiplier(self) -> float:
        """Scale of the noise that is there for certain, over the most that one person moves the counts."""
        return math.sqrt(self.noise_stores / self.tables) * self.scale / self.resolution


Lines = Sequence[tuple[dict[str, Any], HeldOutEntry]]
"""Each line as read, for its hash covers every key of it, and as understood."""


def measure_held_out(run: Run) -> tuple[HeldOutPrivacy | None, list[Violation]]:
    """Recompute what was lost by noised counts and choices; None where no store ever released any.

    Returns:
        The block of the report, and what was found wrong: breaks of the chain, entries that cannot be
        recomputed or do not belong there, claims below what the entries cost.
    """
    read = {s: read_lines(run, f"stores/{s}/{FILE}", HeldOutEntry) for s in run.info.stores}
    found = [v for store, lines in read.items() for v in _breaks(run, store, lines)]
    ledgers = {store: lines for store, lines in read.items() if lines}
    if not ledgers:
        return None, found
    stores = []
    for store, lines in ledgers.items():
        found += _foreign(run, store, lines)
        found += _underclaims(run, store, lines)
        stores.append(_told(run, store, lines))
    accountant = run.info.privacy.accountant
    worst = max(_spend(run, lines).bound(accountant) for lines in ledgers.values())
    block = HeldOutPrivacy(
        epsilon_max_person=worst if math.isfinite(worst) else None,
        epsilon_budget=run.info.privacy.epsilon_budget,
        delta=delta_of(run),
        stores=tuple(stores),
    )
    return block, found


def measured_elsewhere(run: Run) -> dict[str, list[Release]]:
    """What stores released of people whom they measured in other runs: in this one they may be trained on."""
    read = {s: read_lines(run, f"stores/{s}/{FILE}", HeldOutEntry) for s in run.info.stores}
    return {
        store: _releases([line for line in lines if line[1].run_id != run.info.run_id])
        for store, lines in read.items()
    }


def _told(run: Run, store: str, lines: Lines) -> HeldOutStore:
    last, delta = lines[-1][1], delta_of(run)
    return HeldOutStore(
        store=store,
        releases=len(lines),
        mechanisms=tuple(sorted({entry.mechanism for _, entry in lines})),
        epsilon_rdp=last.epsilon_rdp,
        recomputed_rdp=_finite(epsilon_rdp(_releases(lines), delta)),
        recomputed_pld=_finite(_pld(lines, delta)),
    )


def _releases(lines: Lines) -> list[Release]:
    """What entries released, by the noise that they say was drawn and not by what they say of it."""
    return [Release(entry.computed_multiplier, 1.0, 1, discrete=True) for _, entry in lines]


def _spend(run: Run, lines: Lines) -> Spend:
    """Of one person, who was measured in as many stores as agreed, after all that came before."""
    several = run.info.privacy.max_stores_per_person
    if several > 1 and any(entry.mechanism == SUM for _, entry in lines):
        return Spend(None, None, math.inf, math.inf, math.inf)  # one sum, moved several times
    done = _releases(lines) * several
    spend = spend_after_earlier(run, done)
    if run.info.privacy.spent_before or several > 1:
        return spend
    last = lines[-1][1]
    return Spend(last.epsilon_rdp, last.epsilon_prv, spend.rdp, spend.dp_rdp, spend.pld)


def _pld(lines: Lines, delta: float) -> float:
    """Epsilon by dp-accounting; by the discrete Gaussian itself where no noise was shared."""
    entries = [entry for _, entry in lines]
    if any(e.mechanism != ONE for e in entries):
        return epsilon_dp_accounting(_releases(lines), delta, "pld")
    kinds = Counter((e.scale, e.resolution) for e in entries for _ in range(e.tables))
    return _discrete_pld(tuple(sorted(kinds.items())), delta)


@lru_cache(maxsize=256)
def _discrete_pld(kinds: tuple[tuple[tuple[int, int], int], ...], delta: float) -> float:
    """Epsilon of so many numbers, each moved by `resolution` under noise of `scale`.

    Raises:
        MissingExtraError: dp-accounting is not installed.
    """
    try:
        from dp_accounting.pld import privacy_loss_distribution as pld
    except ImportError as error:
        raise MissingExtraError.of(error.name) from error
    whole = pld.identity(value_discretization_interval=1e-3)
    for (scale, resolution), times in kinds:
        one = pld.from_discrete_gaussian_mechanism(
            scale,
            sensitivity=resolution,
            value_discretization_interval=1e-3,
            use_connect_dots=True,
        )
        whole = whole.compose(one.self_compose(times))
    return float(whole.get_epsilon_for_delta(delta))


def _underclaims(run: Run, store: str, lines: Lines) -> list[Violation]:
    """Claims below what the entries so far cost, at the delta of the run."""
    found = []
    for number, (_, entry) in enumerate(lines):
        cost = epsilon_rdp(_releases(lines[: number + 1]), delta_of(run))
        for name, claimed in (("rdp", entry.epsilon_rdp), ("prv", entry.epsilon_prv)):
            least = cost if name == "rdp" else _pld(lines[: number + 1], delta_of(run))
            if claimed < least * (1 - SLACK) - ROUNDING:
                found.append(
                    _violation(
                        "epsilon_underclaimed",
                        store,
                        f"held-out ledger entry {number} claims {claimed:.4f} by {name}, the entries so far "
                        f"cost {least:.4f}",
                    )
                )
    return found


def _foreign(run: Run, store: str, lines: Lines) -> list[Violation]:
    """Entries that are no release about this store's people under the declared delta."""
    found, plan = [], run.info.privacy
    for number, (_, e) in enumerate(lines):
        faults = []
        if e.store != store:
            faults.append(f"belongs to store {e.store!r}")
        if e.mechanism not in (ONE, SUM, CHOICE):
            faults.append(f"states the mechanism {e.mechanism!r}, which cannot be recomputed")
        if e.unit != "person":
            faults.append(f"protects a {e.unit!r} and no person")
        if plan.delta is not None and e.delta > plan.delta * (1 + 1e-9):
            faults.append(f"has delta {e.delta:g}, the run promises {plan.delta:g}")
        faults += _wrong_tables(run, e)
        if e.noise_multiplier > e.computed_multiplier * (1 + 1e-9):
            faults.append(
                f"states a noise multiplier of {e.noise_multiplier:.4g}, and its noise makes "
                f"{e.computed_multiplier:.4g}"
            )
        if (e.mechanism == SUM) != (e.noise_stores > 1):
            faults.append(f"is of {e.mechanism} and of {e.noise_stores} stores' noise")
        if e.mechanism == SUM and (
            e.scale < NARROWEST or 2 * e.noise_stores <= len(run.info.stores)
        ):
            faults.append("shares its noise so that no bound is proved")
        found += [
            _violation("ledger_entry", store, f"held-out ledger entry {number} {fault}")
            for fault in faults
        ]
    return found


def _wrong_tables(run: Run, e: HeldOutEntry) -> list[str]:
    """How often a person counts is how far they move what was released."""
    if e.mechanism == CHOICE:
        return [] if e.tables == 1 else [f"lets a person speak {e.tables} times in one choice"]
    if e.run_id == run.info.run_id and e.tables < 1 + len(run.info.sensitive):
        return [f"counts a person in {e.tables} tables, and the run has more"]
    return []


def _breaks(run: Run, store: str, lines: Lines) -> list[Violation]:
    """Name every entry that was changed, removed, added or moved, and entries that are gone from the end."""
    found, previous = [], FIRST
    for number, (raw, entry) in enumerate(lines):
        faults = []
        if entry_hash(raw) != entry.hash:
            faults.append(
                "its content does not match its hash: it was changed after it was written"
            )
        if entry.prev != previous:
            faults.append("it does not follow the entry before it: one was removed, added or moved")
        if entry.seq != number:
            faults.append(f"it is numbered {entry.seq}, {number} was due")
        found += [
            _violation("ledger_chain", store, f"held-out ledger entry {number}: {fault}")
            for fault in faults
        ]
        previous = entry.hash
    return [*found, *_cut_off(run, store, lines)]


def _cut_off(run: Run, store: str, lines: Lines) -> list[Violation]:
    """The ledger may be longer than its head file says (a crash in between), never shorter."""
    found = []
    try:
        head = read_head(run, f"stores/{store}/{HEAD_FILE}")
    except RunFilesError:
        return [_violation("ledger_chain", store, f"{HEAD_FILE} cannot be read")]
    if head is None:
        detail = f"{HEAD_FILE} is missing: nobody can tell whether entries were cut off the end"
        return [_violation("ledger_chain", store, detail)] if lines else []
    entries, last = head
    if len(lines) < entries or (entries and lines[entries - 1][1].hash != last):
        detail = f"the held-out ledger ends before entry {entries - 1}, which was written"
        found.append(_violation("ledger_chain", store, detail))
    return found


def _violation(kind: str, store: str, detail: str) -> Violation:
    return Violation(kind=kind, store=store, round=None, person=None, detail=detail)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
