"""Canaries: pictures that no camera took, of people whose every use is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from privemo.faces import FaceTable, load_faces
from privemo.labels import EMOTIONS, IMAGE_SIZE
from privemo.models import to_input

__all__ = ["Canaries"]

SOFT = 2.0  # pixels; noise without any makes gradients that resemble each other

_ADULT = 40.0


@dataclass(frozen=True)
class Canaries:
    """People of one picture each, or of several that are the same.

    Attributes:
        images: uint8, (n, 48, 48) or (n, 48, 48, 3).
        label: int64, (n,), drawn by chance: nothing in a picture tells it, so a model can only learn it by
            heart.
    """

    images: NDArray[np.uint8]
    label: NDArray[np.int64]

    @classmethod
    def drawn(
        cls, count: int, *, channels: int, rng: np.random.Generator, soft: float = SOFT
    ) -> Canaries:
        """So many, each a random pattern of full contrast, as soft as a blur of `soft` pixels makes it."""
        shape = (count, IMAGE_SIZE, IMAGE_SIZE, channels)
        drawn = gaussian_filter(rng.normal(size=shape), (0, soft, soft, 0))
        low = drawn.min((1, 2, 3), keepdims=True)
        spread = drawn.max((1, 2, 3), keepdims=True) - low
        images = np.rint(255 * (drawn - low) / spread).astype(np.uint8)
        if channels == 1:
            images = images[..., 0]
        return cls(images, rng.integers(0, len(EMOTIONS), count))

    def __len__(self) -> int:
        return len(self.label)

    @property
    def inputs(self) -> Tensor:
        """What a model reads: float32, (n, channels, 48, 48)."""
        return to_input(torch.from_numpy(self.images))

    @property
    def labels(self) -> Tensor:
        """int64, (n,)."""
        return torch.from_numpy(self.label)

    def table(self, folder: Path, *, pictures: int = 1) -> FaceTable:
        """As a table of faces, by way of a file: person k is the k-th canary, and an adult.

        Args:
            folder: where the file is written.
            pictures: of each person, all the same: the mean of their gradients is that of one.
        """
        path = folder / "canaries.npz"
        who = np.arange(len(self)).repeat(pictures)
        np.savez(
            path,
            images=self.images[who],
            label=self.label[who],
            label_names=np.array(EMOTIONS),
            identity=who.astype(np.str_),
            est_age=np.full(len(who), _ADULT),
            origin=np.array("patterns drawn by chance; nobody"),
        )
        return load_faces(path)
