"""Intervals from noised counts hold what they promise; simulated with a fixed seed."""

from __future__ import annotations

import numpy as np
import pytest

from privemo_audits.intervals import clopper_pearson
from privemo_audits.noisy import Noisy, deviations, difference_of

TIMES = 400


def draws(rng: np.random.Generator, people: int, accuracy: float, noise: float) -> list[Noisy]:
    """Right and wrong answers of 4 emotions: 4 noised counts are right ones, 12 are wrong ones."""
    right = rng.binomial(people, accuracy, TIMES)
    seen = np.rint(right + rng.normal(0, noise * 2, TIMES)).astype(int)
    missed = np.rint(people - right + rng.normal(0, noise * 12**0.5, TIMES)).astype(int)
    return [
        Noisy(int(r), int(w), 4 * noise**2, 12 * noise**2)
        for r, w in zip(seen, missed, strict=True)
    ]


@pytest.mark.parametrize("noise", [0.0, 1.3, 4.3, 8.1])
@pytest.mark.parametrize("people", [10, 40, 200])
def test_intervals_cover_the_true_accuracy(people: int, noise: float) -> None:
    """95% at least, but for what 1,600 draws may be off by: three standard errors, 1.6 points."""
    rng = np.random.default_rng(int(people + 100 * noise))
    hits = 0
    for accuracy in (0.5, 0.75, 0.95, 1.0):
        for x in draws(rng, people, accuracy, noise):
            low, high = x.interval()
            hits += low <= accuracy <= high
    assert hits / (4 * TIMES) > 0.95 - 0.016


def test_an_interval_that_forgot_the_noise_would_not_cover() -> None:
    """The test above can fail."""
    rng = np.random.default_rng(1)
    found = draws(rng, 40, 0.75, 4.3)
    blind = [Noisy(x.right, x.wrong, 0.0, 0.0).interval() for x in found]
    assert sum(low <= 0.75 <= high for low, high in blind) / TIMES < 0.7


def test_differences_of_two_groups_are_covered() -> None:
    rng = np.random.default_rng(2)
    pairs = zip(draws(rng, 60, 0.9, 2.0), draws(rng, 90, 0.7, 2.0), strict=True)
    found = [difference_of(a, b, 0.05) for a, b in pairs]
    assert sum(low <= 0.2 <= high for low, high in found) / TIMES > 0.95 - 0.033


def test_a_chance_of_a_tenth_makes_a_narrower_interval() -> None:
    x = Noisy(60, 20, 16.0, 48.0)
    wide, narrow = x.interval(0.01), x.interval(0.10)
    assert wide[0] < narrow[0] < x.share < narrow[1] < wide[1]  # type: ignore[operator]  # there are people


def test_without_noise_it_is_about_the_exact_interval() -> None:
    mine, exact = Noisy(30, 10, 0.0, 0.0).interval(), clopper_pearson(30, 40)
    assert mine == pytest.approx(exact, abs=0.03)


@pytest.mark.parametrize(
    ("right", "wrong", "share"),
    [(-3, 20, 0.0), (20, -3, 1.0), (0, 0, None), (-5, -5, None), (5, -9, None)],
)
def test_negative_counts_are_not_hidden_and_make_no_share_beyond_its_bounds(
    right: int, wrong: int, share: float | None
) -> None:
    x = Noisy(right, wrong, 16.0, 48.0)
    low, high = x.interval()
    assert x.share == share
    assert x.people == right + wrong
    assert 0 <= low <= high <= 1
    assert high - low > 0.3


def test_where_nothing_fits_nothing_is_known() -> None:
    assert Noisy(-500, -900, 1.0, 3.0).interval() == (0.0, 1.0)


def test_how_many_are_there_at_least_is_wrong_as_often_as_said() -> None:
    rng = np.random.default_rng(3)
    found = draws(rng, 50, 0.7, 4.0)
    assert sum(x.at_least(0.01) > 50 for x in found) / TIMES < 0.025
    assert deviations(0.05) == pytest.approx(1.96, abs=0.001)
