"""Default step sizes follow public numbers, and the noise travels as far as predicted."""

from __future__ import annotations

import math

import pytest
import torch

from privemo.config import PlainSettings, PrivacySettings, RunSettings
from privemo.dp import GaussianNoise, PrivateStepper
from privemo.models import build_model, count_parameters
from privemo.recipes import NOISE_TRAVEL, PLAIN_LR, default_lr, noise_travel


def settings(**changes: object) -> RunSettings:
    return RunSettings.of(**{"stores": 1, "rounds": 1, "steps_per_round": 5, **changes})


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_noise_travels_as_far_as_predicted(momentum: float) -> None:
    model = build_model()
    before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
    stepper = PrivateStepper(
        model,
        lr=0.01,
        momentum=momentum,
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


def test_small_stores_take_small_steps_and_a_chain_larger_ones() -> None:
    numbers = {"noise_multiplier": 1.0, "parameters": 1_404_252}
    small = default_lr(settings(), normaliser=25.0, **numbers)
    large = default_lr(settings(), normaliser=250.0, **numbers)
    chain = default_lr(settings(stores=4), normaliser=25.0, **numbers)
    assert large == pytest.approx(10 * small)
    assert chain == pytest.approx(2 * small)
    assert small * noise_travel(settings(), normaliser=25.0, **numbers) == pytest.approx(
        NOISE_TRAVEL
    )


def test_what_was_asked_for_is_taken() -> None:
    numbers = {"noise_multiplier": 1.0, "normaliser": 25.0, "parameters": 10}
    assert default_lr(settings(lr=0.3), **numbers) == 0.3
    plain = settings(privacy=None, plain=PlainSettings())
    assert default_lr(plain, **numbers) == PLAIN_LR
    assert math.isclose(default_lr(settings(), **{**numbers, "normaliser": 1e9}), 0.5)
