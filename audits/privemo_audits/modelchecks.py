"""Checks of the model: that the rounds made it, that stores signed them, and that it was measured fairly."""

from __future__ import annotations

from collections.abc import Sequence

from .checks import counted, judge, of_kinds
from .closing import End
from .report import Check, Violation
from .report_more import Looks
from .report_performance import Performance
from .runfiles import Run

__all__ = ["end_checks", "looks_checks", "model_checks"]


def model_checks(
    run: Run, performance: Performance, violations: Sequence[Violation]
) -> list[Check]:
    """Whether the model is the one that the rounds made, and how well it does."""
    return [
        judge(
            "data.held_out",
            "Nobody who was trained on was used to measure the model",
            "EU AI Act 15(3)",
            of_kinds(violations, ("measured_on_training",)),
            f"{performance.persons:,} held-out people, none of them trained on",
        ),
        _provenance(run),
        judge(
            "manifests.verify",
            "Each store signed what it did, and the rounds are chained",
            "EU AI Act 12, 19",
            of_kinds(violations, ("manifest_chain", "statement")),
            f"{counted(len(run.rounds), 'manifest')}, each naming what stood before; "
            f"{counted(_signed(run), 'statement')}, each signed with its store's key and borne out by the "
            "store's ledger and admissions",
        ),
        Check(
            id="run.complete",
            title="All planned rounds were run",
            passed=len(run.rounds) >= run.info.rounds,
            required=False,
            evidence=f"{len(run.rounds)} of {run.info.rounds} rounds found",
            clause="EU AI Act 12",
        ),
        _above_chance(performance),
    ]


def _provenance(run: Run) -> Check:
    fault = _model_fault(run)
    return Check(
        id="model.provenance",
        title="The model is the one that the rounds made",
        passed=fault is None,
        required=True,
        evidence=fault
        or f"{counted(len(run.rounds), 'round')}, each starting from the model before",
        clause="EU AI Act 12, 15(5)",
    )


def _model_fault(run: Run) -> str | None:
    """Each round starts from the model before it, and the last one is the file."""
    for before, after in zip(run.rounds, run.rounds[1:], strict=False):
        if before.model_out != after.model_in:
            return (
                f"round {after.round} did not start from the model that round {before.round} made"
            )
    if not run.rounds:
        return "no round was finished"
    have = run.files.get("model.safetensors")
    if have is None:
        return "model.safetensors is missing"
    last = run.rounds[-1]
    # A run that averages its rounds' models publishes the average, which the last round names.
    if have != (last.model_average or last.model_out):
        return f"model.safetensors is not the model that round {last.round} made"
    return None


def _signed(run: Run) -> int:
    return sum(did.statement is not None for r in run.rounds for did in r.stores.values())


def _above_chance(performance: Performance) -> Check:
    low, high = performance.accuracy_ci
    return Check(
        id="accuracy.above_chance",
        title="The model does better than guessing",
        passed=performance.above_chance,
        required=False,
        evidence=f"accuracy {performance.accuracy:.1%} ({low:.1%} to {high:.1%}); always "
        f"answering the commonest emotion would reach {performance.chance:.1%}",
        clause="EU AI Act 15(3)",
    )


def end_checks(end: End) -> list[Check]:
    """Whether the stores signed the finished model; nothing of a run that is not whole, or never asks."""
    if not end.asked:
        return []
    return [
        Check(
            id="manifests.end_signed",
            title="The stores that took part signed the last round, and with it the model",
            passed=not end.missing,
            required=False,
            evidence=f"{counted(len(end.signed), 'store')} signed the end of the run"
            + (f"; not {', '.join(end.missing[:5])}" if end.missing else "")
            + (f" and {len(end.missing) - 5} more" if len(end.missing) > 5 else ""),
            clause="EU AI Act 12, 15(5)",
        )
    ]


def looks_checks(looks: Looks | None) -> list[Check]:
    """Whether what was looked into is the run's model; nothing where nobody looked."""
    if looks is None:
        return []
    return [
        Check(
            id="looks.of_this_model",
            title="Where the model looks was asked of this run's model",
            passed=looks.of_this_model,
            required=True,
            evidence=f"looks.json is of the model with SHA-256 {looks.model_sha256[:16]}..., "
            + (
                "which is model.safetensors"
                if looks.of_this_model
                else "which model.safetensors is not; look into this one with `privemo explain`"
            ),
            clause="EU AI Act 13(3)(b)",
        )
    ]
