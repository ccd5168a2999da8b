"""Accuracy against epsilon: who holds the noise, and how much of it, by the recipes of the product."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from privemo.bench.cells import MODES, Cell, Mode
from privemo.bench.results import one_recipe
from privemo.config import PlainSettings, RunSettings
from privemo.errors import SettingsError
from privemo.faces import FaceTable
from privemo.recipes import PLAIN, Recipe, central_recipe, distributed_recipe, local_recipe

__all__ = ["PRIVATE_MODES", "SCHEMA", "Plan", "Point", "cells_of", "points"]

SCHEMA = "privemo.bench-accuracy/1"

PRIVATE_MODES: tuple[Mode, ...] = ("central", "local", "distributed")


@dataclass(frozen=True)
class Plan:
    """What is measured: a cell for each seed, epsilon and mode; infinity is one without privacy.

    Attributes:
        epsilons: budgets of a person; infinity trains without privacy.
        modes: of the private cells.
        seeds: one training for each.
        stores: of the modes that have several.
        delta: probability that the bound may fail.
        accountant: which bound is held against `epsilon`; the other is reported beside it.
        split_seed: who is held out, in all cells alike.
        challenge_age: years; refuse whoever is estimated to be younger.
        init: where all cells start from.
        model: name of the architecture.
        recipe: fields of `privemo.recipes.Recipe` that are not the recipe's own.
        plain: fields of `PlainSettings`, and `lr`, for the cells without privacy.

    Raises:
        SettingsError: nothing to measure, or a value that is none.
    """

    epsilons: tuple[float, ...] = (8.0, 3.0, 1.0, math.inf)
    modes: tuple[Mode, ...] = PRIVATE_MODES
    seeds: tuple[int, ...] = (0, 1, 2)
    stores: int = 10
    delta: float = 1e-5
    accountant: str = "rdp"
    split_seed: int = 0
    challenge_age: float = 25.0
    init: str = "nobody"
    model: str = "emotion-cnn"
    recipe: Mapping[str, Any] = field(default_factory=dict)
    plain: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.epsilons or not self.modes or not self.seeds:
            raise SettingsError("Name at least one epsilon, one mode and one seed.")
        for epsilon in self.epsilons:
            if not epsilon > 0:  # NaN as well
                raise SettingsError(f"An epsilon is above 0, or inf for no privacy, not {epsilon}.")
        for mode in self.modes:
            if mode not in PRIVATE_MODES:
                raise SettingsError(
                    f"There is no mode {mode!r}; choose among {', '.join(PRIVATE_MODES)}."
                )
        if self.stores < 2 and set(self.modes) != {"central"}:
            raise SettingsError(f"Several stores are 2 or more, not {self.stores}.")


def cells_of(table: FaceTable, plan: Plan) -> list[Cell]:
    """The cells of a plan, one seed after the other, so that a part of them says something about all.

    Raises:
        SettingsError: a value is out of range.
    """
    persons = len(np.unique(table.person))
    found: dict[tuple[int, float, str], Cell] = {}
    for seed in plan.seeds:
        for epsilon in plan.epsilons:
            modes: Sequence[Mode] = plan.modes if math.isfinite(epsilon) else ("plain",)
            for mode in modes:
                made = Cell(mode, _settings(plan, mode, epsilon, seed, persons))
                found[seed, epsilon, mode] = made
    return list(found.values())


def _settings(plan: Plan, mode: Mode, epsilon: float, seed: int, persons: int) -> RunSettings:
    stores = 1 if mode in ("central", "plain") else plan.stores
    people = RunSettings.of(stores=stores).public_people(persons)
    run: dict[str, Any] = {
        "stores": stores,
        "declared_people": people,
        "seed": seed,
        "split_seed": plan.split_seed,
        "challenge_age": plan.challenge_age,
        "init": plan.init,
        "model": plan.model,
        "consents": "everyone",
    }
    if mode == "plain":
        asked = dict(plan.plain)
        lr = asked.pop("lr", None)
        settings = PlainSettings.of(**{**PLAIN.model_dump(), **asked})
        return RunSettings.of(rounds=1, privacy=None, plain=settings, lr=lr, **run)
    recipe = replace(_recipe(mode, people, stores), **plan.recipe)
    privacy: dict[str, Any] = {
        "epsilon": epsilon,
        "delta": plan.delta,
        "accountant": plan.accountant,
    }
    if mode == "distributed":
        privacy["noise"] = "distributed"
    return recipe.settings(privacy, **run)


def _recipe(mode: Mode, people: int, stores: int) -> Recipe:
    if mode == "local":
        return local_recipe(people)
    if mode == "distributed":
        return distributed_recipe(people, stores=stores)
    return central_recipe(people)


@dataclass(frozen=True)
class Point:
    """Seeds of one mode at one epsilon, put together.

    Attributes:
        mode: see `privemo.bench.cells.MODES`.
        epsilon: None without privacy.
        accuracies: of each seed, by seed.
        low: mean over the seeds of the 95% interval's lower end; that is about the people held out.
        high: likewise the upper end.
        lowest_f1: the lowest of any class in any seed; None where a class was never there.
        spent: the largest epsilon under RDP and under PRV; None without privacy.
        n: faces held out.
    """

    mode: str
    epsilon: float | None
    accuracies: tuple[float, ...]
    low: float
    high: float
    lowest_f1: float | None
    spent: tuple[float, float] | None
    n: int

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return math.fsum(self.accuracies) / len(self.accuracies)


def points(records: Iterable[Mapping[str, Any]]) -> list[Point]:
    """Records by mode and epsilon: central, local, distributed, plain; large epsilons first.

    Raises:
        RunError: two records of a point differ in more than their seed.
    """
    groups: dict[tuple[str, float | None], list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault((record["mode"], record["epsilon"]), []).append(record)

    def place(key: tuple[str, float | None]) -> tuple[int, float]:
        return list(MODES).index(key[0]), -(math.inf if key[1] is None else key[1])

    return [_point(*key, groups[key]) for key in sorted(groups, key=place)]


def _point(mode: str, epsilon: float | None, group: list[Mapping[str, Any]]) -> Point:
    group = sorted(group, key=lambda record: record["seed"])
    one_recipe(f"{mode} at epsilon {epsilon}", group)
    f1 = [record["lowest_f1"] for record in group]
    spent = [record["spent"] for record in group if record["spent"]]
    return Point(
        mode=mode,
        epsilon=epsilon,
        accuracies=tuple(record["accuracy"] for record in group),
        low=math.fsum(record["interval"][0] for record in group) / len(group),
        high=math.fsum(record["interval"][1] for record in group) / len(group),
        lowest_f1=None if None in f1 else min(f1),
        spent=(max(s["rdp"] for s in spent), max(s["prv"] for s in spent)) if spent else None,
        n=group[0]["n"],
    )
