"""What a model says of faces."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from privemo.models import to_input

__all__ = ["predict"]


@torch.inference_mode()
def predict(
    model: nn.Module, images: NDArray[np.uint8], *, batch: int = 256, flip: bool = True
) -> NDArray[np.float32]:
    """Probabilities of the four emotions.

    Args:
        model: read, not changed; it is in evaluation mode afterwards.
        images: uint8, (n, 48, 48) or (n, 48, 48, 3); n may be 0.
        batch: how many at once.
        flip: average each face with its mirror image, which takes twice as long: an expression has no side.

    Returns:
        float32, (n, 4), in the order of `privemo.EMOTIONS`.
    """
    model.eval()
    parts = []
    for start in range(0, len(images), batch):
        x = to_input(torch.from_numpy(images[start : start + batch]))
        x = x.contiguous(memory_format=torch.channels_last)
        said = model(x).softmax(1)
        parts.append((said + model(x.flip(-1)).softmax(1)) / 2 if flip else said)
    if not parts:
        return np.empty((0, 4), dtype=np.float32)
    return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)
