"""`privemo explain`: where a model looks, and what a set of faces invites it to look at."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from privemo.cli import options as o
from privemo.cli.commandline import with_default
from privemo.cli.common import out, print_json, progress
from privemo.cli.robustness import asked_model

__all__ = ["app"]

_DEFAULT = "run"

WIDTH = 100  # five columns: narrower, and intervals are torn


app = typer.Typer(
    cls=with_default(_DEFAULT),
    no_args_is_help=True,
    help="Where a model looks (`privemo explain RUN`), and what faces invite it to look at.",
)


class _Method(StrEnum):
    """How attention is found."""

    INTEGRATED_GRADIENTS = "integrated_gradients"
    GRAD_CAM = "grad_cam"


OutOption = Annotated[Path, typer.Option("--out", help="A new folder for figures and numbers.")]
SeedOption = Annotated[int, typer.Option(help="Same seed, same people.")]


@app.command(_DEFAULT)
def run(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A finished run folder, or `nobody`: what ships."),
    ],
    to: OutOption,
    people: Annotated[int, typer.Option(help="People who do not exist; four pictures each.")] = 40,
    method: Annotated[
        _Method, typer.Option(help="How attention is found.")
    ] = _Method.INTEGRATED_GRADIENTS,
    seed: SeedOption = 611,
    json_: o.JsonOption = False,
) -> None:
    """Say where a model looks: eyes, mouth, cheeks or elsewhere; and what covering them costs it.

    Asked of people who do not exist, so nobody's consent is needed. The next audit of the run reports it.
    """
    from privemo.explain import explain_run

    with progress() as bar:
        tasks: dict[str, Any] = {}

        def listener(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=of)
            bar.update(tasks[what], completed=done)

        found = explain_run(
            asked_model(run), to, people=people, seed=seed, method=method.value, listener=listener
        )
    if json_:
        print_json(found)
        return
    from privemo.explain.answer import verdict

    out.print(_shares(found), width=max(WIDTH, out.width))
    out.print(f"Mouth only, or eyes too? {verdict(found)}", markup=False)
    out.print(str(to / "answer.md"), soft_wrap=True)


@app.command()
def data(
    to: OutOption,
    people: Annotated[int, typer.Option(help="People who do not exist; four pictures each.")] = 200,
    run: Annotated[
        str | None, typer.Option(help="A run folder, or `nobody`: what does its model confuse?")
    ] = None,
    seed: SeedOption = 611,
    json_: o.JsonOption = False,
) -> None:
    """Say what separates the emotions of drawn faces, which are confused, and what is a shortcut.

    Of people who do not exist alone: no purpose that people can agree to covers statistics of their faces.
    """
    from privemo.explain import explain_data

    with progress() as bar:
        task = bar.add_task("Drawing people who do not exist", total=people)
        found = explain_data(
            to,
            people=people,
            seed=seed,
            run=None if run is None else asked_model(run),
            listener=lambda done, of: bar.update(task, completed=done, total=of),
        )
    if json_:
        print_json(found)
        return
    table = Table(title="How well the mouth alone names the expression", title_justify="left")
    table.add_column("known of the mouth")
    table.add_column("right, % (chance 25)", justify="right")
    for name, words in (("opening", "opening"), ("lift", "lift of its corners"), ("both", "both")):
        table.add_row(words, _percent(found["shortcuts"][name]["accuracy"]))
    out.print(table)
    nearest = min(found["directions"]["distance"].items(), key=lambda item: item[1])[0]
    out.print(f"Nearest to each other: {nearest.replace('-', ' and ')}.")
    out.print(str(to / "data.md"), soft_wrap=True)


def _shares(found: dict[str, Any]) -> Table:
    table = Table(
        title=f"Where {found['model']} looks, in % (95% interval over people)",
        title_justify="left",
        caption=f"{found['people']} people who do not exist: nobody had to be asked.",
        caption_justify="left",
    )
    for name in ("part", "of the picture", "of attention", "untrained", "points lost, covered"):
        table.add_column(name, justify="left" if name == "part" else "right")
    for part in found["regions"]:
        covered = found["covered"].get(part)
        table.add_row(
            part,
            f"{100 * found['area'][part]:.1f}",
            _percent(found["overall"]["share"][part]),
            _percent(found["untrained"]["share"][part]),
            _percent(covered["lost"]) if covered else "",
        )
    return table


def _percent(one: dict[str, float]) -> str:
    return f"{100 * one['mean']:.1f} ({100 * one['low']:.1f} to {100 * one['high']:.1f})"
