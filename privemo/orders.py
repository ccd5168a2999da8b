"""What a server may ask of a store, and the limits within which a store listens.

An order is data from outside. Everything in it is checked for kind and range before anything is read,
trained or written; what does not pass is answered with `recipe_refused`. The limits are wide enough for
any sensible training and narrow enough that noise never rounds away (a clipping norm below the smallest
float32 would erase it) and that no order exhausts the machine.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import asdict, dataclass, fields
from typing import Any

import rfc8785

from privemo.errors import SettingsError

__all__ = ["PlainRecipe", "PrivateRecipe", "RoundOrder", "check_order", "order_digest"]


@dataclass(frozen=True)
class PrivateRecipe:
    """How one round of private training goes. All of it is public."""

    noise_multiplier: float
    sample_rate: float
    steps: int
    max_grad_norm: float
    normaliser: float
    lr: float
    momentum: float


@dataclass(frozen=True)
class PlainRecipe:
    """How one round of training without privacy goes."""

    epochs: int
    batch: int
    lr: float
    weight_decay: float


@dataclass(frozen=True)
class RoundOrder:
    """What the server asks of a store in a round."""

    run_id: str
    round: int
    model: str
    recipe: PrivateRecipe | PlainRecipe
    threads: int | None = None


_RANGES: dict[str, tuple[float, float]] = {
    "noise_multiplier": (0.2, 1e5),
    "sample_rate": (1e-6, 1.0),
    "steps": (1, 10_000),
    "max_grad_norm": (1e-4, 1e4),
    "normaliser": (1e-2, 1e9),
    "lr": (1e-9, 1e3),
    "momentum": (0.0, 0.999),
    "epochs": (1, 10_000),
    "batch": (1, 1_000_000),
    "weight_decay": (0.0, 10.0),
}
_WHOLE = {"steps", "epochs", "batch"}
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def check_order(order: RoundOrder) -> None:
    """Let an order pass, or name what is wrong with it.

    Raises:
        SettingsError: a value of another kind, or out of range.
    """
    if not (isinstance(order.run_id, str) and _RUN_ID.fullmatch(order.run_id)):
        raise SettingsError("A run id has 1 to 64 letters, digits, - or _.")
    _check_number("round", order.round, 1, 1_000_000, whole=True)
    if order.threads is not None:
        _check_number("threads", order.threads, 1, 4096, whole=True)
    if not isinstance(order.model, str):
        raise SettingsError("The name of a model is text.")
    if not isinstance(order.recipe, PrivateRecipe | PlainRecipe):
        raise SettingsError("An order carries a private or a plain recipe.")
    for field in fields(order.recipe):
        low, high = _RANGES[field.name]
        value = getattr(order.recipe, field.name)
        _check_number(field.name, value, low, high, whole=field.name in _WHOLE)


def _check_number(name: str, value: object, low: float, high: float, *, whole: bool) -> None:
    kinds = (int,) if whole else (int, float)
    # bool is an int in Python and a mistake here; NaN is a float and no number.
    if type(value) not in kinds or not math.isfinite(value):  # type: ignore[arg-type]
        raise SettingsError(f"{name} is {value!r}; expected a {'whole ' if whole else ''}number.")
    if not low <= value <= high:  # type: ignore[operator]
        raise SettingsError(f"{name} is {value!r}; a store accepts {low:g} to {high:g}.")


def order_digest(order: RoundOrder, model_in: str) -> str:
    """Name of an order on a model, hex: what a resend must equal, and what seeded noise hangs on.

    The number of threads is left out: it does not change what is released.
    """
    content: dict[str, Any] = {
        "run_id": order.run_id,
        "round": order.round,
        "model": order.model,
        "kind": type(order.recipe).__name__,
        "recipe": asdict(order.recipe),
        "model_in": model_in,
    }
    return hashlib.sha256(rfc8785.dumps(content)).hexdigest()
