"""The definition of a person's clipped gradient, one person after the other in float64."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from privemo.dp import PersonBatch
from privemo.dp.bookkeeping import PersonGradModule

__all__ = ["clipped_sum", "distance", "naive_clipped_sum", "people", "person_gradient"]


def people(
    sizes: list[int], seed: int = 0, *, size: int = 12, channels: int = 1, classes: int = 4
) -> PersonBatch:
    """Random pictures of people with so many of them each."""
    g = torch.Generator().manual_seed(seed)
    n = sum(sizes)
    return PersonBatch(
        torch.randn(n, channels, size, size, generator=g),
        torch.randint(0, classes, (n,), generator=g),
        torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)),
        len(sizes),
    )


def person_gradient(model: nn.Module, batch: PersonBatch, person: int) -> list[Tensor]:
    """Gradient of the mean loss over one person's pictures, for each trained parameter; model in float64."""
    mine = batch.owner == person
    model.zero_grad()
    F.cross_entropy(model(batch.images[mine].double()), batch.labels[mine]).backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in trained]


def naive_clipped_sum(model: nn.Module, batch: PersonBatch, clip: float) -> list[Tensor]:
    """Each person's gradient, clipped whole, added up."""
    model = copy.deepcopy(model).double()
    total: list[Tensor] = []
    for person in range(batch.people):
        grads = person_gradient(model, batch, person)
        norm = math.sqrt(sum(float((g**2).sum()) for g in grads))
        clipped = [min(1.0, clip / norm) * g if norm else g for g in grads]
        total = [a + b for a, b in zip(total, clipped, strict=True)] if total else clipped
    return total


def clipped_sum(
    model: nn.Module, batches: list[PersonBatch], clip: float, **options: str
) -> list[Tensor]:
    """The same by book-keeping."""
    module = PersonGradModule(model, **options)  # type: ignore[arg-type]
    for batch in batches:
        module.backward(batch)
        module.accumulate(clip)
    sums = [p.summed_grad for p in module.trained]  # type: ignore[attr-defined]
    module.to_standard_module()
    return [torch.zeros(()) if s is None else s for s in sums]


def distance(ours: list[Tensor], truth: list[Tensor]) -> float:
    """How far two lists of tensors are apart, relative to the second."""
    apart = sum(float(((a.double() - b) ** 2).sum()) for a, b in zip(ours, truth, strict=True))
    return math.sqrt(apart / sum(float((b.double() ** 2).sum()) for b in truth))
