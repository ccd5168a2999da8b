"""Training without privacy: people who do not exist, and comparisons."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from privemo.errors import SettingsError
from privemo.faces import Faces
from privemo.orders import PlainRecipe
from privemo.training.augmentation import AUGMENTATIONS
from privemo.training.chance import PermittedNow, Randomness
from privemo.training.proximal import keep_near

__all__ = ["MovingAverage", "plain_optimizer", "train_plain", "warm_cosine"]


def train_plain(
    model: nn.Module,
    faces: Faces,
    recipe: PlainRecipe,
    randomness: Randomness,
    permitted_now: PermittedNow,
) -> None:
    """Train in place without privacy, on shuffled batches; the model becomes the moving average, if any.

    With `recipe.teachers` so many networks are trained first, each from the same start by draws of its own.
    The model then never sees a label: it learns what they say, on average, of the pictures that it is shown
    (born-again networks, Furlanello et al. 2018, arXiv 1805.04770; consistent teachers, Beyer et al. 2022,
    arXiv 2106.05237). That takes the sharpness off labels that people disagree about.

    Args:
        model: trained in place.
        faces: what the gate admitted.
        recipe: checked by `privemo.orders.check_order` before it comes here.
        randomness: of the shuffle, the pictures' changes and the mixing.
        permitted_now: asked before every batch about the people in it, teachers' batches first.

    Raises:
        SettingsError: no epoch, an empty batch or no learning rate.
    """
    if recipe.epochs < 1 or recipe.batch < 1 or not recipe.lr > 0:
        raise SettingsError("Plain training needs epochs >= 1, batch >= 1 and a learning rate > 0.")
    steps = recipe.epochs * _batches(faces, recipe)
    teachers: list[nn.Module] = []
    for number in range(recipe.teachers):
        teacher = copy.deepcopy(model)
        _train(teacher, faces, recipe, randomness, permitted_now, (), number * steps)
        teachers.append(teacher.eval().to(memory_format=torch.channels_last))  # type: ignore[call-overload]
    _train(model, faces, recipe, randomness, permitted_now, teachers, recipe.teachers * steps)


def _train(
    model: nn.Module,
    faces: Faces,
    recipe: PlainRecipe,
    randomness: Randomness,
    permitted_now: PermittedNow,
    teachers: Sequence[nn.Module],
    step: int,
) -> None:
    """One network, whose first batch has the number `step`; by labels where it has no teachers."""
    pixels, labels = torch.from_numpy(faces.images), torch.from_numpy(faces.label)
    change, jitter = AUGMENTATIONS[recipe.augment], randomness.jitter()
    batches = _batches(faces, recipe)
    model.train()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = plain_optimizer(model, recipe)
    keep_near(optimizer, recipe.proximal)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_cosine(recipe.epochs * batches))
    average = MovingAverage(model, recipe.ema)
    for _ in range(recipe.epochs):
        for rows in np.array_split(randomness.sampling.permutation(len(faces)), batches):
            rows = rows[permitted_now(step, faces.person[rows])]
            if len(rows):
                x, y = _mixed(
                    change(pixels[rows], jitter), labels[rows], recipe.mixup, randomness.sampling
                )
                x = x.contiguous(memory_format=torch.channels_last)
                optimizer.zero_grad(set_to_none=True)
                _loss(model, x, y, recipe, teachers).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                average.take()
            schedule.step()
            step += 1
    average.put_back()
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def _batches(faces: Faces, recipe: PlainRecipe) -> int:
    """Batches of a pass; at least one."""
    return max(1, math.ceil(len(faces) / recipe.batch))


def _loss(
    model: nn.Module, x: Tensor, y: Tensor, recipe: PlainRecipe, teachers: Sequence[nn.Module]
) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        logits = model(x)
        if teachers:
            with torch.no_grad():
                y = torch.stack([teacher(x).float().softmax(1) for teacher in teachers]).mean(0)
    smoothing = 0.0 if teachers else recipe.label_smoothing  # theirs is in what they say already
    return F.cross_entropy(logits.float(), y, label_smoothing=smoothing)


def _mixed(
    x: Tensor, labels: Tensor, alpha: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Pictures mixed in pairs and labels as shares; without mixing, both as they are."""
    if alpha == 0:
        return x, labels
    share = torch.from_numpy(rng.beta(alpha, alpha, len(x)).astype(np.float32))
    other = torch.from_numpy(rng.permutation(len(x)))
    one_hot = F.one_hot(labels, 4).float()
    x = torch.lerp(x[other], x, share.view(-1, 1, 1, 1))
    return x, torch.lerp(one_hot[other], one_hot, share.view(-1, 1))


def plain_optimizer(model: nn.Module, recipe: PlainRecipe) -> torch.optim.Optimizer:
    """Decay pulls on matrices and filters; a bias or a scale of one channel has nothing to shrink."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, recipe.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, recipe.lr)


class MovingAverage:
    """A moving average of the weights (Polyak & Juditsky 1992), which forgets its beginning fast.

    Args:
        model: whose weights.
        decay: 0 for no average at all.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._weights = list(model.parameters())
        self._average = [p.detach().clone() for p in self._weights] if decay else []
        self._decay, self._taken = decay, 0

    def take(self) -> None:
        """Take the present weights in."""
        if self._average:
            self._taken += 1
            decay = min(self._decay, (1 + self._taken) / (10 + self._taken))
            torch._foreach_lerp_(self._average, [p.detach() for p in self._weights], 1 - decay)

    def put_back(self) -> None:
        """Make the average the model."""
        if self._average:
            for p, average in zip(self._weights, self._average, strict=True):
                p.data.copy_(average)


def warm_cosine(total: int) -> Callable[[int], float]:
    """A rate that rises over the first tenth of the steps and then falls to zero as a cosine."""
    warm = max(1, total // 10)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))

    return factor
