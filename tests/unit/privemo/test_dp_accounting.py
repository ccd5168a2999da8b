"""Epsilon: composed over everything, both accountants, and noise that meets a budget."""

from __future__ import annotations

import dp_accounting
import pytest
from dp_accounting.rdp import RdpAccountant

from privemo.dp import Mechanism, calibrate_noise, spent
from privemo.errors import BudgetUnreachable, SettingsError

DELTA = 1e-5


def independent_rdp(noise: float, rate: float, steps: int) -> float:
    accountant = RdpAccountant()
    event = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise))
    accountant.compose(event, steps)
    return float(accountant.get_epsilon(DELTA))


@pytest.mark.parametrize(
    ("noise", "rate", "steps"), [(1.0, 0.1, 60), (3.0, 0.5, 30), (0.8, 0.02, 900)]
)
def test_rdp_agrees_with_an_independent_accountant(noise: float, rate: float, steps: int) -> None:
    ours = spent([Mechanism(noise, rate, steps)], delta=DELTA)
    assert ours.rdp == pytest.approx(independent_rdp(noise, rate, steps), rel=0.02)
    assert 0.6 * ours.rdp < ours.prv <= ours.rdp


def test_epsilon_covers_all_rounds_and_not_the_last_one() -> None:
    rounds = [Mechanism(1.2, 0.2, 10)] * 5
    whole = spent(rounds, delta=DELTA)
    assert whole == spent([Mechanism(1.2, 0.2, 50)], delta=DELTA)
    assert whole.rdp > 1.5 * spent(rounds[-1:], delta=DELTA).rdp


def test_different_rounds_compose() -> None:
    both = spent([Mechanism(1.2, 0.2, 10), Mechanism(2.0, 0.1, 10)], delta=DELTA)
    assert both.rdp > spent([Mechanism(1.2, 0.2, 10)], delta=DELTA).rdp
    assert both.prv > spent([Mechanism(1.2, 0.2, 10)], delta=DELTA).prv


def test_nothing_done_is_nothing_spent() -> None:
    assert spent([], delta=DELTA).rdp == 0.0
    assert spent([Mechanism(1.0, 0.1, 0)], delta=DELTA).prv == 0.0


@pytest.mark.parametrize("accountant", ["rdp", "prv"])
@pytest.mark.parametrize("epsilon", [0.5, 3.0, 8.0])
def test_calibrated_noise_stays_within_the_budget_and_wastes_little(
    accountant: str, epsilon: float
) -> None:
    noise = calibrate_noise(
        epsilon=epsilon, delta=DELTA, sample_rate=0.2, steps=40, accountant=accountant
    )
    reached = spent([Mechanism(noise, 0.2, 40)], delta=DELTA).by(accountant)
    assert 0.98 * epsilon < reached <= epsilon


def test_a_person_in_two_stores_needs_more_noise() -> None:
    arguments = {"epsilon": 4.0, "delta": DELTA, "sample_rate": 0.2, "steps": 20}
    one = calibrate_noise(**arguments)
    two = calibrate_noise(**arguments, compositions=2)
    assert two > one
    assert spent([Mechanism(two, 0.2, 20)] * 2, delta=DELTA).rdp <= 4.0


def test_an_unreachable_budget_says_what_to_do() -> None:
    with pytest.raises(BudgetUnreachable, match="fewer rounds or steps"):
        calibrate_noise(epsilon=1e-6, delta=1e-12, sample_rate=1.0, steps=10_000)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": float("inf")}, "epsilon"),
        ({"delta": 0.0}, "delta"),
        ({"delta": 1.0}, "delta"),
        ({"sample_rate": 0.0}, "sample rate"),
        ({"sample_rate": 1.1}, "sample rate"),
        ({"steps": 0}, "at least one step"),
        ({"accountant": "gdp"}, "rdp, prv"),
    ],
)
def test_impossible_questions_are_refused(change: dict[str, object], says: str) -> None:
    arguments = {"epsilon": 1.0, "delta": DELTA, "sample_rate": 0.1, "steps": 10, **change}
    with pytest.raises(SettingsError, match=says):
        calibrate_noise(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("noise", [0.0, -1.0, float("nan"), float("inf")])
def test_a_mechanism_needs_noise(noise: float) -> None:
    with pytest.raises(SettingsError, match="noise multiplier"):
        Mechanism(noise, 0.1, 1)
