"""The figures of a report in reading order, by number: what a page draws, and what another one refers to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

from . import diagrams, figures
from .canvas import Drawn
from .report import Report
from .report_performance import GroupCell

__all__ = ["Plate", "plates_of", "single_features"]

Draw = Callable[[], Drawn]


@dataclass(frozen=True)
class Plate:
    """One figure.

    Attributes:
        key: by which templates find it.
        id: of its place in the page.
        number: from 1.
        title: what it shows.
        draw: makes it; None where the page has a table for it.
    """

    key: str
    id: str
    number: int
    title: str
    draw: Draw | None

    @cached_property
    def drawn(self) -> Drawn:
        """The image, drawn when it is first asked for."""
        if self.draw is None:
            raise ValueError(f"figure {self.number} is a table")
        return self.draw()


def single_features(report: Report) -> dict[str, list[GroupCell]]:
    """The groups by each feature alone, in reading order."""
    found: dict[str, list[GroupCell]] = {}
    for cell in report.groups:
        if not cell.crossed:
            found.setdefault(cell.feature, []).append(cell)
    return found


def plates_of(report: Report) -> dict[str, Plate]:
    """Every figure of a report, by its key."""
    found: dict[str, Plate] = {}
    for key, place, title, draw in _listed(report):
        found[key] = Plate(key, place, len(found) + 1, title, draw)
    return found


Listed = Iterator[tuple[str, str, str, Draw | None]]


def _listed(report: Report) -> Listed:
    excluded = partial(figures.exclusion_bars, report.exclusions)
    yield "excluded", "fig-excluded", "People left out, by reason", excluded
    yield from _reliability(report, None, "everyone", "fig-reliability")
    yield "confusion", "fig-confusion", "What is taken for what", None
    for at, (feature, cells) in enumerate(single_features(report).items(), start=1):
        name = feature.replace("_", " ")
        draw = partial(figures.group_intervals, feature, cells, report.performance)
        yield f"groups:{feature}", f"fig-groups-{at}", f"Accuracy by {name}", draw
        yield from _reliability(report, feature, f"by {name}", f"fig-reliability-{at}")
    asked = report.exclusions.by_group
    if asked is not None and figures.ratios_of(asked):
        title = "What exclusion did to the share of each group"
        yield "shares", "fig-shares", title, partial(figures.share_ratios, asked)
    yield from _looks(report)
    if report.privacy.private and figures.exposed_stores(report.privacy):
        draw = partial(figures.epsilon_rounds, report.privacy)
        yield "epsilon", "fig-epsilon", "Epsilon after each release", draw
    if report.privacy.private or report.beside:
        draw = partial(diagrams.tradeoff, report)
        yield "tradeoff", "fig-tradeoff", "Accuracy against epsilon", draw


def _reliability(report: Report, feature: str | None, what: str, place: str) -> Listed:
    panels = diagrams.sure_of(report, feature)
    if panels:
        key = "reliability" if feature is None else f"reliability:{feature}"
        yield (
            key,
            place,
            f"How sure and how right, {what}",
            partial(diagrams.reliability, what, panels),
        )


def _looks(report: Report) -> Listed:
    looks = report.looks
    if looks is None:
        return
    names = [name for name in report.run.label_names if name in looks.by_emotion]
    asked = {"emotion": {name: looks.by_emotion[name] for name in names}, **looks.by_group}
    for at, (feature, items) in enumerate(asked.items()):
        if diagrams.enough(items):
            name = f"by {feature.replace('_', ' ')}"
            key = "looks" if not at else f"looks:{feature}"
            place = "fig-looks" if not at else f"fig-looks-{at}"
            draw = partial(diagrams.attention, name, looks, items)
            yield key, place, f"Where the model looks, {name}", draw
