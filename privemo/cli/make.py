"""`privemo synth`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from privemo.cli.common import out, print_json, progress
from privemo.errors import SettingsError

__all__ = ["synth"]


def synth(
    to: Annotated[Path, typer.Option("--out", help="The npz file to write.")],
    people: Annotated[int, typer.Option(help="How many people.")] = 500,
    images: Annotated[int, typer.Option(help="Pictures of each.")] = 4,
    seed: Annotated[int, typer.Option(help="Same seed, same people.")] = 0,
    rgb: Annotated[bool, typer.Option("--rgb", help="Colour instead of gray.")] = False,
    units: Annotated[
        bool, typer.Option("--units", help="Say how far each part of each face moves, too.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Processes that draw.")] = 1,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of a line.")] = False,
) -> None:
    """Draw faces of people who do not exist."""
    from privemo.synthetic import synthesize

    _check_target(to, force)  # before the minutes that drawing takes
    with progress() as bar:
        task = bar.add_task("Drawing people who do not exist", total=people)
        table = synthesize(
            people,
            images,
            seed=seed,
            channels=3 if rgb else 1,
            workers=workers,
            units=units,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
        table.save(to)
    facts = {"path": str(to), "people": people, "faces": people * images, "seed": seed}
    if json_:
        print_json(facts)
    else:
        out.print(f"{facts['faces']:,} faces of {people:,} people who do not exist: {to}")


def _check_target(to: Path, force: bool) -> None:
    if to.is_dir() or not to.parent.is_dir():
        raise SettingsError(f"{to} cannot be a file: name one in a folder that exists.")
    if to.suffix.lower() != ".npz":
        raise SettingsError(f"{to} has to end in .npz: that is what is written.")
    if to.exists() and not force:
        raise SettingsError(f"{to} exists: name another file, or replace it with --force.")
