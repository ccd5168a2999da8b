"""`privemo plan`, `privemo budget`: what may be spent, and what was."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
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
        int | None,
        typer.Option(
            help="Pictures drawn of a person in a step; costs time, no privacy.", show_default="1"
        ),
    ] = None,
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
    """Say which batch, noise, steps and epochs a budget affords, before anybody is trained on.

    First comes the recipe, by which `privemo train` (or `simulate`, for several stores) trains where nothing
    else is asked for; then what each batch costs in the epochs asked for.
    """
    from privemo.budget import read_releases
    from privemo.dp import planning

    found = planning.plan(
        people=people,
        epsilon=epsilon,
        epochs=epochs,
        delta=delta,
        stores=stores,
        stores_per_person=stores_per_person,
        images_per_person=1 if images_per_person is None else images_per_person,
        batch=batch,
        sample_rate=sample_rate,
        accountant=accountant.value,
        past=[release for path in spent or () for release in read_releases(path)],
    )
    if json_:
        print_json(asdict(found))
    else:
        _show(found, epochs, _Commands(found, spent or (), images_per_person))


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


def _show(found: Plan, epochs: float, commands: _Commands) -> None:
    where = f" in {found.stores} stores" if found.stores > 1 else ""
    out.print(
        f"{counted(found.people, 'person')}{where}, epsilon {found.epsilon:g} at delta "
        f"{found.delta:g} ({found.accountant.upper()})"
        + (f", of which {found.spent_before:.3f} is spent" if found.spent_before else "")
    )
    _show_recipe(found, commands)
    out.print(
        _options(f"What each batch costs at epochs = {epochs:g}", found.options, found.recommended)
    )
    best = found.recommended
    out.print(
        f"Recommended: batch {best.batch:,} (sample rate {best.sample_rate:.4g}), {best.steps:,} steps "
        f"with noise {best.noise_multiplier:.4f}:\n{found.why}.",
        soft_wrap=True,
    )
    say("As options: " + commands.of(best))
    out.print(_options("The same batch for fewer or more epochs", found.other_epochs, best))
    out.print(f"Epsilon of the recommended, {_bounds(found.reached)}", soft_wrap=True)
    if (found.reached["dp_rdp"] or 0.0) > found.epsilon:
        say(
            f"The budget is held by {_BOUNDS[found.accountant]}. Other bounds may say more, and RDP "
            "(dp-accounting) up to 0.3% too much: its series adds up the magnitudes of terms of either sign."
        )
    say(
        "noise/person: deviation of the noise in a step, next to one person's gradient. "
        "signal: share of the most this budget can buy."
    )


def _show_recipe(found: Plan, commands: _Commands) -> None:
    recipe = found.recipe
    if recipe is None:
        say("The recipe does not come within this budget.")
        return
    out.print(_options("By the recipe, where no option says otherwise", (recipe,), recipe))
    out.print(f"Epsilon of the recipe, {_bounds(found.recipe_reached or {})}", soft_wrap=True)
    say("By the recipe: " + commands.of(None))


def _bounds(reached: dict[str, float | None]) -> str:
    known = {name: value for name, value in reached.items() if value is not None}
    return "with all before: " + ", ".join(f"{_BOUNDS[n]} {v:.4f}" for n, v in known.items())


class _Commands:
    """Commands that train as planned, with the noise of the plan.

    Args:
        found: the plan.
        spent: files of what was spent before.
        images: pictures of a person in a step, where they were asked for.
    """

    def __init__(self, found: Plan, spent: Sequence[Path], images: int | None) -> None:
        self._found, self._spent, self._images = found, spent, images

    def of(self, option: Option | None) -> str:
        """The command that trains by an option, or by the recipe; or why there is none."""
        found = self._found
        if reason := self._no_budget():
            return reason
        words = ["privemo"]
        words += ["simulate", "--stores", str(found.stores)] if found.stores > 1 else ["train"]
        if option is not None:
            words += ["--rounds", str(option.steps), "--steps", "1"]
            words += ["--sample-rate", _exactly(option.sample_rate)]
        words += ["--epsilon", _exactly(found.epsilon), "--delta", _exactly(found.delta)]
        if found.accountant != "rdp":
            words += ["--accountant", found.accountant]
        if found.stores_per_person > 1:
            words += ["--stores-per-person", str(found.stores_per_person)]
        if self._images is not None:
            words += ["--images-per-person", str(self._images)]
        for path in self._spent:
            words += ["--budget", shlex.quote(str(path))]
        words += ["--declared-people", str(found.people // found.stores)]
        return " ".join([*words, "--data ... --out ..."])

    def _no_budget(self) -> str:
        """Why what was spent before cannot be charged with the run; empty where it can."""
        from privemo.budget import is_budget

        several = len(self._spent) > 1
        if not several and all(is_budget(path) for path in self._spent):
            return ""
        files = ", ".join(map(str, self._spent))
        return (
            f"none yet. A run is charged to one --budget, and {files} "
            + ("are several files" if several else "is a ledger")
            + ": carry what stands there into one budget file first (docs/how-to/budget.md, Carry ledgers "
            "into an account), and plan with --spent of that file."
        )


def _exactly(value: float) -> str:
    """In as few digits as say the very number."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


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
