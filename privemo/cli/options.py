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

from privemo.cli.sharing import names_of
from privemo.errors import SettingsError

__all__ = [
    "as_options",
    "bound",
    "chain",
    "differences",
    "given",
    "plain",
    "promise",
    "recipe",
    "recipe_options",
    "refuse_given",
]


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


LOSS = "What a person may lose"
"""Heading of options in the help, that of `bound`."""

DataOption = Annotated[Path | None, typer.Option(help="Faces: npz, csv or folder.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="Run folder to make.")]
ResumeOption = Annotated[
    Path | None, typer.Option(help="Go on with an interrupted run in this folder.")
]
WorkersOption = Annotated[
    int,
    typer.Option(
        help="Stores that train at once, each in a process of its own, on a share of the threads."
    ),
]
EpsilonOption = Annotated[float, typer.Option(help="Most any person may lose, whole run.")]
DeltaOption = Annotated[float, typer.Option(help="Probability that the bound may fail.")]
AccountantOption = Annotated[AccountantName, typer.Option(help="Bound held against the budget.")]
BudgetOption = Annotated[
    Path | None,
    typer.Option(
        help="File that keeps what all runs on these people spent together.", rich_help_panel=LOSS
    ),
]
NoiseOption = Annotated[
    NoiseName,
    typer.Option(
        help="Each store all of it, or all stores together: then the server sees secure sums alone.",
        rich_help_panel=LOSS,
    ),
]
DropOption = Annotated[
    float,
    typer.Option(
        help="With distributed noise: share of stores without whom a round still counts.",
        rich_help_panel=LOSS,
    ),
]
StoresPerPersonOption = Annotated[
    int,
    typer.Option(
        help="In how many stores one person may take part; raises the noise. Not with distributed noise.",
        rich_help_panel=LOSS,
    ),
]
SpareOption = Annotated[
    int,
    typer.Option(
        help="Rounds the budget holds beyond those of the run, for what breaks off.",
        rich_help_panel=LOSS,
    ),
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

# -- groups, which commands take -----------------------------------------------------------------


def bound(
    epsilon: EpsilonOption = 8.0,
    delta: DeltaOption = 1e-5,
    accountant: AccountantOption = AccountantName.rdp,
) -> None:
    """What a person may lose."""


def recipe(
    rounds: RoundsOption = None,
    steps: StepsOption = None,
    sample_rate: RateOption = None,
    rate_growth: GrowthOption = None,
    clip: ClipOption = None,
    lr: LrOption = None,
    lr_schedule: ScheduleOption = None,
    optimizer: OptimizerOption = None,
    momentum: MomentumOption = None,
    server_optimizer: ServerOptimizerOption = None,
    server_lr: ServerLrOption = None,
    server_momentum: ServerMomentumOption = None,
    ema: EmaOption = None,
    views: ViewsOption = None,
    images_per_person: ImagesOption = None,
    augment: AugmentOption = None,
    precision: PrecisionOption = None,
) -> None:
    """Training, by a recipe where nothing else is asked."""


def plain(
    epochs: EpochsOption = None,
    batch: BatchOption = None,
    mixup: MixupOption = None,
    label_smoothing: SmoothingOption = None,
    weight_decay: DecayOption = None,
    teachers: TeachersOption = None,
) -> None:
    """Training without privacy."""


def chain(
    proximal: ProximalOption = 0.0,
    personal: PersonalOption = PersonalName.none,
    aggregation: AggregationOption = AggregationName.mean,
    malicious_stores: MaliciousOption = 0,
    quorum: QuorumOption = 1,
    participation: ParticipationOption = 1.0,
) -> None:
    """Several stores, which no recipe decides."""


def differences(
    label_skew: LabelSkewOption = None,
    size_skew: SizeSkewOption = None,
    skew_column: SkewColumnOption = None,
    camera_skew: CameraSkewOption = 0.0,
) -> None:
    """How the stores of a simulated chain differ."""


BOUND = names_of(bound)
ONLY_PLAIN = frozenset(names_of(plain))
OF_CHAINS = names_of(chain)
OF_SIMULATIONS = names_of(differences)

_RECIPE = {name: name for name in names_of(recipe)} | {
    "steps": "steps_per_round",
    "clip": "max_grad_norm",
}
"""Name of an option -> field of `privemo.recipes.Recipe`."""

_OF_NOISE = {name: name for name in ("noise", "may_drop", "spare_rounds")} | {
    "stores_per_person": "max_stores_per_person"
}
"""Name of an option -> field of `privemo.config.PrivacySettings`."""


def promise(ctx: typer.Context) -> dict[str, Any]:
    """Fields of `PrivacySettings` that no recipe decides, as far as the command has an option for them."""
    names = (*BOUND, *_OF_NOISE)
    return {_OF_NOISE.get(name, name): ctx.params[name] for name in names if name in ctx.params}


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
    **{field: name for name, field in _OF_NOISE.items()},
    **{name: name for name in (*OF_CHAINS, *OF_SIMULATIONS)},
    **{name: name for name in ("seed", "split_seed", "challenge_age", "consents")},
}
_FIELD = re.compile(
    rf"(^|; |refused: |\bx )(?:privacy\.|plain\.)?({'|'.join(_NAMED)})(?=: | is | x )"
    rf"|(\b(?:set|leave out) )({'|'.join(_NAMED)})\b"
)


def as_options(sentence: str) -> str:
    """A sentence about settings, whose fields are called as on the command line."""
    return _FIELD.sub(
        lambda m: f"{m[1] or m[3] or ''}--{_NAMED[m[2] or m[4]].replace('_', '-')}", sentence
    )
