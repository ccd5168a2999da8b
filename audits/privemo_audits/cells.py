"""How well the model works for each group, on Fairlearn's MetricFrame.

AI Act 13(3)(b) and 15(3): accuracy per group, with n and an interval; a small n says so. People are grouped
by each feature, and by two features together: a gap may show where two disadvantages meet and nowhere else
(Buolamwini & Gebru 2018, Gender Shades).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import intervals as iv
from .calibration import Sureness, measure_calibration
from .gaps import Judged, adjusted, gap_of
from .groups import MIN_PERSONS, MOST_GROUPS, group_rows, hide, people_in
from .report_performance import EmotionScore, Gap, GroupCell, GroupEmotion
from .scores import Ints, emotion_score, mean_interval, metric_frame, people_of, right_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Grouping", "Judged", "Table", "both", "grouping_of", "measure_groups"]

_AND = " and "


@dataclass(frozen=True)
class Grouping:
    """A table's rows by group.

    Attributes:
        feature: its name; of two features both.
        row: (N,) which of `order` each row belongs to.
        order: names of the groups, in reading order.
        hidden: (G,) groups that are not shown.
        crossed: of two features together, for which there is accuracy alone.
    """

    feature: str
    row: Ints
    order: tuple[str, ...]
    hidden: NDArray[np.bool_]
    crossed: bool = False


def measure_groups(
    frame: pd.DataFrame,
    features: Sequence[str],
    label_names: Sequence[str],
    *,
    controls: Sequence[str] = (),
) -> tuple[list[GroupCell], list[Gap], list[str]]:
    """Measure a validated table of predictions by each feature, by two together, and by store.

    Args:
        frame: the predictions, with a column for each feature, and `store`.
        features: sensitive columns.
        label_names: the emotions.
        controls: columns to hold fixed: gaps are looked for where each of their values stands as well.

    Returns:
        The cells in reading order, the largest gap of each feature, and a note for each feature
        that was left out.
    """
    people = people_of(frame)
    found, notes = _groupings(frame, features, people)
    table = Table(frame, people, label_names)
    cells, gaps = [], []
    for grouping in found:
        mine, judged = table.cells(grouping)
        cells += mine
        gaps.append(gap_of(grouping.feature, judged, crossed=grouping.crossed))
    for control in dict.fromkeys(controls):
        gaps += _controlled(table, found, control)
    return cells, adjusted(gaps), notes


def _groupings(
    frame: pd.DataFrame, features: Sequence[str], people: Ints
) -> tuple[list[Grouping], list[str]]:
    singles, notes = [], []
    for feature in dict.fromkeys([*features, "store"]):
        row, order = group_rows(frame[feature], feature)
        if len(order) > MOST_GROUPS and feature != "store":
            notes.append(
                f"{feature} has {len(order)} different values and was not used: groups of nearly "
                "one person each say nothing and would give people away."
            )
            continue
        hidden = hide(people_in(row, people, len(order))[:, None])[:, 0]
        singles.append(Grouping(feature, row, tuple(order), hidden))
    ours = [s for s in singles if s.feature != "store"]
    pairs = []
    for one, two in itertools.combinations(ours, 2):
        if len(one.order) * len(two.order) > MOST_GROUPS:
            notes.append(
                f"{one.feature} and {two.feature} together make {len(one.order) * len(two.order)} groups "
                "and were not used: most would be too small to judge."
            )
        else:
            pairs.append(both(one, two, people))
    return [*ours, *pairs, *(s for s in singles if s.feature == "store")], notes


def grouping_of(frame: pd.DataFrame, feature: str) -> Grouping:
    """A table's rows by one feature, where each row is a person."""
    row, order = group_rows(frame[feature], feature)
    people = np.arange(len(frame), dtype=np.int64)
    hidden = hide(people_in(row, people, len(order))[:, None])[:, 0]
    return Grouping(feature, row, tuple(order), hidden)


def both(one: Grouping, two: Grouping, people: Ints) -> Grouping:
    """Two features together; empty combinations are left out.

    A group that is not shown by itself is not shown in parts, and whatever the totals of the others
    would give away is not shown either.
    """
    table, hidden = _crossed(one, two, people)
    wide = len(two.order)
    cell = one.row * wide + two.row
    filled = np.flatnonzero(table.ravel())
    names = tuple(f"{one.order[c // wide]}, {two.order[c % wide]}" for c in filled.tolist())
    row = np.searchsorted(filled, cell).astype(np.int64)
    return Grouping(
        f"{one.feature}{_AND}{two.feature}", row, names, hidden.ravel()[filled], crossed=True
    )


def _crossed(one: Grouping, two: Grouping, people: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """(G, H) people in each group of two features together, and which of these are not shown."""
    wide = len(two.order)
    cell = one.row * wide + two.row
    table = people_in(cell, people, len(one.order) * wide).reshape(-1, wide)
    return table, hide(table, one.hidden[:, None] | two.hidden[None, :])


def _controlled(table: Table, found: Sequence[Grouping], control: str) -> list[Gap]:
    """Gaps by each single feature where `control` stands at each of its values."""
    levels = next((g for g in found if g.feature == control), None)
    if levels is None:
        return []
    gaps = []
    for grouping in found:
        if grouping.crossed or grouping.feature == control:
            continue
        _, hidden = _crossed(grouping, levels, table.people)
        for level, name in enumerate(levels.order):
            if not levels.hidden[level]:
                judged = table.judged(grouping, levels.row == level, hidden[:, level])
                gaps.append(gap_of(grouping.feature, judged, control=control, level=name))
    return gaps


class Table:
    """A table of predictions, measured by groups."""

    def __init__(self, frame: pd.DataFrame, people: Ints, label_names: Sequence[str]) -> None:
        self.people, self.label_names = people, tuple(label_names)
        self.label = frame["label"].to_numpy(dtype=np.int64)
        self.said = frame["prediction"].to_numpy(dtype=np.int64)
        self.right = right_of(frame)
        self.sureness = Sureness.of(frame, people, label_names)
        self.abstained = (
            frame["abstained"].to_numpy(dtype=bool) if "abstained" in frame.columns else None
        )

    def samples(
        self, grouping: Grouping, only: NDArray[np.bool_] | None = None
    ) -> dict[int, iv.Sample]:
        """The sample of each group, by its place in the order."""
        keep = slice(None) if only is None else only
        classes, wide = len(self.label_names), int(self.people.max(initial=0)) + 1
        unit = grouping.row[keep] * wide + self.people[keep]
        if not len(unit):
            return {}
        cell = self.label[keep] * classes + self.said[keep]
        kinds = iv.kinds_of(cell, unit, classes * classes)
        # MetricFrame gets a row for each kind of person in each group instead of one for each face.
        one = (kinds.units.astype(np.int64) // wide) * len(kinds.patterns) + kinds.kind
        rows, people = np.unique(one, return_counts=True)
        group, kind = np.divmod(rows, len(kinds.patterns))
        by_group = metric_frame()(
            metrics={"sample": lambda t, _, n: iv.Sample(kinds.patterns[t], n, classes)},
            y_true=kind,
            y_pred=kind,
            sensitive_features={"group": group},
            sample_params={"sample": {"n": people}},
        ).by_group["sample"]
        return {int(group): sample for group, sample in by_group.items()}

    def judged(
        self, grouping: Grouping, only: NDArray[np.bool_], hidden: NDArray[np.bool_]
    ) -> Judged:
        """Of some rows the samples of groups that are shown there and large enough to judge."""
        return {
            grouping.order[g]: sample
            for g, sample in sorted(self.samples(grouping, only).items())
            if not hidden[g] and sample.n_people >= MIN_PERSONS
        }

    def cells(self, grouping: Grouping) -> tuple[list[GroupCell], Judged]:
        """Measure each group; and the sample of each that is shown and judged."""
        samples = self.samples(grouping)
        shown = None if grouping.crossed else self._emotions(grouping)
        bins = None if grouping.crossed else self._bins(grouping)
        cells = []
        for g, name in enumerate(grouping.order):
            cells.append(self._cell(grouping, g, name, samples[g], shown, bins))
        judged = {c.group: samples[g] for g, c in enumerate(cells) if c.status == "ok"}
        return cells, judged

    def _emotions(self, grouping: Grouping) -> tuple[Ints, NDArray[np.bool_]]:
        """(G, K) people who show each emotion in each group, and which of these cells are hidden."""
        classes = len(self.label_names)
        cell = grouping.row * classes + self.label
        table = people_in(cell, self.people, len(grouping.order) * classes).reshape(-1, classes)
        return table, hide(table, np.repeat(grouping.hidden[:, None], classes, axis=1))

    def _bins(self, grouping: Grouping) -> NDArray[np.bool_] | None:
        """(G, B) bins of confidence that are hidden in each group; None without probabilities."""
        if self.sureness is None:
            return None
        return self.sureness.hidden_in(grouping.row, grouping.hidden)

    def _cell(
        self,
        grouping: Grouping,
        g: int,
        name: str,
        sample: iv.Sample,
        shown: tuple[Ints, NDArray[np.bool_]] | None,
        bins: NDArray[np.bool_] | None,
    ) -> GroupCell:
        here = {"feature": grouping.feature, "crossed": grouping.crossed, "group": name}
        if grouping.hidden[g]:
            return GroupCell(**here, status="suppressed")
        counted = {**here, "n": sample.n_faces, "persons": sample.n_people}
        if sample.n_people < MIN_PERSONS:
            return GroupCell(**counted, status="insufficient")
        table = sample.confusion
        right = int(np.trace(table))
        counted |= {"status": "ok", "accuracy": right / sample.n_faces}
        if shown is None:
            return GroupCell(**counted, ci=sample.accuracy_interval(iv.ALPHA))
        drawn = sample.draw()
        ci, _ = iv.proportion_interval(right, sample.n_faces, sample, iv.accuracies(drawn))
        scores = [emotion_score(i, sample, table, drawn) for i in range(len(self.label_names))]
        return GroupCell(
            **counted,
            ci=ci,
            # A mean over emotions would tell of those that are hidden.
            **({} if shown[1][g].any() else _means(sample, drawn, scores)),
            **self._sureness(grouping.row == g, None if bins is None else bins[g]),
            per_emotion={
                emotion: _group_emotion(
                    scores[i], sample.n_faces, int(shown[0][g, i]), bool(shown[1][g, i])
                )
                for i, emotion in enumerate(self.label_names)
            },
        )

    def _sureness(
        self, rows: NDArray[np.bool_], hidden: NDArray[np.bool_] | None
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.sureness is not None and hidden is not None:
            calibration = measure_calibration(self.sureness.confidence[rows], self.right[rows])
            found["confidence"] = calibration.confidence
            found["calibration_error"] = calibration.error
            found["reliability"] = self.sureness.diagram(hidden, rows)
        if self.abstained is not None:
            found["abstained"] = float(self.abstained[rows].mean())
        return found


def _means(sample: iv.Sample, drawn: iv.Floats, scores: Sequence[EmotionScore]) -> dict[str, Any]:
    """What is a mean over all emotions, with its intervals."""
    exact = np.asarray(sample.confusion, dtype=float)[None]
    return {
        "f1": float(iv.macro_f1s(exact)[0]),
        "f1_ci": mean_interval(iv.macro_f1s(drawn), [s.ci for s in scores], sample),
        "balanced_accuracy": float(iv.balanced_accuracies(exact)[0]),
        "balanced_accuracy_ci": mean_interval(
            iv.balanced_accuracies(drawn), [s.recall_ci for s in scores], sample
        ),
    }


def _group_emotion(score: EmotionScore, faces: int, people: int, hidden: bool) -> GroupEmotion:
    if hidden:
        return GroupEmotion(status="suppressed")
    if people < MIN_PERSONS:
        return GroupEmotion(status="insufficient", n=score.n)
    return GroupEmotion(
        status="ok",
        n=score.n,
        precision=score.precision,
        precision_ci=score.precision_ci,
        recall=score.recall,
        recall_ci=score.recall_ci,
        f1=score.f1,
        ci=score.ci,
        selection_rate=score.predicted / faces,
    )
