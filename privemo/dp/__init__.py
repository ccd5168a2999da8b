"""Differential privacy with the person as the unit: the one place that touches Opacus.

* `privemo.dp.accounting`: from (noise, sample rate, steps) to epsilon, and back to the noise;
  `privemo.dp.bounds`: Opacus's two accountants underneath; `privemo.dp.crosscheck`: those of a second
  library beside them; `privemo.dp.planning`: what a budget affords;
* `privemo.dp.counts`: a count of people that may be published;
* `privemo.dp.batches`: who is drawn for a step, and their pictures side by side;
* `privemo.dp.engine`: one private step, where all images of a person move the model by at most the
  clipping norm, together;
* `privemo.dp.noise`: Gaussian noise, and `privemo.dp.discrete`: its like among integers, both from a
  cryptographic generator (`privemo.dp.stream`).
"""

from __future__ import annotations

from privemo.dp.accounting import (
    Mechanism,
    Release,
    Spent,
    Stated,
    calibrate_noise,
    calibrate_scale,
    check_delta,
    composed,
    exposed,
    spent,
    worst_of,
)
from privemo.dp.batches import PersonBatch, PersonIndex, sample_people
from privemo.dp.counts import noised_count
from privemo.dp.discrete import DiscreteGaussian
from privemo.dp.engine import PrivateStepper
from privemo.dp.noise import GaussianNoise

__all__ = [
    "DiscreteGaussian",
    "GaussianNoise",
    "Mechanism",
    "PersonBatch",
    "PersonIndex",
    "PrivateStepper",
    "Release",
    "Spent",
    "Stated",
    "calibrate_noise",
    "calibrate_scale",
    "check_delta",
    "composed",
    "exposed",
    "noised_count",
    "sample_people",
    "spent",
    "worst_of",
]
