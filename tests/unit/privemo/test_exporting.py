"""A run as a signed file: what it says is what was trained, or there is no file."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import privemo
from privemo import simulation
from privemo import weights as w
from privemo.errors import BudgetExhausted, ExportRefused, RunError, SettingsError
from privemo.exporting.export import Drawn, _abstention, _agreement
from privemo.exporting.graph import Reads, graph, plain, quantized, said_by, said_by_torch
from privemo.exporting.temperature import TEMPERATURES, tempered
from privemo.heldoutledger import FILE as LEDGER
from privemo.models import build_model
from privemo.recognizer.exported import open_exported
from privemo.recognizer.runtime import Classifier
from privemo.training import predict
from privemo_consent import SigningKey
from tests.support.small_runs import small_run

KEY = SigningKey.generate("chain")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of bundled weights, trained a little."""
    made = small_run(tmp_path_factory.mktemp("run"), init="nobody", rounds=1, steps_per_round=1)
    simulation.run(made)
    simulation.finish(made)
    return made.folder


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return Drawn.of(300, 1)


def test_a_run_becomes_one_file_that_says_what_was_trained(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    card = privemo.export(folder, out, key=KEY, form="fp32", people=300, coverage=0.8)
    found = open_exported(out, [KEY.verifying])
    assert found.card == card
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx"]
    weights = w.load_weights(folder / "model.safetensors")
    assert card.weights_sha256 == w.sha256(weights)
    assert card.simulated_consents
    assert card.privacy.private
    assert card.privacy.unit == "person"
    assert 0 < (card.privacy.epsilon or 0) <= 8
    assert card.privacy.delta == 1e-5
    assert card.agreement.difference <= 1e-4
    assert 0.7 <= card.abstention.read <= 0.9  # 0.8 was asked for, measured on 200 other people
    low, high = card.abstention.read_ci
    assert low < card.abstention.read < high
    faces = Drawn.of(300, 1).held_out.images[:8]
    trained = predict(w.model_for("emotion-cnn", weights), faces, flip=False, zoom=0)
    classifier = Classifier(found)
    ours = np.stack([classifier.probabilities(face) for face in faces])
    assert card.temperature is not None
    np.testing.assert_allclose(ours, tempered(trained, card.temperature), atol=1e-4)
    how = card.calibration
    assert how is not None
    assert (how.fitted_on, how.people, how.epsilon) == ("people who do not exist", 100, None)
    assert card.temperature >= 1


def test_held_out_people_choose_the_temperature_and_the_card_says_what_it_cost(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "run")
    out = tmp_path / "model.onnx"
    settings = {"key": KEY, "form": "fp32", "people": 300, "epsilon": 2.0}
    card = privemo.export(tmp_path / "run", out, **settings)  # type: ignore[arg-type]
    how = card.calibration
    assert how is not None
    assert (how.fitted_on, how.people, how.epsilon) == ("held-out people", None, 2.0)
    assert card.temperature in TEMPERATURES
    classifier = Classifier(open_exported(out, [KEY.verifying]))
    face = Drawn.of(300, 1).held_out.images[:1]
    trained = predict(
        w.model_for("emotion-cnn", w.load_weights(folder / "model.safetensors")),
        face,
        flip=False,
        zoom=0,
    )
    np.testing.assert_allclose(
        classifier.probabilities(face[0])[None], tempered(trained, card.temperature), atol=1e-4
    )
    # Exported again, in the other form too, it is the same choice: paid for once.
    settings["form"] = "int8"
    assert privemo.export(tmp_path / "run", out, **settings).temperature == card.temperature  # type: ignore[arg-type]
    lines = (tmp_path / "run/stores/store-01" / LEDGER).read_text().splitlines()
    assert len(lines) == 1
    with pytest.raises(BudgetExhausted):
        privemo.export(tmp_path / "run", tmp_path / "no.onnx", **{**settings, "epsilon": 4.0})  # type: ignore[arg-type]
    assert not (tmp_path / "no.onnx").exists()


def test_a_threshold_is_of_what_the_temperature_leaves(drawn: Drawn) -> None:
    """A model made less sure is held to a lower number, and reads as many."""
    weights, _ = w.initial_weights("nobody", model="emotion-cnn", channels=1, seed=0)
    network = w.model_for("emotion-cnn", weights).eval()
    unsure = [
        _abstention(graph(Reads(plain(network), by).eval(), 1), drawn, 0.9) for by in (1.0, 3.0)
    ]
    assert unsure[1].threshold < unsure[0].threshold - 0.05
    for one in unsure:
        assert 0.82 < one.read < 0.98
        low, high = one.read_ci
        assert low < one.read < high


def test_a_run_that_is_not_finished_is_not_exported(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run/rounds/0001.json").unlink()
    with pytest.raises(RunError, match="0 of 1 rounds"):
        privemo.export(tmp_path / "run", tmp_path / "m.onnx", key=KEY)
    assert not (tmp_path / "m.onnx").exists()


def test_a_model_that_was_changed_is_not_exported(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "run")
    path = tmp_path / "run/checkpoints/round-0001.safetensors"
    weights = w.load_weights(path)
    weights["classifier.3.bias"] = weights["classifier.3.bias"] + np.float32(0.1)
    w.save_weights(path, weights)
    with pytest.raises(RunError, match="it was changed"):
        privemo.export(tmp_path / "run", tmp_path / "m.onnx", key=KEY)
    assert not (tmp_path / "m.onnx").exists()


def test_a_run_of_which_each_store_keeps_a_part_is_not_exported(tmp_path: Path) -> None:
    made = small_run(tmp_path, personal="head")
    with pytest.raises(ExportRefused, match="layers of its own"):
        privemo.export(made.folder, tmp_path / "m.onnx", key=KEY)
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"form": "int4"}, "choose fp32 or int8"),
        ({"coverage": 0}, "above 0 and at most 1"),
        ({"coverage": 1.5}, "above 0 and at most 1"),
        ({"coverage": float("nan")}, "above 0 and at most 1"),
        ({"people": 299}, "fewer than 300"),
        ({"epsilon": 0}, "A choice costs an epsilon"),
    ],
)
def test_impossible_settings_are_refused(
    folder: Path, tmp_path: Path, wrong: dict[str, object], told: str
) -> None:
    with pytest.raises(SettingsError, match=told):
        privemo.export(folder, tmp_path / "m.onnx", key=KEY, **wrong)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_eight_bits_name_what_torch_names(drawn: Drawn) -> None:
    weights, _ = w.initial_weights("nobody", model="emotion-cnn", channels=1, seed=0)
    network = w.model_for("emotion-cnn", weights).eval()
    body = graph(Reads(plain(network)).eval(), 1)
    small = quantized(body, drawn.ranges.images)
    assert len(small) < len(body) / 3
    agreement = _agreement(Reads(network).eval(), small, "int8", drawn)
    assert agreement.accuracy == pytest.approx(agreement.accuracy_torch, abs=0.0051)
    assert agreement.calibrated_on == 100


def test_nobody_is_in_both_parts_of_the_drawn_people(drawn: Drawn) -> None:
    one, other = drawn.ranges.images, drawn.held_out.images
    assert not {face.tobytes() for face in one} & {face.tobytes() for face in other}
    assert min(drawn.ranges.age.min(), drawn.held_out.age.min()) >= 18


@pytest.mark.parametrize("form", ["fp32", "int8"])
def test_a_graph_that_says_something_else_is_refused(drawn: Drawn, form: str) -> None:
    weights, _ = w.initial_weights("nobody", model="emotion-cnn", channels=1, seed=0)
    network = w.model_for("emotion-cnn", weights).eval()
    other = graph(Reads(plain(build_model(seed=3).eval())).eval(), 1)
    with pytest.raises(ExportRefused, match="Nothing was written"):
        _agreement(Reads(network).eval(), other, form, drawn)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "channels"),
    [("emotion-cnn", 3), ("cnn-2", 1), ("gray-cnn", 3), ("resnet-v2", 1), ("efficientnet", 3)],
)
def test_every_kind_of_network_can_be_exported(name: str, channels: int) -> None:
    network = build_model(name, channels=channels, seed=1).eval()
    tail = () if channels == 1 else (3,)
    faces = np.random.default_rng(0).integers(0, 256, (3, 48, 48, *tail)).astype(np.uint8)
    body = graph(Reads(plain(network)).eval(), channels)
    np.testing.assert_allclose(
        said_by(body, faces), said_by_torch(Reads(network).eval(), faces), atol=1e-4
    )
