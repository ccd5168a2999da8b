"""VGG16 (Simonyan & Zisserman 2015, arXiv 1409.1556), cut at two depths, as the study did."""

from __future__ import annotations

from torch import Tensor, nn

from privemo.labels import EMOTIONS, IMAGE_SIZE
from privemo.models.colour import as_rgb, check_channels
from privemo.models.layers import WSConv2d, group_norm

__all__ = ["VGG16"]


class VGG16(nn.Module):
    """The convolutions of VGG16 (the paper's configuration D) up to a block, and a small dense head.

    After the paper: blocks of 2-2-3-3-3 convolutions of 3x3, rectified, a 2x2 maximum after each block, RGB.
    Otherwise: half of its widths (32-64-128-256-256), a quarter of the arithmetic, since no package carries
    ImageNet's weights for it that would need the full widths; each convolution has standardised weights and
    a group normalisation, without which a network of this depth hardly trains from scratch; no dropout.

    Input: float32 (n, 1 or 3, 48, 48); gray is repeated. Output: logits (n, 4).
    Trainable parameters: 3,783,588 as `vgg16-1` and 2,503,716 as `vgg16-2`.

    Args:
        channels: of the pictures, 1 or 3.
        depth: how many of the five blocks.
        hidden: widths of the hidden dense layers.

    Raises:
        SettingsError: `channels` is neither 1 nor 3.
    """

    blocks = ((32, 2), (64, 2), (128, 3), (256, 3), (256, 3))

    def __init__(self, channels: int = 3, *, depth: int, hidden: tuple[int, ...]) -> None:
        check_channels(channels)
        super().__init__()
        layers: list[nn.Module] = []
        wide_in, side = 3, IMAGE_SIZE
        for wide_out, repeats in self.blocks[:depth]:
            for _ in range(repeats):
                layers += [
                    WSConv2d(wide_in, wide_out, 3, padding=1),
                    group_norm(wide_out),
                    nn.ReLU(),
                ]
                wide_in = wide_out
            layers.append(nn.MaxPool2d(2))
            side //= 2
        self.features = nn.Sequential(*layers)
        head: list[nn.Module] = [nn.Flatten()]
        wide_in *= side * side
        for wide_out in hidden:
            head += [nn.Linear(wide_in, wide_out), nn.ReLU()]
            wide_in = wide_out
        self.classifier = nn.Sequential(*head, nn.Linear(wide_in, len(EMOTIONS)))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, 4) of `images` (n, 1 or 3, 48, 48)."""
        logits: Tensor = self.classifier(self.features(as_rgb(images)))
        return logits
