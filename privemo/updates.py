"""What an update must be before it counts: named, shaped and typed as the model, finite, not too long."""

from __future__ import annotations

import math

import numpy as np

from privemo import weights as w
from privemo.errors import UpdateMadeUp
from privemo.orders import PrivateRecipe, RoundOrder

__all__ = ["check_update", "norm_bound"]


def check_update(
    update: w.Weights, model: w.Weights, *, bound: float, own: frozenset[str] = frozenset()
) -> None:
    """Let an update pass, or say what is wrong with it.

    Args:
        update: of a store.
        model: that it is for.
        bound: longest that it may be.
        own: parameters that stay in the stores: an update leaves them alone.

    Raises:
        UpdateMadeUp: other names, shapes or type than the model, not finite, longer than `bound`, or it
            moves what stays in the stores.
    """
    if set(update) != set(model):
        odd = sorted(set(update) ^ set(model))[:3]
        raise UpdateMadeUp(f"parameters differ: {', '.join(odd)}")
    for name, array in update.items():
        if array.shape != model[name].shape or array.dtype != np.float32:
            raise UpdateMadeUp(
                f"{name} is {array.dtype}{list(array.shape)}, "
                f"expected float32{list(model[name].shape)}"
            )
        if not np.isfinite(array).all():
            raise UpdateMadeUp(f"{name} holds NaN or infinity")
        if name in own and array.any():
            raise UpdateMadeUp(f"it moves {name}, which stays in the stores")
    norm = math.sqrt(sum(float(np.vdot(a, a)) for a in update.values()))
    if norm > bound:
        raise UpdateMadeUp(f"its norm {norm:.3g} is over the bound {bound:.3g}")


def norm_bound(order: RoundOrder, parameters: int) -> float:
    """Twice the norm that an honest update can be expected to stay under, from public numbers.

    A private step moves the model by lr * (clipped sum + noise) / normaliser. The clipped sum has at most
    the norm of 3 normal batches of people, all agreeing; the noise has norm
    noise_multiplier * max_grad_norm * sqrt(parameters). Momentum adds at most 1 / (1 - momentum). Adam
    divides by what it has seen: none of its steps moves a parameter by more than about 3.2 learning rates
    (Kingma & Ba 2015, section 2.1).
    """
    recipe = order.recipe
    if not isinstance(recipe, PrivateRecipe):
        return 1e3
    if recipe.optimizer == "adam":
        return 2 * 3.2 * recipe.lr * recipe.steps * math.sqrt(parameters)
    signal = 3 * recipe.max_grad_norm
    noise = (
        recipe.noise_multiplier * recipe.max_grad_norm * math.sqrt(parameters) / recipe.normaliser
    )
    return 2 * recipe.lr * recipe.steps * (signal + noise) / (1 - recipe.momentum)
