"""Gains by group: alike where shoppers are alike, and found where a group is misread or feels otherwise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from privemo.errors import SettingsError
from privemo.recommend.groups import by_group, student
from privemo.recommend.shoppers import Store, uniform_confusion
from privemo.recommend.simulate import simulate


def verdicts(**settings: Any) -> dict[str, str]:
    store = Store(**{"shoppers": 1000, "effect": 4.0, **settings})
    return {each["group"]: each["verdict"] for each in simulate(store, repeats=6)["groups"]}


def test_alike_groups_are_found_alike() -> None:
    found = verdicts()
    assert set(found) == {"25_34", "45_54", "65_plus", "man", "woman"}
    assert set(found.values()) == {"no difference shown"}


def test_a_group_that_is_misread_more_often_is_found_behind() -> None:
    assert (
        verdicts(shoppers=1500, by_group={"65_plus": uniform_confusion(0.25)})["65_plus"]
        == "behind"
    )


def test_a_group_whose_tastes_go_the_other_way_is_found_worse_off() -> None:
    found = verdicts(contrary=frozenset({"65_plus"}))
    assert found["65_plus"] == "worse off"
    assert found["man"] == found["woman"] == "no difference shown"


def test_differences_are_found_by_chance_as_seldom_as_they_should_be() -> None:
    """500 comparisons of five groups that are alike: hardly more than one in twenty names any."""
    rng = np.random.default_rng(3)
    named = 0
    for _ in range(500):
        repetitions = []
        for _ in range(8):
            gains = {f"g{k}": 1 + rng.normal() for k in range(5)}
            others = {f"not g{k}": 1 + rng.normal() / 2 for k in range(5)}
            repetitions.append(gains | others)
        named += any(each["verdict"] in ("behind", "ahead") for each in by_group(repetitions))
    assert named / 500 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 500)


def test_students_quantile_is_that_of_the_tables() -> None:
    """Fisher and Yates, table III, P = .05 and P = .01."""
    for freedom, value in ((4, 2.776), (5, 2.571), (9, 2.262), (19, 2.093), (120, 1.980)):
        assert student(freedom) == pytest.approx(value, abs=2e-3)
    for freedom, value in ((7, 3.499), (9, 3.250), (30, 2.750)):
        assert student(freedom, 0.99) == pytest.approx(value, abs=1e-2)


def test_a_group_that_there_is_not_is_refused() -> None:
    for settings in ({"contrary": frozenset({"poor"})}, {"by_group": {"poor": np.eye(4)}}):
        with pytest.raises(SettingsError, match="got group poor"):
            Store(**settings)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="raise --shoppers"):
        simulate(Store(shoppers=100, consenting=0.02), repeats=5)
