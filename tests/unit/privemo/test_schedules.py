"""Sample rates and learning rates over the rounds."""

from __future__ import annotations

import pytest

from privemo.config import PrivacySettings, RunSettings
from privemo.schedules import STAGES, lr_factor, sample_rate_of, steps_at_each_rate


def test_a_constant_rate_is_one_mechanism() -> None:
    settings = RunSettings.of(rounds=7, steps_per_round=3, privacy={"sample_rate": 0.2})
    assert steps_at_each_rate(settings) == [(0.2, 21)]


def test_batches_grow_in_equal_stages_up_to_the_rate_that_was_asked_for() -> None:
    privacy = PrivacySettings(sample_rate=0.4, rate_growth=4.0)
    rates = [sample_rate_of(privacy, number, 8) for number in range(1, 9)]
    assert rates == pytest.approx([0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.4, 0.4])
    settings = RunSettings.of(rounds=8, steps_per_round=5, privacy=privacy)
    found = steps_at_each_rate(settings)
    assert len(found) == STAGES
    assert sum(steps for _, steps in found) == settings.total_steps
    assert [steps for _, steps in found] == [10, 10, 10, 10]


@pytest.mark.parametrize("rounds", [1, 2, 3, 5, 17])
def test_every_step_is_counted_whatever_the_rounds(rounds: int) -> None:
    settings = RunSettings.of(
        rounds=rounds, steps_per_round=2, privacy={"sample_rate": 1.0, "rate_growth": 10.0}
    )
    assert settings.privacy is not None
    found = steps_at_each_rate(settings)
    assert sum(steps for _, steps in found) == 2 * rounds
    assert max(rate for rate, _ in found) == 1.0
    assert sample_rate_of(settings.privacy, rounds, rounds) == 1.0


def test_without_privacy_there_is_nothing_to_account_for() -> None:
    assert steps_at_each_rate(RunSettings.of(privacy=None, plain={})) == []


def test_the_cosine_falls_from_one_to_a_hundredth() -> None:
    settings = RunSettings.of(rounds=11, lr_schedule="cosine")
    factors = [lr_factor(settings, number) for number in range(1, 12)]
    assert factors[0] == 1.0
    assert factors[-1] == pytest.approx(0.01)
    assert factors[5] == pytest.approx(0.505)
    assert factors == sorted(factors, reverse=True)
    assert lr_factor(RunSettings.of(rounds=1, lr_schedule="cosine"), 1) == 1.0
    assert lr_factor(RunSettings.of(rounds=11), 11) == 1.0
