"""EfficientNet-Lite0, its batch normalisation frozen into an affine map of each channel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from privemo.labels import EMOTIONS
from privemo.models.colour import as_rgb, check_channels

__all__ = ["EfficientNetLite0", "FrozenAffine", "from_batch_norm"]

_BN_EPS = 1e-3  # of the published weights


class FrozenAffine(nn.Module):
    """scale * x + shift for each channel, never trained.

    What batch normalisation is once its statistics no longer change. Those are ImageNet's, public numbers;
    nothing of the pictures at hand enters them, so that nobody's gradient depends on anybody else.

    Shapes: (n, channels, h, w) to the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        # Parameters that take no gradient, not buffers: Opacus takes every buffer for a statistic of a batch.
        self.scale = nn.Parameter(torch.ones(channels), requires_grad=False)
        self.shift = nn.Parameter(torch.zeros(channels), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """`x` scaled and shifted."""
        # In one pass: two, and another two backward, took a third of the whole network's time.
        return torch.addcmul(self.shift.view(1, -1, 1, 1), x, self.scale.view(1, -1, 1, 1))


class _Unit(nn.Module):
    """Convolution, frozen affine, and ReLU6 unless the unit is linear; padded as TensorFlow's "same"."""

    def __init__(
        self, wide_in: int, wide_out: int, size: int, *, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        # At stride 2 and an even size, TensorFlow pads one pixel more at the far side than at the near one.
        extra = size - stride
        self.pad = (extra // 2, extra - extra // 2) * 2
        self.conv = nn.Conv2d(wide_in, wide_out, size, stride=stride, groups=groups)
        self.affine = FrozenAffine(wide_out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.affine(self.conv(F.pad(x, self.pad) if any(self.pad) else x))
        return out


class _Block(nn.Module):
    """Expand, filter each channel, project (Sandler et al. 2018, arXiv 1801.04381)."""

    def __init__(self, wide_in: int, wide_out: int, size: int, *, stride: int, expand: int) -> None:
        super().__init__()
        wide = wide_in * expand
        self.expand = _Unit(wide_in, wide, 1) if expand != 1 else None
        self.depthwise = _Unit(wide, wide, size, stride=stride, groups=wide)
        self.project = _Unit(wide, wide_out, 1)
        self.residual = stride == 1 and wide_in == wide_out

    def forward(self, x: Tensor) -> Tensor:
        inner = x if self.expand is None else F.relu6(self.expand(x))
        out: Tensor = self.project(F.relu6(self.depthwise(inner)))
        return x + out if self.residual else out


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0, the study's EfficientNet in a size for two cores.

    After Tan & Le 2019 (arXiv 1905.11946) without squeeze-and-excitation and with ReLU6, as their "lite"
    variants. The published ImageNet weights fit (`privemo[transfer]`); with them the features are exactly
    those of the original at rest. Otherwise: batch normalisation is a `FrozenAffine` beside a bias that is
    trained; the picture is enlarged to 96 pixels, since five halvings leave nothing of 48; no dropout and no
    stochastic depth; a classifier of four emotions. The study's was a larger member of the same family.

    Input: float32 (n, 1 or 3, 48, 48); gray is repeated. Output: logits (n, 4).
    Trainable parameters: 3,355,124.

    Args:
        channels: of the pictures, 1 or 3.

    Raises:
        SettingsError: `channels` is neither 1 nor 3.
    """

    side = 96
    stem, head = 32, 1280
    # (repeats, kernel, stride, expansion, width) of each stage
    stages = (
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (2, 5, 2, 6, 40),
        (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    )

    def __init__(self, channels: int = 3) -> None:
        check_channels(channels)
        super().__init__()
        self.first = _Unit(3, self.stem, 3, stride=2)
        blocks: list[nn.Module] = []
        wide_in = self.stem
        for repeats, size, stride, expand, wide_out in self.stages:
            for number in range(repeats):
                step = stride if number == 0 else 1
                blocks.append(_Block(wide_in, wide_out, size, stride=step, expand=expand))
                wide_in = wide_out
        self.blocks = nn.Sequential(*blocks)
        self.last = _Unit(wide_in, self.head, 1)
        self.classifier = nn.Linear(self.head, len(EMOTIONS))
        self._start()

    def _start(self) -> None:
        """Random weights that keep the size of what passes: without statistics nothing else does."""
        blocks = [b for b in self.blocks if isinstance(b, _Block)]
        # Each residual adds to the sum; scaled down, all of them together double it (Zhang et al. 2019,
        # "Fixup", arXiv 1901.09321, for the idea).
        damped = 1 / math.sqrt(sum(b.residual for b in blocks))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(cast("Tensor", module.bias))
        for block in blocks:
            linear = math.sqrt(0.5)  # no rectifier follows
            scale = linear * damped if block.residual else linear
            with torch.no_grad():
                block.project.conv.weight.mul_(scale)

    def features(self, images: Tensor) -> Tensor:
        """What the classifier reads, (n, 1280), of RGB pictures (n, 3, s, s) with s a multiple of 32."""
        x = self.blocks(F.relu6(self.first(images)))
        out: Tensor = F.relu6(self.last(x)).mean((2, 3))
        return out

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, 4) of `images` (n, 1 or 3, 48, 48)."""
        larger = F.interpolate(
            as_rgb(images), (self.side, self.side), mode="bilinear", align_corners=False
        )
        logits: Tensor = self.classifier(self.features(larger))
        return logits


def from_batch_norm(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published weights under the names of `EfficientNetLite0`, without its classifier.

    Args:
        published: convolutions and batch normalisations as `efficientnet-lite-pytorch` names them.

    Raises:
        KeyError: a weight is missing.
    """
    found: dict[str, Tensor] = {}

    def unit(name: str, conv: str, norm: str) -> None:
        scale = published[f"{norm}.weight"] * torch.rsqrt(
            published[f"{norm}.running_var"] + _BN_EPS
        )
        found[f"{name}.conv.weight"] = published[f"{conv}.weight"]
        found[f"{name}.conv.bias"] = torch.zeros_like(scale)
        found[f"{name}.affine.scale"] = scale
        found[f"{name}.affine.shift"] = (
            published[f"{norm}.bias"] - published[f"{norm}.running_mean"] * scale
        )

    unit("first", "_conv_stem", "_bn0")
    for number in range(sum(stage[0] for stage in EfficientNetLite0.stages)):
        theirs, ours = f"_blocks.{number}", f"blocks.{number}"
        if f"{theirs}._expand_conv.weight" in published:
            unit(f"{ours}.expand", f"{theirs}._expand_conv", f"{theirs}._bn0")
        unit(f"{ours}.depthwise", f"{theirs}._depthwise_conv", f"{theirs}._bn1")
        unit(f"{ours}.project", f"{theirs}._project_conv", f"{theirs}._bn2")
    unit("last", "_conv_head", "_bn1")
    return found
