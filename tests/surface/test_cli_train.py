"""`privemo train` as its user meets it: each option reaches the run, and none is silently ignored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import noise_faces
from tests.surface.test_cli import privemo, refused

SMALL = ["--declared-people", "20", "--init", "scratch", "--seed", "3"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    np.savez(tmp_path / "faces.npz", **noise_faces(60))
    return tmp_path / "faces.npz"


def run_of(data: Path, *options: str | Path) -> dict[str, Any]:
    out = data.parent / "run"
    result = privemo("train", "--data", data, "--out", out, "--json", *SMALL, *options)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["run"] == str(out)
    facts: dict[str, Any] = json.loads((out / "run.json").read_text())
    return facts


def test_options_of_private_training_reach_the_run(data: Path) -> None:
    facts = run_of(
        data,
        *("--epsilon", "5", "--rounds", "2", "--steps", "2", "--sample-rate", "0.5"),
        *("--rate-growth", "2", "--clip", "0.7", "--lr", "0.1", "--lr-schedule", "cosine"),
        *("--optimizer", "adam", "--momentum", "0.2", "--server-momentum", "0.5"),
        *("--server-lr", "0.4", "--ema", "0.6", "--views", "2", "--images-per-person", "1"),
        *("--augment", "none", "--precision", "bfloat16", "--split-seed", "8"),
    )
    chosen, privacy = facts["settings"], facts["settings"]["privacy"]
    assert {k: privacy[k] for k in ("epsilon", "sample_rate", "rate_growth", "max_grad_norm")} == {
        "epsilon": 5.0,
        "sample_rate": 0.5,
        "rate_growth": 2.0,
        "max_grad_norm": 0.7,
    }
    assert (privacy["optimizer"], privacy["views"], privacy["images_per_person"]) == ("adam", 2, 1)
    assert (privacy["augment"], privacy["precision"]) == ("none", "bfloat16")
    assert (chosen["rounds"], chosen["steps_per_round"], chosen["lr"]) == (2, 2, 0.1)
    assert (chosen["momentum"], chosen["server_momentum"]) == (0.2, 0.5)
    assert (chosen["server_lr"], chosen["ema"], chosen["split_seed"]) == (0.4, 0.6, 8)
    assert chosen["lr_schedule"] == "cosine"


def test_a_recipe_fills_in_what_was_not_asked_for(data: Path) -> None:
    facts = run_of(data, "--rounds", "2")
    assert facts["settings"]["steps_per_round"] == 1
    assert facts["settings"]["server_momentum"] > 0
    assert facts["settings"]["privacy"]["sample_rate"] == 0.5


def test_options_of_plain_training_reach_the_run(data: Path) -> None:
    facts = run_of(
        data,
        *("--no-private", "--epochs", "1", "--batch", "32", "--mixup", "0.2", "--ema", "0.9"),
        *("--label-smoothing", "0.1", "--weight-decay", "0.2", "--lr", "0.01"),
        *("--optimizer", "sgd", "--augment", "mild", "--precision", "bfloat16", "--teachers", "1"),
    )
    assert facts["settings"]["plain"] == {
        "epochs": 1,
        "batch": 32,
        "weight_decay": 0.2,
        "optimizer": "sgd",
        "label_smoothing": 0.1,
        "mixup": 0.2,
        "ema": 0.9,
        "augment": "mild",
        "precision": "bfloat16",
        "teachers": 1,
    }
    assert facts["lr"] == 0.01
    assert facts["settings"]["ema"] == 0.0  # the average is within the one round


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--epochs", "3"], ["--epochs", "--steps"]),
        (["--mixup", "0.2"], ["leave out --mixup"]),
        (["--teachers", "2"], ["leave out --teachers"]),
        (["--no-private", "--teachers", "11"], ["--teachers: "]),
        (["--no-private", "--views", "4"], ["leave out --views"]),
        (["--no-private", "--epsilon", "8", "--clip", "1"], ["--epsilon", "--clip"]),
        (["--no-private", "--optimizer", "adam"], ["optimizer"]),
        (["--clip", "0"], ["--clip: "]),
        (["--clip", "-1"], ["--clip: "]),
        (["--sample-rate", "1.01"], ["--sample-rate: "]),
        (["--views", "64", "--images-per-person", "512"], ["--views x --images-per-person"]),
        # Settings that are fine by themselves, and that every store would refuse.
        (["--clip", "1e-5"], ["--clip is 1e-05", "a store accepts"]),
        (["--lr", "2000"], ["--lr is 2000", "a store accepts"]),
        (["--no-private", "--weight-decay", "20"], ["--weight-decay is 20", "a store accepts"]),
        # A round is one step, and a store's optimizer begins anew in each.
        (["--momentum", "0.9"], ["--momentum is of a store's steps", "set --server-momentum"]),
        (["--optimizer", "adam", "--momentum", "0.2"], ["set --server-momentum"]),
        (["--epsilon", "1e-9"], ["cannot be met"]),
        (["--delta", "0.5"], ["Delta 0.5"]),
        (["--model", "resnet-900"], ["resnet-900"]),
    ],
)
def test_an_option_that_cannot_be_met_is_one_sentence(
    data: Path, options: list[str], words: list[str]
) -> None:
    out = data.parent / "run"
    refused(privemo("train", "--data", data, "--out", out, *SMALL, *options), *words)
    assert not out.exists()


def test_runs_on_the_same_people_add_up_in_a_budget_file(data: Path, tmp_path: Path) -> None:
    def go(name: str, *options: str | Path) -> Any:
        out = tmp_path / name
        return privemo("train", "--data", data, "--out", out, "--rounds", "1", *SMALL, *options)

    alone = go("alone")
    assert alone.returncode == 0, alone.stderr
    assert "--budget FILE" in alone.stderr
    budget = tmp_path / "people.budget"
    first = go("first", "--budget", budget, "--epsilon", "4")
    assert first.returncode == 0, first.stderr
    assert "--budget FILE" not in first.stderr
    refused(go("second", "--budget", budget, "--epsilon", "4"), "have lost epsilon")
    assert not (tmp_path / "second").exists()
