"""Whether it is as sure as right, what accuracy costs in privacy, and where it looks: as figures.

Each with its numbers in words. What is hidden or too small to judge is never drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .canvas import ACCENT, ALARM, DASHED, INK, LINE, MUTED, Drawn, canvas, rows, short
from .report import Report
from .report_more import Beside, Looked, Looks
from .report_performance import CalibrationBin
from .words import epsilon, interval, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_PANELS = 12
ENOUGH_LOOKED_AT = 10
"""Where the model looks is drawn of so many faces or more."""


class Sure(NamedTuple):
    """One panel of a reliability diagram: how sure on the whole, and how often right, of somebody."""

    name: str
    confidence: float
    accuracy: float
    ci: tuple[float, float]
    bins: tuple[CalibrationBin, ...]


def sure_of(report: Report, feature: str | None = None) -> list[Sure]:
    """Everyone, or each group of a feature that is large enough to judge."""
    p = report.performance
    if feature is None:
        c = p.calibration
        return (
            [] if c is None else [Sure("everyone", c.confidence, p.accuracy, p.accuracy_ci, c.bins)]
        )
    return [
        Sure(c.group, c.confidence, c.accuracy, c.ci, c.reliability)
        for c in report.groups
        if c.feature == feature and not c.crossed
        if c.confidence is not None and c.accuracy is not None and c.ci is not None
    ]


def reliability(what: str, panels: Sequence[Sure]) -> Drawn:
    """How sure against how often right.

    Args:
        what: whose diagrams these are.
        panels: one at least; beyond `MOST_PANELS`, the least and the most accurate are drawn.
    """
    shown = _fewer(panels)
    wide = 1 if len(shown) == 1 else 2
    deep = math.ceil(len(shown) / wide)
    with canvas(3.4 if wide == 1 else 2.05 * deep + 0.3) as (figure, done):
        grid = figure.subplots(deep, wide, squeeze=False, sharex=True, sharey=True)
        for at, axes in enumerate(grid.flat):
            if at < len(shown):
                _panel(axes, shown[at])
            else:
                axes.set_visible(False)
        figure.supxlabel("how sure the model was, %", fontsize=10)
        figure.supylabel("how often it was right, %", fontsize=10)
    return Drawn(done[0], f"How sure and how right, {what}. " + " ".join(map(_told, shown)))


def _panel(axes: Axes, panel: Sure) -> None:
    axes.plot([0, 100], [0, 100], color=MUTED, linewidth=1, linestyle=DASHED)
    for part in panel.bins:
        if part.confidence is not None and part.accuracy is not None and part.ci is not None:
            _point(axes, part.confidence, part.accuracy, part.ci, ACCENT, "o")
    _point(axes, panel.confidence, panel.accuracy, panel.ci, INK, "D")
    axes.set_title(short(panel.name), fontsize=10)
    axes.set_xlim(0, 104)
    axes.set_ylim(0, 104)
    axes.set_xticks([0, 50, 100])
    axes.set_yticks([0, 50, 100])
    axes.tick_params(labelbottom=True)
    axes.set_aspect("equal")
    axes.grid(color=LINE, linewidth=0.6)


def _point(axes: Axes, x: float, y: float, ci: tuple[float, float], colour: str, mark: str) -> None:
    axes.plot([100 * x, 100 * x], [100 * v for v in ci], color=colour, linewidth=1.6)
    face = "none" if mark == "D" else colour
    axes.plot([100 * x], [100 * y], mark, color=colour, markerfacecolor=face, markersize=6)


def _told(panel: Sure) -> str:
    said = [
        f"where {part.low:.0%} to {part.high:.0%} sure, {percent(part.accuracy)} right "
        f"({interval(part.ci)})"
        for part in panel.bins
        if part.accuracy is not None
    ]
    whole = (
        f"on the whole {percent(panel.confidence)} sure, {percent(panel.accuracy)} right "
        f"({interval(panel.ci)})"
    )
    return f"{panel.name}: {'; '.join([whole, *said])}."


def _fewer(panels: Sequence[Sure]) -> list[Sure]:
    if len(panels) <= MOST_PANELS:
        return list(panels)
    ordered = sorted(panels, key=lambda panel: panel.accuracy)
    return ordered[: MOST_PANELS // 2] + ordered[-MOST_PANELS // 2 :]


def tradeoff(report: Report) -> Drawn:
    """Accuracy against epsilon: this run, and those beside it by their numbers in the table."""
    p = report.performance
    mine = report.privacy.epsilon_max_person
    known = [e for e in (mine, *(b.epsilon for b in report.beside)) if e is not None]
    edge = 1.2 * max(known, default=1.0)
    with canvas(3.1) as (figure, done):
        axes = figure.subplots()
        axes.axhline(100 * p.chance, color=ALARM, linewidth=1, linestyle=DASHED)
        for number, other in enumerate(report.beside, start=1):
            _run(axes, other, edge if other.epsilon is None else other.epsilon, str(number))
        at = edge if mine is None else mine
        axes.plot([at, at], [100 * v for v in p.accuracy_ci], color=ACCENT, linewidth=2.5)
        axes.plot([at], [100 * p.accuracy], "o", color=ACCENT, markersize=9)
        axes.annotate("this run", (at, 100 * p.accuracy), (-9, 5), textcoords="offset points",
                      ha="right", color=ACCENT)  # fmt: skip
        axes.set_xlim(0, 1.15 * edge)
        axes.set_ylim(0, 104)
        if len(known) <= len(report.beside):
            ticks = [t for t in axes.get_xticks() if t < 0.9 * edge]
            axes.set_xticks([*ticks, edge], [*(f"{t:g}" for t in ticks), "no bound"])
            axes.set_xlim(0, 1.15 * edge)
        axes.set_xlabel("epsilon of the person most exposed")
        axes.set_ylabel("accuracy, %")
        axes.grid(axis="y", color=LINE, linewidth=0.6)
    own = f"this run {_at(mine)}: {percent(p.accuracy)} ({interval(p.accuracy_ci)})"
    told = (
        f"{number}, {b.run_id}, {_at(b.epsilon)}: {percent(b.accuracy)} ({interval(b.accuracy_ci)})"
        for number, b in enumerate(report.beside, start=1)
    )
    return Drawn(
        done[0],
        f"Accuracy against epsilon: {'; '.join([own, *told])}. Always the commonest emotion: "
        f"{percent(p.chance)}.",
    )


def _at(value: float | None) -> str:
    return "without a bound" if value is None else f"at epsilon {epsilon(value)}"


def _run(axes: Axes, other: Beside, x: float, number: str) -> None:
    colour = INK if other.comparable else MUTED
    face = colour if other.comparable else "none"
    axes.plot([x, x], [100 * v for v in other.accuracy_ci], color=colour, linewidth=1.4)
    axes.plot([x], [100 * other.accuracy], "s", color=colour, markerfacecolor=face, markersize=6)
    axes.annotate(number, (x, 100 * other.accuracy), (6, -12), textcoords="offset points",
                  color=colour, fontsize=9)  # fmt: skip


def enough(items: Mapping[str, Looked]) -> dict[str, Looked]:
    """Those of which enough faces were looked at."""
    return {name: each for name, each in items.items() if each.n >= ENOUGH_LOOKED_AT}


def attention(what: str, looks: Looks, items: Mapping[str, Looked]) -> Drawn:
    """Where the model looks, a panel for each region.

    Args:
        what: what `items` are.
        looks: whose regions and areas.
        items: emotions or groups; of one at least enough faces were looked at.
    """
    shown = enough(items)
    deep = math.ceil(len(looks.regions) / 2)
    top = max(max(s.ci[1] for each in shown.values() for s in each.share.values()), 0.05)
    top = max(top, *looks.area.values())
    with canvas(deep * (0.25 * len(shown) + 0.85)) as (figure, done):
        grid = figure.subplots(deep, 2, squeeze=False, sharey=True, sharex=True)
        for at, axes in enumerate(grid.flat):
            if at >= len(looks.regions):
                axes.set_visible(False)
                continue
            region = looks.regions[at]
            for y, each in enumerate(shown.values()):
                share = each.share[region]
                axes.plot([100 * v for v in share.ci], [y, y], color=ACCENT, linewidth=2)
                axes.plot([100 * share.mean], [y], "o", color=ACCENT, markersize=5)
            axes.axvline(100 * looks.area[region], color=INK, linewidth=1, linestyle=DASHED)
            rows(axes, [short(name, 14) for name in shown])
            axes.set_title(short(region), fontsize=10)
            axes.set_xlim(0, 106 * top)
            axes.tick_params(labelbottom=True)
            axes.grid(axis="x", color=LINE, linewidth=0.6)
        figure.supxlabel("share of attention, %", fontsize=10)
    told = (
        f"{name}: "
        + ", ".join(
            f"{r} {percent(each.share[r].mean)} ({interval(each.share[r].ci)})"
            for r in looks.regions
        )
        for name, each in shown.items()
    )
    areas = ", ".join(f"{region} {percent(looks.area[region])}" for region in looks.regions)
    return Drawn(
        done[0],
        f"Share of attention by region, {what}. {'; '.join(told)}. Share of the picture: {areas}.",
    )
