"""Is the model as sure as it is right? Against the definition, one face at a time."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privemo_audits.calibration import BINS, confidence_of, measure_calibration


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
    assert sum(part.n for part in got.bins) == len(faces)
    assert all(part.low <= part.confidence <= part.high + 1e-9 for part in got.bins)


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
