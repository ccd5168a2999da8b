"""`privemo demo`, `privemo simulate`, `privemo train`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from privemo.cli import options as o
from privemo.cli.common import progress
from privemo.cli.running import go_on, run_new
from privemo.cli.sharing import takes
from privemo.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from privemo.config import RunSettings
    from privemo.faces import FaceTable
    from privemo.recipes import Recipe

__all__ = ["demo", "simulate", "train"]

_ONLY_PRIVATE = {
    *("epsilon", "delta", "accountant", "budget", "rounds", "steps", "sample_rate", "rate_growth"),
    *("clip", "lr_schedule", "momentum", "server_optimizer", "server_lr", "server_momentum"),
    *("views", "images_per_person"),
}

DRAWN = 100
"""People whom the demo draws at every age; five ages of a hundred take some six seconds."""


@takes(o.bound, o.recipe, o.chain, o.differences)
def simulate(
    ctx: typer.Context,
    data: o.DataOption = None,
    out_: o.OutOption = None,
    resume: o.ResumeOption = None,
    stores: Annotated[int, typer.Option(help="Number of stores.")] = 3,
    budget: o.BudgetOption = None,
    noise: o.NoiseOption = o.NoiseName.local,
    may_drop: o.DropOption = 0.0,
    spare_rounds: o.SpareOption = 0,
    stores_per_person: o.StoresPerPersonOption = 1,
    declared_people: o.DeclaredOption = None,
    sensitive: o.SensitiveOption = None,
    init: Annotated[
        str,
        typer.Option(
            help="Start from `nobody` (people who do not exist), `imagenet`, `scratch` or a file."
        ),
    ] = "nobody",
    model: o.ModelOption = "emotion-cnn",
    consents: o.MixOption = o.MixName.realistic,
    challenge_age: o.AgeOption = 25.0,
    seed: o.SeedOption = None,
    split_seed: o.SplitSeedOption = None,
    engine: Annotated[o.EngineName, typer.Option(help="In one process, or Flower on Ray.")] = (
        o.EngineName.inprocess
    ),
    workers: o.WorkersOption = 1,
    json_: o.JsonOption = False,
) -> None:
    """Run a chain of stores on this machine, with simulated consents, and audit it.

    What is not given follows a recipe for the public number of people; `run.json` says what it was.
    """
    if resume is not None:
        _resume(ctx, resume, json_, workers)
        return
    from privemo.recipes import distributed_recipe, local_recipe

    shared = noise is o.NoiseName.distributed
    recipe_for = partial(distributed_recipe, stores=stores) if shared else local_recipe
    run_new(
        _needed(data, "--data"),
        _needed(out_, "--out"),
        _by_recipe(ctx, recipe_for, stores=stores, init=init),
        engine=engine.value,
        workers=workers,
        budget=budget,
        json_=json_,
    )


@takes(o.bound, o.recipe, o.plain)
def train(
    ctx: typer.Context,
    data: o.DataOption = None,
    out_: o.OutOption = None,
    resume: o.ResumeOption = None,
    private: Annotated[
        bool, typer.Option("--private/--no-private", help="With or without differential privacy.")
    ] = True,
    budget: o.BudgetOption = None,
    sensitive: o.SensitiveOption = None,
    init: Annotated[
        str | None, typer.Option(help="`nobody` (default with privacy), `scratch`, or a file.")
    ] = None,
    model: o.ModelOption = "emotion-cnn",
    consents: o.MixOption = o.MixName.realistic,
    challenge_age: o.AgeOption = 25.0,
    declared_people: o.DeclaredOption = None,
    test_fraction: Annotated[float, typer.Option(help="Share of people held out.")] = 0.2,
    seed: o.SeedOption = None,
    split_seed: o.SplitSeedOption = None,
    json_: o.JsonOption = False,
) -> None:
    """Train in one place (a single store, or a whole data set), with or without privacy.

    What is not given follows a recipe for the public number of people; `privemo plan` shows it beforehand.
    """
    if resume is not None:
        _resume(ctx, resume, json_)
        return
    from privemo.recipes import central_recipe

    if private:
        o.refuse_given(ctx, o.ONLY_PLAIN, "Private training goes by --steps and --sample-rate")
        settings_for = _by_recipe(
            ctx, central_recipe, stores=1, init=init or "nobody", test_fraction=test_fraction
        )
    else:
        o.refuse_given(ctx, _ONLY_PRIVATE, "Training without privacy goes by --epochs and --batch")
        settings = _plain_settings(ctx, init=init or "scratch", test_fraction=test_fraction)

        def settings_for(table: FaceTable) -> RunSettings:
            return settings

    run_new(
        _needed(data, "--data"), _needed(out_, "--out"), settings_for, budget=budget, json_=json_
    )


def demo(
    out_: Annotated[
        Path | None,
        typer.Option("--out", help="Run folder; runs/demo, runs/demo-2, ... by default."),
    ] = None,
    people: Annotated[int, typer.Option(help="Shoppers to draw.")] = 700,
    images: Annotated[int, typer.Option(help="Pictures of each.")] = 4,
    seed: Annotated[int, typer.Option(help="Same seed, same demo.")] = 7,
    engine: Annotated[o.EngineName, typer.Option(help="In one process, or Flower on Ray.")] = (
        o.EngineName.inprocess
    ),
    json_: o.JsonOption = False,
) -> None:
    """The main job from end to end, on people who do not exist."""
    from privemo.config import PrivacySettings, RunSettings
    from privemo.synthetic import synthesize

    folder = out_ or _fresh_folder(Path("runs") / "demo")
    faces = folder.parent / f"{folder.name}-people.npz"
    with progress() as bar:
        task = bar.add_task("Drawing people who do not exist", total=people)
        table = synthesize(
            people,
            images,
            seed=seed,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
        faces.parent.mkdir(parents=True, exist_ok=True)
        table.save(faces)
    settings = RunSettings.of(
        stores=3,
        rounds=3,
        steps_per_round=10,
        privacy=PrivacySettings.of(epsilon=8.0),
        seed=seed,
        sensitive=("age_band", "gender", "skin_tone_group"),
    )
    run_new(
        faces,
        folder,
        lambda _: settings,
        engine=engine.value,
        real=False,
        at_every_age=DRAWN,
        json_=json_,
    )


# -- settings ------------------------------------------------------------------------------------


def _by_recipe(
    ctx: typer.Context, recipe_for: Callable[[int], Recipe], **run: Any
) -> Callable[[FaceTable], RunSettings]:
    """Settings by a recipe for the data's public size, changed where an option asks for it."""
    from privemo.config import RunSettings

    asked, chosen = _of_every_run(ctx), o.recipe_options(ctx)
    privacy = o.promise(ctx)

    def settings_for(table: FaceTable) -> RunSettings:
        sized = RunSettings.of(stores=run["stores"], declared_people=asked["declared_people"])
        people = sized.public_people(len(np.unique(table.person)))
        return replace(recipe_for(people), **chosen).settings(privacy, **asked, **run)

    return settings_for


def _plain_settings(ctx: typer.Context, **run: Any) -> RunSettings:
    from privemo.config import PlainSettings, RunSettings
    from privemo.recipes import PLAIN

    names = PlainSettings.model_fields.keys() & ctx.params.keys()
    asked = {name: ctx.params[name] for name in names if ctx.params[name] is not None}
    plain = PlainSettings.of(**{**PLAIN.model_dump(), **asked})
    everywhere = _of_every_run(ctx)
    return RunSettings.of(
        stores=1, rounds=1, privacy=None, plain=plain, lr=ctx.params["lr"], **everywhere, **run
    )


def _of_every_run(ctx: typer.Context) -> dict[str, Any]:
    names = ("declared_people", "seed", "split_seed", "model", "consents", "challenge_age")
    return {
        **{name: ctx.params[name] for name in names},
        **{
            name: ctx.params[name]
            for name in (*o.OF_CHAINS, *o.OF_SIMULATIONS)
            if name in ctx.params
        },
        "sensitive": tuple(ctx.params["sensitive"] or ()),
    }


# -- arguments -----------------------------------------------------------------------------------


def _resume(ctx: typer.Context, folder: Path, json_: bool, workers: int = 1) -> None:
    """A resumed run keeps its settings."""
    others = set(ctx.params) - {"resume", "json_", "workers"}
    o.refuse_given(ctx, others, "--resume goes on with the settings of the run")
    go_on(folder, json_, workers)


def _needed(path: Path | None, option: str) -> Path:
    if path is None:
        raise SettingsError(f"{option} is missing; see --help.")
    return path


def _fresh_folder(path: Path) -> Path:
    """`path`, or `path`-2, `path`-3, ... whichever does not exist yet."""
    number, folder = 1, path
    while folder.exists():
        number += 1
        folder = path.with_name(f"{path.name}-{number}")
    return folder
