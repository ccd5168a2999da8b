"""Training: asks before every batch, and learns."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional as F

from privemo import machine
from privemo import weights as w
from privemo.dp import GaussianNoise, PersonBatch, PersonIndex, PrivateStepper
from privemo.errors import SettingsError
from privemo.faces import Faces
from privemo.models import build_model, to_input
from privemo.training import (
    PlainRecipe,
    PrivateRecipe,
    Randomness,
    predict,
    private,
    train_plain,
    train_private,
)
from privemo.training.plain import _loss, _mixed, plain_optimizer
from privemo.training.predicting import _sized
from privemo.training.private import _cuts, draw_rows
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


def small(seed: int = 0) -> torch.nn.Module:
    """A small network, where which one it is does not matter."""
    return build_model("gray-cnn", seed=seed)


def test_plain_training_learns_what_can_be_learned() -> None:
    model = build_model(seed=1)
    data = faces(60, 2)
    train_plain(model, data, PlainRecipe(4, 16, 0.002, 0.0), randomness(), everyone)
    # Flips swap the classes' sides, so only the upper pair is told from the lower one: chance is 1/4.
    assert (predict(model, data.images).argmax(1) == data.label).mean() > 0.45


def after(recipe: PrivateRecipe | PlainRecipe) -> torch.Tensor:
    """All weights after a round by this recipe, in a row."""
    model = small(seed=1)
    if isinstance(recipe, PrivateRecipe):
        train_private(model, faces(), recipe, randomness(), everyone)
    else:
        train_plain(model, faces(), recipe, randomness(), everyone)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_a_private_step_is_pulled_back_to_where_the_round_began() -> None:
    """Two steps: the first knows no pull, the second one of mu (w - start), after the noise."""
    start = torch.cat([p.detach().flatten() for p in small(seed=1).parameters()])
    recipe = dataclasses.replace(PRIVATE, steps=1)
    first = after(recipe)
    assert torch.equal(first, after(dataclasses.replace(recipe, proximal=3.0)))
    two = dataclasses.replace(PRIVATE, steps=2)
    pulled = after(dataclasses.replace(two, proximal=3.0)) - after(two)
    assert torch.allclose(pulled, -PRIVATE.lr * 3.0 * (first - start), atol=1e-6)
    assert float(pulled.norm()) > 1e-3


def test_plain_training_is_pulled_back_too() -> None:
    start = torch.cat([p.detach().flatten() for p in small(seed=1).parameters()])
    free = PlainRecipe(2, 10, 0.01, 0.0, optimizer="sgd")
    held = dataclasses.replace(free, proximal=10.0)
    assert (after(held) - start).norm() < 0.8 * (after(free) - start).norm()


@pytest.mark.parametrize("kind", ["private", "plain"])
def test_permission_is_asked_before_every_batch_with_exactly_the_drawn(kind: str) -> None:
    asked: list[tuple[int, NDArray[np.str_]]] = []

    def note(batch: int, drawn: NDArray[np.str_]) -> NDArray[np.bool_]:
        asked.append((batch, drawn))
        return np.ones(len(drawn), dtype=bool)

    data = faces()
    if kind == "private":
        train_private(small(), data, PRIVATE, randomness(), note)
        assert [batch for batch, _ in asked] == [0, 1, 2, 3]
        assert all(len(set(drawn)) == len(drawn) for _, drawn in asked)
    else:
        train_plain(small(), data, PlainRecipe(2, 10, 0.01, 0.0), randomness(), note)
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
        model = small()
        if kind == "private":
            train_private(model, table, PRIVATE, randomness(), without)
        else:
            train_plain(model, table, PlainRecipe(1, 8, 0.01, 0.0), randomness(), without)
        results.append(w.sha256(w.from_model(model)))
    assert results[0] == results[1]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is tuned")
def test_private_training_is_tuned_whoever_calls_it() -> None:
    """Freed memory is kept while it trains and not longer; threads stay as many as the caller set."""
    seen: list[tuple[bool, int]] = []

    def note(batch: int, drawn: NDArray[np.str_]) -> NDArray[np.bool_]:
        seen.append((machine._keeping, torch.get_num_threads()))
        return np.zeros(len(drawn), dtype=bool)

    threads = torch.get_num_threads()
    assert not machine._keeping
    train_private(small(), faces(), PRIVATE, randomness(), note)
    assert seen == [(True, threads)] * 4
    assert not machine._keeping


def test_a_round_in_which_everyone_withdrew_is_pure_noise_and_not_an_error() -> None:
    def nobody(batch: int, drawn: NDArray[np.str_]) -> NDArray[np.bool_]:
        return np.zeros(len(drawn), dtype=bool)

    model = small()
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


# -- the rows of a step ------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    most=st.integers(1, 10),
    seed=st.integers(0, 99),
)
def test_of_each_drawn_person_at_most_so_many_images_and_none_twice(
    counts: list[int], most: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    person = rng.permutation(np.repeat([f"p{i:02}" for i in range(len(counts))], counts))
    index = PersonIndex.of(person)
    drawn = np.flatnonzero(rng.random(len(index)) < 0.6)
    rows, owner = draw_rows(index, drawn, most, rng)
    assert len(set(rows.tolist())) == len(rows)
    assert (np.diff(owner) >= 0).all()
    assert np.array_equal(person[rows], index.people[drawn][owner])
    expected = [min(most, counts[i]) for i in drawn]
    assert np.bincount(owner, minlength=len(drawn)).tolist() == expected


def test_every_image_of_a_person_gets_its_turn() -> None:
    index = PersonIndex.of(np.array(["a"] * 5))
    rng = np.random.default_rng(0)
    seen = [int(draw_rows(index, np.array([0]), 1, rng)[0][0]) for _ in range(500)]
    assert min(np.bincount(seen, minlength=5)) > 60


@settings(max_examples=40, deadline=None)
@given(counts=st.lists(st.integers(1, 30), max_size=20), most=st.integers(1, 40))
def test_parts_hold_whole_people_and_all_of_them(counts: list[int], most: int) -> None:
    owner = np.repeat(np.arange(len(counts)), counts)
    cuts = list(_cuts(owner, most))
    assert [low for low, _ in cuts] == [0, *(high for _, high in cuts)][: len(cuts)]
    assert (cuts[-1][1] if cuts else 0) == len(owner)
    for low, high in cuts:
        assert low < high
        assert low == 0 or owner[low] != owner[low - 1]
        assert high - low <= most or len(set(owner[low:high])) == 1
    for (low, high), _ in pairwise(cuts):  # the next person would not have fitted in
        assert high - low + counts[owner[high]] > most


def test_views_are_averaged_before_the_clip() -> None:
    """Copies that are all alike change nothing: not the direction, and not how far a person reaches.

    One step: later ones amplify the last bits, where a ReLU or a maximum tips over.
    """
    moved = []
    for views in (1, 3):
        recipe = dataclasses.replace(PRIVATE, steps=1, views=views, augment="none")
        model = small()
        before = w.from_model(model)
        train_private(model, faces(), recipe, randomness(), everyone)
        after = w.from_model(model)
        moved.append(np.concatenate([(after[k] - before[k]).ravel() for k in after]))
    assert np.linalg.norm(moved[0] - moved[1]) < 1e-4 * np.linalg.norm(moved[0])


def test_no_step_holds_more_of_a_person_than_the_recipe_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[list[int]] = []

    class Counting(PrivateStepper):
        def step(self, batches: Iterable[PersonBatch]) -> None:
            parts = list(batches)
            sizes.append([int(n) for part in parts for n in part.counts])
            super().step(parts)

    monkeypatch.setattr(private, "PrivateStepper", Counting)
    recipe = dataclasses.replace(PRIVATE, views=2, images_per_person=3)
    train_private(small(), faces(12, 5), recipe, randomness(), everyone)
    assert len(sizes) == 4
    assert {n for step in sizes for n in step} == {6}


@pytest.mark.parametrize(
    "change",
    [pytest.param({"optimizer": "adam"}, marks=pytest.mark.slow), {"precision": "bfloat16"}],
)
def test_other_private_recipes_move_the_model_too(change: dict[str, str]) -> None:
    recipe = dataclasses.replace(PRIVATE, **change)  # type: ignore[arg-type]
    model = build_model()
    before = w.from_model(model)
    train_private(model, faces(), recipe, randomness(), everyone)
    moved = {k: a - before[k] for k, a in w.from_model(model).items()}
    assert all(np.isfinite(a).all() for a in moved.values())
    plain = build_model()
    train_private(plain, faces(), PRIVATE, randomness(), everyone)
    other = {k: a - before[k] for k, a in w.from_model(plain).items()}
    along = sum(float(np.vdot(moved[k], other[k])) for k in moved)
    assert along > 0  # another way down the same slope
    assert any(not np.array_equal(moved[k], other[k]) for k in moved)


# -- without privacy -----------------------------------------------------------------------------


def test_the_average_of_one_step_lies_between_start_and_end() -> None:
    start = w.from_model(small())
    ends = []
    for ema in (0.0, 0.9):
        model = small()
        recipe = PlainRecipe(1, 100, 0.01, 0.0, ema=ema)
        train_plain(model, faces(), recipe, randomness(), everyone)
        ends.append(w.from_model(model))
    for name, last in ends[0].items():
        expected = (2 * start[name] + 9 * last) / 11  # a young average forgets fast: decay 2/11
        assert np.allclose(ends[1][name], expected, atol=1e-6)
    assert any(not np.array_equal(start[k], ends[0][k]) for k in start)


def test_mixing_takes_faces_and_labels_by_the_same_share() -> None:
    x = torch.eye(8).view(8, 1, 8, 1)
    labels = torch.arange(8) % 4
    mixed, shares = _mixed(x, labels, 0.4, np.random.default_rng(0))
    assert torch.allclose(shares.sum(1), torch.ones(8))
    for row in range(8):
        expected = torch.zeros(4)
        for source, weight in enumerate(mixed[row].flatten()):
            expected[labels[source]] += weight
        assert torch.allclose(shares[row], expected, atol=1e-6)
    assert float(shares.max(1).values.min()) < 0.99
    same, kept = _mixed(x, labels, 0.0, np.random.default_rng(0))
    assert same is x
    assert kept is labels


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"optimizer": "sgd", "lr": 0.02}, marks=pytest.mark.slow),
        {"precision": "bfloat16"},
        pytest.param({"mixup": 0.2}, marks=pytest.mark.slow),
        pytest.param({"teachers": 1}, marks=pytest.mark.slow),
    ],
)
def test_other_plain_recipes_learn_too(change: dict[str, Any]) -> None:
    model, data = build_model(seed=1), faces(60, 2)
    recipe = dataclasses.replace(PlainRecipe(4, 16, 0.002, 0.0, augment="none"), **change)
    train_plain(model, data, recipe, randomness(), everyone)
    assert (predict(model, data.images).argmax(1) == data.label).mean() > 0.45
    assert all(a.dtype == np.float32 for a in w.from_model(model).values())


def test_a_model_with_teachers_learns_what_they_say_and_not_the_labels() -> None:
    student, teachers = build_model(seed=1), [build_model(seed=n).eval() for n in (2, 3)]
    x = torch.randn(6, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    recipe = PlainRecipe(1, 6, 0.01, 0.0, label_smoothing=0.1, teachers=2)
    labels = torch.arange(6) % 4
    found = _loss(student, x, labels, recipe, teachers)
    said = torch.stack([teacher(x).softmax(1) for teacher in teachers]).mean(0)
    expected = -(said * student(x).log_softmax(1)).sum(1).mean()
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.equal(found, _loss(student, x, 3 - labels, recipe, teachers))
    found.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None for teacher in teachers for p in teacher.parameters())


def test_teachers_are_trained_first_and_ask_before_each_of_their_batches_too() -> None:
    asked: list[int] = []

    def first_ten(batch: int, drawn: NDArray[np.str_]) -> NDArray[np.bool_]:
        asked.append(batch)
        return np.array([int(person[1:]) < 10 for person in drawn])

    ends = []
    for teachers in (0, 2):
        asked.clear()
        model, data = build_model(seed=1), faces()
        recipe = PlainRecipe(2, 16, 0.002, 0.0, teachers=teachers)
        train_plain(model, data, recipe, randomness(), first_ten)
        assert asked == list(range((1 + teachers) * 2 * 3))
        assert all(p.requires_grad for p in model.parameters())
        ends.append(w.from_model(model))
    assert any(not np.array_equal(ends[0][k], ends[1][k]) for k in ends[0])


def test_decay_pulls_on_filters_and_spares_what_has_one_number_a_channel() -> None:
    groups = plain_optimizer(build_model(), PlainRecipe(1, 8, 0.1, 0.3)).param_groups
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    assert all(p.ndim > 1 for p in groups[0]["params"])
    assert all(p.ndim == 1 for p in groups[1]["params"])


# -- predictions ---------------------------------------------------------------------------------


def test_a_face_and_its_mirror_image_are_read_alike() -> None:
    model, images = build_model(seed=2), noise_faces(5, 3)["images"]
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    once = [predict(model, x, flip=False, zoom=0) for x in (images, mirrored)]
    assert np.abs(once[0] - once[1]).max() > 1e-3
    assert np.allclose(*(predict(model, x) for x in (images, mirrored)), atol=1e-6)
    both = predict(model, images, zoom=0)
    assert np.allclose(both, (once[0] + once[1]) / 2, atol=1e-6)


def test_a_face_is_read_at_three_sizes_and_at_one_where_that_is_asked() -> None:
    x = to_input(torch.from_numpy(noise_faces(5, 3)["images"]))
    larger, smaller = _sized(x, 2.0), _sized(x, 0.5)
    # Twice as large, a middle of half the side fills the picture; half as large, borders are repeated.
    inner = F.interpolate(x[..., 12:36, 12:36], size=(48, 48), mode="bilinear")
    assert torch.allclose(larger[..., 1:-1, 1:-1], inner[..., 1:-1, 1:-1], atol=1e-4)
    assert torch.allclose(smaller[..., :11, 24], x[..., 0, 24:26].mean(-1)[..., None], atol=1e-4)
    model, images = build_model(seed=2), noise_faces(5, 3)["images"]
    model.eval()
    with torch.no_grad():
        sizes = [model(_sized(x, size)).softmax(1).numpy() for size in (1.0, 1.2, 1 / 1.2)]
    said = predict(model, images, flip=False, zoom=0.2)
    assert np.allclose(said, np.mean(sizes, axis=0), atol=1e-5)
    assert np.allclose(predict(model, images, flip=False, zoom=0), sizes[0], atol=1e-5)


def test_predictions_are_probabilities_and_none_for_nobody() -> None:
    probabilities = predict(small(), noise_faces(5, 3)["images"], batch=4)
    assert probabilities.shape == (15, 4)
    assert np.allclose(probabilities.sum(1), 1, atol=1e-5)
    assert predict(small(), np.empty((0, 48, 48), np.uint8)).shape == (0, 4)
