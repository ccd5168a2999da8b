"""Whoever joins or leaves changes the odds of a choice by no more than was promised."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privemo.dp.choice import Choice
from privemo.errors import SettingsError
from privemo.exporting.temperature import MOST, TEMPERATURES, UNIT, losses_of, surer_than_right
from privemo.releases import Mechanism

Table = tuple[np.ndarray, np.ndarray, np.ndarray]
EPSILONS = st.floats(0.01, 5.0)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Probabilities, labels and persons of some pictures: also certain ones, and several of one person."""
    rows = draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    logits = rng.standard_normal((rows, 4)) * draw(st.sampled_from([0.0, 0.1, 3.0, 30.0, 800.0]))
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    said = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
    person = np.array([f"p{k}" for k in rng.integers(0, 4, rows)])
    return said, rng.integers(0, 4, rows), person


@given(tables())
@settings(max_examples=60, deadline=None)
def test_one_person_says_no_more_than_the_bound_however_many_pictures(table: Table) -> None:
    each = surer_than_right(*table)
    assert each.shape == (len(np.unique(table[2])), len(TEMPERATURES))
    assert each.dtype == np.int64
    assert np.abs(each).max() <= UNIT
    again = tuple(np.concatenate([column] * 3) for column in table)  # every picture three times
    np.testing.assert_allclose(surer_than_right(*again), each, atol=1)


@given(tables(), EPSILONS)
@settings(max_examples=60, deadline=None)
def test_a_person_more_or_less_changes_the_odds_by_epsilon_at_most(
    table: Table, epsilon: float
) -> None:
    choice, each = Choice.of(epsilon), surer_than_right(*table)
    everybody = choice.log_odds(losses_of(each), MOST)
    for person in range(len(each)):
        without = choice.log_odds(losses_of(np.delete(each, person, axis=0)), MOST)
        apart = everybody - without
        assert np.abs(apart).max() <= choice.epsilon + 1e-9
        # Bounded range, on which the divergence that accountants compose rests.
        assert apart.max() - apart.min() <= choice.epsilon + 1e-9


@given(
    st.lists(st.integers(-3 * UNIT, 3 * UNIT), min_size=2, max_size=8),
    st.integers(0, 2**32),
    EPSILONS,
)
@settings(max_examples=60, deadline=None)
def test_whatever_a_person_could_say_stays_within_it(
    others: list[int], seed: int, epsilon: float
) -> None:
    """Anything that a table could hold of one person, also what no model says."""
    choice = Choice.of(epsilon)
    person = np.random.default_rng(seed).choice([-UNIT, 0, UNIT, 17], len(others))
    losses = [losses_of(np.array(rows)) for rows in ([others], [others, person.tolist()])]
    apart = choice.log_odds(losses[0], MOST) - choice.log_odds(losses[1], MOST)
    assert apart.max() - apart.min() <= choice.epsilon + 1e-9


@given(st.lists(st.integers(0, 3 * MOST), min_size=2, max_size=8), EPSILONS, st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_divergences_are_those_that_the_ledger_is_charged_with(
    losses: list[int], epsilon: float, seed: int
) -> None:
    """Cesar & Rogers 2021: at most a epsilon^2 / 8 at every order a."""
    choice, sums = Choice.of(epsilon), np.array(losses)
    person = np.random.default_rng(seed).integers(0, MOST + 1, len(sums))
    one, two = choice.log_odds(sums, MOST), choice.log_odds(sums + person, MOST)
    for order in (2, 3, 8, 32):
        for p, q in ((one, two), (two, one)):
            terms = order * p + (1 - order) * q
            divergence = (terms.max() + np.log(np.exp(terms - terms.max()).sum())) / (order - 1)
            gaussian = order / (2 * choice.noise_multiplier**2)
            assert divergence <= gaussian * (1 + 1e-9) + 1e-12


def test_the_worst_person_uses_all_of_epsilon() -> None:
    """The bound is met, so nothing of what is charged is for nothing."""
    choice, sums = Choice.of(1.0), np.array([0, 0])
    apart = choice.log_odds(sums, MOST) - choice.log_odds(sums + np.array([0, MOST]), MOST)
    assert apart.max() - apart.min() == pytest.approx(1.0)


def test_draws_have_the_odds_that_are_stated() -> None:
    choice, losses = Choice.of(2.0), np.array([10, 0, 40, 25])
    expected = np.exp(choice.log_odds(losses, 20))
    drawn = Counter(choice.draw(losses, 20) for _ in range(4000))
    found = np.array([drawn[k] for k in range(4)])
    chi = ((found - 4000 * expected) ** 2 / (4000 * expected)).sum()
    assert chi < 21.1  # of 3 degrees of freedom: passed by 1 in 10,000


def test_what_accountants_take_it_for() -> None:
    assert Choice.of(0.5).mechanism == Mechanism(4.0, 1.0, 1, discrete=True)
    assert Choice.of(0.5).epsilon == Fraction(1, 2)
    assert Choice.of(0.0019).epsilon == Fraction(1, 1000)  # down, never up


@pytest.mark.parametrize("epsilon", [0, -1, 0.0005, 1001, float("nan"), float("inf")])
def test_epsilons_that_are_none_are_refused(epsilon: float) -> None:
    with pytest.raises(SettingsError, match=r"0\.001 to 1000"):
        Choice.of(epsilon)


def test_a_choice_among_nothing_is_refused() -> None:
    with pytest.raises(SettingsError, match="among something"):
        Choice.of(1.0).draw(np.array([], dtype=np.int64), 1)
    with pytest.raises(SettingsError, match="by 1 or more"):
        Choice.of(1.0).draw(np.array([1, 2]), 0)
