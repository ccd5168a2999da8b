"""Processes of their own, as kiosks are, that say what was acknowledged to them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
Worker = subprocess.Popen[str]


def start(module: str, *arguments: str) -> Worker:
    """Start a worker and wait until it is ready to `go`."""
    worker = subprocess.Popen(
        [sys.executable, "-m", f"tests.contract.{module}", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert worker.stdout is not None
    assert worker.stdout.readline() == "ready\n"
    return worker


def go(worker: Worker) -> None:
    assert worker.stdin is not None
    worker.stdin.write("\n")
    worker.stdin.flush()


def finish(worker: Worker) -> list[str]:
    """Return the lines it said, once it is done."""
    out, _ = worker.communicate(timeout=120)
    assert worker.returncode == 0
    return out.split("\n")[:-1]


def kill(worker: Worker) -> list[str]:
    """kill -9; return the lines that were not read yet."""
    worker.kill()
    assert worker.stdin is not None
    assert worker.stdout is not None
    # Not `communicate`: it reads past what `readline` had taken from the pipe and not yet given out.
    out = worker.stdout.read()
    worker.stdout.close()
    worker.stdin.close()
    worker.wait(60)
    return out.split("\n")[:-1]
