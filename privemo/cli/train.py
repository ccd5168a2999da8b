"""`privemo demo`, `privemo simulate`, `privemo train`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from click.core import ParameterSource
from rich.table import Table

from privemo.cli.common import out, print_json, progress, say
from privemo.errors import RunInterrupted, SettingsError

if TYPE_CHECKING:
    from privemo.config import RunSettings
    from privemo_audits import Report

__all__ = ["demo", "simulate", "train"]


class EngineName(StrEnum):
    """Where the Flower app runs."""

    inprocess = "inprocess"
    ray = "ray"


class MixName(StrEnum):
    """How simulated shoppers answer."""

    realistic = "realistic"
    everyone = "everyone"


class AccountantName(StrEnum):
    """Which bound is held against the budget."""

    rdp = "rdp"
    prv = "prv"


DataOption = Annotated[
    Path, typer.Option(help="Faces: an npz file, a csv file, or a folder with one subfolder each.")
]
OutOption = Annotated[Path | None, typer.Option(help="Run folder to make; must be new or empty.")]
ResumeOption = Annotated[
    Path | None, typer.Option(help="Go on with an interrupted run in this folder.")
]
EpsilonOption = Annotated[float, typer.Option(help="Most any person may lose, whole run.")]
DeltaOption = Annotated[float, typer.Option(help="Probability that the bound may fail.")]
SeedOption = Annotated[
    int | None,
    typer.Option(
        help="Make the run repeatable. The noise can then be taken off: never release the model."
    ),
]
SensitiveOption = Annotated[
    list[str] | None, typer.Option(help="Column to audit by; may be given several times.")
]
InitOption = Annotated[
    str, typer.Option(help="Start from `nobody` (people who do not exist), `scratch`, or a file.")
]
MixOption = Annotated[MixName, typer.Option(help="How the simulated shoppers answer.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
AgeOption = Annotated[
    float, typer.Option(help="Refuse whoever is estimated to be younger; 18 at least.")
]


def simulate(
    ctx: typer.Context,
    data: Annotated[Path | None, typer.Option(help="Faces: npz, csv or folder.")] = None,
    out_: Annotated[Path | None, typer.Option("--out", help="Run folder to make.")] = None,
    resume: ResumeOption = None,
    stores: Annotated[int, typer.Option(help="Number of stores.")] = 3,
    rounds: Annotated[int, typer.Option(help="Rounds of the federation.")] = 3,
    steps: Annotated[int, typer.Option(help="Private steps of a store in a round.")] = 6,
    epsilon: EpsilonOption = 8.0,
    delta: DeltaOption = 1e-5,
    accountant: Annotated[AccountantName, typer.Option(help="Bound held against the budget.")] = (
        AccountantName.rdp
    ),
    sample_rate: Annotated[float, typer.Option(help="Chance of a person to join a batch.")] = 0.25,
    lr: Annotated[float | None, typer.Option(help="Learning rate; derived by default.")] = None,
    clip: Annotated[float, typer.Option(help="Clipping norm of a person's gradient.")] = 1.0,
    declared_people: Annotated[
        int | None, typer.Option(help="Public size of a store; see the how-to on budgets.")
    ] = None,
    sensitive: SensitiveOption = None,
    init: InitOption = "nobody",
    consents: MixOption = MixName.realistic,
    challenge_age: AgeOption = 25.0,
    seed: SeedOption = None,
    engine: Annotated[EngineName, typer.Option(help="In one process, or Flower on Ray.")] = (
        EngineName.inprocess
    ),
    json_: JsonOption = False,
) -> None:
    """Run a chain of stores on this machine, with simulated consents, and audit it."""
    if resume is not None:
        _refuse_other_options(ctx)
        _go_on(resume, json_)
        return
    from privemo.config import PrivacySettings, RunSettings

    settings = RunSettings.of(
        stores=stores,
        rounds=rounds,
        steps_per_round=steps,
        privacy=PrivacySettings.of(
            epsilon=epsilon,
            delta=delta,
            accountant=accountant.value,
            sample_rate=sample_rate,
            max_grad_norm=clip,
        ),
        lr=lr,
        declared_people=declared_people,
        seed=seed,
        init=init,
        sensitive=tuple(sensitive or ()),
        consents=consents.value,
        challenge_age=challenge_age,
    )
    _run_new(_needed(data, "--data"), _needed(out_, "--out"), settings, engine.value, json_)


def train(
    ctx: typer.Context,
    data: Annotated[Path | None, typer.Option(help="Faces: npz, csv or folder.")] = None,
    out_: Annotated[Path | None, typer.Option("--out", help="Run folder to make.")] = None,
    resume: ResumeOption = None,
    private: Annotated[
        bool, typer.Option("--private/--no-private", help="With or without differential privacy.")
    ] = True,
    epsilon: EpsilonOption = 8.0,
    delta: DeltaOption = 1e-5,
    rounds: Annotated[int, typer.Option(help="Checkpoints; all count against the budget.")] = 4,
    steps: Annotated[int, typer.Option(help="Private steps between checkpoints.")] = 12,
    sample_rate: Annotated[float, typer.Option(help="Chance of a person to join a batch.")] = 0.25,
    clip: Annotated[float, typer.Option(help="Clipping norm of a person's gradient.")] = 1.0,
    lr: Annotated[float | None, typer.Option(help="Learning rate; derived by default.")] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the data, without privacy.")] = 12,
    batch: Annotated[int, typer.Option(help="Faces in a batch, without privacy.")] = 64,
    sensitive: SensitiveOption = None,
    init: Annotated[
        str | None, typer.Option(help="`nobody` (default with privacy), `scratch`, or a file.")
    ] = None,
    consents: MixOption = MixName.realistic,
    challenge_age: AgeOption = 25.0,
    declared_people: Annotated[int | None, typer.Option(help="Public number of people.")] = None,
    test_fraction: Annotated[float, typer.Option(help="Share of people held out.")] = 0.2,
    seed: SeedOption = None,
    json_: JsonOption = False,
) -> None:
    """Train in one place (a single store, or a whole data set), with or without privacy."""
    if resume is not None:
        _refuse_other_options(ctx)
        _go_on(resume, json_)
        return
    from privemo.config import PlainSettings, PrivacySettings, RunSettings

    kind: dict[str, Any]
    if private:
        kind = {
            "privacy": PrivacySettings.of(
                epsilon=epsilon, delta=delta, sample_rate=sample_rate, max_grad_norm=clip
            ),
            "rounds": rounds,
            "steps_per_round": steps,
            "init": init or "nobody",
        }
    else:
        kind = {
            "privacy": None,
            "plain": PlainSettings.of(epochs=epochs, batch=batch),
            "rounds": 1,
            "init": init or "scratch",
        }
    settings = RunSettings.of(
        stores=1,
        lr=lr,
        declared_people=declared_people,
        test_fraction=test_fraction,
        seed=seed,
        sensitive=tuple(sensitive or ()),
        consents=consents.value,
        challenge_age=challenge_age,
        **kind,
    )
    _run_new(_needed(data, "--data"), _needed(out_, "--out"), settings, "inprocess", json_)


def demo(
    out_: Annotated[
        Path | None,
        typer.Option("--out", help="Run folder; runs/demo, runs/demo-2, ... by default."),
    ] = None,
    people: Annotated[int, typer.Option(help="Shoppers to draw.")] = 700,
    images: Annotated[int, typer.Option(help="Pictures of each.")] = 4,
    seed: Annotated[int, typer.Option(help="Same seed, same demo.")] = 7,
    engine: Annotated[EngineName, typer.Option(help="In one process, or Flower on Ray.")] = (
        EngineName.inprocess
    ),
    json_: JsonOption = False,
) -> None:
    """The main job from end to end, on people who do not exist."""
    from privemo.config import PrivacySettings, RunSettings
    from privemo.synthetic import synthesize

    folder = out_ or _fresh_folder(Path("runs") / "demo")
    faces = folder.parent / f"{folder.name}-people.npz"
    with progress() as bar:
        task = bar.add_task("Drawing people who do not exist", total=people)
        table = synthesize(
            people,
            images,
            seed=seed,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
        faces.parent.mkdir(parents=True, exist_ok=True)
        table.save(faces)
    settings = RunSettings.of(
        stores=3,
        rounds=3,
        steps_per_round=10,
        privacy=PrivacySettings.of(epsilon=8.0),
        seed=seed,
        sensitive=("age_band", "gender", "skin_tone_group"),
    )
    _run_new(faces, folder, settings, engine.value, json_)


# -- shared --------------------------------------------------------------------------------------


def _run_new(data: Path, folder: Path, settings: RunSettings, engine: str, json_: bool) -> None:
    from privemo import simulation
    from privemo.faces import load_faces

    started = time.monotonic()
    table = load_faces(data)
    with _resumable(folder), progress() as bar:
        listener = _Watch(bar, settings.rounds)
        run = simulation.prepare(
            table,
            folder,
            settings,
            engine=engine,  # type: ignore[arg-type]  # the enum holds the same two names
            listener=listener,
        )
        simulation.run(run, engine=engine, listener=listener)  # type: ignore[arg-type]  # as above
        simulation.finish(run, listener=listener)
        report = _audited(folder, bar)
    _show(report, folder, time.monotonic() - started, json_)


def _go_on(folder: Path, json_: bool) -> None:
    from privemo import simulation
    from privemo.runs import Run

    started = time.monotonic()
    run = Run(folder)
    with _resumable(folder), progress() as bar:
        listener = _Watch(bar, run.settings.rounds, done=len(run.manifests()))
        simulation.run(run, engine=run.facts["engine"], listener=listener)
        simulation.finish(run, listener=listener)
        report = _audited(folder, bar)
    _show(report, folder, time.monotonic() - started, json_)


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Ctrl-C between the rounds, while reading held-out faces or auditing: say how to go on."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if not (folder / "run.json").exists():
            raise
        raise RunInterrupted(
            "Stopped; every whole round and all spent epsilon are kept. "
            f"Go on with: privemo simulate --resume {folder}"
        ) from stop


class _Watch:
    """Turns the events of a run into a live display."""

    def __init__(self, bar: Any, rounds: int, *, done: int = 0) -> None:
        self.bar, self.rounds, self.round = bar, rounds, done + 1
        self.tasks: dict[str, Any] = {}

    def __call__(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "prepared":
            self._update("prepared", "Preparing stores and their consents", event)
        elif kind == "store":
            self._update(f"round {self.round}", f"Round {self.round} of {self.rounds}", event)
        elif kind == "round":
            self._say_who_missed(event["manifest"])
            if f"round {self.round}" not in self.tasks:  # Ray tells of whole rounds only
                done = event["manifest"]["round"]
                self._update("rounds", "Rounds", {"done": done, "of": self.rounds})
            self.round = event["manifest"]["round"] + 1
        elif kind == "predicted":
            self._update("predicted", "Reading held-out faces", event)

    def _update(self, key: str, text: str, event: dict[str, Any]) -> None:
        if key not in self.tasks:
            self.tasks[key] = self.bar.add_task(text, total=event["of"])
        self.bar.update(self.tasks[key], completed=event["done"])

    def _say_who_missed(self, manifest: dict[str, Any]) -> None:
        for name, store in manifest["stores"].items():
            if store["status"] != "trained":
                self.bar.console.print(
                    f"  {name} did not take part in round {manifest['round']}: {store['reason']}",
                    markup=False,
                )


def _audited(folder: Path, bar: Any) -> Report:
    from privemo_audits import build_report, write_report

    task = bar.add_task("Auditing", total=1)
    report = build_report(folder)
    write_report(report, folder)
    bar.update(task, completed=1)
    return report


def _show(report: Report, folder: Path, seconds: float, json_: bool) -> None:
    import json

    content = json.loads(report.to_json())
    paths = {name: str(folder / f"report.{name}") for name in ("html", "json")}
    if json_:
        print_json(
            {
                "run": str(folder),
                "seconds": round(seconds, 1),
                "report": paths,
                "passed": content["passed"],
                "performance": content["performance"],
                "privacy": content["privacy"],
            }
        )
    else:
        out.print(summary_table(content))
        say(f"Finished in {seconds:.0f} s.")
        for path in paths.values():
            out.print(path, soft_wrap=True)
    if not content["passed"]:
        raise typer.Exit(1)


def summary_table(report: dict[str, Any]) -> Table:
    """The most important lines of a report, as a table."""
    table = Table(title="What happened", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    for name, value in summary_rows(report):
        table.add_row(name, value)
    return table


def summary_rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and value of each line of the summary."""
    performance, privacy = report["performance"], report["privacy"]
    exclusions = report["exclusions"]["purposes"]["training"]["faces"]
    low, high = performance["accuracy_ci"] or (None, None)
    rows = [
        (
            "Faces asked / admitted for training",
            f"{exclusions['asked']:,} / {exclusions['admitted']:,}",
        ),
        (
            "Refused, minors among them",
            f"{exclusions['refused']:,}, {exclusions['minors']['total']:,}",
        ),
    ]
    if performance["accuracy"] is not None:
        rows.append(
            (
                "Accuracy on held-out faces",
                f"{performance['accuracy']:.1%} (95% {low:.1%} to {high:.1%}, n={performance['n']:,})",
            )
        )
    if privacy["private"]:
        rows.append(
            (
                "Epsilon of the most exposed person",
                "{epsilon_max_person:.2f} of {epsilon_budget:g}, delta {delta:g}".format(**privacy),
            )
        )
    else:
        rows.append(("Privacy of training", "none: trained without differential privacy"))
    rows += [
        ("Faces trained without live consent", str(report["lineage"]["violations"])),
        ("Audit", "passed" if report["passed"] else "FAILED"),
    ]
    return rows


def _refuse_other_options(ctx: typer.Context) -> None:
    """A resumed run keeps its settings; an option that would be ignored is a misunderstanding."""
    given = [
        name.rstrip("_").replace("_", "-")
        for name in ctx.params
        if name not in ("resume", "json_")
        and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise SettingsError(
            f"--resume goes on with the settings of the run; leave out --{', --'.join(given)}."
        )


def _needed(path: Path | None, option: str) -> Path:
    if path is None:
        raise SettingsError(f"{option} is missing; see --help.")
    return path


def _fresh_folder(path: Path) -> Path:
    """`path`, or `path`-2, `path`-3, ... whichever does not exist yet."""
    number, folder = 1, path
    while folder.exists():
        number += 1
        folder = path.with_name(f"{path.name}-{number}")
    return folder
