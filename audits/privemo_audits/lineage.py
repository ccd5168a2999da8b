"""Every recorded use of a face against the consent log of its moment (GDPR 7(1); AI Act 10(2)).

The state of a person is derived here from the log's events alone, by a replay of its own: the gate
that admitted the face is what is being audited, so nothing of it is asked.

A use may stand only if, among the events the use names (`log_seq` of them), the latest for this
person and purpose is ConsentGiven or RenewedConsentGiven, had begun, had not run out, and is no
employee's or student's; and if no withdrawal had been written before the batch was used, whatever
snapshot the batch relied on. Minors and people of unknown age have no record to find.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .consent_log import ConsentLog, UsedBatch
from .report import Lineage, Violation
from .runfiles import Run
from .timeline import ENDED, Timeline
from .upkeep import upkeep_faults

if TYPE_CHECKING:
    import pandas as pd

LISTED = 1000
TRAINING = "training"
FAIRNESS_AUDIT = "fairness_audit"


@dataclass
class StoreFindings:
    """What the replay of one store found."""

    violations: list[Violation] = field(default_factory=list)
    uses: Counter[str] = field(default_factory=Counter)
    persons: set[str] = field(default_factory=set)
    trained: set[str] = field(default_factory=set)
    rounds_used: set[int] = field(default_factory=set)
    withdrawals: int = 0
    honoured: int = 0
    late_batches: list[int] = field(default_factory=list)
    registry_people: int = 0
    predictions: int = 0


def measure_lineage(
    run: Run, logs: dict[str, ConsentLog], predictions: pd.DataFrame
) -> tuple[Lineage, list[Violation], list[frozenset[str]]]:
    """Hold every use, and every prediction, against the consent logs.

    Args:
        run: the run.
        logs: store -> its consent log.
        predictions: the joined table of held-out faces (store, person, ...).

    Returns:
        The lineage block, every violation, and the sets of several stores that one person was
        used in.
    """
    found: dict[str, StoreFindings] = {}
    read = {str(s): sorted(set(p)) for s, p in predictions.groupby("store")["person"]}
    for store in run.info.stores:
        timeline = Timeline.of(logs[store].events)
        one = found[store] = _replay(run, store, logs[store], timeline)
        _check_predictions(run, store, timeline, read.get(store, []), one)
        _check_rounds(run, store, logs[store], one)
    violations = [v for one in found.values() for v in one.violations]
    violations += [v for store in run.info.stores for v in upkeep_faults(store, logs[store].upkeep)]
    violations += _seen_in_training(predictions, found)
    return _summary(run, logs, found, violations), violations, _shared(found)


def _replay(run: Run, store: str, log: ConsentLog, timeline: Timeline) -> StoreFindings:
    out = StoreFindings(registry_people=len(timeline.people))
    mine = [use for use in log.uses if use.run == run.info.run_id and use.store == store]
    for use in mine:
        out.rounds_used.add(use.round)
        for person in use.persons:
            out.uses[use.purpose] += 1
            out.persons.add(person)
            if use.purpose == TRAINING:
                out.trained.add(person)
            fault = timeline.fault(person, use.purpose, use.log_seq, use.at)
            if fault is not None:
                out.violations.append(_use_violation(store, use, person, fault))
        if use.log_seq > log.size:
            out.violations.append(
                Violation(
                    kind="unknown_log_state",
                    store=store,
                    round=use.round,
                    person=None,
                    detail=f"batch {use.batch} names {use.log_seq} log entries, "
                    f"the log has {log.size}",
                )
            )
    _withdrawals(timeline, mine, out)
    for use in log.uses:
        if use.run == run.info.run_id and use.store != store:
            out.violations.append(
                Violation(
                    kind="foreign_use",
                    store=store,
                    round=use.round,
                    person=None,
                    detail=f"batch {use.batch} is recorded for store {use.store}",
                )
            )
    return out


def _use_violation(store: str, use: UsedBatch, person: str, fault: tuple[str, str]) -> Violation:
    kind, words = fault
    return Violation(
        kind=kind,
        store=store,
        round=use.round,
        person=person,
        detail=f"used for {use.purpose} in batch {use.batch} at "
        f"{use.at:%Y-%m-%dT%H:%M:%SZ}, but {words}",
    )


def _withdrawals(timeline: Timeline, uses: Sequence[UsedBatch], out: StoreFindings) -> None:
    """Count, for each withdrawal, the batches in which the person was still used."""
    ended = [
        (event, following)
        for events in timeline.events.values()
        for event, following in zip(events, [*events[1:], None], strict=True)
        if event.status in ENDED
    ]
    out.withdrawals = len(ended)
    if not ended:
        return
    of_interest = {(e.person, e.purpose) for e, _ in ended}
    used: dict[tuple[str, str], list[UsedBatch]] = defaultdict(list)
    for use in uses:
        for person in use.persons:
            if (person, use.purpose) in of_interest:
                used[person, use.purpose].append(use)
    for event, following in ended:
        late = sum(
            (use.log_seq > event.seq or use.at > event.recorded)
            and (following is None or use.at < following.recorded)
            for use in used[event.person, event.purpose]
        )
        if late:
            out.late_batches.append(late)
        else:
            out.honoured += 1


def _check_predictions(
    run: Run, store: str, timeline: Timeline, people: Sequence[str], out: StoreFindings
) -> None:
    """Whoever was read for the audit must have agreed to FAIRNESS_AUDIT when the gate was asked."""
    out.predictions = len(people)
    asked = [a for a in run.admissions[store] if a.purpose == FAIRNESS_AUDIT]
    if people and not asked:
        out.violations.append(
            Violation(
                kind="read_without_gate",
                store=store,
                round=None,
                person=None,
                detail=f"{len(people)} people were read for the audit, "
                "but the gate was never asked for fairness_audit",
            )
        )
        return
    for person in people:
        faults = [timeline.fault(person, FAIRNESS_AUDIT, a.log_seq, a.at) for a in asked]
        if None in faults:
            continue
        kind, words = faults[-1] or ("", "")
        out.violations.append(
            Violation(
                kind=kind,
                store=store,
                round=asked[-1].round,
                person=person,
                detail=f"read for the fairness audit, but {words}",
            )
        )


def _check_rounds(run: Run, store: str, log: ConsentLog, out: StoreFindings) -> None:
    """A store that trained must have recorded whom it used, and named a true state of its log."""
    for item in run.rounds:
        did = item.stores.get(store)
        if did is None:
            continue
        if did.status == "trained" and item.round not in out.rounds_used:
            out.violations.append(
                Violation(
                    kind="uses_not_recorded",
                    store=store,
                    round=item.round,
                    person=None,
                    detail="an update was trained, but whose faces were used was not recorded",
                )
            )
        fault = log.root_fault(did.consent_log_seq, did.consent_log_root)
        if fault is not None:
            out.violations.append(
                Violation(kind="log_root", store=store, round=item.round, person=None, detail=fault)
            )


def _seen_in_training(
    predictions: pd.DataFrame, found: dict[str, StoreFindings]
) -> list[Violation]:
    """Nobody may be both trained on and measured: the accuracy would flatter the model."""
    trained = set().union(*(one.trained for one in found.values()))
    pairs = predictions[["store", "person"]].astype(str).drop_duplicates()
    return [
        Violation(
            kind="measured_on_training",
            store=store,
            round=None,
            person=person,
            detail="is among the held-out people, but was trained on",
        )
        for store, person in pairs.itertuples(index=False)
        if person in trained
    ]


def _shared(found: dict[str, StoreFindings]) -> list[frozenset[str]]:
    """Distinct sets of two stores or more in which one person was used for training."""
    stores: dict[str, list[str]] = defaultdict(list)
    for store, one in found.items():
        for person in one.trained:
            stores[person].append(store)
    return sorted({frozenset(s) for s in stores.values() if len(s) > 1}, key=sorted)


def _summary(
    run: Run,
    logs: dict[str, ConsentLog],
    found: dict[str, StoreFindings],
    violations: list[Violation],
) -> Lineage:
    every = found.values()
    late = [n for one in every for n in one.late_batches]
    uses: Counter[str] = sum((one.uses for one in every), Counter())
    return Lineage(
        uses=sum(uses.values()),
        persons=len(set().union(*(one.persons for one in every))),
        uses_by_purpose=dict(sorted(uses.items())),
        violations=len(violations),
        violation_list=tuple(violations[:LISTED]),
        violations_by_kind=dict(sorted(Counter(v.kind for v in violations).items())),
        withdrawals=sum(one.withdrawals for one in every),
        withdrawals_honoured=sum(one.honoured for one in every),
        batches_after_withdrawal=sum(late),
        batches_after_withdrawal_max=max(late, default=0),
        persons_in_registries=sum(one.registry_people for one in every),
        predictions_checked=sum(one.predictions for one in every),
        consent_logs={store: logs[store].facts() for store in run.info.stores},
    )
