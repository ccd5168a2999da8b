"""Covering a part of a face, and what a model loses by it: evidence of cause, where attribution is none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["alone", "cover", "elsewhere_as_large", "grown"]

Mask = NDArray[np.bool_]
Pictures = NDArray[np.uint8]

SWEEPS = 150
"""Rounds of averaging; a region here is at most some 20 pixels wide."""

TRIES = 40
"""Places tried for a patch of the same shape elsewhere."""


def cover(images: Pictures, where: Mask) -> Pictures:
    """Replace regions by the mean of their surroundings.

    Every covered pixel becomes the mean of its four neighbours (the discrete harmonic function with the
    surroundings as its border). One flat patch would leave the outline of the region in the picture, and the
    outline of an open mouth tells that it is open.

    Args:
        images: uint8, (n, s, s) or (n, s, s, 3).
        where: (n, s, s), what to cover; a picture without any comes back as it is.
    """
    x = images.astype(np.float32)
    colour = x.ndim == 4
    x = np.moveaxis(x, -1, 1) if colour else x[:, None]
    inside = where[:, None]
    ring = grown(where, 2)[:, None] & ~inside
    count = np.maximum(ring.sum((2, 3), keepdims=True), 1)
    mean = (x * ring).sum((2, 3), keepdims=True) / count
    wide = np.pad(np.where(inside, mean, x), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    middle = wide[:, :, 1:-1, 1:-1]
    for _ in range(SWEEPS):
        around = wide[:, :, :-2, 1:-1] + wide[:, :, 2:, 1:-1]
        around += wide[:, :, 1:-1, :-2]
        around += wide[:, :, 1:-1, 2:]
        around /= 4
        np.copyto(middle, around, where=inside)
        for edge, beside in ((0, 1), (-1, -2)):  # beyond the picture its edge goes on
            wide[:, :, edge], wide[..., edge] = wide[:, :, beside], wide[..., beside]
    out = np.clip(np.rint(middle), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(out, 1, -1) if colour else out[:, 0])


def alone(images: Pictures, where: Mask) -> Pictures:
    """Leave only a region: all else becomes the mean gray of the picture."""
    keep = where if images.ndim == 3 else where[..., None]
    mean = images.mean(axis=(1, 2), keepdims=True)
    return np.where(keep, images, np.rint(mean).astype(np.uint8))


def grown(where: Mask, pixels: int) -> Mask:
    """Regions (n, s, s) made wider by some pixels; a picture's blur spreads a part beyond its region."""
    out = where.copy()
    for _ in range(pixels):
        wide = np.pad(out, ((0, 0), (1, 1), (1, 1)))
        out = out | wide[:, :-2, 1:-1] | wide[:, 2:, 1:-1] | wide[:, 1:-1, :-2] | wide[:, 1:-1, 2:]
    return out


def elsewhere_as_large(where: Mask, spare: Mask, rng: np.random.Generator) -> Mask:
    """The same shapes moved to where they touch `spare` least: what covering as much, of anything, costs.

    Args:
        where: (n, s, s), the region.
        spare: (n, s, s), what to stay clear of.
        rng: where to try.
    """
    size = where.shape[-1]
    out = np.empty_like(where)
    for i, (shape, clear) in enumerate(zip(where, spare, strict=True)):
        moves = rng.integers(0, size, (TRIES, 2))
        moved = [np.roll(shape, tuple(move), axis=(0, 1)) for move in moves]
        out[i] = min(moved, key=lambda tried: int((tried & clear).sum()))
    return out
