"""How well the model works, for everyone and for each group, on Fairlearn's MetricFrame.

AI Act 13(3)(b) and 15(3): accuracy per group, with n and an interval; a small n says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import intervals as iv
from .errors import MissingExtraError
from .groups import MIN_PERSONS, MOST_GROUPS, hide, label_groups
from .predictions import validate
from .report import Confusion, EmotionScore, Gap, GroupCell, GroupEmotion, Performance

if TYPE_CHECKING:
    import pandas as pd

EMOTIONS = ("happy", "sad", "neutral", "surprise")


def evaluate_predictions(
    frame: pd.DataFrame, *, label_names: Sequence[str] = EMOTIONS
) -> dict[str, Any]:
    """Measure a table of predictions; the `performance` block of the report as plain JSON values.

    Args:
        frame: one row per face with `label` and `prediction` (indices or names of `label_names`)
            and, if known, `person`; without it every face counts as another person's.
        label_names: the emotions, in index order.

    Returns:
        `accuracy`, `accuracy_ci` [low, high], `f1` {emotion: value or None}, `n`, and the rest of
        `Performance`.

    Raises:
        PredictionsError: a column is missing, a value is none of the emotions, no rows, one class.
        MissingExtraError: the `audit` extra is not installed.
    """
    checked = validate(frame, label_names, "the predictions")
    return measure_performance(checked, label_names).model_dump(mode="json")


def measure_performance(frame: pd.DataFrame, label_names: Sequence[str]) -> Performance:
    """Measure a validated table of predictions, all people together."""
    sample = _sample(frame, len(label_names))
    table, drawn = sample.confusion, sample.draw()
    n, right = sample.n_faces, int(np.trace(table))
    ci, method = iv.proportion_interval(right, n, sample, iv.accuracies(drawn))
    exact = np.asarray(table, dtype=float)[None]
    balanced = float(iv.balanced_accuracies(exact)[0])
    emotions = {name: _emotion(i, sample, table, drawn) for i, name in enumerate(label_names)}
    largest = float(table.sum(axis=1).max() / n)
    chance = max(largest, 1 / len(label_names))
    return Performance(
        n=n,
        persons=sample.n_people,
        accuracy=right / n,
        accuracy_ci=ci,
        accuracy_ci_method=method,
        balanced_accuracy=balanced,
        balanced_accuracy_ci=_mean_interval(
            iv.balanced_accuracies(drawn), [e.recall_ci for e in emotions.values()]
        ),
        f1={name: e.f1 for name, e in emotions.items()},
        per_emotion=emotions,
        confusion=Confusion(
            labels=tuple(label_names), counts=tuple(tuple(int(c) for c in row) for row in table)
        ),
        chance=chance,
        chance_largest_class=largest,
        chance_uniform=1 / len(label_names),
        above_chance=ci[0] > chance,
    )


def measure_groups(
    frame: pd.DataFrame, features: Sequence[str], label_names: Sequence[str]
) -> tuple[list[GroupCell], list[Gap], list[str]]:
    """Measure a validated table of predictions by each feature and by store.

    Returns:
        The cells in reading order, the largest gap of each feature, and a note for each feature
        that was left out.
    """
    cells: list[GroupCell] = []
    gaps: list[Gap] = []
    notes: list[str] = []
    for feature in dict.fromkeys([*features, "store"]):
        labels, order = label_groups(frame[feature], feature)
        if len(order) > MOST_GROUPS and feature != "store":
            notes.append(
                f"{feature} has {len(order)} different values and was not used: groups of nearly "
                "one person each say nothing and would give people away."
            )
            continue
        found, samples = _cells(frame, feature, labels, order, label_names)
        cells += found
        gaps.append(_gap(frame, feature, labels, found, samples))
    return cells, gaps, notes


def _sample(frame: pd.DataFrame, classes: int) -> iv.Sample:
    return iv.Sample.of(
        frame["label"].to_numpy(dtype=np.int64),
        frame["prediction"].to_numpy(dtype=np.int64),
        _people(frame),
        classes,
    )


def _people(frame: pd.DataFrame) -> np.ndarray[Any, Any]:
    """(N,) who is on each face; every face another person where that is not known."""
    if "person" not in frame.columns:
        return np.arange(len(frame))
    return np.unique(frame["person"].to_numpy(dtype=str), return_inverse=True)[1]


def _emotion(i: int, sample: iv.Sample, table: iv.Ints, drawn: iv.Floats) -> EmotionScore:
    hit, n, said = int(table[i, i]), int(table[i].sum()), int(table[:, i].sum())
    union = n + said - hit
    recall_ci, _ = iv.proportion_interval(hit, n, sample, iv.recalls(drawn)[:, i])
    precision_ci, _ = iv.proportion_interval(hit, said, sample, iv.precisions(drawn)[:, i])
    return EmotionScore(
        n=n,
        predicted=said,
        precision=hit / said if said else None,
        precision_ci=precision_ci if said else None,
        recall=hit / n if n else None,
        recall_ci=recall_ci if n else None,
        f1=2 * hit / (n + said) if union else None,
        ci=iv.f1_interval(hit, union, sample, iv.f1_scores(drawn)[:, i]) if union else None,
    )


def _mean_interval(drawn: iv.Floats, parts: Sequence[iv.Interval | None]) -> iv.Interval:
    """Interval of a mean over classes.

    Where no draw differs (no errors at all), the mean of the classes' exact intervals stands in.
    """
    known = [p for p in parts if p is not None]
    boot = iv.percentile_interval(drawn)
    if boot is not None and boot[1] > boot[0]:
        return boot
    return (float(np.mean([p[0] for p in known])), float(np.mean([p[1] for p in known])))


def _metric_frame() -> Any:
    try:
        from fairlearn.metrics import MetricFrame
    except ImportError as error:
        raise MissingExtraError(
            f"the audit needs a library that is not installed ({error.name})",
            "Install it with: pip install 'privemo[audit]'",
        ) from error
    return MetricFrame


def _cells(
    frame: pd.DataFrame,
    feature: str,
    labels: list[str],
    order: list[str],
    label_names: Sequence[str],
) -> tuple[list[GroupCell], dict[str, iv.Sample]]:
    """Measure each group of one feature; the sample of each group that is shown and judged."""
    classes = len(label_names)
    people = _people(frame)
    by_group = _metric_frame()(
        metrics={"sample": lambda t, p, who: iv.Sample.of(t, p, who, classes)},
        y_true=frame["label"].to_numpy(),
        y_pred=frame["prediction"].to_numpy(),
        sensitive_features={feature: labels},
        sample_params={"sample": {"who": people}},
    ).by_group["sample"]
    samples: dict[str, iv.Sample] = {group: by_group[group] for group in order}
    hidden = hide(np.array([[samples[g].n_people] for g in order], dtype=np.int64))[:, 0]
    per_emotion = _people_by_emotion(frame, people, labels, order, classes)
    also = np.repeat(hidden[:, None], classes, axis=1)
    hidden_emotions = hide(per_emotion, also)
    cells = [
        GroupCell(feature=feature, group=group, status="suppressed")
        if hidden[g]
        else _cell(feature, group, samples[group], label_names, per_emotion[g], hidden_emotions[g])
        for g, group in enumerate(order)
    ]
    judged = {c.group: samples[c.group] for c in cells if c.status == "ok"}
    return cells, judged


def _people_by_emotion(
    frame: pd.DataFrame,
    people: np.ndarray[Any, Any],
    labels: list[str],
    order: list[str],
    classes: int,
) -> iv.Ints:
    """(G, K) people who show each emotion in each group."""
    place = {group: i for i, group in enumerate(order)}
    rows = np.array([place[name] for name in labels], dtype=np.int64)
    emotion = frame["label"].to_numpy(dtype=np.int64)
    once = np.unique(np.stack([rows, emotion, people.astype(np.int64)], axis=1), axis=0)
    table = np.zeros((len(order), classes), dtype=np.int64)
    np.add.at(table, (once[:, 0], once[:, 1]), 1)
    return table


def _cell(
    feature: str,
    group: str,
    sample: iv.Sample,
    label_names: Sequence[str],
    people: iv.Ints,
    hidden: np.ndarray[Any, Any],
) -> GroupCell:
    n = sample.n_faces
    if sample.n_people < MIN_PERSONS:
        return GroupCell(
            feature=feature, group=group, status="insufficient", n=n, persons=sample.n_people
        )
    table, drawn = sample.confusion, sample.draw()
    ci, _ = iv.proportion_interval(int(np.trace(table)), n, sample, iv.accuracies(drawn))
    scores = [_emotion(i, sample, table, drawn) for i in range(len(label_names))]
    macro = float(iv.macro_f1s(np.asarray(table, dtype=float)[None])[0])
    return GroupCell(
        feature=feature,
        group=group,
        status="ok",
        n=n,
        persons=sample.n_people,
        accuracy=float(np.trace(table)) / n,
        ci=ci,
        f1=macro,
        f1_ci=_mean_interval(iv.macro_f1s(drawn), [s.ci for s in scores]),
        per_emotion={
            name: _group_emotion(scores[i], int(people[i]), bool(hidden[i]))
            for i, name in enumerate(label_names)
        },
    )


def _group_emotion(score: EmotionScore, people: int, hidden: bool) -> GroupEmotion:
    if hidden:
        return GroupEmotion(status="suppressed")
    if people < MIN_PERSONS:
        return GroupEmotion(status="insufficient", n=score.n)
    return GroupEmotion(status="ok", n=score.n, f1=score.f1, ci=score.ci)


def _gap(
    frame: pd.DataFrame,
    feature: str,
    labels: list[str],
    cells: Sequence[GroupCell],
    samples: dict[str, iv.Sample],
) -> Gap:
    """The largest accuracy gap between the groups that may be judged, with its interval."""
    groups = len(samples)
    pairs = groups * (groups - 1) // 2
    if not pairs:
        return Gap(
            feature=feature,
            groups_compared=groups,
            pairs=0,
            highest=None,
            lowest=None,
            accuracy_gap=None,
            ci=None,
            real=False,
        )
    keep = np.array([name in samples for name in labels])
    gap = _metric_frame()(
        metrics=lambda t, p: float(np.mean(t == p)),
        y_true=frame["label"].to_numpy()[keep],
        y_pred=frame["prediction"].to_numpy()[keep],
        sensitive_features={feature: [name for name in labels if name in samples]},
    ).difference()
    known = {c.group: c.accuracy for c in cells if c.accuracy is not None}
    high = max(known, key=lambda g: known[g])
    low = min(known, key=lambda g: known[g])
    alpha = iv.ALPHA / pairs  # the pair was picked for being extreme: Bonferroni over all pairs
    ci = iv.difference_interval(
        *((known[g], _effective_interval(samples[g], alpha)) for g in (high, low))
    )
    return Gap(
        feature=feature,
        groups_compared=groups,
        pairs=pairs,
        highest=high,
        lowest=low,
        accuracy_gap=float(gap),
        ci=ci,
        real=ci[0] > 0,
    )


def _effective_interval(sample: iv.Sample, alpha: float) -> iv.Interval:
    """Clopper-Pearson on the effective sample size: Korn and Graubard (1998)."""
    effect = sample.design_effect()
    right, n = int(np.trace(sample.confusion)), sample.n_faces
    return iv.clopper_pearson(right / effect, n / effect, alpha)
