"""Flower ServerApp of the federation: the same for simulation and for deployment.

The server knows the run's public settings, the models and the manifests. It resumes by itself from the
last whole round that it finds in the run folder. After the last round the stores sign its manifest, and with
it the finished model (`privemo.closing`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from privemo import weights as w
from privemo.answered import answered_file
from privemo.closing_records import ask_to_sign
from privemo.driving import driving
from privemo.errors import RunError
from privemo.federation.lifeline import end_with_parent
from privemo.flower import Context, Grid, HttpGrid, ServerApp
from privemo.measuring import finish_run, wants_measuring
from privemo.patience import round_timeout
from privemo.polling import PARTS_S, PollingGrid, look_again_soon
from privemo.runs import Run
from privemo.secure_server import SecureAveraging
from privemo.serverstep import ServerStep
from privemo.strategy import StoreAveraging, WholeRound

__all__ = ["app", "listeners"]

app = ServerApp()

listeners: list[Callable[[dict[str, Any]], None]] = []
"""Called with every event of a run in this process: `round` events carry the round's manifest."""


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run all rounds that are still missing, and have the end signed; then stores measure, where they do.

    Raises:
        RunError: the run folder is unknown or broken, another process drives the run, a round brought no
            update at all, or counts failed.
    """
    folder = context.run_config.get("run-dir") or os.environ.get("PRIVEMO_RUN_DIR")
    if not folder:
        raise RunError("The server does not know its run: give `run-dir` in the run configuration.")
    run = Run(Path(str(folder)))
    if isinstance(grid, HttpGrid):
        end_with_parent()
        look_again_soon(PARTS_S)
        grid = PollingGrid(grid, answered_file(run.folder))
    with driving(
        run
    ):  # Flower goes on with an app that nobody waits for, and starts another beside it
        _drive(run, grid)


def _drive(run: Run, grid: Grid) -> None:
    done, weights = run.last_whole_round()
    step = ServerStep(run.settings)
    step.restore(run.server_state())

    def on_whole_round(number: int, manifest: dict[str, Any], after: w.Weights) -> None:
        run.keep_round(number, manifest, after, step.state())
        for listener in listeners:
            listener({"event": "round", "manifest": manifest})

    strategy = _strategy(run, on_whole_round, done + 1, step)
    missing = run.settings.rounds - done
    if missing > 0:
        strategy.start(
            grid, w.to_record(weights), num_rounds=missing, timeout=strategy.round_timeout
        )
    if run.unsigned():
        run.keep_closings(ask_to_sign(grid, run.manifests(), run.roster))
    if wants_measuring(run):
        finish_run(run, grid)


def _strategy(
    run: Run, on_whole_round: WholeRound, first_round: int, step: ServerStep
) -> StoreAveraging:
    private = run.settings.privacy
    if private is None or private.noise == "local":
        return StoreAveraging(
            run.order_for,
            on_whole_round,
            run.sizes,
            roster=run.roster,
            history=run.history(),
            first_round=first_round,
            step=step,
            settings=run.settings,
            spool_in=run.folder / "checkpoints",
            round_timeout=round_timeout(run),
        )
    return SecureAveraging(
        run.order_for,
        on_whole_round,
        run.sizes,
        roster=run.roster,
        history=run.history(),
        may_drop=private.may_drop,
        pending=run.pending_path,
        first_round=first_round,
        step=step,
        round_timeout=round_timeout(run),
    )
