"""A residual network with pre-activation, the second version of ResNet."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from privemo.labels import EMOTIONS
from privemo.models.colour import as_rgb, check_channels
from privemo.models.layers import WSConv2d, group_norm

__all__ = ["ResNetV2"]


class _Block(nn.Module):
    """norm, rectify, convolve, twice, beside a shortcut (He et al. 2016, arXiv 1603.05027, figure 1b).

    Where the size or the width changes, the shortcut is a 1x1 convolution of the activated input, as in the
    paper's own code.
    """

    def __init__(self, wide_in: int, wide_out: int, stride: int) -> None:
        super().__init__()
        self.norm1 = group_norm(wide_in)
        self.conv1 = WSConv2d(wide_in, wide_out, 3, stride=stride, padding=1)
        self.norm2 = group_norm(wide_out)
        self.conv2 = WSConv2d(wide_out, wide_out, 3, padding=1)
        self.shortcut = (
            WSConv2d(wide_in, wide_out, 1, stride=stride)
            if stride != 1 or wide_in != wide_out
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.norm1(x))
        past = x if self.shortcut is None else self.shortcut(active)
        out: Tensor = past + self.conv2(F.relu(self.norm2(self.conv1(active))))
        return out


class ResNetV2(nn.Module):
    """Pre-activation residual network (He et al. 2016, arXiv 1603.05027): four stages of two blocks.

    After the paper: identity shortcuts, norm and rectifier before each convolution, a last norm, and the mean
    over the picture before the classifier; two blocks a stage as in its 18-layer form. Otherwise: widths
    32-64-128-256 (half) at 24, 12, 6 and 3 pixels; no maximum after the stem, which would leave little of a
    48-pixel face; group normalisation and standardised weights for batch normalisation (Kolesnikov et al.
    2020, arXiv 1912.11370). The study took a residual network of 101 layers with ImageNet's weights, which no
    package carries.

    Input: float32 (n, 1 or 3, 48, 48); gray is repeated. Output: logits (n, 4).
    Trainable parameters: 2,798,628.

    Args:
        channels: of the pictures, 1 or 3.

    Raises:
        SettingsError: `channels` is neither 1 nor 3.
    """

    stem = 32
    widths = (32, 64, 128, 256)
    blocks = 2

    def __init__(self, channels: int = 3) -> None:
        check_channels(channels)
        super().__init__()
        self.first = WSConv2d(3, self.stem, 3, padding=1)
        layers: list[nn.Module] = []
        wide_in = self.stem
        for wide_out in self.widths:
            for number in range(self.blocks):
                layers.append(_Block(wide_in, wide_out, stride=2 if number == 0 else 1))
                wide_in = wide_out
        self.stages = nn.Sequential(*layers)
        self.last_norm = group_norm(wide_in)
        self.classifier = nn.Linear(wide_in, len(EMOTIONS))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, 4) of `images` (n, 1 or 3, 48, 48)."""
        x = self.stages(self.first(as_rgb(images)))
        return cast("Tensor", self.classifier(F.relu(self.last_norm(x)).mean((2, 3))))
