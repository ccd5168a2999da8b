"""`privemo bench reader`: whom the detector finds and the age estimate refuses, by group."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from privemo.cli.common import out, print_lines, progress
from privemo.cli.options import refuse_given

__all__ = ["reader"]


def reader(
    ctx: typer.Context,
    people: Annotated[
        int, typer.Option(help="Adults who do not exist; and half as many minors.")
    ] = 300,
    seed: Annotated[int, typer.Option(help="Same seed, same people.")] = 733,
    data: Annotated[
        Path | None,
        typer.Option(help="Faces to measure on instead: npz, csv or folder; they stay here."),
    ] = None,
    sensitive: Annotated[
        list[str] | None,
        typer.Option(help="With --data: column to group by; several times for several."),
    ] = None,
    challenge_age: Annotated[
        float, typer.Option(help="Refuse whoever looks younger; 18 at least.")
    ] = 25.0,
    json_: Annotated[
        bool, typer.Option("--json", help="One line of JSON for each figure.")
    ] = False,
) -> None:
    """Whom the bundled detector finds and the bundled age estimate refuses, by group, with intervals.

    A detector that misses a group excludes it. On people who do not exist, children among them; or on a table
    of faces, where the gate lets no minor through.
    """
    from privemo.bench.reader import figures
    from privemo.faces import load_faces

    if data is None:
        refuse_given(
            ctx, {"sensitive"}, "Without --data people are drawn, and have their own groups"
        )
    else:
        refuse_given(ctx, {"people"}, "With --data nobody is drawn")
    found: list[dict[str, Any]] = []
    with progress() as bar:
        task = bar.add_task("Looking at frames", total=None)
        for figure in figures(
            people=people,
            seed=seed,
            table=None if data is None else load_faces(data),
            sensitive=tuple(sensitive or ()),
            challenge_age=challenge_age,
            listener=lambda done, of: bar.update(task, completed=done, total=of),
        ):
            found.append(figure)
            if json_:
                typer.echo(json.dumps(figure))
    if not json_:
        _show(found)


def _show(found: list[dict[str, Any]]) -> None:
    from privemo.bench.reader import MEASURES

    shares = [figure for figure in found if "group" in figure]
    gaps = {(f["measure"], f["feature"]): f for f in found if "group" not in f}
    for measure, words in MEASURES.items():
        rows = [figure for figure in shares if figure["measure"] == measure]
        if not rows:
            continue
        table = Table(title=f"{measure}: {words}", title_justify="left")
        for name in ("by", "group", "people", "%", "95%", "largest gap"):
            table.add_column(name, justify="right" if name in ("people", "%", "95%") else "left")
        before = ""
        for row in rows:
            first, before = row["feature"] != before, row["feature"]
            gap = gaps.get((measure, row["feature"])) if first else None
            table.add_row(
                row["feature"] if first and row["feature"] != "all" else "",
                "everyone" if row["feature"] == "all" else row["group"],
                f"{row['people']:,}",
                f"{100 * row['value']:.1f}",
                f"{100 * row['low']:.1f} to {100 * row['high']:.1f}",
                "" if gap is None else _gap(gap),
            )
        out.print(table)
    print_lines(f"Of {found[0]['of']}.")
    if any(figure["estimated"] for figure in found):
        print_lines("Columns est_... are what another model estimated, not what people are.")


def _gap(gap: dict[str, Any]) -> str:
    judged = "more than chance" if gap["real"] else "may be chance"
    return f"{100 * gap['value']:.1f} points, {judged} (p {gap['p_adjusted']:.3f})"
