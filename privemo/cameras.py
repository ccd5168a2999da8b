"""Stores that see differently: another camera, other light in each store of a simulated chain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

__all__ = ["Camera"]

_AT_ONCE = 1024  # pictures in memory as floats


@dataclass(frozen=True)
class Camera:
    """What the camera and the light of one store make of a picture.

    Attributes:
        gamma: curve of the camera; above 1 darkens the middle tones.
        contrast: slope about middle gray.
        light: how much brighter the picture is where the light comes from than across from it, as a share.
        angle: where it comes from, radians.
        blur: standard deviation of the lens's blur, pixels.
        grain: standard deviation of the sensor's noise; the brightest white is 1.
    """

    gamma: float = 1.0
    contrast: float = 1.0
    light: float = 0.0
    angle: float = 0.0
    blur: float = 0.0
    grain: float = 0.0

    @classmethod
    def drawn(cls, difference: float, *, seed: int, store: int) -> Camera:
        """The camera of a store.

        Args:
            difference: how far cameras are from each other; at 1 the gamma of two thirds of them is between
                0.6 and 1.65, and their light falls by up to about half over the picture. 0 changes nothing.
            seed: of the chain.
            store: its number; each store has a camera of its own.
        """
        rng = np.random.default_rng([seed, 4, store])
        gamma, contrast, light, blur, grain = rng.standard_normal(5) * difference
        return cls(
            gamma=float(np.exp(0.5 * gamma)),
            contrast=float(np.exp(0.3 * contrast)),
            light=float(0.5 * np.tanh(light)),
            angle=float(rng.uniform(0, np.pi)),
            blur=float(0.5 * abs(blur)),
            grain=float(0.03 * abs(grain)),
        )

    def seen(self, images: NDArray[np.uint8], *, seed: int) -> NDArray[np.uint8]:
        """What this camera makes of pictures.

        Args:
            images: (n, height, width) gray or (n, height, width, 3) RGB.
            seed: of the grain.
        """
        rng = np.random.default_rng([seed, 5])
        parts = [
            self._part(images[start : start + _AT_ONCE], rng)
            for start in range(0, len(images), _AT_ONCE)
        ]
        return np.concatenate(parts) if parts else images

    def _part(self, images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        x = images.astype(np.float32) / 255
        flat = (1,) * (x.ndim - 3)  # colours are lit alike
        x = x * self._falling(*x.shape[1:3]).reshape(*x.shape[1:3], *flat)
        x = np.clip(x, 0, 1) ** self.gamma
        x = (x - 0.5) * self.contrast + 0.5
        if self.blur:
            x = gaussian_filter(x, (0, self.blur, self.blur, *(0,) * len(flat)))
        x = x + self.grain * rng.standard_normal(x.shape, dtype=np.float32)
        return np.asarray(np.clip(x, 0, 1) * 255 + 0.5).astype(np.uint8)

    def _falling(self, high: int, wide: int) -> NDArray[np.float32]:
        """Brightness over the picture, 1 in its middle."""
        y, x = np.mgrid[-1 : 1 : high * 1j, -1 : 1 : wide * 1j]
        towards = (np.cos(self.angle) * x + np.sin(self.angle) * y) / np.sqrt(2)
        return np.asarray(1 + self.light * towards, dtype=np.float32)
