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
        ({"turn_gate_off": True}, "turn_gate_off"),
        ({"privacy": None}, "either private or plain"),
        ({"plain": PlainSettings()}, "either private or plain"),
    ],
)
def test_a_bad_setting_is_named(change: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        RunSettings.of(**change)


@pytest.mark.parametrize(
    "change", [{"epsilon": 0}, {"delta": 1}, {"sample_rate": 1.2}, {"max_grad_norm": -1}]
)
def test_a_bad_privacy_setting_is_named(change: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=next(iter(change))):
        PrivacySettings.of(**change)


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


def test_one_person_more_or_less_does_not_show_in_the_public_size() -> None:
    sizes = {RunSettings(stores=10).public_people(n) for n in range(22_200, 22_300)}
    assert sizes == {1100}
