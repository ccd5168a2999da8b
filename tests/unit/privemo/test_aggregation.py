"""What becomes of the stores' updates: the threat is that some of them were made up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privemo import weights as w
from privemo.aggregation import Aggregator, Mean, Robust, aggregator
from privemo.config import RunSettings
from privemo.errors import RunError

SIZES = {f"s{i}": float(i + 1) for i in range(9)}
KINDS = ("trimmed_mean", "median", "krum")


def updates(stores: int, seed: int = 0) -> list[w.Weights]:
    rng = np.random.default_rng(seed)
    return [
        {
            "a": rng.normal(0, 1, (4, 5)).astype(np.float32),
            "b": rng.normal(0, 1, 7).astype(np.float32),
        }
        for _ in range(stores)
    ]


def together(by: Aggregator, made: list[w.Weights]) -> w.Weights:
    for number, update in enumerate(made):
        by.take(f"s{number}", update)
    return by.result()


def flat(update: w.Weights) -> np.ndarray:
    return np.concatenate([update["a"].ravel(), update["b"].ravel()])


def test_a_mean_weighs_by_public_sizes() -> None:
    made = updates(3)
    expected = sum((i + 1) * flat(u).astype(np.float64) for i, u in enumerate(made)) / 6
    found = together(Mean(SIZES), made)
    assert np.allclose(flat(found), expected, atol=1e-6)
    assert found["a"].dtype == np.float32


@pytest.mark.parametrize(("stores", "bad"), [(3, 1), (5, 2), (9, 4), (9, 1), (10, 3), (4, 1)])
def test_a_trimmed_mean_leaves_out_so_many_at_either_end(stores: int, bad: int) -> None:
    made = updates(stores)
    ordered = np.sort(np.stack([flat(u) for u in made]), axis=0)
    expected = ordered[bad : stores - bad].mean(axis=0)
    assert np.allclose(flat(together(Robust("trimmed_mean", bad), made)), expected, atol=1e-6)


def test_a_median_is_that_of_each_parameter() -> None:
    made = updates(6)
    expected = np.median(np.stack([flat(u) for u in made]), axis=0)
    found = together(Robust("median", 2), made)
    assert np.allclose(flat(found), expected)
    assert found["a"].dtype == np.float32


def test_krum_averages_those_that_lie_together() -> None:
    near = updates(6)
    for update in near:
        for array in update.values():
            array *= np.float32(0.1)
    far = [{key: array + 5 for key, array in u.items()} for u in updates(2, seed=1)]
    found = together(Robust("krum", 2), [far[0], *near, far[1]])
    assert np.allclose(flat(found), np.mean([flat(u) for u in near], axis=0), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@given(
    value=st.sampled_from([1e3, -1e3, 1e10, -1e10, 0.0]),
    bad=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_poisoned_stores_cannot_drag_the_result_out_of_what_honest_ones_say(
    kind: str, value: float, bad: int, seed: int
) -> None:
    honest = updates(9 - bad, seed)
    poison = {key: np.full_like(array, value) for key, array in honest[0].items()}
    found = flat(together(Robust(kind, bad), [*honest, *[poison] * bad]))
    spread = np.stack([flat(u) for u in honest])
    if (
        kind == "krum"
    ):  # equal lies lie close together: a share of the mean can be theirs, if they are small
        assert abs(value) <= 1e3 or np.abs(found).max() <= np.abs(spread).max()
    else:
        assert (found >= spread.min(axis=0) - 1e-5).all()
        assert (found <= spread.max(axis=0) + 1e-5).all()


@pytest.mark.parametrize(
    ("kind", "stores"), [("trimmed_mean", 4), ("median", 4), ("krum", 6), ("krum", 1)]
)
def test_of_too_few_stores_nothing_is_said(kind: str, stores: int) -> None:
    with pytest.raises(RunError, match=f"{stores} stores answered, of whom 2 may be poisoned"):
        together(Robust(kind, 2), updates(stores))


def test_a_run_says_how_its_updates_are_put_together() -> None:
    assert isinstance(aggregator(RunSettings(), SIZES), Mean)
    chosen = RunSettings.of(stores=9, aggregation="krum", malicious_stores=2)
    assert isinstance(aggregator(chosen, SIZES), Robust)
