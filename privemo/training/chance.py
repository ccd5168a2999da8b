"""What both training loops are given besides faces and a recipe: randomness, and whom to ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from privemo.dp import GaussianNoise

__all__ = ["PermittedNow", "Randomness"]

PermittedNow = Callable[[int, NDArray[np.str_]], NDArray[np.bool_]]
"""Called with the number of a batch and the people drawn for it; answers who may still be used."""


@dataclass(frozen=True)
class Randomness:
    """Two independent sources: who is drawn and how pictures are jittered; and the noise."""

    sampling: np.random.Generator
    noise: GaussianNoise

    def jitter(self) -> torch.Generator:
        """A generator for changes of pictures, seeded from `sampling`."""
        return torch.Generator().manual_seed(int(self.sampling.integers(2**62)))
