"""`privemo synth` and `privemo bench`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from privemo.cli.common import out, print_json, progress

__all__ = ["bench", "synth"]


def synth(
    to: Annotated[Path, typer.Option("--out", help="The npz file to write.")],
    people: Annotated[int, typer.Option(help="How many people.")] = 500,
    images: Annotated[int, typer.Option(help="Pictures of each.")] = 4,
    seed: Annotated[int, typer.Option(help="Same seed, same people.")] = 0,
    rgb: Annotated[bool, typer.Option("--rgb", help="Colour instead of gray.")] = False,
    workers: Annotated[int, typer.Option(help="Processes that draw.")] = 1,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of a line.")] = False,
) -> None:
    """Draw faces of people who do not exist."""
    from privemo.synthetic import synthesize

    with progress() as bar:
        task = bar.add_task("Drawing people who do not exist", total=people)
        table = synthesize(
            people,
            images,
            seed=seed,
            channels=3 if rgb else 1,
            workers=workers,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
        table.save(to)
    facts = {"path": str(to), "people": people, "faces": people * images, "seed": seed}
    if json_:
        print_json(facts)
    else:
        out.print(f"{facts['faces']:,} faces of {people:,} people who do not exist: {to}")


def bench(
    name: Annotated[str, typer.Argument(help="Which benchmark; `list` names them.")],
    json_: Annotated[
        bool, typer.Option("--json", help="One line of JSON for each figure.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 when a goal is missed.")] = False,
) -> None:
    """Measure something on this machine and hold it against its goal."""
    from privemo.bench import BENCHMARKS, run_benchmark

    if name == "list":
        for key, text in BENCHMARKS.items():
            out.print(f"{key:12} {text}")
        return
    missed = False
    table = Table("figure", "value", "unit", "goal", "met")
    for figure in run_benchmark(name):
        missed |= figure["met"] is False
        if json_:
            typer.echo(json.dumps(figure))
        else:
            table.add_row(*_cells(figure))
    if not json_:
        out.print(table)
    if strict and missed:
        raise typer.Exit(1)


def _cells(figure: dict[str, Any]) -> list[str]:
    value = figure["value"]
    met = {True: "yes", False: "NO", None: ""}[figure["met"]]
    shown = f"{value:,.4g}" if isinstance(value, int | float) else str(value)
    return [figure["figure"], shown, figure["unit"], figure["goal"] or "", met]
