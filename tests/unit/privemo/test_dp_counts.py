"""A count that may be published: exact noise, charged first."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest

from privemo.budget import Budget
from privemo.dp.counts import _geometric, noised_count
from privemo.errors import BudgetExhausted, SettingsError
from privemo.releases import Stated

DRAWS = 4000


@pytest.fixture
def budget(tmp_path: Path) -> Budget:
    return Budget(tmp_path / "people.budget")


def count(budget: Budget, epsilon: float = 0.5, epsilon_budget: float = 1.0) -> int:
    return noised_count(
        100,
        epsilon=epsilon,
        budget=budget,
        what="people admitted",
        epsilon_budget=epsilon_budget,
        delta=1e-5,
    )


@pytest.mark.parametrize("epsilon", [Fraction(1, 2), Fraction(3, 2)])
def test_noise_is_geometric(epsilon: Fraction) -> None:
    """Each size within five standard deviations of its probability."""
    drawn = Counter(_geometric(epsilon) for _ in range(DRAWS))
    decay = math.exp(-epsilon)
    for z in range(-4, 5):
        p = (1 - decay) / (1 + decay) * decay ** abs(z)
        assert abs(drawn[z] - DRAWS * p) < 5 * math.sqrt(DRAWS * p * (1 - p))


def test_a_count_is_charged_before_it_is_told(budget: Budget) -> None:
    assert {count(budget, epsilon=0.25) for _ in range(4)} != {100}
    assert budget.history() == [Stated(0.25)] * 4
    with pytest.raises(BudgetExhausted):
        count(budget, epsilon=0.25)
    assert len(budget.entries) == 4


def test_what_is_charged_is_what_is_used(budget: Budget) -> None:
    count(budget, epsilon=0.33349)
    assert budget.history() == [Stated(0.333)]


@pytest.mark.parametrize("epsilon", [0.0, -1.0, 0.0009, float("nan"), float("inf"), 1001.0])
def test_a_count_that_costs_nothing_or_no_number_is_refused(budget: Budget, epsilon: float) -> None:
    with pytest.raises(SettingsError, match="A count costs"):
        count(budget, epsilon=epsilon)
    assert budget.entries == ()
