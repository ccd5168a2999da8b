"""`privemo bench accuracy` and `privemo bench ablation`: long trainings, cell by cell, into a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from privemo.cli import options as o
from privemo.cli.commandline import command_line
from privemo.cli.common import out, progress, say
from privemo.cli.sharing import takes

if TYPE_CHECKING:
    from privemo.bench.ablation import Row
    from privemo.bench.accuracy import Point
    from privemo.bench.cells import Cell
    from privemo.faces import FaceTable

__all__ = ["ablation", "ablation_table", "accuracy", "accuracy_table"]

WIDTH = 112  # narrower, and the figures are torn

_OF_BOTH = {"lr", "ema", "optimizer", "augment"}
_OF_PLAIN = {*_OF_BOTH, *o.ONLY_PLAIN, "precision"}
_ONLY_PRIVATE = {
    *("mode", "stores", "delta", "accountant", "rounds", "steps", "sample_rate", "rate_growth"),
    *("clip", "lr_schedule", "momentum", "server_optimizer", "server_lr", "server_momentum"),
    *("views", "images_per_person"),
}


class ModeName(StrEnum):
    """Whose noise."""

    central = "central"
    local = "local"
    distributed = "distributed"


DataOption = Annotated[Path, typer.Option(help="Faces: npz, csv or folder.")]
ResultsOption = Annotated[
    Path, typer.Option("--out", help="JSON file of results; what it holds is not measured again.")
]
SeedsOption = Annotated[int, typer.Option(min=1, help="Trainings of each cell, seeds 0, 1, ...")]
FirstSeedOption = Annotated[int, typer.Option(min=0, help="Begin with this seed instead of 0.")]
SplitOption = Annotated[int, typer.Option(help="Who is held out.")]
InitOption = Annotated[str, typer.Option(help="Start from `nobody`, `scratch` or a file.")]
LineOption = Annotated[bool, typer.Option("--json", help="One line of JSON for each cell.")]


@takes(o.recipe, o.plain)
def accuracy(
    ctx: typer.Context,
    data: DataOption,
    out_: ResultsOption,
    epsilon: Annotated[
        list[float] | None,
        typer.Option(help="Most a person may lose; inf for no privacy; several times for several."),
    ] = None,
    mode: Annotated[
        list[ModeName] | None, typer.Option(help="Whose noise; several times for several.")
    ] = None,
    seeds: SeedsOption = 3,
    first_seed: FirstSeedOption = 0,
    stores: Annotated[int, typer.Option(help="Number of stores, where there are several.")] = 10,
    delta: o.DeltaOption = 1e-5,
    accountant: o.AccountantOption = o.AccountantName.rdp,
    split_seed: SplitOption = 0,
    challenge_age: o.AgeOption = 25.0,
    init: InitOption = "nobody",
    model: o.ModelOption = "emotion-cnn",
    json_: LineOption = False,
) -> None:
    """Measure accuracy against epsilon: central, local and distributed noise, and none."""
    from privemo.bench.accuracy import SCHEMA, Plan, cells_of, points
    from privemo.faces import load_faces

    asked: dict[str, Any] = {} if epsilon is None else {"epsilons": tuple(epsilon)}
    if mode is not None:
        asked["modes"] = tuple(m.value for m in mode)
    plan = Plan(
        **asked,
        seeds=tuple(range(first_seed, first_seed + seeds)),
        stores=stores,
        delta=delta,
        accountant=accountant.value,
        split_seed=split_seed,
        challenge_age=challenge_age,
        init=init,
        model=model,
        recipe=o.recipe_options(ctx),
        plain={n: ctx.params[n] for n in sorted(_OF_PLAIN) if ctx.params[n] is not None},
    )
    table = load_faces(data)
    cells = cells_of(table, plan)
    _one_kind_or_neither(ctx, cells)
    found = _filled(table, cells, out_, SCHEMA, command_line(ctx), json_)
    _told(found, cells, json_, lambda: accuracy_table(points(found)))


def ablation(
    ctx: typer.Context,
    data: DataOption,
    out_: ResultsOption,
    epsilon: o.EpsilonOption = 8.0,
    row: Annotated[
        list[str] | None,
        typer.Option(help="Only this row and the full recipe; several times for several."),
    ] = None,
    seeds: SeedsOption = 3,
    first_seed: FirstSeedOption = 0,
    steps_scale: Annotated[
        float, typer.Option(help="Factor on the number of steps, to make everything shorter.")
    ] = 1.0,
    precision: Annotated[
        o.PrecisionName, typer.Option(help="Numbers of the passes of every row but one.")
    ] = o.PrecisionName.float32,
    delta: o.DeltaOption = 1e-5,
    split_seed: SplitOption = 0,
    challenge_age: o.AgeOption = 25.0,
    init: InitOption = "nobody",
    model: o.ModelOption = "emotion-cnn",
    json_: LineOption = False,
) -> None:
    """Measure what each part of the recipe contributes: change one thing at a time."""
    from privemo.bench.ablation import SCHEMA, Ablation, rows, summed_up
    from privemo.faces import load_faces

    table = load_faces(data)
    asked = Ablation(
        epsilon=epsilon,
        seeds=tuple(range(first_seed, first_seed + seeds)),
        steps_scale=steps_scale,
        precision=precision.value,
        only=tuple(row or ()),
        delta=delta,
        split_seed=split_seed,
        challenge_age=challenge_age,
        init=init,
        model=model,
    )
    cells = rows(table, asked)
    found = _filled(table, cells, out_, SCHEMA, command_line(ctx), json_)
    _told(found, cells, json_, lambda: ablation_table(summed_up(found)))


def _one_kind_or_neither(ctx: typer.Context, cells: Sequence[Cell]) -> None:
    """An option that two kinds of training understand differently is for a command with one kind."""
    kinds = {cell.mode == "plain" for cell in cells}
    if len(kinds) > 1:
        o.refuse_given(ctx, _OF_BOTH, "Ask for --epsilon inf in a command of its own")
    elif kinds == {True}:
        o.refuse_given(ctx, _ONLY_PRIVATE, "Without privacy there is nothing to account for")
    else:
        o.refuse_given(ctx, o.ONLY_PLAIN, "Private training goes by --rounds and --sample-rate")


def _filled(
    table: FaceTable, cells: Sequence[Cell], to: Path, schema: str, command: str, json_: bool
) -> list[dict[str, Any]]:
    """The record of each cell; stopped in between, of those that are done."""
    from privemo.bench.results import Results, fill

    found: list[dict[str, Any]] = []
    try:
        with progress() as bar:
            whole = bar.add_task("Cells", total=len(cells))
            one = bar.add_task("Rounds")

            def listener(cell: Cell, done: int) -> None:
                what = f"Rounds: {_named(cell)}"
                bar.update(one, completed=done, total=cell.settings.rounds, description=what)

            kept = Results(to, schema)
            for record in fill(table, cells, kept, command=command, listener=listener):
                found.append(record)
                bar.update(whole, completed=len(found))
                if json_:
                    typer.echo(json.dumps(record))
    except KeyboardInterrupt:
        say(
            f"Stopped after {len(found)} of {len(cells)} cells; the same command goes on from there."
        )
    return found


def _named(cell: Cell) -> str:
    privacy = cell.settings.privacy
    budget = "" if privacy is None else f", epsilon {privacy.epsilon:g}"
    return f"{cell.row or cell.mode}{budget}, seed {cell.settings.seed}"


def _told(
    found: Sequence[Mapping[str, Any]],
    cells: Sequence[Cell],
    json_: bool,
    table: Callable[[], Table],
) -> None:
    if found and not json_:
        Console(width=max(WIDTH, out.width)).print(table())
    if len(found) < len(cells):
        raise typer.Exit(2)


def _columns(title: str, left: tuple[str, ...], right: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in left:
        table.add_column(name)
    for name in right:
        table.add_column(name, justify="right")
    return table


def accuracy_table(found: Sequence[Point]) -> Table:
    """A line for each mode and epsilon."""
    table = _columns(
        "Accuracy in %, mean over the seeds",
        ("noise",),
        ("epsilon", "accuracy", "of each seed", "95%", "lowest F1", "RDP", "PRV", "n"),
    )
    for p in found:
        table.add_row(
            p.mode,
            "none" if p.epsilon is None else f"{p.epsilon:g}",
            f"{100 * p.mean:.1f}",
            _each(p.accuracies),
            f"{100 * p.low:.1f} to {100 * p.high:.1f}",
            _f1(p.lowest_f1),
            *("-" if p.spent is None else f"{value:.2f}" for value in p.spent or (0, 0)),
            f"{p.n:,}",
        )
    return table


def ablation_table(found: Sequence[Row]) -> Table:
    """A line for each row."""
    from privemo.bench.ablation import FULL

    table = _columns(
        "Accuracy in %, mean over the seeds",
        ("row", "what is different"),
        ("accuracy", "to full", "of each seed", "95%", "lowest F1", "s"),
    )
    for row in found:
        table.add_row(
            row.name,
            row.words,
            f"{100 * row.mean:.1f}",
            "" if row.name == FULL else f"{100 * row.against_full:+.1f}",
            _each(row.accuracies),
            f"{100 * row.low:.1f} to {100 * row.high:.1f}",
            _f1(row.lowest_f1),
            f"{row.seconds:,.0f}",
        )
    return table


def _each(accuracies: Sequence[float]) -> str:
    return " ".join(f"{100 * a:.1f}" for a in accuracies)


def _f1(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"
