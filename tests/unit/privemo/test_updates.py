"""What an update must be before it counts: the threat is a store that sends rubbish."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privemo.errors import UpdateRejected
from privemo.orders import PlainRecipe, RoundOrder
from privemo.updates import check_update, norm_bound
from tests.support.updates import MODEL, RECIPE, update


def test_an_honest_update_passes() -> None:
    check_update(update(), MODEL, bound=1.0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"b": None}, "parameters differ: b"),
        ({"c": np.zeros(1, np.float32)}, "parameters differ: c"),
        ({"a": np.zeros((3, 2), np.float32)}, r"a is float32\[3, 2\], expected float32\[2, 3\]"),
        ({"a": np.zeros((2, 3), np.float64)}, "a is float64"),
        ({"b": np.array([0, np.nan, 0, 0], np.float32)}, "b holds NaN"),
        ({"b": np.array([0, np.inf, 0, 0], np.float32)}, "b holds NaN or infinity"),
        ({"b": np.full(4, 1e6, np.float32)}, "over the bound"),
        ({"b": np.full(4, 3e38, np.float32)}, "over the bound"),
    ],
)
def test_a_poisoned_update_is_rejected_with_the_reason(
    changes: dict[str, object], says: str
) -> None:
    with pytest.raises(UpdateRejected, match=says):
        check_update(update(**changes), MODEL, bound=1.0)


def test_what_stays_in_the_stores_is_not_moved_by_one_of_them() -> None:
    stays = {**update(), "b": np.zeros(4, np.float32)}
    check_update(stays, MODEL, bound=1.0, own=frozenset({"b"}))
    with pytest.raises(UpdateRejected, match="it moves b, which stays in the stores"):
        check_update(update(), MODEL, bound=1.0, own=frozenset({"b"}))


@given(scale=st.floats(0.0, 10.0))
def test_the_bound_is_the_euclidean_norm(scale: float) -> None:
    a = np.zeros((2, 3), np.float32)
    a[0, 0] = scale
    made = {"a": a, "b": np.zeros(4, np.float32)}
    if float(a[0, 0]) <= 2.0:
        check_update(made, MODEL, bound=2.0)
    else:
        with pytest.raises(UpdateRejected):
            check_update(made, MODEL, bound=2.0)


def test_the_bound_follows_public_numbers_alone() -> None:
    order = RoundOrder("r", 1, "emotion-cnn", RECIPE)
    signal_and_noise = 3.0 + 1.0 * math.sqrt(10_000) / 25.0
    assert norm_bound(order, 10_000) == pytest.approx(2 * 0.1 * 10 * signal_and_noise / 0.1)
    adam = RoundOrder("r", 1, "emotion-cnn", dataclasses.replace(RECIPE, optimizer="adam"))
    assert norm_bound(adam, 10_000) == pytest.approx(2 * 3.2 * 0.1 * 10 * 100)
    plain = RoundOrder("r", 1, "emotion-cnn", PlainRecipe(1, 8, 0.1, 0.0))
    assert math.isfinite(norm_bound(plain, 10_000))
