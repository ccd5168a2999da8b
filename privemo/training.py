"""Training and evaluating a model on the faces of one store.

`train_private` and `train_plain` take faces that a consent gate let through, and ask again before
every batch (`PermittedNow`), so that a withdrawal acts before the next one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from privemo.dp import GaussianNoise, PersonIndex, PrivateStepper, sample_people
from privemo.errors import SettingsError
from privemo.faces import Faces
from privemo.machine import keep_freed_memory
from privemo.models import to_input
from privemo.orders import PlainRecipe, PrivateRecipe

__all__ = [
    "PermittedNow",
    "PlainRecipe",
    "PrivateRecipe",
    "augment",
    "predict",
    "train_plain",
    "train_private",
]

PermittedNow = Callable[[int, NDArray[np.str_]], NDArray[np.bool_]]
"""Called with the number of a batch and the people drawn for it; answers who may still be used."""


@dataclass(frozen=True)
class Randomness:
    """Two independent sources: who is drawn and how pictures are jittered; and the noise."""

    sampling: np.random.Generator
    noise: GaussianNoise


def train_private(
    model: nn.Module,
    faces: Faces,
    recipe: PrivateRecipe,
    randomness: Randomness,
    permitted_now: PermittedNow,
) -> None:
    """Train in place with differential privacy for each person.

    Raises:
        SettingsError: the recipe or the model cannot be trained privately.
    """
    index = PersonIndex.of(faces.person)
    images, labels = torch.from_numpy(faces.images), torch.from_numpy(faces.label)
    jitter = torch.Generator().manual_seed(int(randomness.sampling.integers(2**62)))
    stepper = PrivateStepper(
        model,
        lr=recipe.lr,
        momentum=recipe.momentum,
        noise_multiplier=recipe.noise_multiplier,
        max_grad_norm=recipe.max_grad_norm,
        normaliser=recipe.normaliser,
        noise=randomness.noise,
    )
    try:
        for step in range(recipe.steps):
            drawn = sample_people(len(index), recipe.sample_rate, randomness.sampling)
            drawn = drawn[permitted_now(step, index.people[drawn])]
            people = []
            for position in drawn:
                rows = torch.from_numpy(index.rows(int(position)))
                people.append((augment(to_input(images[rows]), jitter, shift=2), labels[rows]))
            stepper.step(people)
    finally:
        stepper.close()


def train_plain(
    model: nn.Module,
    faces: Faces,
    recipe: PlainRecipe,
    randomness: Randomness,
    permitted_now: PermittedNow,
) -> None:
    """Train in place without privacy: AdamW, shuffled batches, flips and small affine jitter."""
    if recipe.epochs < 1 or recipe.batch < 1 or not recipe.lr > 0:
        raise SettingsError("Plain training needs epochs >= 1, batch >= 1 and a learning rate > 0.")
    images, labels = torch.from_numpy(faces.images), torch.from_numpy(faces.label)
    jitter = torch.Generator().manual_seed(int(randomness.sampling.integers(2**62)))
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay
    )
    batches = max(1, math.ceil(len(faces) / recipe.batch))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warm_cosine(recipe.epochs * batches))
    model.train()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    step = 0
    for _ in range(recipe.epochs):
        for rows in np.array_split(randomness.sampling.permutation(len(faces)), batches):
            rows = rows[permitted_now(step, faces.person[rows])]
            if len(rows):
                x = augment(to_input(images[rows]), jitter, shift=3, degrees=12.0, scale=0.1)
                optimizer.zero_grad(set_to_none=True)
                F.cross_entropy(model(x), labels[rows], label_smoothing=0.05).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            schedule.step()
            step += 1
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def _warm_cosine(total: int) -> Callable[[int], float]:
    """A rate that rises over the first tenth of the steps and then falls to zero as a cosine."""
    warm = max(1, total // 10)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))

    return factor


def augment(
    images: Tensor,
    generator: torch.Generator,
    *,
    shift: float = 3.0,
    degrees: float = 0.0,
    scale: float = 0.0,
) -> Tensor:
    """Flip, shift, turn and scale each image at random.

    Args:
        images: (n, channels, s, s).
        generator: source of randomness.
        shift: largest shift in pixels, in x and y.
        degrees: largest turn.
        scale: largest change of scale, as a fraction.

    Returns:
        Images of the same shape; borders are mirrored.
    """
    n, size = len(images), images.shape[-1]

    def uniform(bound: float) -> Tensor:
        return (torch.rand(n, generator=generator) * 2 - 1) * bound

    flip = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    turn, zoom = uniform(math.radians(degrees)), 1 + uniform(scale)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = flip * zoom * turn.cos()
    theta[:, 0, 1] = -zoom * turn.sin()
    theta[:, 1, 0] = flip * zoom * turn.sin()
    theta[:, 1, 1] = zoom * turn.cos()
    theta[:, 0, 2] = uniform(2 * shift / size)
    theta[:, 1, 2] = uniform(2 * shift / size)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


@torch.no_grad()
def predict(
    model: nn.Module, images: NDArray[np.uint8], *, batch: int = 256
) -> NDArray[np.float32]:
    """Probabilities (n, 4) of uint8 images (n, 48, 48) or (n, 48, 48, 3)."""
    keep_freed_memory()
    model.eval()
    parts = [
        model(to_input(torch.from_numpy(images[i : i + batch]))).softmax(1)
        for i in range(0, len(images), batch)
    ]
    if not parts:
        return np.empty((0, 4), dtype=np.float32)
    return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)
