"""From gradients by name to a vector that can be summed up, and from the sum to the server's update."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from privemo.orders import PrivateRecipe
from privemo.secagg.lattice import Lattice

__all__ = ["flat", "lattice_of", "step_against", "trained_names"]

Arrays = Mapping[str, NDArray[np.float32]]


def trained_names(network: nn.Module) -> list[str]:
    """Names of the parameters that are trained, in the order of a sum."""
    return sorted(name for name, p in network.named_parameters() if p.requires_grad)


def flat(arrays: Arrays) -> NDArray[np.float32]:
    """Arrays as one vector, in the order of their names."""
    return np.concatenate([arrays[name].ravel() for name in sorted(arrays)])


def lattice_of(recipe: PrivateRecipe, stores: int, arrays: Arrays) -> Lattice:
    """The lattice that follows from an order, for every store and the server alike.

    Args:
        recipe: of the round.
        stores: how many take part.
        arrays: what is summed up, by name.

    Raises:
        SettingsError: noise and people do not fit.
    """
    return Lattice.of(
        noise_multiplier=recipe.noise_multiplier,
        noise_stores=recipe.noise_stores,
        max_grad_norm=recipe.max_grad_norm,
        parameters=sum(math.prod(array.shape) for array in arrays.values()),
        people=stores * recipe.normaliser,
    )


def step_against(
    total: NDArray[np.float64],
    recipe: PrivateRecipe,
    stores: int,
    model: Arrays,
    names: Sequence[str],
) -> dict[str, NDArray[np.float32]]:
    """The update of one step of SGD against the mean gradient, by the public number of all people.

    Args:
        total: the noised sum of all stores (n,).
        recipe: of the round.
        stores: of the run, whether they answered or not: who answered is no secret, and with fewer stores
            the step is shorter.
        model: whose shapes the update has.
        names: of the parameters in `total`, in its order; others do not move.
    """
    mean = total * (-recipe.lr / (recipe.normaliser * stores))
    update, at = {name: np.zeros_like(array) for name, array in model.items()}, 0
    for name in names:
        size = model[name].size
        update[name] = mean[at : at + size].reshape(model[name].shape).astype(np.float32)
        at += size
    return update
