"""Groups, and two features at a time: what is hidden stays hidden, and what is held fixed is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from privemo_audits.cells import measure_groups
from privemo_audits.fairness import EMOTIONS, measure_performance
from privemo_audits.groups import MIN_PERSONS


def table(
    n: int, *, seed: int = 0, accuracy: float | np.ndarray = 0.8, **columns: object
) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 4, n)
    right = rng.random(n) < accuracy
    said = np.where(right, label, (label + rng.integers(1, 4, n)) % 4)
    sure = np.where(right, 0.9, 0.6)
    probabilities = np.full((n, 4), ((1 - sure) / 3)[:, None])
    probabilities[np.arange(n), said] = sure
    return pd.DataFrame(
        {
            "store": "s",
            "person": np.arange(n).astype(str),
            "label": label,
            "prediction": said,
            **{f"p_{name}": probabilities[:, i] for i, name in enumerate(EMOTIONS)},
            **columns,
        }
    )


def drawn(n: int, *names: str, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).choice(names, n)


def test_each_score_of_a_group_is_that_of_its_rows_alone() -> None:
    frame = table(400, group=drawn(400, "a", "b"), abstained=drawn(400, "x", "y", seed=3) == "x")
    cells = {c.group: c for c in measure_groups(frame, ["group"], EMOTIONS)[0]}
    for name in "ab":
        rows, got = frame[frame["group"] == name], cells[name]
        alone = measure_performance(rows, EMOTIONS)
        assert alone.calibration is not None
        assert alone.abstention is not None
        assert (got.n, got.accuracy, got.ci) == (alone.n, alone.accuracy, alone.accuracy_ci)
        assert got.balanced_accuracy == alone.balanced_accuracy
        assert got.confidence == pytest.approx(alone.calibration.confidence)
        assert got.calibration_error == pytest.approx(alone.calibration.error)
        assert got.abstained == pytest.approx(alone.abstention.share)
        for emotion, score in alone.per_emotion.items():
            mine = got.per_emotion[emotion]
            assert (mine.precision, mine.recall, mine.f1) == (
                score.precision,
                score.recall,
                score.f1,
            )
            assert mine.selection_rate == score.predicted / alone.n


def test_the_sums_are_those_of_fairlearn_itself() -> None:
    from fairlearn.metrics import MetricFrame, count, selection_rate
    from sklearn.metrics import accuracy_score, recall_score

    frame = table(300, seed=4, group=drawn(300, "a", "b", "c"))
    sad = EMOTIONS.index("sad")
    theirs = MetricFrame(
        metrics={
            "n": count,
            "accuracy": accuracy_score,
            "said": lambda t, p: selection_rate(t == sad, p == sad),
            "recall": lambda t, p: recall_score(t == sad, p == sad),
        },
        y_true=frame["label"],
        y_pred=frame["prediction"],
        sensitive_features=frame["group"],
    )
    cells, gaps, _ = measure_groups(frame, ["group"], EMOTIONS)
    for cell in cells[:3]:
        row = theirs.by_group.loc[cell.group]
        assert cell.n == row["n"]
        assert cell.accuracy == pytest.approx(row["accuracy"], rel=1e-12)
        assert cell.per_emotion["sad"].selection_rate == pytest.approx(row["said"], rel=1e-12)
        assert cell.per_emotion["sad"].recall == pytest.approx(row["recall"], rel=1e-12)
    assert gaps[0].accuracy_gap == pytest.approx(theirs.difference()["accuracy"], rel=1e-12)


def test_a_gap_where_two_groups_meet_is_seen_there_alone() -> None:
    """Balanced: each feature by itself is the same for both of its groups."""
    n = 2400
    one, two = np.repeat(["a", "b"], n // 2), np.tile(["c", "d"], n // 2)
    accuracy = np.where((one == "a") == (two == "c"), 0.85, 0.65)
    gaps = {
        g.feature: g
        for g in measure_groups(
            table(n, accuracy=accuracy, one=one, two=two), ["one", "two"], EMOTIONS
        )[1]
    }
    assert not gaps["one"].real
    assert not gaps["two"].real
    both = gaps["one and two"]
    assert both.real
    assert both.accuracy_gap == pytest.approx(0.2, abs=0.06)
    assert {both.highest, both.lowest} & {"a, c", "b, d"}


def test_a_group_that_is_not_shown_is_not_shown_in_parts() -> None:
    one = np.array(["few"] * 4 + ["many"] * 196)
    frame = table(200, one=one, two=drawn(200, "c", "d"))
    cells, _, _ = measure_groups(frame, ["one", "two"], EMOTIONS)
    hidden = {(c.feature, c.group) for c in cells if c.status == "suppressed"}
    assert ("one", "few") in hidden
    parts = [c for c in cells if c.feature == "one and two" and c.group.startswith("few")]
    assert parts
    assert all(c.status == "suppressed" and c.n is None for c in parts)


def test_parts_do_not_give_away_a_small_one_by_subtraction() -> None:
    """Of 40 in `a` 2 are in `d`: the total of `a` and its other part would tell."""
    one = np.array(["a"] * 40 + ["b"] * 40)
    two = np.array(["c"] * 38 + ["d"] * 2 + ["c"] * 20 + ["d"] * 20)
    cells, _, _ = measure_groups(table(80, one=one, two=two), ["one", "two"], EMOTIONS)
    by = {c.group: c.status for c in cells if c.feature == "one and two"}
    assert by["a, d"] == "suppressed"
    assert sum(status == "suppressed" for status in by.values()) >= 2


def test_too_many_combinations_are_left_out_and_it_is_said() -> None:
    frame = table(400, one=drawn(400, *"abcdefghijk"), two=drawn(400, *"abcdefghijk", seed=2))
    cells, _, notes = measure_groups(frame, ["one", "two"], EMOTIONS)
    assert {c.feature for c in cells} == {"one", "two", "store"}
    assert any("one and two together make 121 groups" in note for note in notes)


def test_what_explains_a_gap_does_when_it_is_held_fixed() -> None:
    """Group `a` is photographed in bad light: the light is what the model fails on (Simpson's paradox)."""
    rng = np.random.default_rng(7)
    n = 4000
    group = drawn(n, "a", "b")
    dark = rng.random(n) < np.where(group == "a", 0.8, 0.2)
    frame = table(
        n, accuracy=np.where(dark, 0.6, 0.9), group=group, light=np.where(dark, "dark", "bright")
    )
    gaps = measure_groups(frame, ["group", "light"], EMOTIONS, controls=["light"])[1]
    found = {(g.feature, g.level): g for g in gaps}
    assert found["group", None].real
    for level in ("dark", "bright"):
        assert found["group", level].control == "light"
        assert not found["group", level].real
    assert ("light", "dark") not in found


def test_someone_in_two_groups_counts_in_both() -> None:
    """A face with glasses and one without, of the same person."""
    frame = table(60, group=drawn(60, "a", "b"))
    frame["person"] = np.repeat(np.arange(30).astype(str), 2)
    cells = {
        c.group: c for c in measure_groups(frame, ["group"], EMOTIONS)[0] if c.feature == "group"
    }
    both = frame.groupby("person")["group"].nunique().eq(2).sum()
    assert both
    assert (cells["a"].persons or 0) + (cells["b"].persons or 0) == 30 + both
    assert min(cells["a"].persons or 0, cells["b"].persons or 0) >= MIN_PERSONS


def test_a_mean_over_emotions_does_not_tell_of_those_that_are_hidden() -> None:
    """With the sum of two hidden recalls, small whole numbers could be solved for."""
    frame = table(200, group=drawn(200, "a", "b"))
    here = frame["group"] == "a"
    rare = frame.index[here & (frame["label"] == 1)][2:]
    frame.loc[rare, "label"] = 0  # two people of `a` are sad
    cells = {c.group: c for c in measure_groups(frame, ["group"], EMOTIONS)[0]}
    assert cells["a"].per_emotion["sad"].status == "suppressed"
    for value in (
        *(cells["a"].balanced_accuracy, cells["a"].balanced_accuracy_ci),
        *(cells["a"].f1, cells["a"].f1_ci),
    ):
        assert value is None
    assert cells["a"].accuracy is not None


def test_a_control_shows_no_group_that_the_two_together_do_not() -> None:
    """Where it is bright 2 of `a` are; the other part of `a` would give them away."""
    group = np.array(["a"] * 42 + ["b"] * 22 + ["c"] * 60)
    few = ["dark"] * 40 + ["bright"] * 2 + ["dark"] * 20 + ["bright"] * 2
    light = np.array(few + ["dark", "bright"] * 30)
    found = measure_groups(
        table(124, group=group, light=light), ["group", "light"], EMOTIONS, controls=["light"]
    )
    hidden = {c.group for c in found[0] if c.crossed and c.status == "suppressed"}
    assert {"a, bright", "b, bright", "a, dark", "b, dark"} <= hidden
    (dark,) = (g for g in found[1] if (g.feature, g.level) == ("group", "dark"))
    shown = {c.group for c in found[0] if c.crossed and c.status == "ok"}
    assert dark.groups_compared == sum(group.endswith("dark") for group in shown)
    assert dark.accuracy_gap is None


def test_a_column_called_like_two_others_is_itself() -> None:
    columns = {"one": drawn(90, "a", "b"), "two": drawn(90, "c", "d", seed=2)}
    frame = table(90, **columns, **{"one and two": drawn(90, "e", "f", seed=3)})
    cells, gaps, _ = measure_groups(frame, ["one", "two", "one and two"], EMOTIONS)
    named = [c for c in cells if c.feature == "one and two"]
    assert {c.group for c in named if not c.crossed} == {"e", "f"}
    assert {c.group for c in named if c.crossed} == {"a, c", "a, d", "b, c", "b, d"}
    assert sorted(g.crossed for g in gaps if g.feature == "one and two") == [False, True]
