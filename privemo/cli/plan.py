"""`privemo plan`, `privemo budget`: what may be spent, and what was."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from privemo.cli import options as o
from privemo.cli.common import counted, out, print_json, say

if TYPE_CHECKING:
    from privemo.dp.planning import Option, Plan

__all__ = ["budget", "plan"]

_BOUNDS = {
    "rdp": "RDP (Opacus)",
    "prv": "PRV (Opacus)",
    "dp_rdp": "RDP (dp-accounting)",
    "pld": "PLD (dp-accounting)",
}


def plan(
    people: Annotated[int, typer.Option(help="Public number of people, all stores together.")],
    epsilon: Annotated[float, typer.Option(help="Most any person may lose altogether.")] = 8.0,
    epochs: Annotated[float, typer.Option(help="How often each person is drawn.")] = 30.0,
    delta: o.DeltaOption = 1e-5,
    stores: Annotated[int, typer.Option(help="Stores the people are spread over.")] = 1,
    stores_per_person: Annotated[
        int, typer.Option(help="In how many stores one person may take part.")
    ] = 1,
    images_per_person: Annotated[
        int, typer.Option(help="Pictures drawn of a person in a step; costs time, no privacy.")
    ] = 1,
    batch: Annotated[int | None, typer.Option(help="Look at this batch alone.")] = None,
    sample_rate: Annotated[
        float | None, typer.Option(help="The same, as the chance of a person to join.")
    ] = None,
    accountant: o.AccountantOption = o.AccountantName.rdp,
    spent: Annotated[
        list[Path] | None,
        typer.Option(help="Ledger or budget file of what these people lost before; repeatable."),
    ] = None,
    json_: o.JsonOption = False,
) -> None:
    """Say which batch, noise, steps and epochs a budget affords, before anybody is trained on."""
    from privemo.budget import read_releases
    from privemo.dp import planning

    found = planning.plan(
        people=people,
        epsilon=epsilon,
        epochs=epochs,
        delta=delta,
        stores=stores,
        stores_per_person=stores_per_person,
        images_per_person=images_per_person,
        batch=batch,
        sample_rate=sample_rate,
        accountant=accountant.value,
        past=[release for path in spent or () for release in read_releases(path)],
    )
    if json_:
        print_json(asdict(found))
    else:
        _show(found)


def budget(
    files: Annotated[list[Path], typer.Argument(help="Ledgers of stores, or budget files.")],
    delta: o.DeltaOption = 1e-5,
    json_: o.JsonOption = False,
) -> None:
    """Add up what people lost: by each file alone, and for somebody who is in all of them."""
    from privemo.budget import read_releases, unfinished
    from privemo.dp import exposed

    ledgers = {str(path): read_releases(path) for path in files}
    found = exposed(ledgers, [*([name] for name in ledgers), list(ledgers)], delta=delta)
    if json_:
        rows = [{"files": list(names), "rdp": s.rdp, "prv": s.prv} for names, s in found.items()]
        print_json(
            {"delta": delta, "spent": rows, "unfinished": {str(p): unfinished(p) for p in files}}
        )
        return
    out.print(f"Epsilon of a person, at delta {delta:g}")
    table = Table()
    for name in ("in", "RDP", "PRV"):
        table.add_column(name, justify="left" if name == "in" else "right", overflow="fold")
    for names, total in found.items():
        table.add_row(" + ".join(names), f"{total.rdp:.3f}", f"{total.prv:.3f}")
    out.print(table)
    for path in files:
        if runs := unfinished(path):
            say(f"{path}: charged in full for runs that have not ended: {', '.join(runs)}.")
    say(
        "RDP and PRV are two bounds on the same loss; RDP is what --epsilon is held against by default."
    )


def _show(found: Plan) -> None:
    where = f" in {found.stores} stores" if found.stores > 1 else ""
    out.print(
        f"{counted(found.people, 'person')}{where}, epsilon {found.epsilon:g} at delta "
        f"{found.delta:g} ({found.accountant.upper()})"
        + (f", of which {found.spent_before:.3f} is spent" if found.spent_before else "")
    )
    out.print(_options("What each batch costs", found.options, found.recommended))
    best = found.recommended
    out.print(
        f"Recommended: batch {best.batch:,} (sample rate {best.sample_rate:.4g}), {best.steps:,} steps "
        f"with noise {best.noise_multiplier:.4f}:\n{found.why}.",
        soft_wrap=True,
    )
    say("As options: " + _as_options(found))
    out.print(_options("The same batch for fewer or more epochs", found.other_epochs, best))
    bounds = ", ".join(
        f"{_BOUNDS[name]} {value:.4f}" for name, value in found.reached.items() if value is not None
    )
    out.print(f"Epsilon of the recommended, with all before: {bounds}", soft_wrap=True)
    say(
        "noise/person: deviation of the noise in a step, next to one person's gradient. "
        "signal: share of the most this budget can buy."
    )


def _as_options(found: Plan) -> str:
    """The command that trains as recommended; without options `train` chooses for itself."""
    best = found.recommended
    of = f"simulate --stores {found.stores}" if found.stores > 1 else "train"
    return (
        f"privemo {of} --rounds {best.steps} --steps 1 --sample-rate {best.sample_rate:.6g} "
        f"--epsilon {found.epsilon:g} --delta {found.delta:g} "
        f"--declared-people {found.people // found.stores} --data ... --out ..."
    )


def _options(title: str, options: tuple[Option, ...], best: Option) -> Table:
    table = Table(title=title, title_justify="left")
    for name in (
        "",
        "batch",
        "rate",
        "steps",
        "epochs",
        "noise",
        "noise/\nperson",
        "signal",
        "pictures",
    ):
        table.add_column(name, justify="right")
    for option in options:
        table.add_row(
            "->" if option == best else "",
            f"{option.batch:,}",
            f"{option.sample_rate:.4g}",
            f"{option.steps:,}",
            f"{option.epochs:.3g}",
            f"{option.noise_multiplier:.3f}",
            f"{option.noise_per_person:.2g}",
            f"{option.signal:.0%}",
            f"{option.pictures:,}",
        )
    return table
