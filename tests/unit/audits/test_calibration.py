"""Is the model as sure as it is right? Against the definition, one face at a time."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privemo_audits.calibration import (
    BINS,
    DRAWN,
    Sureness,
    confidence_of,
    measure_calibration,
)
from privemo_audits.cells import measure_groups
from privemo_audits.fairness import measure_performance
from privemo_audits.report_performance import CalibrationBin, GroupCell


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_the_error_is_the_mean_distance_over_the_bins(faces: list[tuple[float, bool]]) -> None:
    confidence = np.array([c for c, _ in faces])
    right = np.array([r for _, r in faces])
    expected = 0.0
    for b in range(BINS):
        mine = [(c, r) for c, r in faces if min(int(c * BINS), BINS - 1) == b]
        if mine:
            sure, hit = np.mean([c for c, _ in mine]), np.mean([r for _, r in mine])
            expected += len(mine) / len(faces) * abs(sure - hit)
    got = measure_calibration(confidence, right)
    assert got.error == pytest.approx(expected, abs=1e-9)
    assert got.confidence == pytest.approx(confidence.mean())


def test_a_model_that_is_as_right_as_it_is_sure_has_a_small_error() -> None:
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.3, 1.0, 20_000)
    assert measure_calibration(sure, rng.random(20_000) < sure).error < 0.02
    assert measure_calibration(sure, rng.random(20_000) < sure - 0.2).error == pytest.approx(
        0.2, abs=0.03
    )


def test_the_confidence_is_that_of_what_was_named() -> None:
    frame = pd.DataFrame({"prediction": [1, 0], "p_a": [0.3, 0.9], "p_b": [0.7, 0.1]})
    found = confidence_of(frame, ["a", "b"])
    assert found is not None
    assert found.tolist() == [0.7, 0.9]
    assert confidence_of(frame.drop(columns="p_a"), ["a", "b"]) is None


# -- the diagram ---------------------------------------------------------------------------------

LABELS = ("a", "b")


def table(*parts: tuple[str, float, int], images: int = 1) -> pd.DataFrame:
    """People of a group whose pictures get a confidence: (group, confidence, people); all are right."""
    rows = [
        {
            "person": f"{group}-{sure}-{i}",
            "label": i % 2,
            "prediction": i % 2,
            "p_a": sure if i % 2 == 0 else 1 - sure,
            "p_b": sure if i % 2 else 1 - sure,
            "group": group,
            "store": "one",
        }
        for group, sure, people in parts
        for i in range(people)
        for _ in range(images)
    ]
    return pd.DataFrame(rows)


def cells(frame: pd.DataFrame) -> dict[str, GroupCell]:
    found, _, _ = measure_groups(frame, ["group"], LABELS)
    return {cell.group: cell for cell in found if cell.feature == "group"}


def everyone(frame: pd.DataFrame) -> tuple[CalibrationBin, ...]:
    calibration = measure_performance(frame, LABELS).calibration
    assert calibration is not None
    return calibration.bins


def statuses(bins: tuple[CalibrationBin, ...]) -> list[tuple[float, str]]:
    return [(part.low, part.status) for part in bins]


def test_each_bin_holds_its_faces_its_mean_confidence_and_its_doubt() -> None:
    frame = table(("x", 0.7, 40), ("x", 0.95, 60), images=2)
    frame.loc[:39, "label"] = (
        1 - frame.loc[:39, "prediction"]
    )  # wrong for 20 of the first 40 people
    low, high = everyone(frame)
    assert (low.n, low.persons, high.n, high.persons) == (80, 40, 120, 60)
    assert low.confidence == pytest.approx(0.7)
    assert low.accuracy == 0.5
    assert low.ci is not None
    # Two pictures of a person that are always alike are one piece of evidence, so n is 40 and not 80.
    assert low.ci[1] - low.ci[0] == pytest.approx(0.32, abs=0.02)
    assert (high.accuracy, high.ci is not None and high.ci[1]) == (1.0, 1.0)
    assert cells(frame)["x"].reliability == (low, high)


def test_a_bin_of_few_people_states_no_score_and_one_of_fewer_nothing() -> None:
    bins = everyone(table(("x", 0.55, 3), ("x", 0.7, 7), ("x", 0.95, 60)))
    # The 3 would follow from the 70 and the others, so the next smallest goes with them.
    assert statuses(bins) == [(0.4, "suppressed"), (0.6, "suppressed"), (0.8, "ok")]
    assert bins[0] == CalibrationBin(low=0.4, high=0.6, status="suppressed")
    assert statuses(everyone(table(("x", 0.7, 7), ("x", 0.95, 60)))) == [
        (0.6, "insufficient"),
        (0.8, "ok"),
    ]


def test_a_group_gives_nobody_away_by_subtraction_from_everyone() -> None:
    frame = table(("x", 0.7, 30), ("x", 0.95, 30), ("y", 0.7, 3), ("y", 0.95, 30))
    assert statuses(everyone(frame)) == [(0.6, "ok"), (0.8, "ok")]
    found = cells(frame)
    # Else the 3 of y were those of everyone less those of x, or those of y less its others.
    for name in ("x", "y"):
        assert statuses(found[name].reliability) == [(0.6, "suppressed"), (0.8, "suppressed")]


def test_what_is_hidden_of_everyone_is_hidden_of_each_group() -> None:
    frame = table(("x", 0.55, 4), ("x", 0.7, 20), ("x", 0.95, 50), ("y", 0.7, 30), ("y", 0.95, 50))
    hidden = {b.low for b in everyone(frame) if b.status == "suppressed"}
    assert hidden == {0.4, 0.6}
    for cell in cells(frame).values():
        shown = {b.low for b in cell.reliability if b.status != "suppressed"}
        assert not shown & hidden


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1), st.integers(1, 12)), max_size=12))
def test_no_cell_of_few_people_is_ever_shown(parts: list[tuple[int, float, int]]) -> None:
    frame = table(*((f"g{g}", sure, n) for g, sure, n in parts), ("g0", 0.9, 12), ("g1", 0.9, 12))
    sureness = Sureness.of(frame, np.arange(len(frame)), LABELS)
    assert sureness is not None
    for group in (0, 1):
        rows = (frame["group"] == f"g{group}").to_numpy()
        place = (frame["group"] == "g1").to_numpy().astype(np.int64)
        hidden = sureness.hidden_in(place, np.zeros(2, dtype=bool))[group]
        for part in sureness.diagram(hidden, rows):
            people = int((rows & (sureness.place == round(part.low * DRAWN))).sum())
            if part.status == "ok":
                assert people >= 10
            elif part.status == "insufficient":
                assert 5 <= people < 10
            else:
                assert part.n is part.persons is part.confidence is part.accuracy is None


def test_without_probabilities_there_is_no_diagram() -> None:
    frame = table(("x", 0.7, 30)).drop(columns=["p_a", "p_b"])
    assert measure_performance(frame, LABELS).calibration is None
    assert cells(frame)["x"].reliability == ()
