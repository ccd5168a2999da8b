"""A setting that would change nothing is refused when a run is laid out, and named with what would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from privemo.config import PlainSettings, PrivacySettings, RunSettings
from privemo.errors import SettingsError
from privemo.noeffect import refuse_without_effect
from privemo.runs import Run
from tests.support.small_runs import small_run

SHARED = PrivacySettings(noise="distributed")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"momentum": 0.9, "steps_per_round": 1}, "momentum is .* set server_momentum"),
        ({"momentum": 0.9, "steps_per_round": 1, "privacy": SHARED}, "set server_momentum"),
        (
            {"momentum": 0.9, "steps_per_round": 1, "privacy": PrivacySettings(optimizer="adam")},
            "set server_momentum",
        ),
        ({"proximal": 0.1, "steps_per_round": 1}, "proximal is .* leave out proximal"),
        ({"proximal": 0.1, "steps_per_round": 1, "privacy": SHARED}, "leave out proximal"),
        ({"privacy": PrivacySettings(max_stores_per_person=4)}, "more stores than the 3"),
    ],
)
def test_what_would_change_nothing_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        refuse_without_effect(RunSettings.of(**settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"momentum": 0.9, "proximal": 0.1, "steps_per_round": 2},
        {"momentum": 0.0, "steps_per_round": 1},
        {"server_momentum": 0.9, "steps_per_round": 1},
        {"privacy": PrivacySettings(max_stores_per_person=3)},
        {"privacy": None, "plain": PlainSettings(), "proximal": 0.1, "steps_per_round": 1},
    ],
)
def test_what_changes_something_is_not(settings: dict[str, Any]) -> None:
    refuse_without_effect(RunSettings.of(**settings))


def test_no_run_is_laid_out_and_older_ones_still_open(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="server_momentum"):
        small_run(tmp_path, steps_per_round=1, momentum=0.9)
    assert not (tmp_path / "run").exists()
    run = small_run(tmp_path, model="gray-cnn")
    facts = json.loads((run.folder / "run.json").read_text())
    facts["settings"].update(momentum=0.9, steps_per_round=1)
    (run.folder / "run.json").write_text(json.dumps(facts))
    assert Run(run.folder).settings.momentum == 0.9
