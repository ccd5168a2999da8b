"""Drawn people of excluded ages: who is drawn, that nobody else is read, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from privemo import models, simulation
from privemo import weights as w
from privemo.errors import RunError, SettingsError
from privemo.excluded import EXCLUDED_FILE, ages_asked, measure_excluded
from privemo.runs import Run
from privemo.synthetic import synthesize
from privemo.training import predict
from privemo_audits import build_report
from privemo_audits.excluded import ExcludedInfo
from tests.support.small_runs import small_run


def tiny(channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, 4, 8, stride=8), nn.Flatten(), nn.Linear(144, 4))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of a small network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "MODELS", {**models.MODELS, "tiny": tiny})
        made = small_run(tmp_path_factory.mktemp("run"), people=120, model="tiny")
        simulation.run(made)
        simulation.finish(made)
    return made


@pytest.fixture(autouse=True)
def small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "MODELS", {**models.MODELS, "tiny": tiny})


def test_the_same_people_are_asked_about_at_every_age_and_an_audit_reads_it(run: Run) -> None:
    files = [path for path in run.folder.rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files if path.name != EXCLUDED_FILE}
    told: list[tuple[int, int]] = []
    found = measure_excluded(run, people=20, seed=3, listener=lambda *at: told.append(at))
    assert told[-1] == (100, 100)
    assert json.loads((run.folder / EXCLUDED_FILE).read_text()) == found
    assert {path: path.read_bytes() for path in before} == before  # no vault, no log was touched
    info = ExcludedInfo.model_validate(found)
    assert info.people_exist is False
    assert [band.band for band in info.ages] == list(ages_asked(25.0))
    for band in info.ages:
        assert all(band.from_ <= age < band.below for age in band.age)
    report = build_report(run.folder)
    assert report.excluded is not None
    assert report.excluded.people == 20


def test_what_stands_in_the_file_is_what_the_model_says_of_drawn_children(run: Run) -> None:
    found = measure_excluded(run, people=20, seed=4)
    children = synthesize(20, 1, seed=4, ages=(0.5, float(np.nextafter(np.float32(13), 0))))
    network = w.model_for("tiny", w.load_weights(run.model_path))
    said = predict(network, children.images, flip=run.settings.flip, zoom=run.settings.zoom).argmax(
        1
    )
    assert found["ages"][0]["prediction"] == said.tolist()
    assert found["label"] == children.label.tolist()
    assert (children.age < 13).all()


def test_people_are_new_each_time_unless_a_seed_is_given(run: Run) -> None:
    seeds = {measure_excluded(run, people=20)["seed"] for _ in range(2)}
    assert len(seeds) == 2


def test_a_challenge_age_of_18_leaves_no_adults_below_it() -> None:
    assert list(ages_asked(18.0)) == [
        "under_13",
        "13_to_17",
        "adults_near_challenge_age",
        "admitted",
    ]
    assert ages_asked(30.0)["adults_under_challenge_age"] == (18.0, 30.0)
    with pytest.raises(SettingsError, match="nobody to compare with"):
        ages_asked(80.0)


def test_too_few_people_are_refused_before_anybody_is_drawn(run: Run) -> None:
    with pytest.raises(SettingsError, match="20 people or more, not 5"):
        measure_excluded(run, people=5)
    with pytest.raises(ValueError, match="seed must be 0 or more"):
        measure_excluded(run, people=20, seed=-1)


def test_a_run_that_is_not_finished_has_no_model_to_ask(tmp_path: Path) -> None:
    made = small_run(tmp_path, model="tiny")
    with pytest.raises(RunError, match="finish the run first"):
        measure_excluded(made)
    assert not (made.folder / EXCLUDED_FILE).exists()


def test_stores_with_layers_of_their_own_have_no_one_model(tmp_path: Path) -> None:
    made = small_run(tmp_path, personal="head")
    with pytest.raises(SettingsError, match="no one model"):
        measure_excluded(made)
