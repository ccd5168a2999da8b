"""Accuracy against epsilon: which cells, whose recipes, and a file that a long benchmark grows in."""

from __future__ import annotations

import json
import math
import platform
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from privemo import weights as w
from privemo.bench.accuracy import SCHEMA, Plan, cells_of, points
from privemo.bench.cells import Cell, measure
from privemo.bench.results import Results, fill
from privemo.cli import app
from privemo.errors import RunError, SettingsError
from privemo.faces import FaceTable, load_faces
from privemo.recipes import PLAIN, central_recipe, local_recipe
from tests.conftest import noise_faces

SCRIPT = Path(__file__).parents[3] / "scripts/figure_epsilon.py"


def table(folder: Path, people: int = 40, *, images: int = 2, seed: int = 0) -> FaceTable:
    path = folder / f"faces-{people}-{seed}.npz"
    np.savez(path, **noise_faces(people, images, seed=seed))
    return load_faces(path)


def quick(**changes: Any) -> Plan:
    fast: dict[str, Any] = {"model": "gray-cnn", "init": "scratch", "stores": 3, "seeds": (0,)}
    return Plan(**{**fast, "recipe": {"rounds": 1, "steps_per_round": 1}, **changes})


# -- the plan --------------------------------------------------------------------------------------


def test_every_seed_epsilon_and_mode_has_a_cell_and_no_privacy_one(tmp_path: Path) -> None:
    cells = cells_of(table(tmp_path), Plan(seeds=(4, 5)))
    assert len(cells) == 2 * (3 * 3 + 1)
    assert [c.settings.seed for c in cells] == [4] * 10 + [5] * 10
    assert [c.mode for c in cells[:4]] == ["central", "local", "distributed", "central"]
    assert cells[9].mode == "plain"
    assert cells[9].settings.privacy is None
    assert cells[9].settings.plain == PLAIN
    assert {c.settings.split_seed for c in cells} == {0}


def test_the_recipes_are_those_of_the_product(tmp_path: Path) -> None:
    faces = table(tmp_path, 2600, images=1)
    central, local, distributed = cells_of(faces, Plan(seeds=(0,), epsilons=(8.0,)))
    one, of_a_store = central_recipe(1300), local_recipe(130)
    assert one != central_recipe(130), "a store's own size would not do"
    assert central.settings.declared_people == 1300
    assert (central.settings.stores, local.settings.stores) == (1, 10)
    assert central.settings.total_steps == one.rounds
    assert central.settings.server_momentum == one.server_momentum
    assert local.settings.total_steps == of_a_store.rounds * of_a_store.steps_per_round
    assert local.settings.declared_people == distributed.settings.declared_people == 130
    assert distributed.settings.steps_per_round == 1
    for s in (central.settings, distributed.settings):
        assert s.privacy is not None
        assert (s.rounds, s.privacy.sample_rate, s.ema) == (one.rounds, one.sample_rate, one.ema)


def test_the_accountant_asked_for_is_the_one_that_is_held_to_the_budget(tmp_path: Path) -> None:
    one = {"modes": ("central",), "epsilons": (2.0,), "recipe": {"rounds": 2}}
    faces = table(tmp_path)
    by_rdp, by_prv = (
        measure(faces, *cells_of(faces, quick(**one, accountant=name)), command="a test")
        for name in ("rdp", "prv")
    )
    assert by_rdp["spent"]["rdp"] == pytest.approx(2, rel=1e-3)
    assert by_prv["spent"]["prv"] == pytest.approx(2, rel=1e-3)
    assert by_prv["spent"]["rdp"] > 2
    assert by_prv["noise_multiplier"] < by_rdp["noise_multiplier"]


def test_overrides_reach_the_kind_of_training_they_are_for(tmp_path: Path) -> None:
    plan = quick(
        epsilons=(3.0, math.inf),
        modes=("central",),
        recipe={"rounds": 2, "max_grad_norm": 0.3},
        plain={"epochs": 2, "lr": 0.01},
    )
    private, plain = (cell.settings for cell in cells_of(table(tmp_path), plan))
    assert private.privacy is not None
    assert plain.plain is not None
    assert (private.rounds, private.privacy.max_grad_norm, private.lr) == (2, 0.3, None)
    assert (plain.rounds, plain.plain.epochs, plain.lr) == (1, 2, 0.01)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"epsilons": ()}, "at least one"),
        ({"seeds": ()}, "at least one"),
        ({"epsilons": (0.0,)}, "above 0"),
        ({"epsilons": (math.nan,)}, "above 0"),
        ({"modes": ("plain",)}, "no mode 'plain'"),
        ({"stores": 1}, "2 or more"),
    ],
)
def test_a_plan_of_no_sense_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        Plan(**changes)


# -- the file --------------------------------------------------------------------------------------


def test_a_cell_tells_all_and_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = table(tmp_path)
    cells = cells_of(faces, quick(epsilons=(8.0,), modes=("distributed",)))
    results = Results(tmp_path / "results.json", SCHEMA)
    (record,) = fill(faces, cells, results, command="privemo bench accuracy")
    held_out = faces.split(0.2, seed=0)[1]
    adults = np.isin(faces.columns["age_band"][held_out], ["25_34", "35_44", "45_54"])
    assert record["n"] == adults.sum(), "the validation part is what `privemo train` holds out"
    assert sum(record["refused"].values()) + sum(record["faces"].values()) == len(faces)
    low, high = record["interval"]
    assert low <= record["accuracy"] <= high
    assert record["lowest_f1"] == min(record["f1"].values())
    assert record["last"]["n"] == record["one_size"]["n"] == record["n"]
    assert record["spent"]["prv"] <= record["spent"]["rdp"] <= 8
    assert "secure aggregation" in record["assumes"]
    text = (tmp_path / "results.json").read_text()
    assert str(tmp_path) not in text
    assert platform.node() not in text
    monkeypatch.setattr("privemo.bench.results.measure", None)  # measuring again would fail
    assert next(fill(faces, cells, results, command="other")) == record


def test_another_seed_setting_table_or_start_is_another_cell(tmp_path: Path) -> None:
    faces, other = table(tmp_path), table(tmp_path, seed=1)
    start = {"a": np.zeros(3, dtype=np.float32)}
    plans = [
        quick(),
        quick(seeds=(1,)),
        quick(delta=1e-6),
        quick(split_seed=1),
        quick(recipe={"lr": 0.1}),
        quick(modes=("local",)),
    ]
    cells = [cells_of(faces, plan)[0] for plan in plans]
    keys = [cell.key(faces, start) for cell in cells]
    keys += [cells[0].key(other, start), cells[0].key(faces, {"a": start["a"] + 1})]
    keys += [Cell("central", cells[0].settings, "plain convolutions").key(faces, start)]
    assert len(set(keys)) == len(keys) == 9
    assert cells[0].key(faces, start) == cells_of(faces, plans[0])[0].key(faces, start)


def test_what_was_measured_before_a_stop_is_kept(tmp_path: Path) -> None:
    faces = table(tmp_path)
    cells = cells_of(faces, quick(epsilons=(8.0, 3.0), modes=("central",)))
    results = Results(tmp_path / "results.json", SCHEMA)

    def stop(cell: Cell, _: int) -> None:
        if cell is cells[1]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(fill(faces, cells, results, command="", listener=stop))
    assert [cell["epsilon"] for cell in results.cells()] == [8.0]


def test_two_commands_fill_one_file(tmp_path: Path) -> None:
    one, two = (Results(tmp_path / "results.json", SCHEMA) for _ in range(2))
    one.add({"key": "a", "n": 1})
    two.add({"key": "b"})
    one.add({"key": "a", "n": 2})
    assert one.cells() == two.cells() == [{"key": "b"}, {"key": "a", "n": 2}]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"schema": "privemo.run/1", "cells": []}', f'{{"schema": "{SCHEMA}"}}']
)
def test_a_file_of_something_else_is_refused_and_left_alone(text: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(RunError, match=r"results\.json"):
        Results(path, SCHEMA)
    assert path.read_text() == text


# -- the sum ---------------------------------------------------------------------------------------


def record(mode: str, epsilon: float | None, seed: int, accuracy: float, **more: Any) -> Any:
    return {
        "key": f"{mode}/{epsilon}/{seed}",
        "mode": mode,
        "epsilon": epsilon,
        "seed": seed,
        "accuracy": accuracy,
        "interval": [accuracy - 0.02, accuracy + 0.01],
        "lowest_f1": accuracy - 0.1,
        "spent": epsilon and {"rdp": epsilon, "prv": 0.9 * epsilon, "delta": 1e-5},
        "n": 100,
        "settings": {"seed": seed, "epsilon": epsilon},
        "data": {"digest": "d"},
        "start": {"words": "random"},
        **more,
    }


RECORDS = [
    record("local", 1.0, 0, 0.5),
    record("plain", None, 0, 0.8),
    record("central", 3.0, 1, 0.72),
    record("central", 3.0, 0, 0.7),
    record("central", 8.0, 0, 0.75),
]


def test_seeds_of_a_point_are_put_together() -> None:
    found = points(RECORDS)
    assert [(p.mode, p.epsilon) for p in found] == [
        ("central", 8.0),
        ("central", 3.0),
        ("local", 1.0),
        ("plain", None),
    ]
    p = found[1]
    assert p.accuracies == (0.7, 0.72)
    assert p.mean == pytest.approx(0.71)
    assert (p.low, p.high) == pytest.approx((0.69, 0.72))
    assert p.lowest_f1 == pytest.approx(0.6)
    assert p.spent == pytest.approx((3.0, 2.7))
    assert found[3].spent is None


@pytest.mark.parametrize(
    "odd",
    [
        {"settings": {"seed": 2, "epsilon": 3.0, "lr": 1}},
        {"data": {"digest": "e"}},
        {"start": {"words": "nobody"}},
    ],
)
def test_recipes_faces_and_starts_are_not_averaged_over(odd: dict[str, Any]) -> None:
    with pytest.raises(RunError, match=r"central at epsilon 3\.0"):
        points([*RECORDS, record("central", 3.0, 2, 0.7, **odd)])


def test_the_figure_is_the_same_bytes_for_the_same_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = Results(tmp_path / "r.json", SCHEMA)
    for one in RECORDS:
        results.add(one)
    drawn = []
    for name in ("a.svg", "b.svg"):
        monkeypatch.setattr("sys.argv", ["", str(tmp_path / "r.json"), str(tmp_path / name)])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        drawn.append((tmp_path / name).read_bytes())
    assert drawn[0] == drawn[1]
    assert drawn[0].startswith(b"<?xml")
    assert str(tmp_path).encode() not in drawn[0]
    assert "| central | 3 | 71.0 | 70.0, 72.0 | 69.0 to 72.0 | 0.60 | 3.00 / 2.70 |" in (
        capsys.readouterr().out
    )


def test_a_figure_of_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["", str(tmp_path / "none.json"), str(tmp_path / "a.svg")])
    with pytest.raises(RunError, match="privemo bench accuracy"):
        runpy.run_path(str(SCRIPT), run_name="__main__")


# -- the command -----------------------------------------------------------------------------------


def bench(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["bench", "accuracy", *map(str, arguments)])


def test_the_command_measures_prints_and_keeps(npz: Path, tmp_path: Path) -> None:
    to = tmp_path / "r.json"
    fast = ["--data", npz, "--out", to, "--seeds", 1, "--model", "gray-cnn", "--init", "scratch"]
    private = [*fast, "--epsilon", 8, "--mode", "central", "--rounds", 1]
    done = bench(*private, "--json")
    assert done.exit_code == 0, done.output
    (line,) = (text for text in done.stdout.splitlines() if text.startswith("{"))
    assert json.loads(line) == Results(to, SCHEMA).cells()[0]
    assert "--epsilon 8.0 --mode central" in json.loads(line)["command"]
    assert str(tmp_path) not in json.loads(line)["command"]
    more = bench(*private, "--epsilon", "inf", "--epochs", 1)
    assert more.exit_code == 0, more.output
    for word in ("central", "plain", "none", "lowest F1"):
        assert word in more.stdout
    assert [cell["epsilon"] for cell in Results(to, SCHEMA).cells()] == [8.0, None]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--epsilon", 8, "--epsilon", "inf", "--lr", 0.1], "command of its own"),
        (["--epsilon", "inf", "--rounds", 2], "leave out --rounds"),
        (["--epsilon", 8, "--epochs", 2], "leave out --epochs"),
        (["--epsilon", 8, "--mode", "distributed", "--steps", 2], "one step to a round"),
        (["--epsilon", -1], "above 0"),
    ],
)
def test_options_that_would_be_ignored_or_wrong_are_refused(
    options: list[object], says: str, npz: Path, tmp_path: Path
) -> None:
    to = tmp_path / "r.json"
    done = bench("--data", npz, "--out", to, "--model", "gray-cnn", "--init", "scratch", *options)
    assert says in str(done.exception)
    assert not to.exists()


def test_a_file_to_start_from_is_told_by_its_name(npz: Path, tmp_path: Path) -> None:
    to, start = tmp_path / "r.json", tmp_path / "start.safetensors"
    fresh, _ = w.initial_weights("scratch", model="gray-cnn", channels=1, seed=9)
    w.save_weights(start, fresh)
    fast = ["--data", npz, "--out", to, "--seeds", 1, "--model", "gray-cnn", "--init", start]
    done = bench(*fast, "--epsilon", "inf", "--epochs", 1)
    assert done.exit_code == 0, done.output
    (cell,) = Results(to, SCHEMA).cells()
    assert cell["start"] == {"words": "weights of start.safetensors", "sha256": w.sha256(fresh)}
    assert cell["settings"]["init"] == "start.safetensors"
    assert str(tmp_path) not in to.read_text()
