"""Default settings of training, from public numbers alone.

A learning rate chosen by trying it on private faces is a release that nobody accounted for. Under
differential privacy most of what a step does is noise, and how far that noise carries the model follows
from settings that are public: so the default fixes *that* distance by the number of people, and small stores
take small steps.

The constants below were chosen on people who do not exist; docs/explanation/private-training.md says how.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from privemo.config import PlainSettings, PrivacySettings, RunSettings, ServerOptimizerName
from privemo.orders import AugmentName, Precision
from privemo.schedules import lr_factor, sample_rate_of

__all__ = [
    "ADAM_LR",
    "NOISE_TRAVEL",
    "PLAIN",
    "PLAIN_LR",
    "Recipe",
    "allowed_travel",
    "central_recipe",
    "default_lr",
    "distributed_recipe",
    "local_recipe",
    "noise_travel",
]

NOISE_TRAVEL = 2.0
"""How far (Euclidean norm) noise may be expected to carry the weights over a whole run of few people."""

PEOPLE_A_TRAVEL = 250
"""More people pull back what noise carried away: for each so many, all stores together, 1 more is allowed.

Both were chosen on people who do not exist: those of `privemo demo`, whom the weights of nobody know already,
and those of `scripts/other_camera.py`, whom they do not.
"""

PLAIN_LR = 2e-3
"""For AdamW, without privacy."""

ADAM_LR = 1e-3
"""For Adam within a store, with privacy."""

_LARGEST_LR = 1.0
_BEFORE_ADAPTIVE_LR = 0.5
"""In the stores, where the server's optimizer measures its own steps."""

PLAIN = PlainSettings(
    epochs=40, batch=128, weight_decay=0.05, label_smoothing=0.1, mixup=0.2, ema=0.998
)
"""Training without privacy, where nothing else is asked for: as weights of nobody were made, but longer and
in smaller batches."""

CENTRAL_BATCH = 5000
"""People that a step expects where everyone is in one place; fewer where that would be over half of them.

For as many pictures seen, fewer and larger steps cost less noise, up to half of the people: on people before
another camera 50 steps of half of them read 63.9%, 102 of a quarter 62.4%, and 25 of all 54.0%.
"""

CENTRAL_STEPS = (12, 100)
"""Fewest and most steps. In between, one for each `PEOPLE_A_STEP` people: noise is shared among them."""

PEOPLE_A_STEP = 100


@dataclass(frozen=True)
class Recipe:
    """How a private run is trained. The fields are described in `RunSettings` and `PrivacySettings`."""

    rounds: int
    steps_per_round: int
    sample_rate: float
    max_grad_norm: float = 1.0
    lr: float | None = None
    lr_schedule: Literal["constant", "cosine"] = "constant"
    momentum: float | None = None
    server_optimizer: ServerOptimizerName = "sgd"
    server_lr: float | None = None
    server_momentum: float = 0.0
    ema: float = 0.0
    rate_growth: float = 1.0
    optimizer: Literal["sgd", "adam"] = "sgd"
    views: int = 1
    images_per_person: int = 4
    augment: AugmentName = "mild"
    precision: Precision = "float32"

    def settings(self, privacy: dict[str, Any], **run: Any) -> RunSettings:
        """The settings of a run by this recipe.

        Args:
            privacy: what is promised: `epsilon`, `delta`, `accountant`.
            run: everything else of `RunSettings`.

        Raises:
            SettingsError: a value is out of range.
        """
        mine = asdict(self)
        inner = {name: mine.pop(name) for name in _OF_PRIVACY}
        return RunSettings.of(privacy=PrivacySettings.of(**privacy, **inner), **mine, **run)


_OF_PRIVACY = {f.name for f in fields(Recipe)} & PrivacySettings.model_fields.keys()


def central_recipe(people: int) -> Recipe:
    """DP-SGD in one place: a step to each round, so that momentum and average are the server's.

    Args:
        people: public number of people expected to be admitted.
    """
    fewest, most = CENTRAL_STEPS
    return Recipe(
        rounds=min(most, max(fewest, people // PEOPLE_A_STEP)),
        steps_per_round=1,
        sample_rate=min(0.5, CENTRAL_BATCH / people),
        server_momentum=0.9,
        ema=0.96,
    )


def distributed_recipe(people: int, *, stores: int) -> Recipe:
    """A chain of stores that share the noise: what one place would do with all of their people.

    Args:
        people: public number of people expected to be admitted in each store.
        stores: how many there are.
    """
    return central_recipe(people * stores)


def local_recipe(people: int) -> Recipe:
    """A chain of stores, each with noise of its own: few rounds of several steps.

    Args:
        people: public number of people expected to be admitted in each store.
    """
    return Recipe(rounds=3, steps_per_round=6, sample_rate=0.25)


def noise_travel(
    settings: RunSettings, *, noise_multiplier: float, normaliser: float, parameters: int
) -> float:
    """Expected distance that noise carries the averaged model over the run, at learning rate 1.

    In a round a store takes k steps with momentum m; the noise of step i still moves the model in every
    later one, by (1 - m^(k-i+1)) / (1 - m) in all. The server's momentum carries a round's noise on over
    the later rounds in the same way. Averaging over s stores divides by sqrt(s), and what was drawn apart
    adds in squares.

    Args:
        settings: of the run; steps are SGD, in the stores and on the server.
        noise_multiplier: standard deviation of the noise over the clipping norm.
        normaliser: of the largest sample rate; that of smaller ones is smaller in proportion.
        parameters: of the model.
    """
    p = settings.privacy
    if p is None:
        return 0.0
    one_step = noise_multiplier * p.max_grad_norm * math.sqrt(parameters) / normaliser
    one_round = one_step * _root_sum(_reach(settings.local_momentum, settings.steps_per_round))
    carried = _reach(settings.server_momentum, settings.rounds)
    rounds = []
    for number, reach in enumerate(carried, start=1):
        rate = sample_rate_of(p, number, settings.rounds)
        rounds.append(lr_factor(settings, number) * reach * p.sample_rate / rate)
    return settings.server_step * one_round * _root_sum(rounds) / math.sqrt(settings.stores)


def _reach(momentum: float, steps: int) -> list[float]:
    """How far each of `steps` unit steps moves in all, the first one first."""
    return [(1 - momentum ** (steps - i)) / (1 - momentum) for i in range(steps)]


def _root_sum(values: list[float]) -> float:
    return math.sqrt(sum(v * v for v in values))


def default_lr(
    settings: RunSettings, *, noise_multiplier: float, normaliser: float, parameters: int
) -> float:
    """The learning rate asked for, or else one that follows from public numbers.

    For SGD that at which noise travels as far as `allowed_travel` says; Adam, in the stores or on the server,
    measures its own steps.
    """
    if settings.lr is not None:
        return settings.lr
    if settings.privacy is None:
        return PLAIN_LR
    if settings.privacy.optimizer == "adam":
        return ADAM_LR
    if settings.adaptive_server:
        return _BEFORE_ADAPTIVE_LR
    travel = noise_travel(
        settings,
        noise_multiplier=noise_multiplier,
        normaliser=normaliser,
        parameters=parameters,
    )
    people = settings.stores * normaliser / settings.privacy.sample_rate
    return min(_LARGEST_LR, allowed_travel(people) / travel)


def allowed_travel(people: float) -> float:
    """How far noise may carry the weights over a run with so many people, all stores together."""
    return max(NOISE_TRAVEL, people / PEOPLE_A_TRAVEL)
