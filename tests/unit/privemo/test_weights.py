"""Weights as bytes, files and records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from privemo import weights as w
from privemo.config import RunSettings
from privemo.errors import RunError, SettingsError
from privemo.flower import Array, ArrayRecord
from privemo.models import LUMA, MODELS, build_model
from privemo.synthetic import synthesize
from privemo.training import predict


def test_bytes_and_records_round_trip() -> None:
    weights = w.from_model(build_model(seed=3))
    for again in (w.from_bytes(w.to_bytes(weights)), w.from_record(w.to_record(weights))):
        assert {k: v.tobytes() for k, v in again.items()} == {
            k: v.tobytes() for k, v in weights.items()
        }
        assert w.sha256(again) == w.sha256(weights)


def test_the_hash_does_not_depend_on_the_order_of_names() -> None:
    a = {"x": np.zeros(2, np.float32), "y": np.ones(1, np.float32)}
    assert w.sha256(a) == w.sha256(dict(reversed(a.items())))


def test_what_is_read_comes_in_one_order() -> None:
    """Whoever puts a model's weights side by side, twice, has to get the same vector."""
    data = w.to_bytes(w.from_model(build_model()))
    for _ in range(5):
        assert list(w.from_bytes(data)) == sorted(w.from_bytes(data))


def test_weights_are_copies() -> None:
    model = build_model()
    weights = w.from_model(model)
    next(iter(weights.values()))[:] = 7
    assert float(next(iter(model.parameters())).detach().max()) < 7


def test_a_model_carries_its_weights_and_finds_its_channels() -> None:
    weights = w.from_model(build_model(channels=3, seed=1))
    model = w.model_for("emotion-cnn", weights)
    assert model.channels == 3
    assert w.sha256(w.from_model(model)) == w.sha256(weights)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_carries_weights_is_the_one_they_were_taken_from(name: str) -> None:
    """It is built without numbers of its own: none may be left, in buffers neither."""
    channels = 3 if name == "rgb-cnn" else 1
    original = build_model(name, channels=channels, seed=1).eval()
    carrying = w.model_for(name, w.from_model(original)).eval()
    assert not any(t.is_meta for t in [*carrying.parameters(), *carrying.buffers()])
    assert [p.requires_grad for p in carrying.parameters()] == [
        p.requires_grad for p in original.parameters()
    ]
    faces = torch.linspace(-1, 1, 2 * channels * 48 * 48).reshape(2, channels, 48, 48)
    with torch.no_grad():
        assert torch.equal(carrying(faces), original(faces))


def test_a_model_does_not_write_to_the_weights_it_carries() -> None:
    weights = w.from_model(build_model("gray-cnn"))
    for array in weights.values():
        array.flags.writeable = False
    before = w.sha256(weights)
    with torch.no_grad():
        for parameter in w.model_for("gray-cnn", weights).parameters():
            parameter.add_(1.0)
    assert w.sha256(weights) == before


def test_foreign_weights_are_refused() -> None:
    with pytest.raises(RunError, match="do not belong"):
        w.model_for("emotion-cnn", {"x": np.zeros((4, 1, 3, 3), np.float32)})


@pytest.mark.parametrize("data", [b"", b"garbage", b"\xff" * 100])
def test_a_broken_file_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(data)
    with pytest.raises(RunError, match=r"m\.safetensors"):
        w.load_weights(path)
    with pytest.raises(RunError, match="cannot be read"):
        w.load_weights(tmp_path / "none.safetensors")


def test_truncated_weights_are_refused(tmp_path: Path) -> None:
    data = w.to_bytes(w.from_model(build_model()))
    for length in (4, 300, len(data) - 1):
        with pytest.raises(RunError, match="Not a whole"):
            w.from_bytes(data[:length])


@pytest.mark.parametrize("bad", [np.array([np.nan], np.float32), np.array([1.0], np.float64)])
def test_weights_are_finite_float32(bad: np.ndarray) -> None:
    with pytest.raises(RunError, match="finite float32"):
        w.from_bytes(w.to_bytes({"x": bad}))


def test_where_training_starts(tmp_path: Path) -> None:
    scratch, where = w.initial_weights("scratch", model="emotion-cnn", channels=1, seed=4)
    assert "random" in where
    assert w.sha256(scratch) == w.sha256(w.from_model(build_model(seed=4)))
    path = tmp_path / "mine.safetensors"
    w.save_weights(path, scratch)
    again, where = w.initial_weights(str(path), model="emotion-cnn", channels=1, seed=0)
    assert w.sha256(again) == w.sha256(scratch)
    assert "mine.safetensors" in where
    with pytest.raises(RunError, match="do not fit"):
        w.initial_weights(str(path), model="emotion-cnn", channels=3, seed=0)
    for nothing in ("nobodi", str(tmp_path)):
        with pytest.raises(RunError, match="give nobody, imagenet, scratch, or a model"):
            w.initial_weights(nothing, model="emotion-cnn", channels=1, seed=0)
    with pytest.raises(SettingsError, match="no model"):
        w.initial_weights("nobody", model="other", channels=1, seed=0)


def test_weights_of_nobody_are_shipped_small_and_start_training() -> None:
    weights, where = w.initial_weights("nobody", model="emotion-cnn", channels=1, seed=0)
    assert "people who do not exist" in where
    assert len(w.to_bytes(weights)) <= 6_000_000
    assert RunSettings.of().init == "nobody", "training starts from them unless told otherwise"


def test_weights_of_nobody_read_people_who_were_drawn_after_them() -> None:
    """Of another seed than any in its card: random weights would name a quarter of them rightly."""
    weights, _ = w.initial_weights("nobody", model="emotion-cnn", channels=1, seed=0)
    people = synthesize(12, 3, seed=987_654)
    said = predict(w.model_for("emotion-cnn", weights), people.images)
    assert (said.argmax(1) == people.label).mean() > 0.85


def test_weights_of_nobody_read_a_colour_picture_as_its_gray_version() -> None:
    gray, colour = (
        w.model_for(
            "emotion-cnn", w.initial_weights("nobody", model="emotion-cnn", channels=c, seed=0)[0]
        )
        for c in (1, 3)
    )
    picture = torch.randn(3, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    luma = (picture * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    assert torch.allclose(gray(luma), colour(picture), atol=1e-4)


def test_a_record_of_weights_is_one_array() -> None:
    """Flower sends each array by requests of its own: with dozens of them a round takes seconds more."""
    record = w.to_record(w.from_model(build_model()))
    assert list(record) == [w.IN_RECORD]
    with pytest.raises(RunError, match="one array"):
        w.from_record(ArrayRecord({"a": Array(np.zeros(1))}))
    with pytest.raises(RunError):
        w.from_record(ArrayRecord({w.IN_RECORD: Array(np.zeros(9, np.uint8))}))
