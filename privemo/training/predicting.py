"""What a model says of faces."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from privemo.models import to_input
from privemo.orders import ZOOM

__all__ = ["predict"]


@torch.inference_mode()
def predict(
    model: nn.Module,
    images: NDArray[np.uint8],
    *,
    batch: int = 256,
    flip: bool = True,
    zoom: float = ZOOM,
) -> NDArray[np.float32]:
    """Probabilities of the four emotions.

    Args:
        model: read, not changed; it is in evaluation mode afterwards.
        images: uint8, (n, 48, 48) or (n, 48, 48, 3); n may be 0.
        batch: how many at once.
        flip: average each face with its mirror image, which takes twice as long: an expression has no side.
        zoom: average it, too, with itself 1 + `zoom` times as large and as small, borders repeated, which
            takes three times as long: detectors cut faces out more and less tightly. 0 for one size.

    Returns:
        float32, (n, 4), in the order of `privemo.EMOTIONS`.
    """
    model.eval()
    sizes = (1.0, 1 + zoom, 1 / (1 + zoom)) if zoom else (1.0,)
    parts = []
    for start in range(0, len(images), batch):
        x = to_input(torch.from_numpy(images[start : start + batch]))
        seen = [_sized(x, size) for size in sizes]
        seen += [each.flip(-1) for each in seen] if flip else []
        parts.append(torch.stack([_said(model, each) for each in seen]).mean(0))
    if not parts:
        return np.empty((0, 4), dtype=np.float32)
    return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)


def _said(model: nn.Module, x: Tensor) -> Tensor:
    said: Tensor = model(x.contiguous(memory_format=torch.channels_last))
    return said.softmax(1)


def _sized(x: Tensor, size: float) -> Tensor:
    """Pictures `size` times as large around their middle; what was outside of them repeats their borders."""
    if size == 1:
        return x
    about_the_middle = torch.tensor([[1 / size, 0.0, 0.0], [0.0, 1 / size, 0.0]])
    grid = F.affine_grid(about_the_middle.expand(len(x), 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)
