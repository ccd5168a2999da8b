"""Epsilon: composed over everything, both accountants, and noise that meets a budget."""

from __future__ import annotations

import math
import time

import dp_accounting
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from opacus.accountants import PRVAccountant, RDPAccountant

from privemo.dp import (
    Mechanism,
    Stated,
    bounds,
    calibrate_noise,
    calibrate_scale,
    check_delta,
    composed,
    exposed,
    spent,
)
from privemo.errors import BudgetExhausted, BudgetUnreachable, SettingsError

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


MIXED = [(1.2, 0.05, 100), (0.9, 0.1, 50), (2.0, 0.3, 20)]
"""Noise and rate that change over the rounds."""

HISTORIES = [
    MIXED,
    [(1.0, 0.01, 1000)],
    [(0.7, 0.001, 600)],
    [(1.0, 1.0, 20)],
    [(1.0, 0.999999, 20)],
    [(146.2, 0.17, 176)],
    [(1000.0, 0.1, 1000)],
    [(0.4, 0.02, 30)],
    [(30.0, 0.5, 3)],
]


@pytest.mark.parametrize("history", HISTORIES, ids=str)
def test_both_bounds_lie_above_the_tightest_and_near_it(
    history: list[tuple[float, float, int]],
) -> None:
    """dp-accounting's PLD on a fine grid, which rounds up, is within a hair of the true epsilon.

    PRV is an estimate with an error; what is claimed is the upper end of it (0.01), or RDP.
    """
    accountant = PLDAccountant(value_discretization_interval=2e-5 if history[0][0] > 20 else 1e-3)
    for noise, rate, steps in history:
        event = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise))
        accountant.compose(event, steps)
    tight = float(accountant.get_epsilon(DELTA))
    ours = spent([Mechanism(*m) for m in history], delta=DELTA)
    assert tight * (1 - 1e-3) <= ours.prv <= ours.rdp
    assert ours.prv <= tight + 0.02


@pytest.mark.parametrize("history", [MIXED, [(1.0, 0.01, 1000)], [(3.0, 0.5, 30)]], ids=str)
def test_the_bounds_are_those_of_opacus(history: list[tuple[float, float, int]]) -> None:
    ours = spent([Mechanism(*m) for m in history], delta=DELTA)
    rdp, prv = RDPAccountant(), PRVAccountant()
    rdp.history = prv.history = history
    assert ours.rdp == pytest.approx(rdp.get_epsilon(delta=DELTA), rel=1e-9)
    assert ours.prv == pytest.approx(prv.get_epsilon(delta=DELTA), abs=1e-3)


def test_a_small_epsilon_is_not_floored_by_too_few_orders() -> None:
    """Opacus's own orders end at 63, and so at an epsilon of about 0.1."""
    rdp = RDPAccountant()
    rdp.history = [(1000.0, 0.1, 1000)]
    with pytest.warns(UserWarning, match="largest alpha"):
        assert rdp.get_epsilon(delta=DELTA) > 0.1
    assert spent([Mechanism(1000.0, 0.1, 1000)], delta=DELTA).rdp < 0.03


@pytest.mark.parametrize("noise", [0.05, 0.1, 0.2, 0.3])
@pytest.mark.parametrize("rate", [1e-6, 0.3, 1 - 1e-9, 1.0])
def test_very_little_noise_costs_much_and_is_no_crash(noise: float, rate: float) -> None:
    value = composed([Mechanism(noise, rate, 1_000)], delta=DELTA, accountant="rdp")
    assert 4 < value < math.inf
    assert composed([Mechanism(noise, rate, 1_000)], delta=DELTA, accountant="prv") <= value


def test_a_bound_never_says_less_than_nothing() -> None:
    """Opacus issue 585: PRV told a negative epsilon where next to nothing is lost."""
    faint = [Mechanism(1e5, 1e-4, 10_000)]
    prv = PRVAccountant()
    prv.history = [(1e5, 1e-4, 10_000)]
    with pytest.warns(UserWarning, match="largest alpha"):
        told = prv.get_epsilon(delta=DELTA)
    assert told < 0.01  # the error alone: the estimate is below 0
    for accountant in ("rdp", "prv"):
        assert composed(faint, delta=DELTA, accountant=accountant) >= 0
        assert composed(faint, delta=0.9, accountant=accountant) == 0


def test_an_order_that_cannot_be_computed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from opacus.accountants.analysis import rdp

    whole = composed([Mechanism(1.31, 0.2, 10)], delta=DELTA, accountant="rdp")
    real = rdp.compute_rdp

    def broken(*, orders: float, **arguments: float) -> float:
        if orders > 4:
            raise ValueError("The result of subtraction must be non-negative.")
        return real(orders=orders, **arguments)

    monkeypatch.setattr(rdp, "compute_rdp", broken)
    bounds._rdp_curve.cache_clear()
    fewer = composed([Mechanism(1.31, 0.2, 10)], delta=DELTA, accountant="rdp")
    bounds._rdp_curve.cache_clear()
    assert whole < fewer < math.inf


def test_one_more_round_of_the_same_kind_costs_no_time() -> None:
    composed([Mechanism(1.17, 0.21, 1)], delta=DELTA, accountant="rdp")
    started = time.process_time()
    for steps in range(2, 102):
        composed([Mechanism(1.17, 0.21, steps)], delta=DELTA, accountant="rdp")
    assert time.process_time() - started < 1.0  # about 0.02 s; computed anew it is seconds


def test_what_is_only_stated_is_added_and_its_delta_taken_off() -> None:
    gaussian = Mechanism(1.2, 0.2, 10)
    alone = composed([gaussian], delta=DELTA / 2, accountant="rdp")
    assert composed(
        [gaussian, Stated(0.5, DELTA / 4), Stated(0.25, DELTA / 4)], delta=DELTA, accountant="rdp"
    ) == pytest.approx(0.75 + alone)
    assert composed([Stated(0.5, DELTA)], delta=DELTA, accountant="prv") == 0.5
    assert composed([gaussian, Stated(0.5, DELTA)], delta=DELTA, accountant="rdp") == math.inf
    assert composed([Stated(0.5, 2 * DELTA)], delta=DELTA, accountant="rdp") == math.inf


def test_somebody_in_several_stores_is_bound_by_all_of_them() -> None:
    """Stores may differ in noise and rate; what each of them calls delta does not matter."""
    a, b, c = Mechanism(1.2, 0.2, 10), Mechanism(2.0, 0.1, 10), Mechanism(3.0, 0.1, 5)
    got = exposed({"a": [a], "b": [b], "c": [c]}, [["a"], ["b", "a"], ["a", "a"]], delta=DELTA)
    assert got == {("a",): spent([a], delta=DELTA), ("a", "b"): spent([a, b], delta=DELTA)}
    with pytest.raises(SettingsError, match="no ledger of a store 'd'"):
        exposed({"a": [a]}, [["a", "d"]], delta=DELTA)
    with pytest.raises(SettingsError, match="at least one"):
        exposed({"a": [a]}, [[]], delta=DELTA)


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
    assert reached <= epsilon
    assert spent([Mechanism(0.995 * noise, 0.2, 40)], delta=DELTA).by(accountant) > epsilon


def test_the_search_is_kept() -> None:
    arguments = {"epsilon": 7.77, "delta": DELTA, "sample_rate": 0.2, "steps": 40}
    first = calibrate_noise(**arguments, accountant="prv")  # type: ignore[arg-type]
    started = time.process_time()
    assert calibrate_noise(**arguments, accountant="prv") == first  # type: ignore[arg-type]
    assert time.process_time() - started < 0.01


def test_a_budget_that_asks_for_less_noise_than_any_store_accepts_gets_that_much() -> None:
    assert calibrate_noise(epsilon=1e6, delta=DELTA, sample_rate=0.1, steps=1) == pytest.approx(0.2)


def test_what_was_spent_before_is_part_of_the_budget() -> None:
    past = [Mechanism(2.0, 0.2, 40), Stated(0.5)]
    arguments = {"epsilon": 6.0, "delta": DELTA, "sample_rate": 0.1, "steps": 30}
    noise = calibrate_noise(**arguments, past=past)  # type: ignore[arg-type]
    whole = composed([*past, Mechanism(noise, 0.1, 30)], delta=DELTA, accountant="rdp")
    assert 5.99 < whole <= 6.0
    assert noise > calibrate_noise(**arguments)  # type: ignore[arg-type]
    with pytest.raises(BudgetExhausted, match="Start with new people"):
        calibrate_noise(**{**arguments, "epsilon": 2.0}, past=past)  # type: ignore[arg-type]


def test_what_a_search_leaves_over_is_nothing_to_train_with() -> None:
    noise = calibrate_noise(epsilon=4.0, delta=DELTA, sample_rate=0.1, steps=30)
    with pytest.raises(BudgetExhausted):
        calibrate_noise(
            epsilon=4.0, delta=DELTA, sample_rate=0.1, steps=1, past=[Mechanism(noise, 0.1, 30)]
        )


def test_a_schedule_is_scaled_as_a_whole() -> None:
    schedule = [Mechanism(1.0, 0.1, 20), Mechanism(1.5, 0.3, 20)]
    factor = calibrate_scale(schedule, epsilon=4.0, delta=DELTA)
    scaled = [Mechanism(m.noise_multiplier * factor, m.sample_rate, m.steps) for m in schedule]
    assert 3.99 < composed(scaled, delta=DELTA, accountant="rdp") <= 4.0
    constant = calibrate_scale([Mechanism(1.0, 0.2, 40)], epsilon=4.0, delta=DELTA)
    assert constant == calibrate_noise(epsilon=4.0, delta=DELTA, sample_rate=0.2, steps=40)


@pytest.mark.parametrize(
    ("delta", "people", "says"),
    [
        (1e-5, 100_000, "choose 1e-06 or less"),
        (0.01, 100, "too large for 100 people"),
        (1e-5, 0, "1 or more"),
        (0.0, 10, "between 0 and 1"),
        (float("nan"), 10, "between 0 and 1"),
    ],
)
def test_a_delta_that_promises_nothing_is_refused(delta: float, people: int, says: str) -> None:
    """At 1 / people, publishing one person whole would keep the promise."""
    with pytest.raises(SettingsError, match=says):
        check_delta(delta, people)


def test_a_delta_below_one_over_the_people_passes() -> None:
    check_delta(1e-5, 99_999)


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
        ({"compositions": 0}, "at least one store"),
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


# -- noise that stores share ---------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [[(1.6, 0.17, 150)], [(1.0, 0.05, 60), (2.0, 0.3, 20)]])
def test_discrete_noise_is_bounded_at_whole_orders_alone(
    steps: list[tuple[float, float, int]],
) -> None:
    discrete = spent([Mechanism(*one, discrete=True) for one in steps], delta=DELTA)
    real = spent([Mechanism(*one) for one in steps], delta=DELTA)
    accountant = RdpAccountant([float(order) for order in (*range(2, 65), 128, 256)])
    for noise, rate, count in steps:
        gaussian = dp_accounting.GaussianDpEvent(noise)
        accountant.compose(dp_accounting.PoissonSampledDpEvent(rate, gaussian), count)
    assert discrete.rdp == pytest.approx(accountant.get_epsilon(DELTA), rel=1e-3)
    assert real.rdp <= discrete.rdp < 1.05 * real.rdp
    assert discrete.prv == discrete.rdp, "no other accountant has a proof for it"


def test_whole_orders_are_just_what_sampling_needs() -> None:
    """Of the divergence at order a, whatever the mechanism: the sum that the bound stands on."""
    noise, rate = 1.3, 0.2
    for order in (2, 3, 7, 16):
        terms = [
            math.comb(order, k)
            * (1 - rate) ** (order - k)
            * rate**k
            * math.exp((k - 1) * k / (2 * noise**2))
            for k in range(order + 1)
        ]
        curve = dict(zip(bounds._orders(), bounds._rdp_curve(noise, rate, True), strict=True))
        assert curve[order] == pytest.approx(math.log(sum(terms)) / (order - 1), rel=1e-9)
        assert math.isinf(curve[order + 0.5]) if order < 10 else True


def test_a_little_more_discrete_noise_holds_the_same_promise() -> None:
    how = {"epsilon": 8.0, "delta": DELTA, "sample_rate": 0.17, "steps": 150}
    real, discrete = calibrate_noise(**how), calibrate_noise(**how, discrete=True)
    assert real <= discrete < 1.02 * real
    assert composed([Mechanism(discrete, 0.17, 150, True)], delta=DELTA, accountant="rdp") <= 8.0
    assert composed([Mechanism(discrete, 0.17, 150, True)], delta=DELTA, accountant="prv") <= 8.0


def test_no_epsilon_is_told_of_somebody_in_two_stores_of_one_sum() -> None:
    ledgers = {name: [Mechanism(2.0, 0.1, 5, discrete=True)] for name in ("a", "b")}
    assert exposed(ledgers, [["a"]], delta=DELTA)
    with pytest.raises(SettingsError, match="share sums"):
        exposed(ledgers, [["a", "b"]], delta=DELTA)


def test_kinds_of_noise_are_never_taken_for_each_other() -> None:
    both = [Mechanism(1.0, 0.1, 30), Mechanism(1.0, 0.1, 30, discrete=True)]
    mixed = composed(both, delta=DELTA, accountant="rdp")
    assert mixed >= composed([Mechanism(1.0, 0.1, 60)], delta=DELTA, accountant="rdp")
    assert mixed == composed(
        [Mechanism(1.0, 0.1, 60, discrete=True)], delta=DELTA, accountant="rdp"
    )
