"""`privemo bench robustness`: accuracy as pictures get worse."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from privemo.cli.common import out, progress

if TYPE_CHECKING:
    from privemo.runs import Run

__all__ = ["asked_model", "robustness"]


def asked_model(run: str) -> Run | str:
    """A run folder, or the word for the weights that ship.

    Raises:
        RunError: it is neither.
    """
    from privemo.explain.subject import SHIPPED
    from privemo.runs import Run

    return SHIPPED if run == SHIPPED else Run(run)


def robustness(
    run: Annotated[str, typer.Option(help="A finished run folder, or `nobody`.")] = "nobody",
    people: Annotated[int, typer.Option(help="People who do not exist; four pictures each.")] = 40,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only this; several times for several.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same people.")] = 733,
    json_: Annotated[
        bool, typer.Option("--json", help="One line of JSON for each figure.")
    ] = False,
) -> None:
    """Accuracy against five severities of noise, blur, low light, masks, glasses, pose, colour, background.

    On people who do not exist; by emotion and by group with --json, each with its interval.
    """
    from privemo.bench.robustness import KINDS, figures

    found: list[dict[str, Any]] = []
    with progress() as bar:
        task = bar.add_task("Making pictures worse", total=None)
        for figure in figures(
            run=asked_model(run),
            people=people,
            seed=seed,
            kinds=tuple(kind or ()),
            listener=lambda done, of: bar.update(task, completed=done, total=of),
        ):
            found.append(figure)
            if json_:
                typer.echo(json.dumps(figure))
    if not json_:
        out.print(_table(found, people))
        for name in {figure["kind"] for figure in found} & set(KINDS):
            out.print(f"{name}: {KINDS[name]}", markup=False)


def _table(found: list[dict[str, Any]], people: int) -> Table:
    whole = [figure for figure in found if figure["feature"] == "all"]
    undisturbed = whole[0]
    table = Table(
        title=f"Accuracy in %; undisturbed {_percent(undisturbed)}",
        title_justify="left",
        caption=f"{people} people who do not exist; 95% intervals over people: --json.",
        caption_justify="left",
    )
    for name in ("kind", "1", "2", "3", "4", "5", "lost at 5 (95%)"):
        table.add_column(name, justify="left" if name == "kind" else "right")
    for kind in dict.fromkeys(figure["kind"] for figure in whole[1:]):
        row = [figure for figure in whole if figure["kind"] == kind]
        last = row[-1]
        lost = tuple(100 * last[key] for key in ("lost", "lost_low", "lost_high"))
        table.add_row(
            kind,
            *(f"{100 * figure['value']:.1f}" for figure in row),
            "{:.1f} ({:.1f} to {:.1f})".format(*lost),
        )
    return table


def _percent(figure: dict[str, Any]) -> str:
    return f"{100 * figure['value']:.1f} ({100 * figure['low']:.1f} to {100 * figure['high']:.1f})"
