"""How far each part of a face moves: one number whichever side, the same picture, and something to learn."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from privemo import weights as w
from privemo.cli import app
from privemo.faces import load_faces
from privemo.labels import EMOTIONS
from privemo.models import build_model
from privemo.synthetic import synthesize
from privemo.synthetic.expression import Expression, draw_expression
from privemo.synthetic.units import movements, unit_names

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def build_nobody() -> ModuleType:
    path = ROOT / "scripts" / "build_nobody.py"
    spec = importlib.util.spec_from_file_location("build_nobody", path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def said(expression: Expression) -> dict[str, float]:
    return dict(zip(unit_names(), movements(expression).tolist(), strict=True))


def test_every_unit_that_an_expression_uses_has_a_name_and_none_comes_twice() -> None:
    names = unit_names()
    assert len(set(names)) == len(names) == 39
    rng = np.random.default_rng(0)
    for number in range(200):
        for unit in draw_expression(number % 4, rng).units:
            name = unit.removeprefix("faceunits/")
            assert name in names or name.removesuffix("Left").removesuffix("Right") in names


def test_a_face_and_its_mirror_image_say_the_same() -> None:
    units = {
        "faceunits/mouthSmileLeft": 1.0,
        "faceunits/mouthSmileRight": 0.5,
        "faceunits/jawOpen": 0.3,
    }
    mirrored = units | {"faceunits/mouthSmileLeft": 0.5, "faceunits/mouthSmileRight": 1.0}
    one = Expression(units, (0.2, -0.1), 1.0, (0.1, 0.2, 0.3, 0.4))
    other = Expression(mirrored, (-0.2, -0.1), 1.0, (0.1, 0.2, 0.3, 0.4))
    assert said(one) == said(other)
    moved = {name: round(weight, 6) for name, weight in said(one).items() if weight}
    assert moved == {
        "mouthSmile": 0.75,
        "jawOpen": 0.3,
        "gazeAside": 0.2,
        "gazeUp": -0.1,
        "foreheadLines": 0.1,
        "frownLines": 0.2,
        "smileLines": 0.3,
        "crowsFeet": 0.4,
    }


def test_movements_come_beside_the_same_pictures_and_tell_what_was_drawn() -> None:
    some, plain = synthesize(8, 4, seed=4, units=True), synthesize(8, 4, seed=4)
    assert plain.units is None
    assert some.units is not None
    assert some.units.shape == (32, len(unit_names()))
    assert np.array_equal(some.images, plain.images)
    by_name = dict(zip(unit_names(), some.units.T, strict=True))
    happy, surprised = (some.label == EMOTIONS.index(name) for name in ("happy", "surprise"))
    assert by_name["mouthSmile"][happy].min() > by_name["mouthSmile"][~happy].max()
    assert by_name["browOuterUp"][surprised].min() > by_name["browOuterUp"][~surprised].max()


def test_the_command_writes_them_by_name_and_only_when_asked(tmp_path: Path) -> None:
    for name, more in (("with", ["--units"]), ("without", [])):
        asked = ["synth", "--people", "2", "--images", "1", "--out", str(tmp_path / f"{name}.npz")]
        done = CliRunner().invoke(app, [*asked, *more])
        assert done.exit_code == 0, done.output
    with np.load(tmp_path / "with.npz") as table:
        assert table["units"].shape == (2, len(unit_names()))
        assert tuple(table["unit_names"]) == unit_names()
    with np.load(tmp_path / "without.npz") as table:
        assert not {"units", "unit_names"} & set(table.files)
    assert load_faces(tmp_path / "with.npz").label.shape == (2,)  # still a table of faces


def test_weights_of_nobody_learn_movements_and_keep_no_layer_for_them(
    build_nobody: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, start = tmp_path / "people.npz", tmp_path / "start.safetensors"
    synthesize(40, 4, seed=5, ages=(20.0, 60.0), units=True).save(path)
    w.save_weights(start, w.from_model(build_model("emotion-cnn", channels=1, seed=0)))
    short = {"epochs": 2, "batch": 32}
    monkeypatch.setattr(build_nobody, "BESIDE", build_nobody.replace(build_nobody.BESIDE, **short))
    monkeypatch.setattr(build_nobody, "HELD_OUT_PICTURES", 16)
    asked = [str(path), str(tmp_path / "out.safetensors"), "--start", str(start)]
    for number in (1, 2):  # the same seed, the same weights
        monkeypatch.setattr(sys, "argv", ["build_nobody.py", *asked])
        build_nobody.main()
        made = w.load_weights(tmp_path / "out.safetensors")
        if number == 1:
            first = made
    assert {name: value.shape for name, value in made.items()} == {
        name: value.shape for name, value in w.load_weights(start).items()
    }
    assert w.sha256(made) == w.sha256(first) != w.sha256(w.load_weights(start))
    # With movements of other pictures it becomes another network: they do teach it something.
    table, moves = build_nobody.merged([path]), build_nobody.with_pose(path)
    other, _, _ = build_nobody.second_stage(table, moves[::-1], start, 0)
    assert w.sha256(w.from_model(other)) != w.sha256(made)


def test_a_table_without_movements_is_refused_by_name(
    build_nobody: ModuleType, tmp_path: Path
) -> None:
    synthesize(2, 1, seed=5).save(tmp_path / "people.npz")
    with pytest.raises(SystemExit, match=r"people\.npz says nothing of movements.*--units"):
        build_nobody.with_pose(tmp_path / "people.npz")


def test_movements_are_standardised_and_what_never_moves_is_left_out(
    build_nobody: ModuleType,
) -> None:
    moves = np.array([[1.0, 5.0, 0.0], [3.0, 5.0, 2.0]], dtype=np.float32)
    assert torch.equal(build_nobody.standardised(moves), torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
