"""Four accountants of two libraries, on one and the same history."""

from __future__ import annotations

import math

import pytest

from privemo.dp.crosscheck import four_bounds
from privemo.dp.planning import plan
from privemo.releases import Mechanism, Stated

PAST = Mechanism(1.2, 0.17, 100, discrete=True)


def test_of_discrete_noise_every_accountant_goes_by_whole_orders() -> None:
    """PLD would take it for the Gaussian, of which more is proved, and promise too much."""
    discrete = four_bounds([PAST], delta=1e-5)
    gaussian = four_bounds([Mechanism(1.2, 0.17, 100)], delta=1e-5)
    assert discrete["pld"] == pytest.approx(discrete["rdp"], rel=1e-3)
    assert (gaussian["pld"] or 0) < 0.95 * (discrete["pld"] or 0)


def test_a_plan_knows_that_noise_before_it_was_discrete() -> None:
    got = plan(people=1500, epsilon=12.0, epochs=5, batch=512, past=[PAST]).reached
    assert [round(got[name] or 0, 2) for name in ("rdp", "prv", "dp_rdp", "pld")] == [12.0] * 4


def test_stated_deltas_that_use_up_all_of_delta_leave_no_bound() -> None:
    got = four_bounds([PAST, Stated(0.5, 1e-4)], delta=1e-5)
    assert set(got.values()) == {math.inf}
