"""Training and evaluating a model on the faces of one store.

`train_private` and `train_plain` take faces that a consent gate let through, and ask again before
every batch (`PermittedNow`), so that a withdrawal acts before the next one.

* `privemo.training.augmentation`: random changes of pictures, a whole batch at a time;
* `privemo.training.private`, `privemo.training.plain`: the two loops;
* `privemo.training.predicting`: probabilities of a finished model;
* `privemo.training.chance`: where both loops take their randomness from.
"""

from __future__ import annotations

from privemo.orders import PlainRecipe, PrivateRecipe
from privemo.training.augmentation import AUGMENTATIONS, Augmentation
from privemo.training.chance import PermittedNow, Randomness
from privemo.training.plain import train_plain
from privemo.training.predicting import predict
from privemo.training.private import clipped_sum, train_private

__all__ = [
    "AUGMENTATIONS",
    "Augmentation",
    "PermittedNow",
    "PlainRecipe",
    "PrivateRecipe",
    "Randomness",
    "clipped_sum",
    "predict",
    "train_plain",
    "train_private",
]
