"""What each part of the recipe contributes: rows that change one thing, and their differences."""

from __future__ import annotations

import json
import runpy
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from privemo.bench.ablation import (
    FULL,
    NO_AVERAGE,
    ONE_SIZE,
    SCHEMA,
    Ablation,
    changes,
    rows,
    summed_up,
)
from privemo.bench.results import Results
from privemo.bench.variants import network_of, start_of
from privemo.cli import app
from privemo.config import RunSettings
from privemo.errors import RunError, SettingsError
from privemo.faces import FaceTable, load_faces
from privemo.models.layers import WSConv2d
from privemo.recipes import Recipe, central_recipe
from privemo.schedules import sample_rate_of
from tests.conftest import noise_faces

SCRIPT = Path(__file__).parents[3] / "scripts/table_ablation.py"
RECIPE = Recipe(
    rounds=40, steps_per_round=1, sample_rate=0.4, lr=0.5, server_momentum=0.9, ema=0.96, views=2
)


def table(folder: Path) -> FaceTable:
    path = folder / "faces.npz"
    np.savez(path, **noise_faces(120))
    return load_faces(path)


# -- rows ------------------------------------------------------------------------------------------


def different(full: Recipe, other: Recipe) -> set[str]:
    return {f.name for f in fields(Recipe) if getattr(full, f.name) != getattr(other, f.name)}


def test_each_row_changes_one_thing_and_what_is_tied_to_it() -> None:
    found = {c.name: different(RECIPE, c.recipe) for c in changes(RECIPE)}
    assert found == {
        "full": set(),
        "no-standardising": set(),
        "scratch": set(),
        "no-momentum": {"server_momentum", "lr"},
        "views-1": {"views"},
        "views-4": {"views"},
        "no-augmentation": {"augment"},
        "small-batch": {"rounds", "sample_rate", "lr", "ema"},
        "rate-growth": {"rate_growth", "sample_rate"},
        "adam": {"server_optimizer"},
        "bfloat16": {"precision"},
        "clip-low": {"max_grad_norm", "lr"},
        "clip-high": {"max_grad_norm", "lr"},
        "cosine": {"lr_schedule"},
    }


def test_what_is_tied_keeps_the_distance_that_a_run_goes() -> None:
    by_name = {c.name: c.recipe for c in changes(RECIPE)}
    reach = RECIPE.lr / (1 - RECIPE.server_momentum)  # type: ignore[operator]
    assert by_name["no-momentum"].lr == pytest.approx(reach)
    for name in ("clip-low", "clip-high"):
        assert by_name[name].lr * by_name[name].max_grad_norm == pytest.approx(0.5)  # type: ignore[operator]
    small = by_name["small-batch"]
    assert small.rounds * small.sample_rate == pytest.approx(40 * 0.4), "as many pictures"
    assert small.rounds * small.lr == pytest.approx(40 * 0.5)  # type: ignore[operator]
    assert small.ema**4 == pytest.approx(0.96)
    growing = by_name["rate-growth"].settings({"epsilon": 8.0}, stores=1)
    assert growing.privacy is not None
    rates = [sample_rate_of(growing.privacy, n, 40) for n in range(1, 41)]
    assert rates[-1] == pytest.approx(2 * rates[0])
    assert sum(rates) == pytest.approx(40 * 0.4), "as many pictures"


def test_a_row_that_would_change_nothing_is_left_out() -> None:
    other = replace(RECIPE, views=4, augment="none", lr_schedule="cosine", precision="bfloat16")
    names = {c.name for c in changes(replace(other, server_momentum=0.0, server_optimizer="adam"))}
    assert not names & {"views-4", "no-augmentation", "no-momentum", "adam", "bfloat16", "cosine"}
    assert {"constant", "float32", "views-1"} <= names


def test_without_a_learning_rate_there_is_nothing_to_tie_to() -> None:
    with pytest.raises(SettingsError, match="learning rate"):
        changes(replace(RECIPE, lr=None))


def test_cells_are_the_central_recipe_of_the_product_for_each_seed(tmp_path: Path) -> None:
    faces = table(tmp_path)
    asked = Ablation(seeds=(1, 2), steps_scale=0.5, only=("scratch", "no-standardising"))
    cells = rows(faces, asked)
    assert [(c.settings.seed, c.row) for c in cells] == [
        (seed, row) for seed in (1, 2) for row in ("full", "no-standardising", "scratch")
    ]
    recipe = central_recipe(60)
    assert {c.settings.rounds for c in cells} == {recipe.rounds // 2}
    assert {c.settings.ema for c in cells} == {recipe.ema}
    assert [c.settings.init for c in cells[:3]] == ["nobody", "nobody", "scratch"]
    assert cells[1].variant == "plain convolutions"
    lr = {c.settings.lr for c in cells}
    assert len(lr) == 1
    assert None not in lr


def test_every_row_has_the_precision_that_is_asked_for_but_the_one_of_the_other(
    tmp_path: Path,
) -> None:
    cells = rows(table(tmp_path), Ablation(seeds=(0,), precision="bfloat16"))
    found = {c.row: c.settings.privacy.precision for c in cells}
    assert found.pop("float32") == "float32"
    assert set(found.values()) == {"bfloat16"}


def test_a_start_from_scratch_is_no_row_where_all_start_so(tmp_path: Path) -> None:
    names = [c.row for c in rows(table(tmp_path), Ablation(seeds=(0,), init="scratch"))]
    assert "scratch" not in names
    assert len(names) == len(set(names)) > 8


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"only": ("batchnorm",)}, "no row 'batchnorm'.*no-momentum"),
        ({"seeds": ()}, "at least one seed"),
        ({"steps_scale": 0.0}, "above 0"),
        ({"steps_scale": float("nan")}, "above 0"),
    ],
)
def test_an_ablation_of_no_sense_is_refused(
    asked: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=says):
        rows(table(tmp_path), Ablation(**asked))


# -- the network without standardised weights ------------------------------------------------------


def test_plain_convolutions_say_the_same_at_the_start_and_learn_otherwise() -> None:
    s = RunSettings.of(model="emotion-cnn", init="scratch", seed=1)
    x, y = torch.randn(4, 1, 48, 48), torch.tensor([0, 1, 2, 3])
    logits, gradients = [], []
    for variant in ("as shipped", "plain convolutions"):
        start, words = start_of(s, variant, 1)  # type: ignore[arg-type]
        model = network_of("emotion-cnn", variant, 1)(start)  # type: ignore[arg-type]
        logits.append(model(x))
        nn.functional.cross_entropy(logits[-1], y).backward()
        first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
        assert first.weight.grad is not None
        gradients.append(first.weight.grad)
    assert words.endswith("standardised once")
    assert not any(isinstance(m, WSConv2d) for m in model.modules())
    torch.testing.assert_close(logits[1], logits[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(gradients[1], gradients[0], rtol=0.1)


# -- the sum ---------------------------------------------------------------------------------------


def record(row: str, seed: int, accuracy: float, **more: Any) -> dict[str, Any]:
    scores = {"accuracy": accuracy, "interval": [accuracy - 0.02, accuracy + 0.01]}
    return {
        "key": f"{row}/{seed}",
        "row": row,
        "words": f"words of {row}",
        "seed": seed,
        **scores,
        "lowest_f1": accuracy - 0.1,
        "last": None,
        "one_size": None,
        "seconds": 10.0,
        "settings": {"seed": seed, "row": row},
        "data": {"digest": "d"},
        "start": {"words": "random"},
        **more,
    }


LAST = {"accuracy": 0.65, "interval": [0.6, 0.7], "lowest_f1": 0.5}
ONCE = {"accuracy": 0.69, "interval": [0.6, 0.7], "lowest_f1": 0.5}
RECORDS = [
    record("adam", 1, 0.6),
    record(FULL, 1, 0.71, last=LAST, one_size=ONCE),
    record(FULL, 0, 0.7, last=LAST, one_size=ONCE),
    record("adam", 0, 0.64),
]


def test_rows_are_compared_with_the_full_recipe_of_the_same_seed() -> None:
    full, last, once, adam = summed_up(RECORDS)
    assert [row.name for row in (full, last, once, adam)] == [FULL, NO_AVERAGE, ONE_SIZE, "adam"]
    assert once.against_full == pytest.approx((-0.01 - 0.02) / 2)
    assert full.accuracies == (0.7, 0.71)
    assert full.against_full == 0
    assert adam.against_full == pytest.approx((-0.06 - 0.11) / 2)
    assert last.accuracies == (0.65, 0.65)
    assert last.against_full == pytest.approx((-0.05 - 0.06) / 2)
    assert (last.lowest_f1, last.low, last.high) == (0.5, 0.6, 0.7)


def test_a_row_without_the_full_recipe_or_of_two_recipes_is_refused() -> None:
    with pytest.raises(RunError, match="lacks seed 2, which 'adam' has"):
        summed_up([*RECORDS, record("adam", 2, 0.6)])
    with pytest.raises(RunError, match="adam come from several recipes"):
        summed_up([*RECORDS[:3], record("adam", 0, 0.6, settings={"seed": 0, "lr": 1})])


# -- the command -----------------------------------------------------------------------------------


def test_the_command_measures_prints_and_keeps(
    npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "r.json"
    fast = ["--data", npz, "--out", to, "--seeds", 1, "--model", "gray-cnn", "--init", "scratch"]
    short = [*fast, "--steps-scale", 0.1, "--row", "no-momentum", "--precision", "bfloat16"]
    line = ["bench", "ablation", *map(str, short)]
    done = CliRunner().invoke(app, line, prog_name="python -m privemo")
    assert done.exit_code == 0, done.output
    for word in (FULL, NO_AVERAGE, ONE_SIZE, "no-momentum", "to full"):
        assert word in done.stdout
    assert [cell["row"] for cell in Results(to, SCHEMA).cells()] == [FULL, "no-momentum"]
    first = json.loads(to.read_text())["cells"][0]
    assert first["command"].startswith("privemo bench ablation --data faces.npz ")
    assert "--row no-momentum" in first["command"]
    assert first["settings"]["privacy"]["precision"] == "bfloat16"
    monkeypatch.setattr("sys.argv", ["", str(to)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert "| `no-momentum` | no momentum, lr / (1 - momentum) |" in capsys.readouterr().out
