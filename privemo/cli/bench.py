"""`privemo bench`: one command for each benchmark."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from privemo.bench import BENCHMARKS, run_benchmark
from privemo.cli import curves, poisoning, reader, robustness
from privemo.cli.commandline import command_line
from privemo.cli.common import out, print_lines, progress, say
from privemo.cli.options import ModelOption, PrecisionName, refuse_given

if TYPE_CHECKING:
    from privemo.bench.models import Plan
    from privemo.faces import FaceTable

__all__ = ["app"]

WIDTH = 112  # a table of eight columns: narrower, and its figures are torn

LONG = {
    "models": "the study's eight models against the study's figures",
    "accuracy": "accuracy against epsilon, by whose noise it is",
    "ablation": "what each part of the private recipe contributes",
    "reader": "whom the detector finds and the age estimate refuses, by group",
    "robustness": "accuracy as pictures get worse, by emotion and group",
    "poisoning": "what poisoned stores cost, by how updates are put together",
}

app = typer.Typer(
    help="Measure something on this machine and hold it against its goal.", no_args_is_help=True
)

JsonOption = Annotated[bool, typer.Option("--json", help="One line of JSON for each figure.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Exit 1 when a goal is missed.")]


@app.command("list")
def list_() -> None:
    """Name the benchmarks."""
    print_lines(*(f"{key:12} {text}" for key, text in {**BENCHMARKS, **LONG}.items()))


def _measuring(name: str) -> Callable[..., None]:
    def command(json_: JsonOption = False, strict: StrictOption = False) -> None:
        _show(run_benchmark(name), json_=json_, strict=strict)

    return command


def _show(figures: Iterator[dict[str, Any]], *, json_: bool, strict: bool) -> None:
    missed = False
    table = Table("figure", "value", "unit", "goal", "met")
    for figure in figures:
        missed |= figure["met"] is False
        if json_:
            typer.echo(json.dumps(figure))
        else:
            table.add_row(*_cells(figure))
    if not json_:
        out.print(table)
    if strict and missed:
        raise typer.Exit(1)


for _name, _text in BENCHMARKS.items():
    if _name not in ("step", "federation", "deployed"):
        app.command(_name, help=f"Measure {_text}.")(_measuring(_name))


@app.command("step", help=f"Measure {BENCHMARKS['step']}.")
def step(
    quick: Annotated[
        bool, typer.Option("--quick", help="256 pictures only, and few rounds.")
    ] = False,
    json_: JsonOption = False,
    strict: StrictOption = False,
) -> None:
    """Time and peak memory of private steps, ours and Opacus's, over those of a plain one."""
    _show(run_benchmark("step", quick=quick), json_=json_, strict=strict)


@app.command("federation", help=f"Measure {BENCHMARKS['federation']}.")
def federation(
    stores: Annotated[
        list[int] | None, typer.Option(help="How many; several times for several; 10 by default.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Of the federation.")] = 10,
    people: Annotated[int, typer.Option(help="Of each store.")] = 100,
    model: ModelOption = "emotion-cnn",
    one_process: Annotated[
        bool,
        typer.Option(
            "--one-process/--no-one-process", help="A run of one store after the other too."
        ),
    ] = True,
    workers: Annotated[
        int, typer.Option(help="Measure stores side by side too, so many, on an idle machine.")
    ] = 1,
    ray: Annotated[
        bool, typer.Option("--ray/--no-ray", help="Flower's engine on Ray too, on an idle machine.")
    ] = True,
    json_: JsonOption = False,
    strict: StrictOption = False,
) -> None:
    """The same rounds as a plain loop, as a run in one process or several, and on Ray; one model."""
    asked = {"stores": tuple(stores or (10,)), "rounds": rounds, "people": people, "ray": ray}
    asked |= {"model": model, "one_process": one_process, "workers": workers}
    _show(run_benchmark("federation", **asked), json_=json_, strict=strict)


@app.command("deployed", help=f"Measure {BENCHMARKS['deployed']}.")
def deployed(
    model: ModelOption = "gray-cnn",
    json_: JsonOption = False,
    strict: StrictOption = False,
) -> None:
    """Three stores and a server as processes over TLS on loopback; by the clock, on an idle machine."""
    _show(run_benchmark("deployed", model=model), json_=json_, strict=strict)


def _cells(figure: dict[str, Any]) -> list[str]:
    value = figure["value"]
    met = {True: "yes", False: "NO", None: ""}[figure["met"]]
    shown = f"{value:,.4g}" if isinstance(value, int | float) else str(value)
    return [figure["figure"], shown, figure["unit"], figure["goal"] or "", met]


app.command("accuracy")(curves.accuracy)
app.command("ablation")(curves.ablation)
app.command("poisoning")(poisoning.poisoning)
app.command("reader")(reader.reader)
app.command("robustness")(robustness.robustness)


# -- models --------------------------------------------------------------------------------------


@app.command("models")
def models(
    ctx: typer.Context,
    data: Annotated[Path, typer.Option(help="Faces: npz, csv or folder.")],
    models_: Annotated[
        str | None, typer.Option("--models", help="Names with commas between; all by default.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the faces; 5 without privacy.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Instead of epochs: about how long for each model.")
    ] = None,
    private: Annotated[
        bool, typer.Option("--private/--no-private", help="With differential privacy, or without.")
    ] = False,
    epsilon: Annotated[float, typer.Option(help="With --private: most a person may lose.")] = 8.0,
    scratch: Annotated[
        bool, typer.Option("--scratch", help="Start every model from random weights.")
    ] = False,
    pretrain: Annotated[
        Path | None, typer.Option(help="People who do not exist, to train on first.")
    ] = None,
    pretrain_epochs: Annotated[int, typer.Option(help="Passes over those people.")] = 3,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps what --pretrain trained.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same models.")] = 0,
    split_seed: Annotated[int, typer.Option(help="Who is held out.")] = 0,
    challenge_age: Annotated[
        float, typer.Option(help="Refuse whoever is estimated to be younger; 18 at least.")
    ] = 25.0,
    precision: Annotated[
        PrecisionName, typer.Option(help="Numbers of the passes of training.")
    ] = PrecisionName.float32,
    to: Annotated[Path | None, typer.Option("--out", help="JSON file for the results.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="One line of JSON for each model.")] = False,
) -> None:
    """Train the study's models one after the other and hold them against the study's figures."""
    from privemo.bench.models import Plan
    from privemo.bench.starts import Starts
    from privemo.faces import load_faces

    if not private:
        refuse_given(ctx, {"epsilon"}, "Without --private nothing is accounted for")
    if pretrain is None:
        refuse_given(
            ctx, {"pretrain_epochs", "cache"}, "Without --pretrain nothing is trained on first"
        )
    options: dict[str, Any] = {} if models_ is None else {"models": tuple(models_.split(","))}
    plan = Plan(
        **options,
        epochs=5 if epochs is None and minutes is None and not private else epochs,
        minutes=minutes,
        epsilon=epsilon if private else None,
        seed=seed,
        split_seed=split_seed,
        challenge_age=challenge_age,
        precision=precision.value,
        starts=Starts(
            scratch=scratch,
            people=None if pretrain is None else load_faces(pretrain),
            epochs=pretrain_epochs,
            cache=cache,
            seed=seed,
            precision=precision.value,
        ),
    )
    found = _compared(load_faces(data), plan, to, json_, command_line(ctx))
    if not json_:
        Console(width=max(WIDTH, out.width)).print(comparison(found))
    if len(found) < len(plan.models):
        raise typer.Exit(2)


def _compared(
    table: FaceTable, plan: Plan, to: Path | None, json_: bool, command: str
) -> list[dict[str, Any]]:
    """What each model reached; stopped in between, those that are done."""
    from privemo.bench.models import compare, facts
    from privemo.files import write_json

    found: list[dict[str, Any]] = []
    try:
        with progress() as bar:
            task = bar.add_task("Training models", total=len(plan.models))
            for row in compare(table, plan):
                found.append(row)
                bar.update(task, completed=len(found))
                if json_:
                    typer.echo(json.dumps(row))
                if to is not None:
                    write_json(to, {**facts(table, plan, command), "models": found})
    except KeyboardInterrupt:
        if not found:
            raise
        say(f"Stopped after {len(found)} of {len(plan.models)} models.")
    return found


def comparison(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One table: each model beside what the study reached with it, best on the validation part first."""
    table = Table(title="Accuracy in %: training / validation / test", title_justify="left")
    for name in (
        "model",
        "parameters",
        "ours",
        "validation, 95%",
        "the study",
        "lowest F1",
        "start",
        "s",
    ):
        table.add_column(name, justify="left" if name in ("model", "start") else "right")
    for row in sorted(rows, key=lambda row: -row["validation"]):
        low, high = row["validation_interval"]
        ours = " / ".join(f"{row[part]:.1f}" for part in ("train", "validation", "test"))
        lowest = row["lowest_f1"]
        table.add_row(
            row["model"],
            f"{row['parameters']:,}",
            ours,
            f"{low:.1f} to {high:.1f}",
            " / ".join(map(str, row["study"])) or "-",
            "none" if lowest is None else f"{lowest:.2f} {row['lowest_f1_emotion']}",
            row["start"],
            f"{row['seconds']:.0f}",
        )
    return table
