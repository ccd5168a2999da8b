"""Differential privacy with the person as the unit: the one place that touches Opacus.

* `privemo.dp.accounting`: from (noise, sample rate, steps) to epsilon, and back to the noise;
* `privemo.dp.engine`: one private step, where all images of a person move the model by at most the
  clipping norm, together;
* `privemo.dp.noise`: the Gaussian noise, from a cryptographic generator.
"""

from __future__ import annotations

from privemo.dp.accounting import Mechanism, Spent, calibrate_noise, composed, spent
from privemo.dp.engine import PersonIndex, PrivateStepper, sample_people
from privemo.dp.noise import GaussianNoise

__all__ = [
    "GaussianNoise",
    "Mechanism",
    "PersonIndex",
    "PrivateStepper",
    "Spent",
    "calibrate_noise",
    "composed",
    "sample_people",
    "spent",
]
