"""One private step with the person as the unit.

Opacus computes gradients image by image. Here those of one person are summed *before* the clip, so
that all images of a person together move the model by at most the clipping norm (group privacy by
construction, not by multiplying epsilon). Opacus's own `DPOptimizer` then clips and sums; the noise
comes from `privemo.dp.noise`.

| edge case | what happens |
|---|---|
| nobody was sampled | a step of pure noise; skipping it would drop a step that was accounted for |
| a gradient that is NaN or infinite | that person adds nothing to this step; nobody else is touched |
| a person with many images | their gradients are computed in parts, summed whole, clipped once |
| dividing by the batch | by a public constant, never by the private number drawn (Opacus issue 819) |
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from opacus.validators import ModuleValidator
from torch import Tensor, nn
from torch.nn import functional as F

from privemo.dp.noise import GaussianNoise
from privemo.errors import SettingsError

__all__ = ["PersonIndex", "PrivateStepper", "sample_people"]

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class PersonIndex:
    """Which rows belong to which person.

    Attributes:
        people: (p,) ids, sorted.
        order: (n,) rows, grouped by person.
        start: (p + 1,) where each person's rows begin in `order`.
    """

    people: NDArray[np.str_]
    order: IntArray
    start: IntArray

    @classmethod
    def of(cls, person: NDArray[np.str_]) -> PersonIndex:
        """Group the rows of a column of person ids."""
        people, who, counts = np.unique(person, return_inverse=True, return_counts=True)
        start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(people, np.argsort(who, kind="stable").astype(np.int64), start)

    def __len__(self) -> int:
        return len(self.people)

    def rows(self, position: int) -> IntArray:
        """The rows of the person at `position`."""
        return self.order[self.start[position] : self.start[position + 1]]


def sample_people(people: int, sample_rate: float, rng: np.random.Generator) -> IntArray:
    """Poisson sampling: each of `people` joins independently with probability `sample_rate`.

    The result may be empty. Shuffling and cutting into batches is *not* this, and the accountants'
    bounds would not hold for it.
    """
    return np.flatnonzero(rng.random(people) < sample_rate).astype(np.int64)


class PrivateStepper:
    """Takes private steps on a model.

    Args:
        model: every layer keeps people apart (no batch normalisation).
        lr: learning rate of plain SGD.
        momentum: of plain SGD; post-processing of released gradients, so free of privacy cost.
        noise_multiplier: standard deviation of the noise over `max_grad_norm`.
        max_grad_norm: clipping norm of one person's summed gradient.
        normaliser: public constant that the noisy sum is divided by.
        noise: source of the noise.
        images_at_once: most images whose gradients stand in memory together.

    Raises:
        SettingsError: a value out of range, or a layer that mixes people, by name.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        lr: float,
        momentum: float,
        noise_multiplier: float,
        max_grad_norm: float,
        normaliser: float,
        noise: GaussianNoise,
        images_at_once: int = 64,
    ) -> None:
        _check_positive("learning rate", lr)
        _check_positive("noise multiplier", noise_multiplier)
        _check_positive("clipping norm", max_grad_norm)
        _check_positive("normaliser", normaliser)
        problems = ModuleValidator.validate(model, strict=False)
        if problems:
            raise SettingsError(f"The model mixes people: {problems[0]}")
        self.normaliser = normaliser
        self.images_at_once = images_at_once
        # "sum" keeps each image's gradient as it is; "mean" would scale it by the private count.
        self._model = GradSampleModule(model, batch_first=True, loss_reduction="sum")
        self._optimizer = DPOptimizer(
            torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum),
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=None,
            loss_reduction="sum",
        )
        self._noise = noise

    def step(self, people: list[tuple[Tensor, Tensor]]) -> None:
        """One step on the images and labels of the sampled people, possibly nobody.

        Args:
            people: for each person float32 images (k, channels, 48, 48) and int64 labels (k,), k >= 1.
        """
        self._model.train()
        self._optimizer.zero_grad(set_to_none=True)
        for p in self._optimizer.params:
            p.summed_grad = torch.zeros_like(p)
        for part in _parts(people, self.images_at_once):
            self._accumulate(part)
        self._release()
        self._optimizer.original_optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def _release(self) -> None:
        """Noise the clipped sum and divide by the public normaliser.

        Opacus's own `add_noise` draws from PyTorch's generator, whose seed has 32 bits, or needs a
        package that is no longer kept; the standard deviation is the same.
        """
        params = self._optimizer.params
        std = self._optimizer.noise_multiplier * self._optimizer.max_grad_norm
        # One draw for all parameters: many small ones cost more than the noise itself.
        draws = torch.split(
            self._noise.draw(sum(p.numel() for p in params)), [p.numel() for p in params]
        )
        for p, noise in zip(params, draws, strict=True):
            # In float64, so that neither a small clip nor a large normaliser rounds the noise away.
            noisy = p.summed_grad.double().add_(noise.view_as(p).double(), alpha=std)
            p.grad = noisy.div_(self.normaliser).float()

    def _accumulate(self, people: list[tuple[Tensor, Tensor]]) -> None:
        owner = torch.repeat_interleave(
            torch.arange(len(people)), torch.tensor([len(y) for _, y in people])
        )
        images = torch.cat([x for x, _ in people])
        labels = torch.cat([y for _, y in people])
        summed: list[Tensor] | None = None
        # A person with very many images is read in slices; their sum is still clipped only once.
        for rows in torch.split(torch.arange(len(labels)), self.images_at_once):
            grads = self._person_sums(images[rows], labels[rows], owner[rows], len(people))
            summed = (
                grads if summed is None else [a + b for a, b in zip(summed, grads, strict=True)]
            )
        # A norm is finite only when every entry is; this reads each gradient once and copies nothing.
        norms = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in summed or []])
        broken = ~norms.isfinite().all(0)
        for p, g in zip(self._optimizer.params, summed or [], strict=True):
            if broken.any():
                g[broken] = 0.0
            p.grad_sample = g
        self._optimizer.clip_and_accumulate()
        for p in self._optimizer.params:
            p.grad_sample = None

    def _person_sums(self, images: Tensor, labels: Tensor, owner: Tensor, n: int) -> list[Tensor]:
        """Gradients summed by person: for each parameter a tensor (n, *shape).

        With per-image gradients g (k, ...) and membership m (n, k): einsum("nk,k...->n...", m, g).
        """
        loss = F.cross_entropy(self._model(images), labels, reduction="sum")
        with warnings.catch_warnings():
            # Opacus's hooks on the first layer fire on its outputs, since pictures need no gradient.
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            loss.backward()  # type: ignore[no-untyped-call]
        sums = []
        for p in self._optimizer.params:
            grads = p.grad_sample
            if len(owner) == n and torch.equal(owner, torch.arange(n)):  # one picture each
                sums.append(grads)
            else:
                sums.append(torch.zeros((n, *p.shape)).index_add_(0, owner, grads))
            p.grad_sample = None
        return sums

    def close(self) -> None:
        """Take Opacus's hooks off the model, which is then a plain module again."""
        self._model.remove_hooks()
        for p in self._optimizer.params:
            for name in ("grad_sample", "summed_grad"):
                if hasattr(p, name):
                    delattr(p, name)


def _parts(
    people: list[tuple[Tensor, Tensor]], images_at_once: int
) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Split people into parts of about `images_at_once` images; a person is never torn apart."""
    part: list[tuple[Tensor, Tensor]] = []
    size = 0
    for person in people:
        if part and size + len(person[1]) > images_at_once:
            yield part
            part, size = [], 0
        part.append(person)
        size += len(person[1])
    if part:
        yield part


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise SettingsError(f"The {name} is a number above 0, not {value}.")
