from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, precision_score, recall_score

from privemo_audits import PredictionsError, evaluate_predictions
from privemo_audits.cells import measure_groups
from privemo_audits.fairness import EMOTIONS, measure_performance


def table(n: int = 400, *, seed: int = 0, accuracy: Any = 0.7, images: int = 1) -> pd.DataFrame:
    """Predictions of `n` people; `accuracy` is a rate, or a rate per group."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.array(["a", "b"])[np.arange(n) % 2], images)
    rate = np.array([accuracy[g] for g in group]) if isinstance(accuracy, dict) else accuracy
    label = rng.integers(0, 4, n * images)
    wrong = (label + rng.integers(1, 4, n * images)) % 4
    return pd.DataFrame(
        {
            "store": "s1",
            "person": np.repeat([f"p{i}" for i in range(n)], images),
            "label": label,
            "prediction": np.where(rng.random(n * images) < rate, label, wrong),
            "group": group,
        }
    )


def test_numbers_are_scikit_learns() -> None:
    frame = table()
    got = measure_performance(frame, EMOTIONS)
    true, said = frame["label"], frame["prediction"]
    assert got.accuracy == pytest.approx((true == said).mean())
    assert got.balanced_accuracy == pytest.approx(balanced_accuracy_score(true, said))
    for i, name in enumerate(EMOTIONS):
        score = got.per_emotion[name]
        assert score.f1 == pytest.approx(f1_score(true, said, labels=[i], average="macro"))
        assert score.recall == pytest.approx(recall_score(true, said, labels=[i], average="macro"))
        assert score.precision == pytest.approx(
            precision_score(true, said, labels=[i], average="macro")
        )
        for value, interval in (
            (score.f1, score.ci),
            (score.recall, score.recall_ci),
            (score.precision, score.precision_ci),
        ):
            assert interval is not None
            assert interval[0] < value < interval[1]


def test_evaluate_gives_the_plain_block() -> None:
    got = evaluate_predictions(table())
    assert set(got) >= {"accuracy", "accuracy_ci", "f1", "n"}
    assert got["n"] == 400
    assert list(got["f1"]) == list(EMOTIONS)
    low, high = got["accuracy_ci"]
    assert isinstance(got["accuracy_ci"], list)
    assert low < got["accuracy"] < high


def test_names_and_indices_are_the_same() -> None:
    frame = table()
    named = frame.assign(
        label=[EMOTIONS[i] for i in frame["label"]],
        prediction=[EMOTIONS[i] for i in frame["prediction"]],
    )
    assert evaluate_predictions(named) == evaluate_predictions(frame)


def test_every_face_counts_as_another_person_where_nobody_is_named() -> None:
    got = evaluate_predictions(table(images=3).drop(columns="person"))
    assert got["persons"] == got["n"] == 1200


def test_chance_is_the_commonest_emotion_and_never_below_a_quarter() -> None:
    frame = table(100)
    frame["label"] = [0] * 90 + [1] * 10
    frame["prediction"] = 0
    got = measure_performance(frame, EMOTIONS)
    assert (got.accuracy, got.chance) == (0.9, 0.9)
    assert not got.above_chance
    assert got.per_emotion["sad"].recall == 0.0
    assert got.per_emotion["neutral"].f1 is None
    assert got.f1["neutral"] is None


def test_a_planted_gap_is_seen() -> None:
    frame = table(800, accuracy={"a": 0.9, "b": 0.6})
    cells, gaps, _ = measure_groups(frame, ["group"], EMOTIONS)
    gap = gaps[0]
    assert (gap.feature, gap.highest, gap.lowest, gap.real) == ("group", "a", "b", True)
    by_group = {c.group: c for c in cells if c.feature == "group"}
    assert gap.accuracy_gap == pytest.approx(by_group["a"].accuracy - by_group["b"].accuracy)
    assert gap.ci is not None
    assert gap.ci[0] < 0.3 < gap.ci[1]


def test_no_gap_is_claimed_where_there_is_none() -> None:
    """At most one in twenty; 25 tries leave room for chance (99.9% quantile: 5)."""
    claimed = sum(
        measure_groups(table(200, seed=seed, accuracy=0.7), ["group"], EMOTIONS)[1][0].real
        for seed in range(25)
    )
    assert claimed <= 5


def test_repeated_pictures_do_not_make_a_gap() -> None:
    """20 people a group, 30 pictures each, a person's pictures all right or all wrong."""
    claimed = 0
    for seed in range(20):
        frame = table(40, seed=seed, images=30)
        rng = np.random.default_rng(seed)
        right = np.repeat(rng.random(40) < 0.7, 30)
        frame["prediction"] = np.where(right, frame["label"], (frame["label"] + 1) % 4)
        claimed += measure_groups(frame, ["group"], EMOTIONS)[1][0].real
    assert claimed <= 5


def test_store_is_always_a_feature_and_only_once() -> None:
    cells, gaps, _ = measure_groups(table(), ["store"], EMOTIONS)
    assert [c.feature for c in cells] == ["store"]
    assert gaps[0].accuracy_gap is None


def test_small_groups_state_no_score_and_hidden_ones_nothing() -> None:
    frame = table(100)
    frame["group"] = ["x"] * 3 + ["y"] * 4 + ["z"] * 8 + ["w"] * 85
    cells, _, _ = measure_groups(frame, ["group"], EMOTIONS)
    got = {c.group: c for c in cells if c.feature == "group"}
    assert {g: c.status for g, c in got.items()} == {
        "x": "suppressed",
        "y": "suppressed",
        "z": "insufficient",
        "w": "ok",
    }
    for name in ("x", "y"):
        assert got[name].n is got[name].accuracy is got[name].persons is None
        assert got[name].per_emotion == {}
    assert (got["z"].n, got["z"].accuracy) == (8, None)


def test_people_are_counted_not_pictures() -> None:
    """Four people with a hundred pictures each are still four people."""
    frame = table(60, images=100)
    frame["group"] = np.where(frame["person"].isin(["p0", "p1", "p2", "p3"]), "few", "many")
    cells, _, _ = measure_groups(frame, ["group"], EMOTIONS)
    assert {c.status for c in cells if c.feature == "group"} == {"suppressed"}


def test_a_column_of_names_is_left_out_with_a_note() -> None:
    frame = table(400)
    frame["group"] = [f"name {i}" for i in range(400)]
    cells, _, notes = measure_groups(frame, ["group"], EMOTIONS)
    assert {c.feature for c in cells} == {"store"}
    assert "group has 400 different values" in notes[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.drop(columns="label"), "column 'label' is missing"),
        (lambda f: f.drop(columns="prediction"), "column 'prediction' is missing"),
        (lambda f: f.iloc[:0], "no rows"),
        (lambda f: f.assign(label=0), "every face is labelled 'happy'"),
        (lambda f: f.assign(label=9), "row 1: '9' is none of happy"),
        (lambda f: f.assign(prediction=float("nan")), "row 1: 'nan' is none of happy"),
        (lambda f: f.assign(prediction="angry"), "'angry' is none of happy"),
        (lambda f: f.assign(p_sad=float("nan")), "no probability"),
        (lambda f: f.assign(p_sad=1.5), "no probability"),
    ],
)
def test_bad_tables_are_named_with_a_remedy(change: Any, says: str) -> None:
    with pytest.raises(PredictionsError, match=says) as caught:
        evaluate_predictions(change(table(50)))
    assert caught.value.remedy
