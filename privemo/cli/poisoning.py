"""`privemo bench poisoning`: what poisoned stores cost, by how updates are put together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from privemo.cli import options as o
from privemo.cli.commandline import command_line
from privemo.cli.common import out, progress
from privemo.cli.curves import WIDTH, DataOption, InitOption, ResultsOption

__all__ = ["poisoning", "poisoning_table"]


class AttackName(StrEnum):
    """What a poisoned store sends."""

    nan = "nan"
    huge = "huge"
    scaled = "scaled"
    sign_flipped = "sign_flipped"
    boosted = "boosted"
    label_flipped = "label_flipped"
    stale = "stale"


def poisoning(
    ctx: typer.Context,
    data: DataOption,
    out_: ResultsOption,
    attack: Annotated[
        list[AttackName] | None, typer.Option(help="Several times for several; all by default.")
    ] = None,
    aggregation: Annotated[
        list[o.AggregationName] | None,
        typer.Option(help="Several times for several; all by default."),
    ] = None,
    malicious_stores: Annotated[
        list[int] | None, typer.Option(help="How many are poisoned; 1 and 3 by default.")
    ] = None,
    stores: Annotated[int, typer.Option(help="Number of stores.")] = 10,
    epsilon: o.EpsilonOption = 8.0,
    seed: Annotated[int, typer.Option(help="Of every run.")] = 0,
    init: InitOption = "nobody",
    model: o.ModelOption = "emotion-cnn",
    rounds: o.RoundsOption = None,
    json_: Annotated[bool, typer.Option("--json", help="One line of JSON for each run.")] = False,
) -> None:
    """Poison stores of a chain of local noise, and measure what each aggregation leaves of it."""
    from privemo.bench.poisoning import SCHEMA, Plan, rows
    from privemo.bench.results import Results
    from privemo.faces import load_faces

    asked: dict[str, Any] = {}
    if attack is not None:
        asked["attacks"] = tuple(a.value for a in attack)
    if aggregation is not None:
        asked["defences"] = tuple(a.value for a in aggregation)
    if malicious_stores is not None:
        asked["malicious"] = tuple(malicious_stores)
    plan = Plan(
        stores=stores,
        epsilon=epsilon,
        seed=seed,
        init=init,
        model=model,
        rounds=rounds,
        **asked,
    )
    found = []
    with progress() as bar:
        total = len(plan.defences) * (1 + len(plan.attacks) * len(plan.malicious))
        task = bar.add_task("Poisoning stores", total=total)
        for record in rows(
            load_faces(data),
            plan,
            Results(out_, SCHEMA),
            command=command_line(ctx),
            listener=lambda words: bar.update(task, description=words),
        ):
            found.append(record)
            bar.update(task, completed=len(found))
            if json_:
                typer.echo(json.dumps(record))
    if not json_:
        Console(width=max(WIDTH, out.width)).print(poisoning_table(found))


def poisoning_table(records: Sequence[Mapping[str, Any]]) -> Table:
    """A line for each attack, a column for each aggregation; in brackets answers that were left out."""
    from privemo.bench.poisoning import ATTACKS

    defences = list(dict.fromkeys(record["defence"] for record in records))
    table = Table(title="Accuracy in %, and answers of poisoned stores left out")
    for name in ("attack", "poisoned", *defences):
        table.add_column(name, justify="left" if name == "attack" else "right")
    lines: dict[tuple[str | None, int], dict[str, str]] = {}
    for record in records:
        lines.setdefault((record["attack"], record["malicious"]), {})[record["defence"]] = _cell(
            record
        )
    for (attack, bad), cells in lines.items():
        words = ATTACKS[attack] if attack else "all stores are honest"  # type: ignore[index]
        table.add_row(words, str(bad), *(cells.get(name, "") for name in defences))
    return table


def _cell(record: Mapping[str, Any]) -> str:
    if record["accuracy"] is None:
        return "stopped"
    left = f" ({record['left_out']})" if record["left_out"] else ""
    return f"{100 * record['accuracy']:.1f}{left}"
