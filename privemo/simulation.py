"""A whole chain of stores on one machine: prepare, run, finish.

`prepare` lays out the run folder as it would stand on the server and on each store's machine, with
simulated consents (marked so in every record) and the faces of those who agreed in each store's vault.
`run` drives the Flower app on an engine. `finish` reads the held-out faces and leaves the model. The
audit is a matter of `privemo_audits` and files alone.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from privemo import weights as w
from privemo.account import RunAccount, check_charge, give_back, settle
from privemo.config import RunSettings
from privemo.driving import driving, handing_on
from privemo.errors import RunError, RunInterrupted, SettingsError
from privemo.faces import FaceTable
from privemo.facts import new_run_id, planned, privacy_facts, run_facts, table_facts
from privemo.files import appearing, write_json
from privemo.layout import lay_out_stores, store_names
from privemo.machine import tuned
from privemo.releases import Release
from privemo.runs import Orders, Run

if TYPE_CHECKING:
    from privemo.grid import InProcessGrid

__all__ = ["Engine", "Listener", "check_workers", "finish", "prepare", "run"]

Engine = Literal["inprocess", "ray"]
Listener = Callable[[dict[str, Any]], None]


def prepare(
    table: FaceTable,
    out: Path,
    settings: RunSettings,
    *,
    engine: Engine = "inprocess",
    budget: Path | None = None,
    before: Sequence[Release] = (),
    listener: Listener | None = None,
) -> Run:
    """Lay out a run folder; it appears whole or not at all.

    Args:
        table: the faces. Nothing of the run refers to it: each store has the faces of people who agreed
            in its own vault.
        out: the run folder to make; must not exist, or be empty.
        settings: of the run.
        engine: written into the run's facts.
        budget: what all runs on these people spent together (`privemo.budget`): the whole plan is charged to
            it before anything is trained, and noise is raised for what stands in it.
        before: what these people lost elsewhere; noise is raised for it as well.
        listener: called as stores are prepared.

    Raises:
        RunError: the folder holds something already, or cannot be written.
        DataError: a sensitive column is missing.
        SettingsError, BudgetUnreachable, BudgetExhausted: the settings cannot be met.
        LedgerError: the budget file is damaged or cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} is not empty; choose another folder, or resume with --resume.")
    for name in settings.sensitive:
        table.column(name)
    people = settings.public_people(len(np.unique(table.person)))
    account = RunAccount(budget, out, settings.privacy)
    facts, weights = _begin(table, settings, engine, people, [*account.past(), *before])
    run_id, privacy = facts["run_id"], facts["privacy"]
    Orders(settings, facts, run_id).check()
    plan = planned(settings, privacy)
    # The folder appears within the charge, so that a folder that did not is not paid for.
    with account.charged(run_id, table.digest, plan) as spent_before, appearing(out) as draft:
        privacy["spent_before"] = [asdict(release) for release in spent_before]
        facts["roster"] = lay_out_stores(
            table,
            draft,
            settings,
            people=people,
            run_id=run_id,
            plan=plan,
            spent_before=spent_before,
            listener=listener,
        )
        write_json(draft / "run.json", {**facts, **account.facts()})
        Run(draft).keep_start(weights)
    return Run(out)


def _begin(
    table: FaceTable, settings: RunSettings, engine: Engine, people: int, past: Sequence[Release]
) -> tuple[dict[str, Any], w.Weights]:
    """The facts of a run that is to begin, and the model that it begins with."""
    weights, origin = w.initial_weights(
        settings.init,
        model=settings.model,
        channels=table.channels,
        seed=0 if settings.seed is None else settings.seed,
    )
    facts = run_facts(
        settings,
        names=store_names(settings.stores),
        data=table_facts(table),
        channels=table.channels,
        simulated=True,
        engine=engine,
        run_id=new_run_id(table, settings),
        people=people,
        privacy=privacy_facts(settings, people, past),
        weights=weights,
        origin=origin,
    )
    return facts, weights


def run(
    prepared: Run,
    *,
    engine: Engine = "inprocess",
    listener: Listener | None = None,
    workers: int = 1,
) -> None:
    """Run the rounds that are missing.

    Args:
        prepared: the run.
        engine: what the Flower app runs on.
        listener: called with what happens.
        workers: how many stores train at once, each in a process of its own, on a share of the threads; no
            more than there are stores. The model is the same as with one worker and as many threads a step.

    Raises:
        SettingsError: no such number of workers, or the engine has workers of its own.
        RunInterrupted: Ctrl-C; whole rounds and everything spent are kept.
        BudgetExhausted: what the run was charged was settled already.
        RunError: a round brought no update, with what went wrong in the stores. Where none of them ever
            released anything, the run's charge is given back to the budget of its people.
    """
    from privemo import server_app

    check_workers(workers, engine)
    logging.getLogger("flwr").setLevel(logging.WARNING)  # progress is the listener's matter
    if listener:
        server_app.listeners.append(listener)
    try:
        with driving(prepared), handing_on(prepared), tuned(prepared.settings.threads):
            check_charge(prepared)
            try:
                if engine == "ray":
                    _run_on_ray(prepared)
                else:
                    _run_in_process(prepared, listener, workers)
            except RunError:
                # Under the lock: whoever finds it taken must not give back what the other is about to spend.
                give_back(prepared)
                raise
    except KeyboardInterrupt as stop:
        done = len(prepared.manifests())
        side_by_side = f" --workers {workers}" if workers > 1 else ""
        raise RunInterrupted(
            f"Stopped in round {done + 1} of {prepared.settings.rounds}; {done} whole round(s) and "
            f"all spent epsilon are kept. Go on with: {prepared.resume_command}{side_by_side}"
        ) from stop
    finally:
        if listener:
            server_app.listeners.remove(listener)


def check_workers(workers: int, engine: Engine) -> None:
    """Let a number of workers pass, before anything is prepared.

    Raises:
        SettingsError: it is none, or the engine has workers of its own.
    """
    if workers < 1:
        raise SettingsError(f"{workers} workers train nothing; ask for 1 or more.")
    if workers > 1 and engine == "ray":
        raise SettingsError("Ray has workers of its own; leave out --workers, or the engine ray.")


def finish(prepared: Run, *, listener: Listener | None = None) -> None:
    """Write the finished model and each store's predictions on its held-out faces.

    Then the demographic labels are deleted from every vault (EU AI Act 10(5)): the audit reads what it
    needs of them in `predictions.csv`, and may be repeated from there; and so is what is due to be
    destroyed, above all the faces of whoever withdrew. Finishing once more leaves those files as they are.
    What the run released is settled with the budget of its people, if it has one.
    """
    weights = prepared.finish()
    for done, name in enumerate(prepared.stores, start=1):
        store = prepared.store(name)
        try:
            with tuned(prepared.settings.threads):
                store.write_predictions(
                    weights,
                    model=prepared.settings.model,
                    run_id=prepared.run_id,
                    flip=prepared.settings.flip,
                    zoom=prepared.settings.zoom,
                )
        finally:
            store.close()
        if listener:
            listener({"event": "predicted", "done": done, "of": len(prepared.stores)})
    for name in prepared.stores:  # once all are written, so that a crash in between can be mended
        store = prepared.store(name)
        try:
            store.forget_demographics()
            store.destroy_overdue()
        finally:
            store.close()
    note = settle(prepared)
    if note and listener:
        listener({"event": "note", "text": note})


# -- engines -------------------------------------------------------------------------------------


def _run_in_process(prepared: Run, listener: Listener | None, workers: int) -> None:
    from privemo.client_app import app as client_app
    from privemo.grid import InProcessGrid
    from privemo.workers import side_by_side

    def on_reply(done: int, of: int) -> None:
        if listener:
            listener({"event": "store", "done": done, "of": of})

    folders = [prepared.folder / "stores" / name for name in prepared.stores]
    configs: list[dict[str, str | int]] = [{"store-dir": str(folder)} for folder in folders]
    with side_by_side(min(workers, len(folders)), prepared.settings.threads) as some:
        grid = InProcessGrid(client_app, configs, on_reply=on_reply, workers=some)
        _serve(grid, prepared, folders)


def _serve(grid: InProcessGrid, prepared: Run, folders: list[Path]) -> None:
    from privemo.server_app import app as server_app

    try:
        grid.serve(server_app, run_dir=str(prepared.folder))
    except RunError as error:
        causes = [str(e) for e in grid.failures] or [s for s in map(_last_refusal, folders) if s]
        raise RunError(" ".join([str(error), *dict.fromkeys(causes[:3])])) from error


def _last_refusal(store: Path) -> str | None:
    """Why a store did not take part, in its own words, which stay on its machine."""
    try:
        return str(json.loads((store / "refusals.jsonl").read_text().splitlines()[-1])["text"])
    except (OSError, ValueError, IndexError, KeyError):
        return None


def _run_on_ray(prepared: Run) -> None:
    """Flower's simulation engine; it finds the stores through the environment, as its actors do."""
    from privemo.client_app import app as client_app
    from privemo.ray_engine import serve_on_ray
    from privemo.server_app import app as server_app

    told = {"PRIVEMO_RUN_DIR": str(prepared.folder.resolve())}
    serve_on_ray(server_app, client_app, nodes=len(prepared.stores), told=told)
    if len(prepared.manifests()) < prepared.settings.rounds:
        raise RunError("Flower's simulation engine ended before the last round; resume the run.")
