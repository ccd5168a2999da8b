"""What each part of the central recipe contributes: the recipe, and the recipe with one thing changed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from privemo.bench.cells import Cell
from privemo.bench.results import one_recipe
from privemo.bench.variants import Variant
from privemo.config import RunSettings
from privemo.errors import RunError, SettingsError
from privemo.faces import FaceTable
from privemo.facts import privacy_facts
from privemo.models import build_model, count_parameters
from privemo.orders import Precision
from privemo.recipes import Recipe, central_recipe, default_lr

__all__ = [
    "FULL",
    "NO_AVERAGE",
    "ONE_SIZE",
    "SCHEMA",
    "Ablation",
    "Change",
    "Row",
    "changes",
    "rows",
    "summed_up",
]

SCHEMA = "privemo.bench-ablation/1"

FULL = "full"
NO_AVERAGE = "no-average"
ONE_SIZE = "one-size"


@dataclass(frozen=True)
class Ablation:
    """What is compared.

    Attributes:
        epsilon: budget of a person, of every row.
        seeds: one training of each row for each.
        steps_scale: factor on the number of steps, to make everything shorter.
        precision: of the passes of every row but the one that has the other.
        only: names of rows; all when empty. The full recipe is always there.
        delta: probability that the bound may fail.
        split_seed: who is held out.
        challenge_age: years; refuse whoever is estimated to be younger.
        init: where training starts from.
        model: name of the architecture.

    Raises:
        SettingsError: no seed, or a scale that is no number above 0.
    """

    epsilon: float = 8.0
    seeds: tuple[int, ...] = (0, 1, 2)
    steps_scale: float = 1.0
    precision: Precision = "float32"
    only: tuple[str, ...] = ()
    delta: float = 1e-5
    split_seed: int = 0
    challenge_age: float = 25.0
    init: str = "nobody"
    model: str = "emotion-cnn"

    def __post_init__(self) -> None:
        if not self.seeds:
            raise SettingsError("Name at least one seed.")
        if not (math.isfinite(self.steps_scale) and self.steps_scale > 0):
            raise SettingsError(f"A scale of steps is above 0, not {self.steps_scale}.")


@dataclass(frozen=True)
class Change:
    """One row's difference from the full recipe.

    Attributes:
        name: of the row.
        words: what is different.
        recipe: of the row.
        init: where it starts; None as the others do.
        variant: of the network.
    """

    name: str
    words: str
    recipe: Recipe
    init: str | None = None
    variant: Variant = "as shipped"


def changes(full: Recipe) -> list[Change]:
    """The rows: first the full recipe, then one change each. What would change nothing is left out.

    Where a part is tied to another by arithmetic, that one follows, so that the row is about the part: with
    another clip, momentum or batch the learning rate keeps the distance that a whole run can go.

    Args:
        full: with a learning rate of its own.

    Raises:
        SettingsError: without one.
    """
    if full.lr is None:
        raise SettingsError("Rows are changed from a recipe with a learning rate: give it one.")
    lr = full.lr
    small = replace(
        full,
        rounds=4 * full.rounds,
        sample_rate=full.sample_rate / 4,
        lr=lr / 4,
        ema=full.ema**0.25,
    )
    # Without momentum each step counts once instead of 1 / (1 - momentum) times.
    alone = replace(full, server_momentum=0.0, lr=lr / (1 - full.server_momentum))
    adam = replace(full, server_optimizer="adam", server_lr=None)
    # From two thirds to four thirds of the rate in equal stages: as many pictures, for rates below 3/4.
    growing = replace(full, rate_growth=2.0, sample_rate=min(1.0, full.sample_rate * 4 / 3))
    schedule: Literal["constant", "cosine"] = (
        "constant" if full.lr_schedule == "cosine" else "cosine"
    )
    other: Precision = "bfloat16" if full.precision == "float32" else "float32"
    found = [
        Change("no-standardising", "plain convolutions", full, variant="plain convolutions"),
        Change("scratch", "random start", full, init="scratch"),
        Change("no-momentum", "no momentum, lr / (1 - momentum)", alone),
        Change("views-1", "one view of each picture", replace(full, views=1)),
        Change("views-2", "two views of each picture", replace(full, views=2)),
        Change("views-4", "four views of each picture", replace(full, views=4)),
        Change("no-augmentation", "no augmentation", replace(full, augment="none")),
        Change("small-batch", "a quarter of the batch, 4 x the steps, lr / 4", small),
        Change("rate-growth", "rates that double, as many pictures", growing),
        Change("adam", "Adam on the noised gradient", adam),
        Change(other, f"passes in {other}", replace(full, precision=other)),
        Change("clip-low", "clip / 10, lr x 10", _clipped(full, 0.1)),
        Change("clip-high", "clip x 10, lr / 10", _clipped(full, 10.0)),
        Change(schedule, f"{schedule} learning rate", replace(full, lr_schedule=schedule)),
    ]
    same = Change(FULL, "the recipe as it is", full)
    return [same, *(c for c in found if replace(c, name=FULL, words=same.words) != same)]


def _clipped(full: Recipe, factor: float) -> Recipe:
    return replace(full, max_grad_norm=full.max_grad_norm * factor, lr=(full.lr or 1.0) / factor)


def rows(table: FaceTable, asked: Ablation) -> list[Cell]:
    """The cells, one seed after the other; each is labelled with the name of its row.

    Raises:
        SettingsError: there is no row of a name, or a value is out of range.
    """
    people = RunSettings.of(stores=1).public_people(len(np.unique(table.person)))
    recipe = central_recipe(people)
    recipe = replace(
        recipe,
        rounds=max(1, round(asked.steps_scale * recipe.rounds)),
        precision=asked.precision,
    )
    run = _everywhere(asked, people)
    full = replace(recipe, lr=_lr(_settings(recipe, asked, run), people, table.channels))
    found = [c for c in changes(full) if c.init is None or c.init != asked.init]
    known = [c.name for c in found]
    if unknown := set(asked.only) - set(known):
        raise SettingsError(
            f"There is no row {', '.join(map(repr, sorted(unknown)))}; choose among {', '.join(known)}."
        )
    chosen = [c for c in found if not asked.only or c.name == FULL or c.name in asked.only]
    return [
        Cell(
            "central",
            _settings(c.recipe, asked, {**run, "seed": seed, "init": c.init or asked.init}),
            variant=c.variant,
            row=c.name,
            words=c.words,
        )
        for seed in asked.seeds
        for c in chosen
    ]


def _everywhere(asked: Ablation, people: int) -> dict[str, Any]:
    return {
        "stores": 1,
        "declared_people": people,
        "seed": asked.seeds[0],
        "split_seed": asked.split_seed,
        "challenge_age": asked.challenge_age,
        "init": asked.init,
        "model": asked.model,
        "consents": "everyone",
    }


def _settings(recipe: Recipe, asked: Ablation, run: dict[str, Any]) -> RunSettings:
    return recipe.settings({"epsilon": asked.epsilon, "delta": asked.delta}, **run)


def _lr(settings: RunSettings, people: int, channels: int) -> float:
    """The learning rate that `privemo train` would derive."""
    known = privacy_facts(settings, people)
    return default_lr(
        settings,
        noise_multiplier=known["noise_multiplier"],
        normaliser=known["normaliser"],
        parameters=count_parameters(build_model(settings.model, channels=channels)),
    )


@dataclass(frozen=True)
class Row:
    """Seeds of one row, put together.

    Attributes:
        name: see `changes`; and of the full recipe's own trainings `no-average`, their last models, and
            `one-size`, their models when they read faces at one size.
        words: what is different.
        accuracies: of each seed.
        against_full: mean over the seeds of the difference to the full recipe with the same seed.
        low: mean over the seeds of the 95% interval's lower end; that is about the people held out.
        high: likewise the upper end.
        lowest_f1: the lowest of any class in any seed; None where a class was never there.
        seconds: of one training, on average.
    """

    name: str
    words: str
    accuracies: tuple[float, ...]
    against_full: float
    low: float
    high: float
    lowest_f1: float | None
    seconds: float

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return math.fsum(self.accuracies) / len(self.accuracies)


def summed_up(records: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Records by row, the full recipe first.

    Raises:
        RunError: the full recipe has not been measured with a seed of another row, or two records of a row
            differ in more than their seed.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for record in sorted(records, key=lambda record: record["seed"]):
        groups.setdefault(record["row"], []).append(record)
        if record["row"] == FULL and record["last"]:
            last = {**record, **record["last"], "words": "the last model, no moving average"}
            groups.setdefault(NO_AVERAGE, []).append(last)
        if record["row"] == FULL and record.get("one_size"):
            once = {**record, **record["one_size"], "words": "faces read at one size, mirrored"}
            groups.setdefault(ONE_SIZE, []).append(once)
    full = {record["seed"]: record["accuracy"] for record in groups.get(FULL, [])}
    order = sorted(groups, key=lambda name: (name != FULL, name not in (NO_AVERAGE, ONE_SIZE)))
    return [_row(name, groups[name], full) for name in order]


def _row(name: str, group: list[Mapping[str, Any]], full: Mapping[int, float]) -> Row:
    one_recipe(name, group)
    if missing := [record["seed"] for record in group if record["seed"] not in full]:
        raise RunError(f"The full recipe lacks seed {missing[0]}, which {name!r} has: measure it.")
    f1 = [record["lowest_f1"] for record in group]
    return Row(
        name=name,
        words=group[0]["words"],
        accuracies=tuple(record["accuracy"] for record in group),
        against_full=_mean([record["accuracy"] - full[record["seed"]] for record in group]),
        low=_mean([record["interval"][0] for record in group]),
        high=_mean([record["interval"][1] for record in group]),
        lowest_f1=None if None in f1 else min(f1),
        seconds=_mean([record["seconds"] for record in group]),
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
