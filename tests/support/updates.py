"""A small model, a private recipe, and an honest update of it."""

from __future__ import annotations

import numpy as np

from privemo import weights as w
from privemo.orders import PrivateRecipe

MODEL: w.Weights = {"a": np.zeros((2, 3), np.float32), "b": np.ones(4, np.float32)}

RECIPE = PrivateRecipe(
    noise_multiplier=1.0,
    sample_rate=0.25,
    steps=10,
    max_grad_norm=1.0,
    normaliser=25.0,
    lr=0.1,
    momentum=0.9,
)


def update(**changes: object) -> w.Weights:
    made: dict[str, object] = {
        "a": np.full((2, 3), 0.1, np.float32),
        "b": np.full(4, -0.1, np.float32),
    }
    made.update(changes)
    return {k: v for k, v in made.items() if v is not None}  # type: ignore[misc]
