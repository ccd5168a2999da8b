"""Two reports held against each other: what is better, what is worse, and what may be chance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from . import intervals as iv
from .frozen import Frozen
from .report import Report
from .report_performance import Gap

__all__ = ["Difference", "Moved", "compared"]

Kind = Literal["better", "worse", "unclear", "same"]


class Moved(Frozen):
    """One figure in both reports.

    Attributes:
        what: the figure.
        before, after: None where a report does not state it.
        change: 95% interval of the difference, for shares that were measured on different people.
        kind: whether it is better or worse; `unclear` where chance could have made it, or where nobody can
            say which is better.
    """

    what: str
    before: float | None
    after: float | None
    change: tuple[float, float] | None = None
    kind: Kind


class Difference(Frozen):
    """Everything that differs.

    Attributes:
        verdicts: of both.
        checks_lost: hold in the first report and not in the second.
        checks_won: the other way round.
        figures: accuracy, F1, gaps, privacy, exclusions; those that are the same too.
        notes: why the two may not be comparable.
    """

    verdicts: tuple[str, str]
    checks_lost: tuple[str, ...]
    checks_won: tuple[str, ...]
    figures: tuple[Moved, ...]
    notes: tuple[str, ...]


def compared(before: Report, after: Report) -> Difference:
    """What changed from one report to another.

    The accuracies are taken to be of different people; of the same people they differ less by chance than the
    interval says.
    """
    held = [{c.id for c in report.checks if c.passed} for report in (before, after)]
    both = {c.id for c in before.checks} & {c.id for c in after.checks}
    return Difference(
        verdicts=(before.verdict, after.verdict),
        checks_lost=tuple(sorted((held[0] - held[1]) & both)),
        checks_won=tuple(sorted((held[1] - held[0]) & both)),
        figures=tuple(_figures(before, after)),
        notes=tuple(_notes(before, after)),
    )


def _figures(before: Report, after: Report) -> Iterator[Moved]:
    p, q = before.performance, after.performance
    yield _measured("accuracy", (p.accuracy, p.accuracy_ci), (q.accuracy, q.accuracy_ci))
    for name in sorted(p.per_emotion.keys() & q.per_emotion.keys()):
        one, two = p.per_emotion[name], q.per_emotion[name]
        yield _measured(f"F1 of {name}", (one.f1, one.ci), (two.f1, two.ci))
    if p.calibration is not None and q.calibration is not None:
        yield _unsure("calibration error", p.calibration.error, q.calibration.error)
    theirs = {(gap.feature, gap.crossed): gap for gap in after.gaps if gap.control is None}
    for gap in before.gaps:
        other = theirs.get((gap.feature, gap.crossed))
        if gap.control is None and other is not None:
            yield _gap(f"largest gap by {gap.feature}", gap, other)
    yield _less("epsilon", before.privacy.epsilon_max_person, after.privacy.epsilon_max_person)
    shares = (
        r.exclusions.refused / r.exclusions.asked if r.exclusions.asked else None
        for r in (before, after)
    )
    yield _unsure("share of people refused", *shares)
    yield _less("breaches of consent", before.lineage.violations, after.lineage.violations)


Measured = tuple[float | None, tuple[float, float] | None]


def _measured(what: str, before: Measured, after: Measured) -> Moved:
    """A score with an interval in each report; more is better."""
    (one, low), (two, high) = before, after
    if one is None or two is None or low is None or high is None:
        return _unsure(what, one, two)
    change = iv.difference_interval((two, high), (one, low))
    kind: Kind = "same" if one == two else "unclear"
    if one != two and not change[0] <= 0 <= change[1]:
        kind = "better" if change[0] > 0 else "worse"
    return Moved(what=what, before=one, after=two, change=change, kind=kind)


def _gap(what: str, before: Gap, after: Gap) -> Moved:
    kind: Kind = "same" if before.accuracy_gap == after.accuracy_gap else "unclear"
    if before.real != after.real:  # only what is more than chance can be lost or won
        kind = "worse" if after.real else "better"
    return Moved(what=what, before=before.accuracy_gap, after=after.accuracy_gap, kind=kind)


def _unsure(what: str, before: float | None, after: float | None) -> Moved:
    return Moved(
        what=what, before=before, after=after, kind="same" if before == after else "unclear"
    )


def _less(what: str, before: float | None, after: float | None) -> Moved:
    """A figure of which less is better, and which is known without chance."""
    kind: Kind = "unclear"
    if before == after:
        kind = "same"
    elif before is not None and after is not None:
        kind = "better" if after < before else "worse"
    return Moved(what=what, before=before, after=after, kind=kind)


def _lost(before: Report, after: Report) -> str:
    """Attacks on one run that only the earlier of two reports knows of; nothing where there are none."""
    one, two = before.privacy.attempts, after.privacy.attempts
    if one is None:
        return ""
    due, there = one.entries or 0, 0 if two is None else two.entries or 0
    same_length = due == there and two is not None and one.head != two.head
    if due > there or same_length or one.begun > (0 if two is None else two.begun):
        return (
            f"Of this run the first report knows of {due} entries of attacks, and the second "
            "does not: attacks were taken out or changed. `privemo audit RUN --earlier REPORT` fails for it."
        )
    return ""


def _notes(before: Report, after: Report) -> Iterator[str]:
    if before.run.run_id == after.run.run_id and (lost := _lost(before, after)):
        yield lost
    if before.data.digest != after.data.digest:
        yield "The runs are of different data."
    if before.run.challenge_age != after.run.challenge_age:
        yield "The challenge ages differ, so different people were measured."
    if before.privacy.private != after.privacy.private:
        yield "One of the runs is private and the other is not."
    elif before.privacy.delta != after.privacy.delta:
        yield "Epsilon is at different deltas."
    if before.run.setting != after.run.setting or before.run.jurisdiction != after.run.jurisdiction:
        yield "The runs stand under different rules."
