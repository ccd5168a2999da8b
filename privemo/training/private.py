"""Training with differential privacy for each person."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from privemo.dp import PersonBatch, PersonIndex, PrivateStepper, sample_people
from privemo.faces import Faces
from privemo.machine import tuned
from privemo.orders import PrivateRecipe
from privemo.training.augmentation import AUGMENTATIONS
from privemo.training.chance import PermittedNow, Randomness
from privemo.training.proximal import keep_near

__all__ = ["IMAGES_AT_ONCE", "clipped_sum", "draw_rows", "train_private"]

IMAGES_AT_ONCE = 256
"""About how many images stand in memory together, views counted; a person with more stays whole. Larger parts
were measured to be no faster and to take up to four times the memory."""

IntArray = NDArray[np.int64]


def train_private(
    model: nn.Module,
    faces: Faces,
    recipe: PrivateRecipe,
    randomness: Randomness,
    permitted_now: PermittedNow,
) -> None:
    """Train in place with differential privacy for each person.

    Freed memory is kept for the next step meanwhile (`privemo.machine`); threads stay as many as they are.

    Args:
        model: trained in place; every layer keeps people apart.
        faces: what the gate admitted. People without a face do not exist here.
        recipe: checked by `privemo.orders.check_order` before it comes here.
        randomness: of the draws and of the noise; both must stay secret.
        permitted_now: asked before every step about the people drawn for it.

    Raises:
        SettingsError: the recipe or the model cannot be trained privately.
    """
    with _stepper(model, faces, recipe, randomness) as stepper:
        for people in _draws(faces, recipe, randomness, permitted_now):
            stepper.step(people)


def clipped_sum(
    model: nn.Module,
    faces: Faces,
    recipe: PrivateRecipe,
    randomness: Randomness,
    permitted_now: PermittedNow,
) -> dict[str, NDArray[np.float32]]:
    """The one step of a round in which stores share the noise, up to where noise comes in.

    Args:
        model: where gradients are taken; it does not move.
        faces: what the gate admitted.
        recipe: of one step, checked.
        randomness: of the draws; its noise is not used.
        permitted_now: asked before the step about the people drawn for it.

    Returns:
        By parameter the sum of the clipped gradients of the people drawn, **not noised**: nothing of it may
        leave before it was.

    Raises:
        SettingsError: the recipe or the model cannot be trained privately.
    """
    with _stepper(model, faces, recipe, randomness) as stepper:
        (people,) = _draws(faces, recipe, randomness, permitted_now)
        return {name: total.numpy() for name, total in stepper.clipped_sum(people).items()}


@contextmanager
def _stepper(
    model: nn.Module, faces: Faces, recipe: PrivateRecipe, randomness: Randomness
) -> Iterator[PrivateStepper]:
    stepper = PrivateStepper(
        model,
        _optimizer(model, recipe),
        noise_multiplier=recipe.noise_multiplier,
        max_grad_norm=recipe.max_grad_norm,
        normaliser=recipe.normaliser,
        noise=randomness.noise,
        precision=recipe.precision,
    )
    try:
        with tuned(torch.get_num_threads()):
            stepper.probe(_shape(faces))
            yield stepper
    finally:
        stepper.close()


def _draws(
    faces: Faces, recipe: PrivateRecipe, randomness: Randomness, permitted_now: PermittedNow
) -> Iterator[Iterator[PersonBatch]]:
    """For each step the people drawn, and still permitted, in parts."""
    index = PersonIndex.of(faces.person)
    parts = _Parts(faces, recipe, randomness.jitter())
    for step in range(recipe.steps):
        drawn = sample_people(len(index), recipe.sample_rate, randomness.sampling)
        drawn = drawn[permitted_now(step, index.people[drawn])]
        rows, owner = draw_rows(index, drawn, recipe.images_per_person, randomness.sampling)
        yield parts.of(rows, owner)


def _shape(faces: Faces) -> tuple[int, int, int]:
    """Of a picture, (channels, height, width)."""
    high, wide, *channels = faces.images.shape[1:]
    return (channels[0] if channels else 1, high, wide)


def _optimizer(model: nn.Module, recipe: PrivateRecipe) -> torch.optim.Optimizer:
    """Post-processing of the noised gradient, so any will do."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "adam":
        optimizer = torch.optim.Adam(trained, recipe.lr, betas=(recipe.momentum, 0.999))
    else:
        optimizer = torch.optim.SGD(trained, recipe.lr, momentum=recipe.momentum)
    keep_near(optimizer, recipe.proximal)
    return optimizer


def draw_rows(
    index: PersonIndex, drawn: IntArray, most: int, rng: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """The rows of a step: of each drawn person all, or `most` of them without replacement.

    Args:
        index: which rows belong to whom.
        drawn: (d,) positions of people in `index`.
        most: images of one person in this step, at least 1.
        rng: of the choice.

    Returns:
        (rows, owner), both of shape (n,): owner is the position in `drawn`, ascending.
    """
    counts = index.start[drawn + 1] - index.start[drawn]
    owner = np.repeat(np.arange(len(drawn), dtype=np.int64), counts)
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = index.order[np.repeat(index.start[drawn], counts) + rank]
    # A random order within each person, of which the first `most` are taken.
    chosen = np.lexsort((rng.random(len(rows)), owner))[rank < most]
    return rows[chosen], owner[chosen]


class _Parts:
    """Pictures of the rows of a step, augmented, in parts of whole people."""

    def __init__(self, faces: Faces, recipe: PrivateRecipe, jitter: torch.Generator) -> None:
        self._pixels = torch.from_numpy(np.ascontiguousarray(faces.images))
        self._labels = torch.from_numpy(faces.label)
        self._augment = AUGMENTATIONS[recipe.augment]
        self._views, self._jitter = recipe.views, jitter

    def of(self, rows: IntArray, owner: IntArray) -> Iterator[PersonBatch]:
        """One part after the other, so that only one stands in memory."""
        for low, high in _cuts(owner, IMAGES_AT_ONCE // self._views):
            part = torch.from_numpy(rows[low:high])
            who = torch.from_numpy(owner[low:high] - owner[low])
            if self._views > 1:
                part, who = (x.repeat_interleave(self._views) for x in (part, who))
            yield PersonBatch(
                self._augment(self._pixels[part], self._jitter),
                self._labels[part],
                who,
                int(who[-1]) + 1,
            )


def _cuts(owner: IntArray, most: int) -> Iterator[tuple[int, int]]:
    """Where to cut sorted rows, so that a part has about `most` and nobody is torn apart."""
    ends = np.flatnonzero(np.diff(owner, append=-1)) + 1  # after the last row of each person
    low = 0
    while low < len(owner):
        fits = ends[ends <= low + most]
        # Someone with more rows than that is a part of their own.
        high = int(fits[-1]) if len(fits) and fits[-1] > low else int(ends[ends > low][0])
        yield low, high
        low = high
