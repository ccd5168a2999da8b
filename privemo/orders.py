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
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

import rfc8785

from privemo.errors import SettingsError
from privemo.releases import Mechanism

__all__ = [
    "MOST_ZOOM",
    "RUN_ID",
    "ZOOM",
    "AugmentName",
    "NoiseName",
    "PersonalName",
    "PlainRecipe",
    "Precision",
    "PrivateRecipe",
    "RoundOrder",
    "check_order",
    "check_recipe",
    "order_digest",
]

AugmentName = Literal["none", "mild", "strong", "wide", "sturdy"]
"""What a recipe may call an augmentation; `privemo.training.AUGMENTATIONS` says what each does."""

Precision = Literal["float32", "bfloat16"]

NoiseName = Literal["local", "distributed"]
"""Who adds the noise: each store all of it, or all stores together, through secure aggregation."""

PersonalName = Literal["none", "head", "norm"]
"""Which layers stay in their store; see `privemo.personal`."""

RUN_ID = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
"""What a run may be called. Files and folders are named by it, so it holds no dot and no slash."""

ZOOM, MOST_ZOOM = 0.1, 0.5
"""How much closer and further faces are looked at besides, where nothing else is asked, and at most. Chosen
on people who do not exist (`scripts/other_camera.py`): a model trained at epsilon 8 read 64.2% of them with
mirror images alone, and 65.6% so. Private training shows faces at one size; at others a model errs elsewhere.
"""


@dataclass(frozen=True)
class PrivateRecipe:
    """How one round of private training goes. All of it is public.

    Attributes:
        noise_multiplier: standard deviation of the noise over the clipping norm.
        sample_rate: probability with which each person joins a step, independently.
        steps: private steps of the round.
        max_grad_norm: clipping norm of one person's gradient.
        normaliser: public constant that the noised sum is divided by.
        lr: learning rate.
        momentum: of SGD; of Adam the decay of its first moment.
        optimizer: what takes the noised gradient: `sgd` or `adam`. It starts afresh in every round.
        views: augmented copies of each drawn image, averaged before the clip (De et al. 2022, arXiv
            2204.13650).
        images_per_person: most images of one person in a step, drawn anew each time without replacement.
        augment: name of one of `privemo.training.AUGMENTATIONS`.
        precision: of the forward pass and of the gradients that flow back; sums are float32 in any case.
        noise: `local`, or `distributed`: then `noise_multiplier` is that of the sum over all stores, as a
            share of the most that one person moves it, and lr and momentum are the server's matter.
        noise_stores: fewest stores whose shares make that noise; 1 where it is local.
        proximal: pull of each step towards the model that the round began with (FedProx's mu).
        personal: layers that the store keeps to itself.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int
    max_grad_norm: float
    normaliser: float
    lr: float
    momentum: float
    optimizer: Literal["sgd", "adam"] = "sgd"
    views: int = 1
    images_per_person: int = 4
    augment: AugmentName = "mild"
    precision: Precision = "float32"
    noise: NoiseName = "local"
    noise_stores: int = 1
    proximal: float = 0.0
    personal: PersonalName = "none"

    @property
    def mechanism(self) -> Mechanism:
        """What the round costs, as accountants take it."""
        discrete = self.noise == "distributed"
        return Mechanism(self.noise_multiplier, self.sample_rate, self.steps, discrete)


@dataclass(frozen=True)
class PlainRecipe:
    """How one round of training without privacy goes.

    Attributes:
        epochs: passes over the faces.
        batch: faces in a batch.
        lr: learning rate at its highest: it rises over a tenth of the round and falls to 0 as a cosine.
        weight_decay: of matrices and convolutions; biases and normalisation have none.
        optimizer: `adamw`, or `sgd` with Nesterov's momentum 0.9.
        label_smoothing: share of each label spread over all emotions.
        mixup: alpha of the Beta distribution that pairs of faces are mixed by (Zhang et al. 2018,
            arXiv 1710.09412); 0 mixes none.
        ema: decay of the moving average that becomes the model; 0 keeps the last weights.
        augment: name of one of `privemo.training.AUGMENTATIONS`.
        precision: of the forward and backward pass; weights are float32 in any case.
        proximal: pull of each step towards the model that the round began with (FedProx's mu).
        personal: layers that the store keeps to itself.
        teachers: networks trained first, whose average answer the model learns instead of labels.
    """

    epochs: int
    batch: int
    lr: float
    weight_decay: float
    optimizer: Literal["adamw", "sgd"] = "adamw"
    label_smoothing: float = 0.05
    mixup: float = 0.0
    ema: float = 0.0
    augment: AugmentName = "strong"
    precision: Precision = "float32"
    proximal: float = 0.0
    personal: PersonalName = "none"
    teachers: int = 0


@dataclass(frozen=True)
class RoundOrder:
    """What the server asks of a store in a round.

    Attributes:
        run_id, round, model: which round of which run, and the name of its model.
        recipe: how to train.
        threads: most threads to train with.
        history: hash of the manifest of the round before; the store signs it.
        ledgers: by store, entries and last hash of its ledger when it last took part.
    """

    run_id: str
    round: int
    model: str
    recipe: PrivateRecipe | PlainRecipe
    threads: int | None = None
    history: str = "0" * 64
    ledgers: Mapping[str, tuple[int, str]] = field(default_factory=dict, hash=False)


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
    "views": (1, 64),
    "images_per_person": (1, 512),
    "noise_stores": (1, 10_000),
    "label_smoothing": (0.0, 0.9),
    "mixup": (0.0, 100.0),
    "teachers": (0, 10),
    "ema": (0.0, 0.99999),
    "proximal": (0.0, 100.0),
}
_WHOLE = {"steps", "epochs", "batch", "views", "images_per_person", "noise_stores", "teachers"}
_CHOICES: dict[tuple[type, str], tuple[str, ...]] = {
    (PrivateRecipe, "optimizer"): ("sgd", "adam"),
    (PrivateRecipe, "noise"): get_args(NoiseName),
    (PlainRecipe, "optimizer"): ("adamw", "sgd"),
    (PrivateRecipe, "precision"): get_args(Precision),
    (PlainRecipe, "precision"): get_args(Precision),
    (PrivateRecipe, "augment"): get_args(AugmentName),
    (PlainRecipe, "augment"): get_args(AugmentName),
    (PrivateRecipe, "personal"): get_args(PersonalName),
    (PlainRecipe, "personal"): get_args(PersonalName),
}
MOST_AT_ONCE = 512
"""Most rows (images times views) of one person in a step: a person is never split, so this bounds memory."""
_HASH = re.compile(r"[0-9a-f]{64}")


def check_order(order: RoundOrder) -> None:
    """Let an order pass, or name what is wrong with it.

    Raises:
        SettingsError: a value of another kind, or out of range.
    """
    if not (isinstance(order.run_id, str) and re.fullmatch(RUN_ID, order.run_id)):
        raise SettingsError("A run id has 1 to 64 letters, digits, - or _.")
    _check_number("round", order.round, 1, 1_000_000, whole=True)
    if order.threads is not None:
        _check_number("threads", order.threads, 1, 4096, whole=True)
    if not isinstance(order.model, str):
        raise SettingsError("The name of a model is text.")
    for digest in (order.history, *(digest for _, digest in order.ledgers.values())):
        if not (isinstance(digest, str) and _HASH.fullmatch(digest)):
            raise SettingsError("What came before an order is named by hashes of 64 hex digits.")
    if not isinstance(order.recipe, PrivateRecipe | PlainRecipe):
        raise SettingsError("An order carries a private or a plain recipe.")
    check_recipe(order.recipe)


def check_recipe(recipe: PrivateRecipe | PlainRecipe) -> None:
    """Let a recipe pass, or name what is wrong with it.

    Raises:
        SettingsError: a value of another kind, or out of range.
    """
    for part in fields(recipe):
        value = getattr(recipe, part.name)
        choices = _CHOICES.get((type(recipe), part.name))
        if choices is None:
            low, high = _RANGES[part.name]
            _check_number(part.name, value, low, high, whole=part.name in _WHOLE)
        elif value not in choices:
            raise SettingsError(f"{part.name} is {value!r}; choose one of {', '.join(choices)}.")
    if isinstance(recipe, PrivateRecipe):
        rows = recipe.views * recipe.images_per_person
        if rows > MOST_AT_ONCE:
            raise SettingsError(
                f"views x images_per_person is {rows}; a store takes up to {MOST_AT_ONCE} in a step."
            )
        if recipe.noise == "local" and recipe.noise_stores != 1:
            raise SettingsError("Local noise is one store's own: noise_stores is 1.")
        if recipe.noise == "distributed" and (recipe.steps, recipe.optimizer) != (1, "sgd"):
            raise SettingsError("Stores that share the noise take one step of sgd to a round.")
        if recipe.noise == "distributed" and recipe.personal != "none":
            raise SettingsError("Stores that share the noise have no layers of their own.")


def _check_number(name: str, value: object, low: float, high: float, *, whole: bool) -> None:
    kinds = (int,) if whole else (int, float)
    # bool is an int in Python and a mistake here; NaN is a float and no number.
    if type(value) not in kinds or not math.isfinite(value):  # type: ignore[arg-type]
        raise SettingsError(f"{name} is {value!r}; expected a {'whole ' if whole else ''}number.")
    if not low <= value <= high:  # type: ignore[operator]
        raise SettingsError(f"{name} is {value!r}; a store accepts {low:g} to {high:g}.")


def order_digest(order: RoundOrder, model_in: str) -> str:
    """Name of an order on a model, hex: what a resend must equal, and what seeded noise hangs on.

    The number of threads and what came before are left out: they do not change what is released.
    """
    recipe = asdict(order.recipe)
    if recipe.get("noise") == "local":  # nothing to tell apart
        del recipe["noise"], recipe["noise_stores"]
    if not recipe["proximal"]:
        del recipe["proximal"]
    if recipe["personal"] == "none":
        del recipe["personal"]
    if not recipe.get("teachers"):
        recipe.pop("teachers", None)
    content: dict[str, Any] = {
        "run_id": order.run_id,
        "round": order.round,
        "model": order.model,
        "kind": type(order.recipe).__name__,
        "recipe": recipe,
        "model_in": model_in,
    }
    return hashlib.sha256(rfc8785.dumps(content)).hexdigest()
