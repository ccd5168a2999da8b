"""Random changes of pictures, a whole batch at a time: every picture is changed in its own way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from privemo.errors import SettingsError
from privemo.models import to_input
from privemo.orders import AugmentName

__all__ = ["AUGMENTATIONS", "Augmentation"]

_MIDDLE_GRAY = 128.0


@dataclass(frozen=True)
class Augmentation:
    """How pictures may be changed. Zero leaves a thing as it is; bounds are of uniform draws.

    Geometry comes first, then light, then focus, all on pixels; the picture is then standardised as any other
    (`to_input`), and last a part of it may be erased. Borders are mirrored.

    Attributes:
        flip: mirror half of the pictures.
        shift: largest shift in pixels, in x and in y.
        degrees: largest turn.
        scale: largest change of scale, as a fraction.
        closer: largest further enlargement, as a fraction: 1 is up to twice as large. How tightly faces are
            cut out differs from one detector to another far more than within one.
        stretch: largest change of the ratio of height to width, as a fraction.
        shade: how dark a soft shadow over one side may be: the largest share of light it takes.
        gamma: largest exponent less 1: pixels are raised to a power from 1 / (1 + gamma) to 1 + gamma.
        contrast: largest change of the distance from middle gray, as a fraction.
        brightness: largest change in gray levels of 255. Alone it would be undone by the standardising;
            what stays of it and of contrast is what runs into black or white.
        blur: largest share of a blurred copy mixed in.
        sharpen: how far away from a blurred copy a picture may be pushed instead (unsharp masking).
        dim: largest share of the light taken from the whole picture, before the camera's noise is added.
        noise: largest deviation of that noise, in gray levels; each picture draws its own.
        erase: probability that a rectangle (2% to 20% of the picture) becomes its mean.

    Raises:
        SettingsError: a value is negative or not finite; one that is a share is over 1.
    """

    flip: bool = False
    shift: float = 0.0
    degrees: float = 0.0
    scale: float = 0.0
    closer: float = 0.0
    stretch: float = 0.0
    shade: float = 0.0
    gamma: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    blur: float = 0.0
    sharpen: float = 0.0
    dim: float = 0.0
    noise: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.name != "flip"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise SettingsError(f"The {name} of an augmentation is 0 or more, not {value}.")
        for name in ("scale", "stretch", "shade", "contrast", "blur", "dim", "erase"):
            if getattr(self, name) > 1:
                raise SettingsError(f"The {name} of an augmentation is a share, at most 1.")

    def __call__(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Change pictures and make them what models read.

        Args:
            pixels: uint8, (n, s, s) for gray or (n, s, s, 3) for RGB.
            generator: the source of all draws.

        Returns:
            float32, (n, channels, s, s), as `to_input` gives them.
        """
        x = pixels.to(torch.float32)
        x = x.unsqueeze(1) if x.ndim == 3 else x.permute(0, 3, 1, 2)
        if len(x) == 0:
            return x
        draws = _Draws(len(x), generator)
        if self.flip or self._bends:
            x = self._moved(x, draws)
        if self.shade:
            x = x * _shadow(x.shape[-1], draws, self.shade)
        if self.gamma or self.contrast or self.brightness:
            x = self._relit(x, draws)
        if self.blur or self.sharpen:
            x = torch.lerp(x, _blurred(x), draws.uniform(-self.sharpen, self.blur))
            x = x.clamp(0.0, 255.0)
        if self.dim or self.noise:
            x = self._seen_by_a_camera(x, draws)
        x = to_input(x[:, 0] if x.shape[1] == 1 else x.permute(0, 2, 3, 1))
        return _erased(x, draws, self.erase) if self.erase else x

    @property
    def _bends(self) -> float:
        return self.shift + self.degrees + self.scale + self.closer + self.stretch

    def _moved(self, x: Tensor, draws: _Draws) -> Tensor:
        if not self._bends:
            return torch.where(draws.uniform(0.0, 1.0) < 0.5, x.flip(-1), x)
        n, size = len(x), x.shape[-1]
        sign = draws.uniform(0.0, 1.0).lt(0.5).mul(-2.0).add(1.0).flatten() if self.flip else 1.0
        turn = draws.around(0.0, math.radians(self.degrees)).flatten()
        wide = draws.around(1.0, self.scale).flatten()
        if self.closer:
            wide = wide / draws.uniform(1.0, 1.0 + self.closer).flatten()
        high = wide
        if self.stretch:
            ratio = draws.around(0.0, math.log1p(self.stretch) / 2).exp().flatten()
            wide, high = wide * ratio, high / ratio
        theta = torch.zeros(n, 2, 3)
        theta[:, 0, 0] = sign * wide * turn.cos()
        theta[:, 0, 1] = -high * turn.sin()
        theta[:, 1, 0] = sign * wide * turn.sin()
        theta[:, 1, 1] = high * turn.cos()
        theta[:, 0, 2] = draws.around(0.0, 2 * self.shift / size).flatten()
        theta[:, 1, 2] = draws.around(0.0, 2 * self.shift / size).flatten()
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)

    def _relit(self, x: Tensor, draws: _Draws) -> Tensor:
        if self.gamma:
            power = draws.around(0.0, math.log1p(self.gamma)).exp()
            x = 255.0 * (x / 255.0).clamp(1e-6, 1.0).pow(power)
        if self.contrast or self.brightness:
            share, level = draws.around(1.0, self.contrast), draws.around(0.0, self.brightness)
            x = ((x - _MIDDLE_GRAY) * share + _MIDDLE_GRAY + level).clamp(0.0, 255.0)
        return x

    def _seen_by_a_camera(self, x: Tensor, draws: _Draws) -> Tensor:
        x = x * (1 - draws.uniform(0.0, self.dim))
        grain = torch.randn(x.shape, generator=draws.generator)
        return (x + draws.uniform(0.0, self.noise) * grain).clamp(0.0, 255.0)


class _Draws:
    """One number for each of n pictures at a time, shaped (n, 1, 1, 1)."""

    def __init__(self, n: int, generator: torch.Generator) -> None:
        self.n, self.generator = n, generator

    def uniform(self, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(self.n, 1, 1, 1, generator=self.generator)

    def around(self, middle: float, reach: float) -> Tensor:
        return self.uniform(middle - reach, middle + reach)


def _shadow(size: int, draws: _Draws, darkest: float) -> Tensor:
    """Shares of light (n, 1, size, size): a soft edge somewhere, at any angle, dark on one side of it."""
    at = (torch.arange(size, dtype=torch.float32) + 0.5) / size - 0.5
    turn, where = draws.uniform(0.0, 2 * math.pi), draws.around(0.0, 0.4)
    across = turn.cos() * at.view(1, 1, 1, -1) + turn.sin() * at.view(1, 1, -1, 1)
    edge = draws.uniform(math.log(3.0), math.log(30.0)).exp()
    return 1 - draws.uniform(0.0, darkest) * torch.sigmoid(edge * (across - where))


def _blurred(x: Tensor) -> Tensor:
    """The picture through a binomial filter of 5 by 5, borders mirrored."""
    row = x.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16.0
    c = x.shape[1]
    kernel = row.expand(c, 1, 1, 5)
    x = F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, groups=c)
    return F.conv2d(x, kernel.transpose(2, 3), groups=c)


def _erased(x: Tensor, draws: _Draws, probability: float) -> Tensor:
    """Random erasing (Zhong et al. 2020, arXiv 1708.04896), with the mean of the picture, which is 0."""
    size = x.shape[-1]
    area, stretch = draws.uniform(0.02, 0.2), draws.uniform(math.log(0.3), math.log(1 / 0.3)).exp()
    high = (area * stretch).sqrt().mul(size).clamp(max=size - 1.0)
    wide = (area / stretch).sqrt().mul(size).clamp(max=size - 1.0)
    top = draws.uniform(0.0, 1.0) * (size - high)
    left = draws.uniform(0.0, 1.0) * (size - wide)
    at = torch.arange(size, dtype=x.dtype) + 0.5
    y, z = at.view(1, 1, -1, 1), at.view(1, 1, 1, -1)
    inside = (y > top) & (y < top + high) & (z > left) & (z < left + wide)
    return x.masked_fill(inside & (draws.uniform(0.0, 1.0) < probability), 0.0)


AUGMENTATIONS: Mapping[AugmentName, Augmentation] = {
    "none": Augmentation(),
    "mild": Augmentation(flip=True, shift=2.0),
    "strong": Augmentation(
        flip=True,
        shift=3.0,
        degrees=12.0,
        scale=0.1,
        gamma=0.4,
        contrast=0.3,
        brightness=30.0,
        blur=0.5,
        erase=0.25,
    ),
    "wide": Augmentation(
        flip=True,
        shift=3.0,
        degrees=15.0,
        scale=0.1,
        closer=0.45,
        stretch=0.2,
        shade=0.7,
        gamma=0.5,
        contrast=0.3,
        brightness=30.0,
        blur=0.6,
        sharpen=1.0,
        erase=0.25,
    ),
    "sturdy": Augmentation(
        flip=True,
        shift=3.0,
        degrees=12.0,
        scale=0.1,
        shade=0.5,
        gamma=0.4,
        contrast=0.3,
        brightness=30.0,
        blur=1.0,
        dim=0.9,
        noise=35.0,
        erase=0.5,
    ),
}
"""`mild` is for private training, with its few steps; `strong` for training without privacy; `wide` for
weights that are to read pictures of cameras and face detectors they have not seen; `sturdy` for bad light
and noisy cameras. All act inside one picture, so before a person's clip."""
