"""Options that the commands which train have in common.

Whatever a recipe decides is None until it is asked for: the recipe's own value depends on the data's public
size, and an option that merely repeats a default would hide that.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from click.core import ParameterSource

from privemo.errors import SettingsError

__all__ = ["as_options", "given", "recipe_options", "refuse_given"]


class EngineName(StrEnum):
    """Where the Flower app runs."""

    inprocess = "inprocess"
    ray = "ray"


class MixName(StrEnum):
    """How simulated shoppers answer."""

    realistic = "realistic"
    everyone = "everyone"


class AccountantName(StrEnum):
    """Which bound is held against the budget."""

    rdp = "rdp"
    prv = "prv"


class NoiseName(StrEnum):
    """Who adds the noise."""

    local = "local"
    distributed = "distributed"


class ScheduleName(StrEnum):
    """How the learning rate goes over the rounds."""

    constant = "constant"
    cosine = "cosine"


class PersonalName(StrEnum):
    """Layers that stay in their store."""

    none = "none"
    head = "head"
    norm = "norm"


class AugmentationName(StrEnum):
    """How much pictures are changed at random."""

    none = "none"
    mild = "mild"
    strong = "strong"
    wide = "wide"
    sturdy = "sturdy"


class PrecisionName(StrEnum):
    """Numbers of the forward and backward pass."""

    float32 = "float32"
    bfloat16 = "bfloat16"


class ServerOptimizerName(StrEnum):
    """What takes the average update of a round."""

    sgd = "sgd"
    adam = "adam"
    yogi = "yogi"


class AggregationName(StrEnum):
    """What becomes of the stores' updates."""

    mean = "mean"
    trimmed_mean = "trimmed_mean"
    median = "median"
    krum = "krum"


DataOption = Annotated[Path | None, typer.Option(help="Faces: npz, csv or folder.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="Run folder to make.")]
ResumeOption = Annotated[
    Path | None, typer.Option(help="Go on with an interrupted run in this folder.")
]
EpsilonOption = Annotated[float, typer.Option(help="Most any person may lose, whole run.")]
DeltaOption = Annotated[float, typer.Option(help="Probability that the bound may fail.")]
AccountantOption = Annotated[AccountantName, typer.Option(help="Bound held against the budget.")]
BudgetOption = Annotated[
    Path | None,
    typer.Option(help="File that keeps what all runs on these people spent together."),
]
NoiseOption = Annotated[
    NoiseName,
    typer.Option(
        help="Each store all of it, or all stores together: then the server sees secure sums alone."
    ),
]
DropOption = Annotated[
    float,
    typer.Option(help="With distributed noise: share of stores without whom a round still counts."),
]
SpareOption = Annotated[
    int, typer.Option(help="Rounds the budget holds beyond those of the run, for what breaks off.")
]
ProximalOption = Annotated[
    float, typer.Option(help="Pull of a store's steps back to the round's model (FedProx's mu).")
]
PersonalOption = Annotated[
    PersonalName, typer.Option(help="Layers that each store keeps and trains for itself.")
]
AggregationOption = Annotated[
    AggregationName, typer.Option(help="The stores' mean, or what poisoned stores cannot move.")
]
MaliciousOption = Annotated[
    int, typer.Option(help="Stores that may be poisoned, for all but the mean.")
]
QuorumOption = Annotated[int, typer.Option(help="Fewest stores that make a round.")]
ParticipationOption = Annotated[
    float, typer.Option(help="Share of the stores that are asked in a round.")
]
LabelSkewOption = Annotated[
    float | None,
    typer.Option(help="Let stores see different emotions: concentration, 1 much, 100 hardly."),
]
SizeSkewOption = Annotated[
    float | None, typer.Option(help="Let stores be of different size: concentration.")
]
SkewColumnOption = Annotated[
    str | None, typer.Option(help="Let --label-skew share out this column instead of emotions.")
]
CameraSkewOption = Annotated[
    float, typer.Option(help="Let cameras and light of the stores differ; 1 is a lot.")
]
SeedOption = Annotated[
    int | None,
    typer.Option(
        help="Make the run repeatable. The noise can then be taken off: never release the model."
    ),
]
SplitSeedOption = Annotated[
    int | None, typer.Option(help="Who is held out and how shoppers answer; --seed by default.")
]
DeclaredOption = Annotated[
    int | None, typer.Option(help="Public size of a store; see the how-to on budgets.")
]
SensitiveOption = Annotated[
    list[str] | None, typer.Option(help="Column to audit by; may be given several times.")
]
ModelOption = Annotated[str, typer.Option(help="Name of the architecture.")]
MixOption = Annotated[MixName, typer.Option(help="How the simulated shoppers answer.")]
AgeOption = Annotated[
    float, typer.Option(help="Refuse whoever is estimated to be younger; 18 at least.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

BY_RECIPE = "the recipe's"

# -- a recipe's ----------------------------------------------------------------------------------

RoundsOption = Annotated[
    int | None, typer.Option(help="Rounds; all count against the budget.", show_default=BY_RECIPE)
]
StepsOption = Annotated[
    int | None, typer.Option(help="Private steps of a store in a round.", show_default=BY_RECIPE)
]
RateOption = Annotated[
    float | None, typer.Option(help="Chance of a person to join a step.", show_default=BY_RECIPE)
]
GrowthOption = Annotated[
    float | None,
    typer.Option(
        help="Sample rate of the last rounds over that of the first.", show_default=BY_RECIPE
    ),
]
ClipOption = Annotated[
    float | None, typer.Option(help="Clipping norm of a person's gradient.", show_default=BY_RECIPE)
]
LrOption = Annotated[
    float | None, typer.Option(help="Learning rate; derived by default.", show_default=BY_RECIPE)
]
ScheduleOption = Annotated[
    ScheduleName | None, typer.Option(help="Learning rate over the rounds.", show_default=BY_RECIPE)
]
OptimizerOption = Annotated[
    str | None,
    typer.Option(
        help="Of a store: sgd or adam; without privacy adamw or sgd.", show_default=BY_RECIPE
    ),
]
MomentumOption = Annotated[
    float | None, typer.Option(help="Momentum of a store's steps.", show_default=BY_RECIPE)
]
ServerOptimizerOption = Annotated[
    ServerOptimizerName | None,
    typer.Option(help="What takes a round's average update.", show_default=BY_RECIPE),
]
ServerLrOption = Annotated[
    float | None, typer.Option(help="Step of the server.", show_default=BY_RECIPE)
]
ServerMomentumOption = Annotated[
    float | None, typer.Option(help="Momentum of the server.", show_default=BY_RECIPE)
]
EmaOption = Annotated[
    float | None,
    typer.Option(
        help="Decay of the average of models that is kept; 0 for none.", show_default=BY_RECIPE
    ),
]
ViewsOption = Annotated[
    int | None, typer.Option(help="Augmented copies of each drawn image.", show_default=BY_RECIPE)
]
ImagesOption = Annotated[
    int | None, typer.Option(help="Most images of one person in a step.", show_default=BY_RECIPE)
]
AugmentOption = Annotated[
    AugmentationName | None,
    typer.Option(help="How much pictures are changed.", show_default=BY_RECIPE),
]
PrecisionOption = Annotated[
    PrecisionName | None, typer.Option(help="Numbers of the passes.", show_default=BY_RECIPE)
]
EpochsOption = Annotated[
    int | None, typer.Option(help="Passes over the data, without privacy.", show_default=BY_RECIPE)
]
BatchOption = Annotated[
    int | None, typer.Option(help="Faces in a batch, without privacy.", show_default=BY_RECIPE)
]
MixupOption = Annotated[
    float | None, typer.Option(help="Mix faces in pairs, without privacy.", show_default=BY_RECIPE)
]
SmoothingOption = Annotated[
    float | None,
    typer.Option(help="Share of a label spread out, without privacy.", show_default=BY_RECIPE),
]
DecayOption = Annotated[
    float | None,
    typer.Option(help="Pull of weights to zero, without privacy.", show_default=BY_RECIPE),
]
TeachersOption = Annotated[
    int | None,
    typer.Option(
        help="Networks trained first, for the model to learn from, without privacy.",
        show_default=BY_RECIPE,
    ),
]
ONLY_PLAIN = frozenset({"epochs", "batch", "mixup", "label_smoothing", "weight_decay", "teachers"})

OF_CHAINS = ("proximal", "personal", "aggregation", "malicious_stores", "quorum", "participation")
"""Settings of runs with several stores that no recipe decides."""

OF_SIMULATIONS = ("label_skew", "size_skew", "skew_column", "camera_skew")
"""How the stores of a simulated chain differ."""

_RECIPE = {
    "rounds": "rounds",
    "steps": "steps_per_round",
    "sample_rate": "sample_rate",
    "rate_growth": "rate_growth",
    "clip": "max_grad_norm",
    "lr": "lr",
    "lr_schedule": "lr_schedule",
    "optimizer": "optimizer",
    "momentum": "momentum",
    "server_optimizer": "server_optimizer",
    "server_lr": "server_lr",
    "server_momentum": "server_momentum",
    "ema": "ema",
    "views": "views",
    "images_per_person": "images_per_person",
    "augment": "augment",
    "precision": "precision",
}
"""Name of an option -> field of `privemo.recipes.Recipe`."""


def recipe_options(ctx: typer.Context) -> dict[str, Any]:
    """Fields of a recipe that were asked for."""
    return {
        field: ctx.params[name] for name, field in _RECIPE.items() if ctx.params[name] is not None
    }


def given(ctx: typer.Context) -> list[str]:
    """Names of the options that stand on the command line."""
    return [
        name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]


def refuse_given(ctx: typer.Context, names: AbstractSet[str], why: str) -> None:
    """An option that would be ignored is a misunderstanding.

    Raises:
        SettingsError: one of `names` was given; `why` starts the sentence.
    """
    found = [name.rstrip("_").replace("_", "-") for name in given(ctx) if name in names]
    if found:
        raise SettingsError(f"{why}; leave out --{', --'.join(found)}.")


_NAMED = {
    **{field: name for name, field in _RECIPE.items()},
    **{name: name for name in ONLY_PLAIN},
    **{name: name for name in ("epsilon", "delta", "accountant", "stores", "declared_people")},
    **{name: name for name in ("noise", "may_drop", "spare_rounds", *OF_CHAINS)},
    **{name: name for name in OF_SIMULATIONS},
    **{name: name for name in ("seed", "split_seed", "challenge_age", "consents")},
}
_FIELD = re.compile(
    rf"(^|; |refused: |\bx )(?:privacy\.|plain\.)?({'|'.join(_NAMED)})(?=: | is | x )"
)


def as_options(sentence: str) -> str:
    """A sentence about settings, whose fields are called as on the command line."""
    return _FIELD.sub(lambda m: f"{m[1]}--{_NAMED[m[2]].replace('_', '-')}", sentence)
