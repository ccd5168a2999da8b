"""What cameras, light and what people wear do to pictures, in five severities; on drawn faces, exactly.

Severity 0 is the picture as it is. Each corruption takes pictures, the masks of their regions and its own
stream of chance, and gives pictures of the same shape. A mask or glasses lie on the very pixels that show the
part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privemo.explain.covering import grown
from privemo.synthetic import REGIONS
from privemo.synthetic.shot import backdrop

__all__ = ["CORRUPTIONS", "SEVERITIES", "TURNS", "Corruption", "discoloured"]

Pictures = NDArray[np.uint8]
Masks = NDArray[np.uint8]
F32 = NDArray[np.float32]

SEVERITIES = (1, 2, 3, 4, 5)

TURNS: Mapping[int, float] = {1: 15.0, 2: 25.0, 3: 35.0, 4: 45.0, 5: 55.0}
"""Degrees by which a head is turned to the side: no corruption of a picture, but another picture."""

Change = Callable[[Pictures, Masks, float, np.random.Generator], Pictures]


@dataclass(frozen=True)
class Corruption:
    """One kind.

    Attributes:
        words: what it is, for a reader, with the unit of `amounts`.
        amounts: of severity 1 to 5.
        change: pictures, masks, amount and chance -> pictures.
    """

    words: str
    amounts: tuple[float, float, float, float, float]
    change: Change

    def __call__(self, images: Pictures, regions: Masks, severity: int, *, seed: int) -> Pictures:
        """Corrupt pictures; the same seed gives the same."""
        rng = np.random.default_rng((seed, severity))
        return self.change(images, regions, self.amounts[severity - 1], rng)


def _bytes(x: NDArray[np.floating]) -> Pictures:
    return np.asarray(np.clip(np.rint(x), 0, 255), dtype=np.uint8)


def _is(regions: Masks, *names: str) -> NDArray[np.bool_]:
    return np.asarray(np.isin(regions, [REGIONS.index(name) for name in names]))


def _over(where: NDArray[np.bool_], images: Pictures) -> NDArray[np.bool_]:
    """Masks (n, s, s) as they apply to pictures with or without colours."""
    return where if images.ndim == 3 else where[..., None]


def _noise(images: Pictures, _: Masks, deviation: float, rng: np.random.Generator) -> Pictures:
    return _bytes(images + deviation * rng.standard_normal(images.shape))


def _blur(images: Pictures, _: Masks, sigma: float, __: np.random.Generator) -> Pictures:
    from scipy.ndimage import gaussian_filter

    widths = (0, sigma, sigma) if images.ndim == 3 else (0, sigma, sigma, 0)
    return _bytes(gaussian_filter(images.astype(np.float32), widths, mode="nearest"))


FULL = 400.0
"""Electrons that white is to a small sensor; its reading noise is `READ` of them."""
READ = 4.0


def _dark(images: Pictures, _: Masks, light: float, rng: np.random.Generator) -> Pictures:
    """So much of the light: fewer photons, their own noise, the sensor's, and no brightening afterwards."""
    linear = (images / 255.0) ** 2.2
    photons = rng.poisson(FULL * light * linear) + READ * rng.standard_normal(images.shape)
    return _bytes(255 * np.clip(photons / FULL, 0, 1) ** (1 / 2.2))


def _face_mask(images: Pictures, regions: Masks, share: float, _: np.random.Generator) -> Pictures:
    """A cloth over the lower face, up from the chin by a share of the way to the top of the nose."""
    parts = _is(regions, "nose", "mouth", "cheeks", "jaw")
    # A cloth has no hole where neither of them is, as under the nose: from side to side in each row.
    left, right = (
        np.maximum.accumulate(parts, axis=2),
        np.maximum.accumulate(parts[..., ::-1], axis=2),
    )
    lower = left & right[..., ::-1] & ~_is(regions, "eyes", "brows")
    rows = np.arange(regions.shape[1])
    any_row = lower.any(axis=2)
    top = np.where(any_row, rows, rows[-1]).min(axis=1)
    chin = np.where(any_row, rows, 0).max(axis=1)
    line = chin - share * (chin - top)
    cloth = lower & (rows[None, :, None] >= line[:, None, None])
    return np.where(_over(cloth, images), np.uint8(190), images)


def _glasses(images: Pictures, regions: Masks, dark: float, _: np.random.Generator) -> Pictures:
    """Lenses over the eyes that let a share of the light through; brows stay."""
    lens = grown(_is(regions, "eyes"), 1)
    behind = images * (1 - dark) + 20.0 * dark
    return np.where(_over(lens, images), _bytes(behind), images)


def _behind(images: Pictures, regions: Masks, share: float, rng: np.random.Generator) -> Pictures:
    """Another background blended over the one that is there, with hard edges in it."""
    out = images.copy()
    for i, mask in enumerate(_is(regions, "background")):
        other = 255 * np.clip(backdrop(mask.shape[0], rng), 0, 1) ** (1 / 2.2)
        cells = rng.integers(0, 2, (6, 6)).repeat(8, axis=0).repeat(8, axis=1)
        other = 0.5 * other + 127.5 * cells[: mask.shape[0], : mask.shape[0]]
        seen = other.mean(axis=0) if images.ndim == 3 else np.moveaxis(other, 0, -1)
        out[i][mask] = _bytes((1 - share) * images[i] + share * seen)[mask]
    return out


CORRUPTIONS: Mapping[str, Corruption] = {
    "noise": Corruption("noise, deviation in gray levels", (10, 20, 32, 46, 64), _noise),
    "blur": Corruption("blur, deviation in pixels of 48", (0.7, 1.1, 1.6, 2.2, 3.0), _blur),
    "low light": Corruption("low light, share that is left", (0.5, 0.25, 0.12, 0.06, 0.03), _dark),
    "mask": Corruption("mask, share of the lower face", (0.2, 0.4, 0.6, 0.8, 1.0), _face_mask),
    "glasses": Corruption("glasses, share of light taken", (0.4, 0.6, 0.8, 0.92, 1.0), _glasses),
    "background": Corruption("other background, share", (0.2, 0.4, 0.6, 0.8, 1.0), _behind),
}


def discoloured(colour: Pictures, amount: float, channels: int) -> Pictures:
    """Colour against gray, of pictures in colour (n, s, s, 3).

    For a model that reads colour, so much of the colour is taken away; for one that reads gray, so much of
    the gray comes from the blue alone, as from another sensor or light.
    """
    gray = colour @ np.array([0.299, 0.587, 0.114])
    if channels == 3:
        return _bytes((1 - amount) * colour + amount * gray[..., None])
    return _bytes((1 - amount) * gray + amount * colour[..., 2])
