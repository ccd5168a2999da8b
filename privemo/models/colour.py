"""Gray and colour for models that read one of the two alone."""

from __future__ import annotations

from torch import Tensor

from privemo.errors import SettingsError
from privemo.models.inputs import LUMA

__all__ = ["as_gray", "as_rgb", "check_channels"]


def check_channels(channels: int) -> None:
    """Let the channels of a model pass.

    Raises:
        SettingsError: neither 1 (gray) nor 3 (RGB).
    """
    if channels not in (1, 3):
        raise SettingsError(f"channels is {channels}: a model reads gray (1) or RGB (3).")


def as_rgb(images: Tensor) -> Tensor:
    """Pictures (n, 1 or 3, h, w) as (n, 3, h, w): gray is repeated."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def as_gray(images: Tensor) -> Tensor:
    """Pictures (n, 1 or 3, h, w) as (n, 1, h, w): colour is mixed to luma, as `to_input` measures it."""
    if images.shape[1] == 1:
        return images
    return (images * images.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
