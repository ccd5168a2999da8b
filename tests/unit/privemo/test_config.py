"""Settings: frozen, validated, and refused in one sentence that names the setting."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from privemo.config import PlainSettings, PrivacySettings, RunSettings
from privemo.errors import SettingsError


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"stores": 0}, "stores"),
        ({"rounds": 0}, "rounds"),
        ({"lr": 0.0}, "lr"),
        ({"lr": float("nan")}, "lr"),
        ({"momentum": 1.0}, "momentum"),
        ({"challenge_age": 17.9}, "challenge_age"),
        ({"test_fraction": 1.0}, "test_fraction"),
        ({"jurisdiction": "Ireland"}, "jurisdiction"),
        ({"seed": -1}, "seed"),
        ({"split_seed": -1}, "split_seed"),
        ({"seed": 2**53}, "seed"),  # no JSON number that everybody reads alike
        ({"ema": 1.0}, "ema"),
        ({"server_momentum": -0.1}, "server_momentum"),
        ({"server_optimizer": "lion"}, "server_optimizer"),
        ({"lr_schedule": "step"}, "lr_schedule"),
        ({"turn_gate_off": True}, "turn_gate_off"),
        ({"proximal": -1.0}, "proximal"),
        ({"participation": 0.0}, "participation"),
        ({"quorum": 0}, "quorum"),
        ({"quorum": 4}, "quorum is 4, and 3 stores are asked"),
        ({"stores": 10, "participation": 0.5, "quorum": 6}, "5 stores are asked"),
        ({"aggregation": "average"}, "aggregation"),
        ({"aggregation": "median"}, "set malicious_stores together with aggregation"),
        ({"malicious_stores": 1}, "set malicious_stores together with aggregation"),
        ({"stores": 6, "aggregation": "median", "malicious_stores": 3}, "takes 7 stores or more"),
        ({"stores": 6, "aggregation": "krum", "malicious_stores": 2}, "takes 7 stores or more"),
        ({"privacy": None}, "either private or plain"),
        ({"plain": PlainSettings()}, "either private or plain"),
    ],
)
def test_a_bad_setting_is_named(change: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        RunSettings.of(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"epsilon": 0},
        {"delta": 1},
        {"sample_rate": 1.2},
        {"max_grad_norm": -1},
        {"max_grad_norm": 0},
        {"views": 0},
        {"images_per_person": 0},
        {"rate_growth": 0.5},
        {"optimizer": "adamw"},
        {"augment": "wild"},
        {"precision": "float16"},
    ],
)
def test_a_bad_privacy_setting_is_named(change: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=next(iter(change))):
        PrivacySettings.of(**change)


@pytest.mark.parametrize(
    ("changes", "momentum", "step"),
    [
        ({}, 0.9, 1.0),
        ({"server_momentum": 0.9}, 0.0, 1.0),
        ({"server_optimizer": "adam"}, 0.0, 1e-3),
        ({"server_momentum": 0.9, "momentum": 0.5, "server_lr": 0.3}, 0.5, 0.3),
    ],
)
def test_momentum_is_in_one_place_unless_asked_for(
    changes: dict[str, object], momentum: float, step: float
) -> None:
    settings = RunSettings.of(**changes)
    assert settings.local_momentum == momentum
    assert settings.server_step == step


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        RunSettings().stores = 5  # type: ignore[misc]


def test_settings_survive_json() -> None:
    settings = RunSettings(stores=4, sensitive=("age_band",))
    assert RunSettings.of(**settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize(
    ("people", "stores", "declared"), [(22_341, 10, 1100), (700, 3, 110), (3, 3, 1), (1, 1, 1)]
)
def test_the_public_size_is_a_round_number(people: int, stores: int, declared: int) -> None:
    assert RunSettings(stores=stores).public_people(people) == declared
    assert RunSettings(stores=stores, declared_people=77).public_people(people) == 77


def test_one_person_more_or_less_shows_in_the_public_size_at_few_sizes_and_in_no_declared_one() -> (
    None
):
    """Cut to two digits a size is taken to be public; somebody for whom it is not declares one."""
    assert {RunSettings(stores=10).public_people(n) for n in range(22_200, 22_300)} == {1100}
    of_one = [RunSettings(stores=1).public_people(n) for n in (2199, 2200)]
    assert of_one == [1000, 1100], "the boundary of two digits, half of which are expected"
    declared = RunSettings(stores=1, declared_people=1000)
    assert declared.public_people(2199) == declared.public_people(2200) == 1000


def test_plain_settings_without_teachers_are_written_as_before_there_were_any() -> None:
    """A run's name, and a seeded run's draws, follow from its settings as they are written."""
    assert "teachers" not in PlainSettings().model_dump()
    two = PlainSettings(teachers=2)
    assert PlainSettings.of(**two.model_dump()) == two
