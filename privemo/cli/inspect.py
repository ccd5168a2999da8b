"""`privemo evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from privemo.cli import options as o
from privemo.cli.common import out, print_json

__all__ = ["evaluate"]

_PART = {
    "file": "",
    "held_out": ", all that the run held out",
    "partly_trained_on": "; the model was trained on some of them, and the run has no seed to tell which",
}


def evaluate(
    weights: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="A model.safetensors file, or the folder of a run."),
    ],
    data: Annotated[Path, typer.Option(help="Faces: npz, csv or folder.")],
    model: Annotated[
        str | None,
        typer.Option(help="Name of the architecture.", show_default="the run's, or emotion-cnn"),
    ] = None,
    challenge_age: o.AgeOption = 25.0,
    json_: o.JsonOption = False,
) -> None:
    """Accuracy of a model on labelled faces, with its interval.

    Minors, suspected minors and people of unknown age are refused here as everywhere; all other
    people in the file are taken as having agreed, which the result says (`simulated_consent`).

    Of the file that the model's run was trained on, what the run held out is read and nothing else.
    """
    from privemo.evaluation import evaluate_file

    result = evaluate_file(weights, data, model=model, challenge_age=challenge_age)
    if json_:
        print_json(result)
        return
    low, high = result["accuracy_ci"]
    table = Table(
        title=f"{weights.resolve().name} on {data.name}", title_justify="left", show_header=False
    )
    table.add_row("Faces read", f"{result['n']:,} of {result['asked']:,}{_PART[result['part']]}")
    if result["simulated_consent"]:
        table.add_row("Consents", "simulated: everyone in the file is taken to have agreed")
    table.add_row("Accuracy", f"{result['accuracy']:.1%} (95% {low:.1%} to {high:.1%})")
    for name, value in result["f1"].items():
        table.add_row(f"F1 {name}", "no such faces" if value is None else f"{value:.2f}")
    for reason, count in result["refused"].items():
        table.add_row(f"Refused: {reason}", f"{count:,}")
    out.print(table)
