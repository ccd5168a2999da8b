"""What a store agreed to, held against what a server asks of it now."""

from __future__ import annotations

import math

from privemo.errors import SettingsError
from privemo.orders import PlainRecipe, PrivateRecipe, RoundOrder, check_order
from privemo.storeconfig import StoreConfig

__all__ = ["check_agreed"]


def check_agreed(mine: StoreConfig, order: RoundOrder) -> None:
    """Let an order pass that is as agreed.

    Raises:
        SettingsError: it is another.
    """
    check_order(order)
    if mine.run_id != order.run_id:
        raise SettingsError(f"{mine.name} takes part in another run than {order.run_id}.")
    if order.recipe.personal != mine.personal:
        raise SettingsError(
            f"{mine.name} agreed to keep {mine.personal} to itself, and is asked for {order.recipe.personal}."
        )
    if not isinstance(order.recipe, PlainRecipe):
        _check_private(mine, order.recipe)
    elif mine.epsilon_budget is not None:
        raise SettingsError(
            f"{mine.name} only trains with differential privacy; the order was without."
        )


def _check_private(mine: StoreConfig, recipe: PrivateRecipe) -> None:
    """A free choice of the server would let it search for the private number of people."""
    if (recipe.noise == "distributed") != bool(mine.roster) or (
        recipe.noise_stores != mine.noise_stores
    ):
        raise SettingsError(f"{mine.name}: who adds the noise, and how many, is not as agreed.")
    if not math.isclose(recipe.normaliser, recipe.sample_rate * mine.declared_people):
        raise SettingsError(f"{mine.name}: the normaliser is not sample rate x declared people.")
    if math.ceil(recipe.sample_rate * mine.declared_people) > mine.largest_step:
        raise SettingsError(
            f"{mine.name}: a step was agreed to expect {mine.largest_step} people at most."
        )
    step = (recipe.noise_multiplier, recipe.sample_rate)
    if (mine.max_stores_per_person > 1 or mine.roster) and step not in mine.agreed:
        raise SettingsError(f"{mine.name}: steps of this noise and rate were not agreed on.")
