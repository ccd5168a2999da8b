"""What an audit says where the truth is known: planted gaps, nominal rates, and another library's numbers."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from privemo_audits.cells import measure_groups
from privemo_audits.fairness import EMOTIONS
from privemo_audits.policy import Policy, policy_checks

# -- the verdict -----------------------------------------------------------------------------------


def predictions(
    rng: np.random.Generator, accuracy: dict[str, float], people: int, pictures: int = 1
) -> pd.DataFrame:
    """So many people in each group, read rightly at its rate."""
    group = np.repeat(list(accuracy), people * pictures)
    label = rng.integers(0, 4, len(group))
    right = rng.random(len(group)) < np.repeat(list(accuracy.values()), people * pictures)
    wrong = (label + rng.integers(1, 4, len(group))) % 4
    return pd.DataFrame(
        {
            "store": "s",
            "person": np.repeat(np.arange(people * len(accuracy)), pictures).astype(str),
            "label": label,
            "prediction": np.where(right, label, wrong),
            "group": group,
        }
    )


def fails(frame: pd.DataFrame, most_gap: float) -> bool:
    """Whether an audit with such a policy fails for a gap."""
    groups, gaps, _ = measure_groups(frame, ["group"], EMOTIONS)
    policy = Policy.model_validate(
        {"schema": "privemo.policy/1", "fairness": {"most_gap": most_gap}}
    )
    unasked: Any = SimpleNamespace(by_group=None)  # no other rule asks for anything
    (check,) = policy_checks(policy, unasked, groups, gaps, unasked, unasked)
    return not check.passed


def test_the_verdict_fails_on_a_planted_gap_of_ten_points_and_passes_without() -> None:
    rng = np.random.default_rng(10)
    planted = [fails(predictions(rng, {"a": 0.75, "b": 0.65}, 800), 0.05) for _ in range(10)]
    alike = [fails(predictions(rng, {"a": 0.7, "b": 0.7}, 800), 0.05) for _ in range(10)]
    assert sum(planted) >= 9
    assert sum(alike) <= 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_without_a_gap_a_thousand_verdicts_fail_at_the_stated_rate_at_most() -> None:
    """Any gap at all would fail it, so what lets these pass is the test alone: 5% and three deviations."""
    rng = np.random.default_rng(11)
    failed = sum(fails(predictions(rng, {"a": 0.7, "b": 0.7}, 200), 0.0) for _ in range(1000))
    assert failed / 1000 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)


@pytest.mark.slow
def test_a_planted_gap_of_ten_points_fails_ninety_five_of_a_hundred_verdicts() -> None:
    rng = np.random.default_rng(12)
    failed = sum(fails(predictions(rng, {"a": 0.75, "b": 0.65}, 800), 0.05) for _ in range(100))
    assert failed >= 95


# -- intervals -------------------------------------------------------------------------------------

TRUTH = 0.7
GROUPS = 90


def coverage(people: int, pictures: int, tables: int, seed: int) -> dict[str, list[bool]]:
    """By score, whether the interval that an audit publishes of a group holds the truth."""
    rng = np.random.default_rng(seed)
    found = defaultdict(list)
    for _ in range(tables):
        # Some people are read better than others: their pictures agree with one another.
        rate = rng.beta(7, 3, GROUPS * people) if pictures > 1 else np.full(GROUPS * people, TRUTH)
        frame = predictions(rng, {f"g{i:02d}": 1.0 for i in range(GROUPS)}, people, pictures)
        wrong = rng.random(len(frame)) >= np.repeat(rate, pictures)
        label = frame["label"].to_numpy()
        said = np.where(wrong, (label + rng.integers(1, 4, len(frame))) % 4, label)
        cells, _, _ = measure_groups(frame.assign(prediction=said), ["group"], EMOTIONS)
        for cell in cells:
            if cell.feature == "group":
                of_emotions = [
                    (name, ci)
                    for e in cell.per_emotion.values()
                    for name, ci in (
                        ("recall", e.recall_ci), ("precision", e.precision_ci), ("f1", e.ci)
                    )
                ]  # fmt: skip
                means = (("balanced", cell.balanced_accuracy_ci), ("macro F1", cell.f1_ci))
                for name, ci in (("accuracy", cell.ci), *means, *of_emotions):
                    if ci is not None:
                        found[name].append(ci[0] <= TRUTH <= ci[1])
    return found


def test_a_group_of_five_has_no_interval_that_could_miss() -> None:
    """Too few to judge: it says so, and states no score of anything."""
    assert not coverage(5, 1, 1, seed=20)


@pytest.mark.parametrize(("people", "pictures"), [(20, 1), (200, 1)])
def test_published_intervals_cover_at_their_nominal_rate(people: int, pictures: int) -> None:
    """Never less often, up to chance: three deviations under 95%."""
    for name, inside in coverage(people, pictures, 3, seed=people).items():
        least = 0.95 - 3 * np.sqrt(0.95 * 0.05 / len(inside))
        assert np.mean(inside) >= least, name


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_means_of_groups_of_twenty_cover_at_their_nominal_rate() -> None:
    """Four pictures each of twenty people: a plain bootstrap of so few held the truth in 90% of groups."""
    for name, inside in coverage(20, 4, 12, seed=40).items():
        assert len(inside) > 1000
        assert np.mean(inside) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / len(inside)), name


# -- another library's numbers ---------------------------------------------------------------------

FAIRLEARNS = {
    ("aa", "f"): [[5, 4], [4, 5]],
    ("aa", "g"): [[2, 3], [3, 10]],
    ("ba", "f"): [[0, 4], [3, 11]],
    ("ba", "g"): [[6, 2], [2, 7]],
}
"""The 71 rows that Fairlearn's own tests of metrics use (test/unit/metrics/data_for_test.py), counted: by
`g_1` and `g_2`, how often each true label (row) was taken for each (column)."""


def fairlearns_table() -> pd.DataFrame:
    rows = [
        {"g_1": one, "g_2": two, "label": true, "prediction": said}
        for (one, two), counts in FAIRLEARNS.items()
        for true, row in enumerate(counts)
        for said, n in enumerate(row)
        for _ in range(n)
    ]
    assert len(rows) == 71
    frame = pd.DataFrame(rows)
    return frame.assign(store="s", person=[str(i) for i in range(71)])


def metric_frame(frame: pd.DataFrame, features: list[str], **more: Any) -> Any:
    from fairlearn.metrics import MetricFrame, count, selection_rate
    from sklearn import metrics

    return MetricFrame(
        metrics={
            "n": count,
            "accuracy": metrics.accuracy_score,
            "balanced": metrics.balanced_accuracy_score,
            "recall": metrics.recall_score,
            "precision": metrics.precision_score,
            "f1": metrics.f1_score,
            "said": selection_rate,
        },
        y_true=frame["label"],
        y_pred=frame["prediction"],
        sensitive_features=frame[features],
        **more,
    )


def test_every_score_and_gap_is_fairlearns_on_its_own_tests_table() -> None:
    frame = fairlearns_table()
    cells, gaps, _ = measure_groups(frame, ["g_1", "g_2"], ("no", "yes"))
    for feature in ("g_1", "g_2"):
        theirs = metric_frame(frame, [feature])
        mine = [c for c in cells if c.feature == feature]
        assert [c.group for c in mine] == list(theirs.by_group.index)
        for cell in mine:
            yes, row = cell.per_emotion["yes"], theirs.by_group.loc[cell.group]
            assert {
                "n": cell.n,
                "accuracy": cell.accuracy,
                "balanced": cell.balanced_accuracy,
                "recall": yes.recall,
                "precision": yes.precision,
                "f1": yes.f1,
                "said": yes.selection_rate,
            } == pytest.approx(dict(row), rel=1e-12)
        (gap,) = [g for g in gaps if g.feature == feature]
        assert gap.accuracy_gap == pytest.approx(theirs.difference()["accuracy"], rel=1e-12)


def test_intersections_and_control_features_are_fairlearns_on_its_own_tests_table() -> None:
    frame = fairlearns_table()
    cells, gaps, _ = measure_groups(frame, ["g_1", "g_2"], ("no", "yes"), controls=["g_2"])
    both = metric_frame(frame, ["g_1", "g_2"])
    crossed = {c.group: c for c in cells if c.crossed and c.feature == "g_1 and g_2"}
    assert len(crossed) == 4
    for (one, two), row in both.by_group.iterrows():
        cell = crossed[f"{one}, {two}"]
        assert (cell.n, cell.accuracy) == pytest.approx((row["n"], row["accuracy"]), rel=1e-12)
    (gap,) = [g for g in gaps if g.crossed and g.feature == "g_1 and g_2"]
    assert gap.accuracy_gap == pytest.approx(both.difference()["accuracy"], rel=1e-12)
    held = metric_frame(frame, ["g_1"], control_features=frame[["g_2"]]).difference()
    fixed = {g.level: g for g in gaps if g.control == "g_2" and g.feature == "g_1"}
    assert {level: g.accuracy_gap for level, g in fixed.items()} == pytest.approx(
        held["accuracy"].to_dict(), rel=1e-12
    )
