"""Other runs' reports, drawn beside this one's: accuracy against epsilon.

What is drawn is claimed, so each has to be signed by an auditor whose key is known, and is verified before
anything of it is read. The report keeps what was drawn, and the hash of each report that it came from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from privemo_consent.note import NoteKey

from .errors import ReportError
from .report import Report
from .report_more import Beside
from .signature import verify_report

__all__ = ["MOST_BESIDE", "held_beside", "read_beside"]

MOST_BESIDE = 20
"""More could not be told apart in one figure."""

Read = tuple[Report, tuple[str, ...]]


def read_beside(paths: Sequence[Path | str], keys: Iterable[NoteKey]) -> list[Read]:
    """Verify reports that are to stand beside another.

    Args:
        paths: of each `report.json`, or the folder that it is in.
        keys: of the auditors who are known.

    Returns:
        Each report, and who signed it.

    Raises:
        ReportError: there are too many; or one cannot be read, is not what was signed, or nobody who is known
            signed it.
    """
    if len(paths) > MOST_BESIDE:
        raise ReportError(
            f"{len(paths)} reports are to stand beside this one",
            f"Name {MOST_BESIDE} at most: more could not be told apart.",
        )
    ring = tuple(keys)
    found = [verify_report(path, ring) for path in paths]
    return [(each.report, each.signed_by) for each in found]


def held_beside(report: Report, others: Iterable[Read]) -> Report:
    """The report with others beside it, in the order of their epsilon, whatever order they came in.

    Raises:
        ReportError: one comes twice, or is of the same run.
    """
    found: dict[str, Beside] = {}
    for other, signed_by in others:
        if other.run.run_id == report.run.run_id:
            raise ReportError(
                f"run {other.run.run_id} would stand beside itself",
                "Name reports of other runs after --beside.",
            )
        if other.run.run_id in found:
            raise ReportError(
                f"run {other.run.run_id} is to stand beside this one twice",
                "Name one report of each run after --beside.",
            )
        found[other.run.run_id] = _beside(report, other, signed_by)
    ordered = sorted(found.values(), key=lambda b: (b.epsilon is None, b.epsilon or 0.0, b.run_id))
    return report.model_copy(update={"beside": tuple(ordered)})


def _beside(report: Report, other: Report, signed_by: tuple[str, ...]) -> Beside:
    p, v = other.performance, other.privacy
    differs = tuple(_differs(report, other))
    return Beside(
        run_id=other.run.run_id,
        created=other.run.created,
        verdict=other.verdict,
        sha256=hashlib.sha256(other.to_json()).hexdigest(),
        signed_by=signed_by,
        model=str(other.run.model.get("name", "not stated")),
        private=v.private,
        epsilon=v.epsilon_max_person,
        delta=v.delta,
        n=p.n,
        persons=p.persons,
        accuracy=p.accuracy,
        accuracy_ci=p.accuracy_ci,
        comparable=not differs,
        differs=differs,
    )


def _differs(report: Report, other: Report) -> Iterable[str]:
    if other.data.digest != report.data.digest:
        yield "other data"
    if other.run.label_names != report.run.label_names:
        yield "other emotions"
    if other.run.challenge_age != report.run.challenge_age:
        yield "another challenge age, so other people were measured"
    if other.privacy.private and report.privacy.private:
        if other.privacy.delta != report.privacy.delta:
            yield "epsilon at another delta"
        if other.privacy.accountant != report.privacy.accountant:
            yield "epsilon by another accountant"
