"""From pixels to what the models read."""

from __future__ import annotations

import torch
from torch import Tensor

from privemo.labels import LUMA

__all__ = ["LUMA", "to_input"]


def to_input(images: Tensor) -> Tensor:
    """Turn uint8 pixels into what the models read: each picture standardised by itself.

    Brightness and contrast are the light's and the skin's, not the expression's. Each picture uses its
    own mean and deviation alone; those of the data would be a release of private faces.

    Args:
        images: uint8, (n, 48, 48) for gray or (n, 48, 48, 3) for RGB.

    Returns:
        float32, (n, channels, 48, 48); the luma of each picture has mean 0 and deviation about 1.
    """
    x = images.to(torch.float32)
    x = x.unsqueeze(1) if x.ndim == 3 else x.permute(0, 3, 1, 2)
    luma = x if x.shape[1] == 1 else (x * x.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    mean = luma.mean((2, 3), keepdim=True)
    # Eight gray levels keep a picture of one single gray from being blown up into noise.
    deviation = luma.std((2, 3), keepdim=True) + 8.0
    return (x - mean) / deviation
