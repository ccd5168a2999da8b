"""Real processes, really stopped: nothing half-written, nothing spent twice, nothing forgotten."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from privemo.cli import app
from privemo.ledger import Ledger
from tests.conftest import noise_faces
from tests.support.interrupt import heed_ctrl_c

ROUNDS = [1, 2]
ARGUMENTS = [
    *("--stores", "2", "--rounds", "2", "--steps", "3", "--sample-rate", "0.5"),
    *("--declared-people", "10", "--init", "scratch", "--seed", "3", "--model", "gray-cnn"),
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "faces.npz"
    np.savez(path, **noise_faces(70, 2))
    return path


def start(
    *arguments: str | Path, before: Callable[[], None] = heed_ctrl_c
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "privemo", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
        preexec_fn=before,
    )


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, f"{path} never appeared"
        time.sleep(0.02)


def ledgers(run: Path) -> dict[str, list[tuple[int, float]]]:
    return {
        folder.name: [(e.round, e.epsilon_rdp) for e in Ledger(folder / "ledger.jsonl").entries]
        for folder in sorted((run / "stores").iterdir())
    }


def resumed(run: Path) -> dict[str, Any]:
    """What the command says that goes on with a run; in this process, which has torch already."""
    done = CliRunner().invoke(app, ["simulate", "--resume", str(run), "--json"])
    assert done.exit_code == 0, done.output
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_ctrl_c_in_a_round_is_one_sentence_and_the_run_resumes(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "run"
    process = start("simulate", "--data", data, "--out", run, *ARGUMENTS)
    wait_for(run / "rounds" / "0001.json", process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert out == ""
    assert "Traceback" not in err
    assert f"privemo simulate --resume {run}" in err.replace("\n", "")
    spent = ledgers(run)
    assert resumed(run)["privacy"]["epsilon_max_person"] <= 8
    for store, entries in ledgers(run).items():
        assert entries[: len(spent[store])] == spent[store]
        assert [r for r, _ in entries] == ROUNDS


@pytest.mark.slow
def test_ctrl_c_reaches_nobody_twice_and_leaves_no_worker_behind(
    tmp_path: Path, data: Path
) -> None:
    """A terminal sends it to the whole group of processes, workers too: still one sentence."""

    def apart() -> None:
        heed_ctrl_c()
        os.setsid()

    run = tmp_path / "run"
    arguments = ["--data", data, "--out", run, *ARGUMENTS, "--workers", "2"]
    process = start("simulate", *arguments, before=apart)
    wait_for(run / "stores" / "store-01" / "outbox", process)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert out == ""
    assert "Traceback" not in err
    assert f"privemo simulate --resume {run} --workers 2" in err.replace("\n", "")
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert resumed(run)["privacy"]["epsilon_max_person"] <= 8
    assert {r for entries in ledgers(run).values() for r, _ in entries} == set(ROUNDS)


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("laid out", marks=pytest.mark.slow),
        "first ledger entry",
        pytest.param("first round", marks=pytest.mark.slow),
    ],
)
def test_kill_9_loses_no_spent_epsilon_and_the_run_resumes(
    tmp_path: Path, data: Path, moment: str
) -> None:
    run = tmp_path / "run"
    process = start("simulate", "--data", data, "--out", run, *ARGUMENTS)
    wait_for(
        {
            "laid out": run / "run.json",
            "first ledger entry": run / "stores" / "store-02" / "outbox",
            "first round": run / "rounds" / "0001.json",
        }[moment],
        process,
    )
    process.kill()
    process.communicate(timeout=60)
    before = ledgers(run)
    assert resumed(run)["privacy"]["epsilon_max_person"] <= 8
    for store, entries in ledgers(run).items():
        assert entries[: len(before[store])] == before[store]
        assert [r for r, _ in entries] == ROUNDS


@pytest.mark.parametrize(
    "limit_kib",
    [pytest.param(8, marks=pytest.mark.slow), 200, pytest.param(3000, marks=pytest.mark.slow)],
)
def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(
    tmp_path: Path, data: Path, limit_kib: int
) -> None:
    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_kib * 1024, limit_kib * 1024))

    run = tmp_path / "run"
    process = start(
        "simulate",
        "--data",
        data,
        "--out",
        run,
        *ARGUMENTS,
        "--model",
        "emotion-cnn",
        before=small_files,
    )
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    assert "Traceback" not in err, err
    assert out == ""
    assert not run.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["faces.npz"]
