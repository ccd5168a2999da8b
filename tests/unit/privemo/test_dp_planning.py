"""What a budget affords: each plan holds it, and says from public numbers alone which to take."""

from __future__ import annotations

from typing import Any

import pytest

from privemo.dp import Mechanism, calibrate_noise, composed
from privemo.dp.planning import ENOUGH, Plan, plan
from privemo.errors import BudgetExhausted, BudgetUnreachable, SettingsError, TooFewPeople
from privemo.recipes import central_recipe, local_recipe
from privemo.releases import Stated


@pytest.fixture(scope="module")
def found() -> Plan:
    return plan(people=1500, epsilon=8.0, epochs=30)


def test_every_option_holds_the_budget_and_wastes_none(found: Plan) -> None:
    assert [o.batch for o in found.options] == [32, 64, 128, 256, 512, 1024, 1500]
    for o in (*found.options, *found.other_epochs):
        spent = composed(
            [Mechanism(o.noise_multiplier, o.sample_rate, o.steps)], delta=1e-5, accountant="rdp"
        )
        assert 7.99 < spent <= 8.0


def test_noise_is_the_measured_one(found: Plan) -> None:
    """One store of 1,511 people, 30 epochs, batch 256, delta 1e-5: 1.67 by RDP, measured elsewhere."""
    (o,) = plan(people=1511, epsilon=8.0, epochs=30, batch=256).options
    assert (o.steps, round(o.noise_multiplier, 2)) == (177, 1.67)


def test_larger_batches_get_more_of_the_signal_in_fewer_steps(found: Plan) -> None:
    signals = [o.signal for o in found.options]
    assert signals == sorted(signals)
    assert signals[-1] == pytest.approx(1.0, abs=1e-3)
    assert [o.steps for o in found.options] == sorted(
        (o.steps for o in found.options), reverse=True
    )
    assert all(o.epochs == pytest.approx(30, rel=0.01) for o in found.options)


def test_the_smallest_batch_with_enough_signal_is_recommended(found: Plan) -> None:
    enough = [o for o in found.options if o.signal >= ENOUGH]
    assert found.recommended == enough[0] != found.options[0]
    assert "smallest batch" in found.why


def test_the_recipe_stands_beside_it_as_training_takes_it(found: Plan) -> None:
    recipe = central_recipe(1500)
    assert found.recipe is not None
    assert (found.recipe.sample_rate, found.recipe.steps) == (recipe.sample_rate, recipe.rounds)
    assert found.recipe.noise_multiplier == calibrate_noise(
        epsilon=8.0, delta=1e-5, sample_rate=recipe.sample_rate, steps=recipe.rounds
    )
    assert found.recipe_reached is not None
    assert found.recipe_reached["rdp"] == pytest.approx(8.0, rel=1e-3)
    # A larger batch wastes less: what is recommended for its steps is not better for being recommended.
    assert found.recipe.signal > found.recommended.signal
    assert "for whoever wants many steps" in found.why


def test_the_recipe_of_stores_is_that_of_a_simulation() -> None:
    got, recipe = plan(people=3000, epsilon=8.0, stores=3), local_recipe(1000)
    assert got.recipe is not None
    assert got.recipe.steps == recipe.rounds * recipe.steps_per_round
    assert (got.recipe.sample_rate, got.recipe.batch) == (recipe.sample_rate, 250)


def test_where_no_batch_has_enough_the_best_is_taken() -> None:
    got = plan(people=40, epsilon=8.0, epochs=0.02, batch=1)
    assert got.recommended.signal < ENOUGH
    assert "only batch" in got.why


def test_four_bounds_agree_on_the_recommended(found: Plan) -> None:
    got = found.reached
    assert all(value is not None for value in got.values())
    rdp, prv, dp_rdp, pld = (got[k] or 0.0 for k in ("rdp", "prv", "dp_rdp", "pld"))
    assert 0.9 * rdp < pld <= prv <= rdp <= dp_rdp * (1 + 1e-6)
    assert dp_rdp == pytest.approx(rdp, rel=0.01)
    assert prv == pytest.approx(pld, abs=0.03)


def test_stores_add_noise_of_their_own_and_average_it() -> None:
    pooled = plan(people=4000, epsilon=8.0, sample_rate=0.25).recommended
    spread = plan(people=4000, epsilon=8.0, sample_rate=0.25, stores=4).recommended
    assert spread.noise_multiplier == pooled.noise_multiplier
    assert spread.batch == 250
    assert spread.noise_per_person == pytest.approx(2 * pooled.noise_per_person)
    assert spread.pictures == pooled.pictures


def test_somebody_in_two_stores_costs_noise_and_pictures_cost_time_alone() -> None:
    arguments: dict[str, Any] = {"people": 4000, "epsilon": 8.0, "sample_rate": 0.25, "stores": 4}
    one = plan(**arguments).recommended
    two = plan(**arguments, stores_per_person=2).recommended
    many = plan(**arguments, images_per_person=4).recommended
    assert two.noise_multiplier > 1.1 * one.noise_multiplier
    assert many.noise_multiplier == one.noise_multiplier
    assert many.pictures == 4 * one.pictures


def test_what_was_spent_before_leaves_less() -> None:
    past = [Mechanism(2.0, 0.1, 100), Stated(0.5)]
    fresh = plan(people=1500, epsilon=8.0, batch=256)
    later = plan(people=1500, epsilon=8.0, batch=256, past=past)
    assert later.recommended.noise_multiplier > fresh.recommended.noise_multiplier
    assert later.spent_before == composed(past, delta=1e-5, accountant="rdp")
    assert later.reached["rdp"] == pytest.approx(8.0, rel=1e-3)
    assert (later.reached["pld"] or 0) < 8.0
    with pytest.raises(BudgetExhausted, match="new people"):
        plan(people=1500, epsilon=2.0, past=past)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"epsilon": 0.0}, SettingsError, "epsilon"),
        ({"epsilon": 1e-9, "delta": 1e-15}, BudgetUnreachable, "single step"),
        ({"batch": 101}, TooFewPeople, "101 people asks for more than the 100"),
        ({"batch": 30, "stores": 4}, TooFewPeople, "more than the 25 of a store"),
        ({"batch": 0}, SettingsError, "1 or more"),
        ({"sample_rate": 1.5}, SettingsError, "at most 1"),
        ({"sample_rate": 0.5, "batch": 50}, SettingsError, "one of them"),
        ({"delta": 0.01}, SettingsError, "too large for 100 people"),
        ({"epochs": 0.0}, SettingsError, "epochs"),
        ({"epochs": float("nan")}, SettingsError, "epochs"),
        # Not epsilon's fault: no noise was asked about yet.
        (
            {"epochs": 1e9},
            SettingsError,
            "1e\\+09 steps, .* 1,000,000 at most: ask for fewer epochs",
        ),
        ({"epochs": 1e308}, SettingsError, "ask for fewer epochs"),
        ({"sample_rate": 1e-9}, SettingsError, "3e\\+10 steps.* or a larger batch"),
        ({"sample_rate": 5e-324}, SettingsError, "or a larger batch"),
        ({"people": 0}, SettingsError, "people"),
        ({"stores": 0}, SettingsError, "stores"),
        ({"stores": 101}, TooFewPeople, "spread over 101"),
        ({"stores_per_person": 2}, SettingsError, "2 of 1 stores"),
        ({"images_per_person": 0}, SettingsError, "images"),
        ({"accountant": "gdp"}, SettingsError, "rdp, prv"),
    ],
)
def test_impossible_plans_are_refused(
    change: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        plan(**{"people": 100, "epsilon": 8.0, **change})


def test_one_person_alone_has_a_plan_too() -> None:
    got = plan(people=1, epsilon=8.0, epochs=2)
    assert [o.batch for o in got.options] == [1]
