"""A run on this machine as its user watches it: prepared, run, finished, audited and summed up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.progress import Progress
from rich.table import Table

from privemo.cli.common import out, print_json, progress, say
from privemo.errors import RunInterrupted

if TYPE_CHECKING:
    from privemo.config import RunSettings
    from privemo.faces import FaceTable
    from privemo.runs import Run
    from privemo_audits import Report

__all__ = ["go_on", "run_new", "summary_table"]


def run_new(
    data: Path,
    folder: Path,
    settings_for: Callable[[FaceTable], RunSettings],
    *,
    engine: str = "inprocess",
    workers: int = 1,
    budget: Path | None = None,
    real: bool = True,
    at_every_age: int = 0,
    json_: bool = False,
) -> None:
    """Lay out a run, run it, and audit it.

    Args:
        data: the faces.
        folder: of the run; must be new or empty.
        settings_for: from the table, of which it may read public facts alone, to the settings.
        engine: `inprocess` or `ray`.
        workers: stores that train at once, in one process each.
        budget: file that keeps what all runs on these people spent together.
        real: the people may exist, so that what several runs cost them adds up.
        at_every_age: people to draw at the ages that the rules exclude (`privemo.excluded`); 0 asks nobody.
        json_: print JSON.

    Raises:
        PrivemoError: the faces, the settings or the folder do not allow it.
        typer.Exit: the audit failed (1).
    """
    from privemo import simulation
    from privemo.faces import load_faces
    from privemo.synthetic import ORIGIN

    started = time.monotonic()
    simulation.check_workers(workers, engine)  # type: ignore[arg-type]  # the enum holds the same two names
    table = load_faces(data)
    settings = settings_for(table)
    if real and table.origin != ORIGIN and settings.privacy is not None and budget is None:
        say("Runs on the same people add up: give --budget FILE to keep the sum.")
    with _resumable(folder), progress() as bar:
        listener = _Watch(bar, settings)
        run = simulation.prepare(
            table,
            folder,
            settings,
            engine=engine,  # type: ignore[arg-type]  # as above
            budget=budget,
            listener=listener,
        )
        simulation.run(run, engine=engine, listener=listener, workers=workers)  # type: ignore[arg-type]  # as above
        simulation.finish(run, listener=listener)
        if at_every_age:
            _draw_at_every_age(run, at_every_age, bar)
        report = _audited(folder, bar)
    _show(report, folder, time.monotonic() - started, json_)


def go_on(folder: Path, json_: bool, workers: int = 1) -> None:
    """Run the rounds that an interrupted run lacks, and audit it.

    Args:
        folder: of the run.
        json_: print JSON.
        workers: as of `run_new`.

    Raises:
        PrivemoError: the folder holds no run, or it cannot go on.
        typer.Exit: the audit failed (1).
    """
    from privemo import simulation
    from privemo.runs import Run

    started = time.monotonic()
    run = Run(folder)
    with _resumable(folder), progress() as bar:
        listener = _Watch(bar, run.settings, done=len(run.manifests()))
        simulation.run(run, engine=run.facts["engine"], listener=listener, workers=workers)
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
        from privemo.runs import Run

        raise RunInterrupted(
            "Stopped; every whole round and all spent epsilon are kept. "
            f"Go on with: {Run(folder).resume_command}"
        ) from stop


_FEW_ROUNDS = 12


class _Watch:
    """Turns the events of a run into a live display: a line for each round, or one for them all if many.

    Args:
        bar: of the display.
        settings: of the run.
        done: rounds that an interrupted run has already.
    """

    def __init__(self, bar: Progress, settings: RunSettings, *, done: int = 0) -> None:
        self.bar, self.settings, self.round = bar, settings, done + 1
        self.first, self.started = done + 1, time.monotonic()
        self.tasks: dict[str, Any] = {}

    def __call__(self, event: dict[str, Any]) -> None:
        """Show one event."""
        kind = event["event"]
        if kind == "prepared":
            self._update("prepared", "Preparing stores and their consents", event)
            self.started = time.monotonic()
        elif kind == "store" and self.settings.rounds <= _FEW_ROUNDS:
            text = f"Round {self.round} of {self.settings.rounds}"
            self._update(f"round {self.round}", text, event)
        elif kind == "round":
            self._say_who_missed(event["manifest"])
            if (
                f"round {self.round}" not in self.tasks
            ):  # many rounds; and Ray tells of whole rounds only
                done = event["manifest"]["round"]
                self._update("rounds", self._pace(done), {"done": done, "of": self.settings.rounds})
            self.round = event["manifest"]["round"] + 1
        elif kind == "note":
            self.bar.console.print(f"  {event['text']}", markup=False)
        elif kind == "predicted":
            self._update("predicted", "Reading held-out faces", event)

    def _pace(self, done: int) -> str:
        """How fast rounds go, and how long the rest will take."""
        a_round = (time.monotonic() - self.started) / (done - self.first + 1)
        left = a_round * (self.settings.rounds - done)
        if self.settings.privacy is None:
            return f"Rounds, {_duration(left)} left"
        steps = self.settings.stores * self.settings.steps_per_round / a_round
        return f"Rounds, {steps:.2g} steps/s, {_duration(left)} left"

    def _update(self, key: str, text: str, event: dict[str, Any]) -> None:
        if key not in self.tasks:
            self.tasks[key] = self.bar.add_task(text, total=event["of"])
        self.bar.update(self.tasks[key], completed=event["done"], description=text)

    def _say_who_missed(self, manifest: dict[str, Any]) -> None:
        for name, store in {**manifest["stores"], **manifest.get("others", {})}.items():
            if store["status"] != "trained":
                self.bar.console.print(
                    f"  {name} did not take part in round {manifest['round']}: {store['reason']}",
                    markup=False,
                )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _draw_at_every_age(run: Run, people: int, bar: Progress) -> None:
    from privemo.excluded import measure_excluded

    task = bar.add_task("Drawing people at excluded ages", total=None)
    own = run.settings.seed
    measure_excluded(
        run,
        people=people,
        # Same seed, same table; and other people than those that the seed itself draws.
        seed=None if own is None else int.from_bytes(sha256(b"excluded/%d" % own).digest()[:6]),
        listener=lambda done, of: bar.update(task, completed=done, total=of),
    )


def _audited(folder: Path, bar: Progress) -> Report:
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
        print_failures(content)
        say(f"Finished in {seconds:.0f} s.")
        for path in paths.values():
            out.print(path, soft_wrap=True)
    if not content["passed"]:
        raise typer.Exit(1)


def print_failures(report: dict[str, Any]) -> None:
    """A line for each check that did not pass, with what was seen; not all of them are required to."""
    for check in report["checks"]:
        if not check["passed"]:
            word = "not passed" if check["required"] else "not passed, and not required"
            out.print(f"{word}: {check['title']}: {check['evidence']}", markup=False)


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
            "Refused faces",
            f"{exclusions['refused']:,}, of them {exclusions['minors']['total']:,} of minors",
        ),
    ]
    if performance["accuracy"] is not None:
        rows.append(
            (
                "Accuracy on held-out faces",
                f"{performance['accuracy']:.1%} (95% {low:.1%} to {high:.1%}, n={performance['n']:,})",
            )
        )
    if report["excluded"] is not None:
        young, older = report["excluded"]["ages"][:2]
        rows.append(
            (
                "Accuracy on drawn minors",
                f"{young['accuracy']:.1%} under 13, {older['accuracy']:.1%} at 13 to 17",
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
    if report["run"]["simulated"]:
        rows.append(("Consents", "simulated: no real person gave them"))
    rows += [
        ("Breaches of consent found", str(report["lineage"]["violations"])),
        ("Audit", "passed" if report["passed"] else "FAILED"),
    ]
    return rows
