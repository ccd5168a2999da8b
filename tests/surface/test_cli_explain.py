"""`privemo explain` and `privemo explain data` as their users meet them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch import nn

from privemo import models
from privemo.bench import robustness
from tests.support.small_runs import small_run
from tests.surface.test_cli import privemo, refused


def tiny(channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, 4, 8, stride=8), nn.Flatten(), nn.Linear(144, 4))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run of a small network."""
    from privemo import simulation

    monkeypatch.setattr(models, "MODELS", {**models.MODELS, "tiny": tiny})
    made = small_run(tmp_path, model="tiny", rounds=1)
    simulation.run(made)
    simulation.finish(made)
    return made.folder


def test_a_run_is_explained_in_a_table_and_a_sentence_and_as_json(
    run: Path, tmp_path: Path
) -> None:
    told = privemo("explain", run, "--out", tmp_path / "looks", "--people", "20")
    assert told.returncode == 0, told.stderr
    for words in ("eyes", "mouth", "cheeks", "elsewhere", "Mouth only, or eyes too?"):
        assert words in told.stdout
    assert "nobody had to be asked" in told.stdout
    assert (run / "looks.json").exists()
    assert (tmp_path / "looks/answer.md").exists()

    told = privemo(
        *("explain", "run", run, "--out", tmp_path / "again", "--people", "20"),
        *("--method", "grad_cam", "--json"),
    )
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert found["method"] == "grad_cam"
    assert found["completeness"] is None


def test_the_questions_about_data_are_answered(tmp_path: Path) -> None:
    told = privemo("explain", "data", "--out", tmp_path / "data", "--people", "20")
    assert told.returncode == 0, told.stderr
    assert "Nearest to each other:" in told.stdout
    assert (tmp_path / "data/data.md").exists()


def test_what_cannot_be_explained_is_one_sentence(run: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "looks")
    refused(privemo("explain", tmp_path / "nowhere", *out), "is", "nowhere", "a run folder?")
    refused(privemo("explain", run, *out, "--people", "5"), "20 or more")
    refused(privemo("explain", run, "--out", run), "is not empty")
    refused(privemo("explain", run, *out, "--seed", "-1"), "seed must be 0 or more")
    refused(privemo("explain", "data", *out, "--people", "5"), "20 or more")
    (run / "model.safetensors").unlink()
    refused(privemo("explain", run, *out), "model.safetensors cannot be read", "--resume")
    assert not (tmp_path / "looks").exists()


def test_robustness_is_a_table_and_lines_of_json(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("bench", "robustness", "--people", "20", "--kind", "glasses")
    told = privemo(*asked)
    assert told.returncode == 0, told.stderr
    assert "lost at 5 (95%)" in told.stdout
    assert "glasses: glasses, share of light taken" in told.stdout
    monkeypatch.setattr(robustness, "SEVERITIES", (3,))
    lines = [json.loads(line) for line in privemo(*asked, "--json").stdout.splitlines()]
    assert {line["severity"] for line in lines} == {0, 3}
    assert {"figure", "value", "unit", "goal", "met", "low", "high", "n"} <= lines[0].keys()
    refused(privemo("bench", "robustness", "--kind", "fog"), "choose of noise")
    refused(privemo("bench", "robustness", "--people", "3"), "20 or more")
    refused(privemo("bench", "robustness", "--run", "nowhere"), "a run folder?")
