"""One process drives a run."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from privemo import server_app, simulation
from privemo.driving import check_free, driving, handing_on
from privemo.errors import RunError
from privemo.runs import Run
from tests.support.small_runs import drive, small_run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return small_run(tmp_path, model="gray-cnn", steps_per_round=1)


def test_a_second_app_beside_the_first_is_refused_and_the_run_ends_once(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its end would be signed, and the first app would put another round in the place of its."""
    refused: list[str] = []

    def second(event: dict[str, Any]) -> None:
        with pytest.raises(RunError, match="is being run by another process") as told:
            drive(run)
        refused.append(str(told.value))

    monkeypatch.setattr(server_app, "listeners", [second])
    drive(run)
    assert len(refused) == 2
    assert f"(process {os.getpid()} since 2" in refused[0]
    assert f"Follow it with `privemo watch {run.folder}`" in refused[0]
    assert f"Then `privemo simulate --resume {run.folder}` goes on" in refused[0]
    assert sorted(run.closings()) == run.stores
    assert run.unsigned() == []
    monkeypatch.setattr(server_app, "listeners", [])
    drive(run)  # nothing is missing, and nobody is in the way


def test_a_run_that_is_simulated_takes_no_app_beside_its_own(run: Run) -> None:
    def second(event: dict[str, Any]) -> None:
        if event["event"] == "round":
            with pytest.raises(RunError, match="is being run by another process"):
                drive(run)

    simulation.run(run, listener=second)
    assert len(run.manifests()) == 2


def test_a_lock_is_handed_on_once_and_not_past_its_end(run: Run) -> None:
    with driving(run):
        with handing_on(run):
            with driving(Run(run.folder)):
                pass
            with pytest.raises(RunError, match="another process"), driving(run):
                pass
        with handing_on(run):
            pass
        with pytest.raises(RunError, match="another process"), driving(run):
            pass
        with pytest.raises(RunError, match="another process"):
            check_free(run)
    check_free(run)


def test_who_was_killed_has_the_run_no_longer(run: Run) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            with driving(run):
                time.sleep(60)
        finally:
            os._exit(1)
    try:
        end = time.monotonic() + 30
        lock = run.folder / ".lock"
        while not lock.exists() or f"process {pid} " not in lock.read_text():
            assert time.monotonic() < end
            time.sleep(0.01)
        with pytest.raises(RunError, match=rf"\(process {pid} since "):
            check_free(run)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    check_free(run)
    with driving(run):
        pass


def test_a_round_that_is_whole_is_never_another_one(run: Run) -> None:
    drive(run)
    (first, _) = run.manifests()
    before = {p: p.read_bytes() for p in run.folder.rglob("*.*") if p.is_file()}
    _, weights = run.last_whole_round()
    run.keep_round(1, first, weights, {})  # the same once more is no harm
    with pytest.raises(RunError, match=r"Round 1 of .* is whole already, and is another one"):
        run.keep_round(1, {**first, "finished": "later"}, weights, {})
    assert {p: p.read_bytes() for p in before} == before
