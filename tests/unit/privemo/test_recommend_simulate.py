"""A store that does not exist: what it measures is what was put in, and it says so where there is nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from privemo.errors import SettingsError
from privemo.recommend import default_policy
from privemo.recommend.rails import lifted
from privemo.recommend.shoppers import Store, Visit, uniform_confusion, visits
from privemo.recommend.simulate import MISREAD, NO_RAILS, learned, simulate, untouched


def compared(**settings: Any) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = simulate(Store(shoppers=800, **settings), repeats=5)[
        "comparisons"
    ]
    return found


@pytest.fixture(scope="module")
def strong() -> dict[str, dict[str, float]]:
    return compared(effect=3.0)


def test_where_moods_change_tastes_the_expression_adds_something(
    strong: dict[str, dict[str, float]],
) -> None:
    assert strong["most there is to gain"]["low"] > 0
    assert strong["what the expression adds to them"]["low"] > 0
    assert strong["what misreading costs"]["mean"] > 0


def test_the_rails_cost_something_and_it_is_told(strong: dict[str, dict[str, float]]) -> None:
    assert strong["what the guard rails cost"]["low"] > 0


def test_where_moods_change_nothing_nothing_is_found() -> None:
    found = simulate(Store(shoppers=800, effect=0.0), repeats=5)
    for name in ("most there is to gain", "what the expression adds to them"):
        assert found["comparisons"][name]["low"] <= 0, name
    told = next(v for v in found["verdicts"] if v.startswith("what the expression adds"))
    assert "nothing shown" in told or "a loss" in told


def test_a_recognizer_that_guesses_adds_nothing() -> None:
    found = compared(effect=3.0, confusion=uniform_confusion(0.25))
    assert found["what the expression adds to them"]["low"] <= 0


def test_equal_seeds_are_equal_shoppers_and_readings_err_as_often_as_they_are_told_to() -> None:
    store = Store(shoppers=2000, abstains=0.2)
    first, again = (list(visits(store, 4)) for _ in range(2))
    assert first == again
    assert first != list(visits(store, 5))
    read = [v for v in first if v.read is not None]
    assert len(read) / len(first) == pytest.approx(0.8, abs=0.03)
    right = sum(v.read == v.mood for v in read) / len(read)
    assert right == pytest.approx(0.75, abs=0.04)
    assert sum(v.consents for v in first) / len(first) == pytest.approx(0.6, abs=0.04)
    for visit in first[:50]:
        scores = [offer.score for offer in visit.offers]
        assert scores == sorted(scores, reverse=True)


def test_who_did_not_agree_earns_the_shop_exactly_what_they_did_before() -> None:
    met = list(visits(Store(shoppers=400), 1))
    earned = learned(MISREAD, met, default_policy(), 1)
    for visit, value in zip(met, earned, strict=True):
        if not visit.consents or visit.read is None:
            assert value == visit.reward(range(len(visit.offers)))


def test_a_real_registry_and_a_real_recommender_leave_who_refused_alone() -> None:
    found = untouched(Store(shoppers=100), people=60)
    assert found["asked"] == 60
    assert 0 < found["refused"] < 60
    assert found["identical"] == found["refused"]


def moved(visit: Visit, passing: Any) -> bool:
    policy = default_policy()
    order = lifted(visit.offers, policy.find("comfort"), "sad", policy, passing=passing)
    return any(place < was and not visit.offers[was].may_rise for place, was in enumerate(order))


def test_the_store_offers_things_that_the_rails_hold_back() -> None:
    met = list(visits(Store(shoppers=200), 2))
    assert any(moved(visit, NO_RAILS.passing) for visit in met)
    assert not any(moved(visit, MISREAD.passing) for visit in met)


@pytest.mark.parametrize(
    "settings",
    [
        {"shoppers": 10},
        {"effect": -1.0},
        {"effect": float("nan")},
        {"abstains": 1.5},
        {"consenting": -0.1},
        {"confusion": np.eye(3)},
        {"confusion": np.full((4, 4), 0.3)},
        {"confusion": np.full((4, 4), np.nan)},
    ],
)
def test_settings_of_nonsense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        Store(**settings)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(SettingsError, match="5 at least"):
        simulate(Store(shoppers=100), repeats=4)
    with pytest.raises(SettingsError, match="nobody agreed"):
        simulate(Store(shoppers=100, consenting=0.0), repeats=5)
    with pytest.raises(SettingsError, match="accuracy"):
        uniform_confusion(0.1)
    with pytest.raises(SettingsError, match="people"):
        untouched(Store(), people=0)
