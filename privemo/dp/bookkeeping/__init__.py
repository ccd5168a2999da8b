"""Person-level gradients in one backward pass, in the shape that Opacus expects.

* `module`: `PersonGradModule`, a grad-sample module of Opacus whose sample is a person;
* `optimizer`: `PersonOptimizer`, an optimizer of Opacus that takes its clipped sums from there;
* `layer`, `conv`, `dense`: what is kept of one layer, and how its norms and sums come about;
* `fallback`: layers that are none of these, by Opacus's own per-row gradients;
* `people`: which rows are whose; `checks`: whether a model keeps them apart.
"""

from __future__ import annotations

from privemo.dp.bookkeeping.checks import probe, refuse_layers_that_mix
from privemo.dp.bookkeeping.fallback import FallbackWarning
from privemo.dp.bookkeeping.module import PersonGradModule
from privemo.dp.bookkeeping.optimizer import PersonOptimizer

__all__ = [
    "FallbackWarning",
    "PersonGradModule",
    "PersonOptimizer",
    "probe",
    "refuse_layers_that_mix",
]
