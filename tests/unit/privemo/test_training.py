"""Training: asks before every batch, and learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from privemo import weights as w
from privemo.dp import GaussianNoise
from privemo.errors import SettingsError
from privemo.faces import Faces
from privemo.models import build_model
from privemo.training import (
    PlainRecipe,
    PrivateRecipe,
    Randomness,
    augment,
    predict,
    train_plain,
    train_private,
)
from tests.conftest import noise_faces

PRIVATE = PrivateRecipe(
    noise_multiplier=1e-9,
    sample_rate=0.5,
    steps=4,
    max_grad_norm=1.0,
    normaliser=10.0,
    lr=0.1,
    momentum=0.0,
)


def faces(people: int = 20, images: int = 2) -> Faces:
    columns = noise_faces(people, images)
    return Faces(
        images=columns["images"],
        label=columns["label"].astype(np.int64),
        person=columns["identity"],
        face_id=np.array([f"f{i}" for i in range(people * images)]),
    )


def randomness(seed: int = 0) -> Randomness:
    return Randomness(np.random.default_rng(seed), GaussianNoise(seed.to_bytes(32)))


def everyone(batch: int, drawn: NDArray[np.str_]) -> NDArray[np.bool_]:
    return np.ones(len(drawn), dtype=bool)


def test_plain_training_learns_what_can_be_learned() -> None:
    model = build_model(seed=1)
    data = faces(60, 2)
    train_plain(model, data, PlainRecipe(4, 16, 0.002, 0.0), randomness(), everyone)
    # Flips swap the classes' sides, so only the upper pair is told from the lower one: chance is 1/4.
    assert (predict(model, data.images).argmax(1) == data.label).mean() > 0.45


@pytest.mark.parametrize("kind", ["private", "plain"])
def test_permission_is_asked_before_every_batch_with_exactly_the_drawn(kind: str) -> None:
    asked: list[tuple[int, NDArray[np.str_]]] = []

    def note(batch: int, drawn: NDArray[np.str_]) -> NDArray[np.bool_]:
        asked.append((batch, drawn))
        return np.ones(len(drawn), dtype=bool)

    data = faces()
    if kind == "private":
        train_private(build_model(), data, PRIVATE, randomness(), note)
        assert [batch for batch, _ in asked] == [0, 1, 2, 3]
        assert all(len(set(drawn)) == len(drawn) for _, drawn in asked)
    else:
        train_plain(build_model(), data, PlainRecipe(2, 10, 0.01, 0.0), randomness(), note)
        assert [batch for batch, _ in asked] == list(range(8))
        for epoch in (asked[:4], asked[4:]):
            assert sorted(np.concatenate([d for _, d in epoch])) == sorted(data.person)


@pytest.mark.parametrize("kind", ["private", "plain"])
def test_whoever_is_refused_leaves_no_trace_in_the_model(kind: str) -> None:
    """Their pictures are replaced by other pictures: the model must come out bit for bit the same."""
    data = faces()
    gone = "p0003"
    changed = data.images.copy()
    changed[data.person == gone] = 255 - changed[data.person == gone]
    other = Faces(changed, data.label, data.person, data.face_id)

    def without(batch: int, drawn: NDArray[np.str_]) -> NDArray[np.bool_]:
        return np.asarray(drawn != gone)

    results = []
    for table in (data, other):
        model = build_model()
        if kind == "private":
            train_private(model, table, PRIVATE, randomness(), without)
        else:
            train_plain(model, table, PlainRecipe(1, 8, 0.01, 0.0), randomness(), without)
        results.append(w.sha256(w.from_model(model)))
    assert results[0] == results[1]


def test_a_round_in_which_everyone_withdrew_is_pure_noise_and_not_an_error() -> None:
    def nobody(batch: int, drawn: NDArray[np.str_]) -> NDArray[np.bool_]:
        return np.zeros(len(drawn), dtype=bool)

    model = build_model()
    before = w.from_model(model)
    train_private(model, faces(), PRIVATE, randomness(), nobody)
    after = w.from_model(model)
    assert max(float(np.abs(after[k] - before[k]).max()) for k in after) < 1e-6


def test_same_randomness_same_model_and_other_randomness_another() -> None:
    models = [build_model() for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        train_private(model, faces(), PRIVATE, randomness(seed), everyone)
    a, b, c = (w.sha256(w.from_model(m)) for m in models)
    assert a == b != c


@pytest.mark.parametrize("recipe", [PlainRecipe(0, 8, 0.1, 0.0), PlainRecipe(1, 8, 0.0, 0.0)])
def test_an_impossible_recipe_is_refused(recipe: PlainRecipe) -> None:
    with pytest.raises(SettingsError, match="Plain training needs"):
        train_plain(build_model(), faces(4), recipe, randomness(), everyone)


def test_augmentation_moves_pictures_a_little() -> None:
    image = torch.zeros(64, 1, 48, 48)
    image[:, :, 20:28, 20:28] = 1.0
    generator = torch.Generator().manual_seed(0)
    moved = augment(image, generator, shift=3.0)
    assert moved.shape == image.shape
    weight = moved.sum((1, 2, 3))
    assert torch.allclose(weight, torch.full_like(weight, 64.0), atol=1.0)
    centre = (moved.sum((1, 2)) * torch.arange(48)).sum(1) / weight
    assert float(centre.min()) >= 20.4
    assert float(centre.max()) <= 26.6
    assert float(centre.std()) > 0.5


def test_augmentation_without_motion_only_flips() -> None:
    image = torch.rand(40, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    out = augment(image, torch.Generator().manual_seed(0), shift=0.0)
    kept = sum(torch.allclose(o, i, atol=1e-4) for o, i in zip(out, image, strict=True))
    flipped = sum(torch.allclose(o, i.flip(-1), atol=1e-4) for o, i in zip(out, image, strict=True))
    assert kept + flipped == 40
    assert 8 < flipped < 32


def test_predictions_are_probabilities_and_none_for_nobody() -> None:
    probabilities = predict(build_model(), noise_faces(5, 3)["images"], batch=4)
    assert probabilities.shape == (15, 4)
    assert np.allclose(probabilities.sum(1), 1, atol=1e-5)
    assert predict(build_model(), np.empty((0, 48, 48), np.uint8)).shape == (0, 4)
