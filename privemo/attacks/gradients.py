"""Gradients as an adversary computes them: nothing that is under attack vouches for itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

__all__ = ["clipped_gradients", "losses", "slopes"]

_STEP = 0.01
"""Length of the step that slopes are taken over: far above rounding, and short for a model of length 40."""


def clipped_gradients(
    model: nn.Module, inputs: Tensor, labels: Tensor, names: Sequence[str], *, clip: float
) -> Tensor:
    """(n, parameters) gradient of each picture's loss, in units of the clip, none longer than 1.

    Args:
        model: where they are taken.
        inputs: (n, channels, height, width).
        labels: (n,).
        names: of the parameters, in the order of the columns.
        clip: the clipping norm.
    """
    known = {name: p.detach() for name, p in model.named_parameters()}

    def loss(parameters: dict[str, Tensor], picture: Tensor, label: Tensor) -> Tensor:
        said = functional_call(model, {**known, **parameters}, (picture[None],))
        return F.cross_entropy(said, label[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0))(
        {name: known[name] for name in names}, inputs, labels
    )
    rows = torch.cat([each[name].flatten(1) for name in names], dim=1)
    return rows.div_(rows.norm(dim=1, keepdim=True).clamp(min=clip))


@torch.no_grad()
def slopes(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    direction: NDArray[np.float32],
    names: Sequence[str],
) -> NDArray[np.float64]:
    """(n,) slope of each picture's loss along a direction: its inner product with each gradient.

    Two passes for all, where the gradients themselves would take one for each; by central differences.
    """
    known = {name: p.detach() for name, p in model.named_parameters()}
    length = float(np.linalg.norm(direction))
    if length == 0:
        return np.zeros(len(labels))
    sizes = [known[name].numel() for name in names]
    parts = torch.split(torch.from_numpy(direction), sizes)
    ways = {name: part.view_as(known[name]) for name, part in zip(names, parts, strict=True)}
    step = _STEP / length

    def at(way: float) -> Tensor:
        moved: Mapping[str, Tensor] = {
            **known,
            **{name: known[name] + way * ways[name] for name in names},
        }
        return F.cross_entropy(
            functional_call(model, dict(moved), (inputs,)), labels, reduction="none"
        )

    return np.asarray((at(step).double() - at(-step).double()).numpy() / (2 * step))


@torch.no_grad()
def losses(model: nn.Module, inputs: Tensor, labels: Tensor) -> NDArray[np.float64]:
    """(n,) cross-entropy of each picture."""
    return np.asarray(F.cross_entropy(model(inputs), labels, reduction="none").double().numpy())
