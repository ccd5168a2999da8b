"""Default step sizes follow public numbers, and the noise travels as far as predicted."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from privemo import weights as w
from privemo.config import PlainSettings, PrivacySettings, RunSettings
from privemo.dp import GaussianNoise, PrivateStepper
from privemo.errors import SettingsError
from privemo.models import build_model, count_parameters
from privemo.recipes import (
    ADAM_LR,
    CENTRAL_BATCH,
    CENTRAL_STEPS,
    NOISE_TRAVEL,
    PEOPLE_A_TRAVEL,
    PLAIN_LR,
    Recipe,
    allowed_travel,
    central_recipe,
    default_lr,
    local_recipe,
    noise_travel,
)
from privemo.schedules import lr_factor, sample_rate_of
from privemo.serverstep import ServerStep


def settings(**changes: object) -> RunSettings:
    return RunSettings.of(**{"stores": 1, "rounds": 1, "steps_per_round": 5, **changes})


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_noise_travels_as_far_as_predicted(momentum: float) -> None:
    model = build_model()
    before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
    stepper = PrivateStepper(
        model,
        torch.optim.SGD(model.parameters(), 0.01, momentum=momentum),
        noise_multiplier=1.3,
        max_grad_norm=0.7,
        normaliser=11.0,
        noise=GaussianNoise(bytes(32)),
    )
    for _ in range(5):
        stepper.step([])
    stepper.close()
    after = torch.cat([p.detach().flatten() for p in model.parameters()])
    predicted = noise_travel(
        settings(momentum=momentum, privacy=PrivacySettings(max_grad_norm=0.7)),
        noise_multiplier=1.3,
        normaliser=11.0,
        parameters=count_parameters(model),
    )
    assert float((after - before).norm()) == pytest.approx(0.01 * predicted, rel=0.01)


def test_noise_travels_as_far_as_predicted_through_the_servers_momentum() -> None:
    """Rounds of one step, a falling rate and growing batches; the noise is drawn here, at normaliser 11."""
    chosen = settings(
        rounds=12,
        steps_per_round=1,
        server_momentum=0.8,
        server_lr=0.5,
        lr_schedule="cosine",
        privacy=PrivacySettings(max_grad_norm=0.7, rate_growth=2.0),
    )
    assert chosen.privacy is not None
    noise, step = GaussianNoise(bytes(32)), ServerStep(chosen)
    model: w.Weights = {"a": np.zeros(200_000, np.float32)}
    for number in range(1, 13):
        rate = sample_rate_of(chosen.privacy, number, 12)
        scale = lr_factor(chosen, number) * 1.3 * 0.7 / (11 * rate / chosen.privacy.sample_rate)
        model = step(number, model, {"a": np.float32(scale) * noise.draw(200_000).numpy()})
    predicted = noise_travel(chosen, noise_multiplier=1.3, normaliser=11.0, parameters=200_000)
    assert float(np.linalg.norm(model["a"])) == pytest.approx(predicted, rel=0.01)


def test_small_stores_take_small_steps_and_a_chain_larger_ones() -> None:
    numbers = {"noise_multiplier": 1.0, "parameters": 1_404_252}
    small = default_lr(settings(), normaliser=25.0, **numbers)
    large = default_lr(settings(), normaliser=125.0, **numbers)
    chain = default_lr(settings(stores=4), normaliser=25.0, **numbers)
    assert large == pytest.approx(5 * small)  # 100 and 500 people: the distance is the same
    assert chain == pytest.approx(2 * small)
    assert small * noise_travel(settings(), normaliser=25.0, **numbers) == pytest.approx(
        NOISE_TRAVEL
    )


def test_many_people_may_be_carried_further() -> None:
    numbers = {"noise_multiplier": 5.0, "parameters": 1_404_252}
    people = 10 * PEOPLE_A_TRAVEL
    alone = default_lr(settings(), normaliser=0.25 * people, **numbers)
    assert alone * noise_travel(settings(), normaliser=0.25 * people, **numbers) == pytest.approx(
        10.0
    )
    each = {"normaliser": 0.25 * people / 4, **numbers}
    spread = default_lr(settings(stores=4), **each)  # the same people, over four stores
    assert spread * noise_travel(settings(stores=4), **each) == pytest.approx(10.0)
    assert allowed_travel(1) == NOISE_TRAVEL


def test_what_was_asked_for_is_taken() -> None:
    numbers = {"noise_multiplier": 1.0, "normaliser": 25.0, "parameters": 10}
    assert default_lr(settings(lr=0.3), **numbers) == 0.3
    plain = settings(privacy=None, plain=PlainSettings())
    assert default_lr(plain, **numbers) == PLAIN_LR
    assert math.isclose(default_lr(settings(), **{**numbers, "normaliser": 1e9}), 1.0)
    assert default_lr(settings(server_optimizer="adam"), **numbers) == 0.5
    assert default_lr(settings(privacy=PrivacySettings(optimizer="adam")), **numbers) == ADAM_LR


# -- recipes of whole runs -----------------------------------------------------------------------


@pytest.mark.parametrize("people", [1, 10, 280, 1_500, 12_000, 1_000_000])
def test_a_central_recipe_fits_its_people(people: int) -> None:
    recipe = central_recipe(people)
    chosen = recipe.settings({"epsilon": 8.0}, stores=1)
    assert chosen.privacy is not None
    assert chosen.privacy.sample_rate <= 0.5
    assert chosen.privacy.sample_rate * people <= CENTRAL_BATCH
    assert CENTRAL_STEPS[0] <= chosen.total_steps <= CENTRAL_STEPS[1]
    assert chosen.steps_per_round == 1
    assert chosen.local_momentum == 0.0  # the server has it


def test_every_field_of_a_recipe_reaches_the_settings() -> None:
    recipe = Recipe(
        rounds=5,
        steps_per_round=2,
        sample_rate=0.125,
        max_grad_norm=0.5,
        lr=0.25,
        lr_schedule="cosine",
        momentum=0.3,
        server_optimizer="adam",
        server_lr=0.01,
        server_momentum=0.7,
        ema=0.9,
        rate_growth=3.0,
        optimizer="adam",
        views=3,
        images_per_person=2,
        augment="strong",
        precision="bfloat16",
    )
    chosen = recipe.settings({"epsilon": 3.0, "delta": 1e-6}, stores=2)
    assert chosen.privacy is not None
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        assert value != field.default
        found = [getattr(s, field.name, None) for s in (chosen, chosen.privacy)]
        assert value in found, field.name
    assert (chosen.privacy.epsilon, chosen.privacy.delta) == (3.0, 1e-6)


def test_a_recipe_out_of_range_is_refused_by_name() -> None:
    for change, name in (({"views": 0}, "views"), ({"sample_rate": 1.5}, "sample_rate")):
        with pytest.raises(SettingsError, match=name):
            dataclasses.replace(local_recipe(100), **change).settings({"epsilon": 8.0})
