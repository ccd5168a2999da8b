"""A SuperLink whose SuperExec is gone ends, and says so; one that ends by itself says nothing of it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

from privemo.federation import executor


class Lifespan:
    """As Flower's: starts a process, and forgets it when it ends by itself."""

    superexec_process: subprocess.Popen[bytes] | None = None

    def _start_superexec_if_needed(self) -> None:
        command = [sys.executable, "-c", "import time; time.sleep(600)"]
        self.superexec_process = subprocess.Popen(command)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was logged, and which signals this process would have sent itself."""
    said = list[Any]()
    monkeypatch.setattr(executor, "_ENDING_S", 0.2)
    ours = SimpleNamespace(getpid=lambda: 1, kill=lambda _pid, number: said.append(number))
    monkeypatch.setattr(executor, "os", ours)
    return said


def followed(said: list[Any]) -> Lifespan:
    class Mine(Lifespan):
        pass

    executor.end_with_executor(SimpleNamespace(SuperLinkLifespan=Mine), said.append)
    lifespan = Mine()
    lifespan._start_superexec_if_needed()
    return lifespan


def wait_for_threads(before: set[threading.Thread]) -> None:
    for thread in set(threading.enumerate()) - before:
        thread.join(20)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_one_that_was_killed_takes_the_server_with_it(told: list[Any], how: signal.Signals) -> None:
    before = set(threading.enumerate())
    lifespan = followed(told)
    assert lifespan.superexec_process is not None
    lifespan.superexec_process.send_signal(how)
    wait_for_threads(before)
    line, number = told
    assert line == f"Error: what starts this server's apps ended ({-how}), and so does the server."
    assert number == signal.SIGTERM


def test_one_that_the_server_ended_itself_is_no_error(told: list[Any]) -> None:
    before = set(threading.enumerate())
    lifespan = followed(told)
    assert lifespan.superexec_process is not None
    lifespan.superexec_process.terminate()
    lifespan.superexec_process.wait(20)
    lifespan.superexec_process = None
    wait_for_threads(before)
    assert told == []


def test_a_server_that_starts_none_has_nothing_to_follow(told: list[Any]) -> None:
    class Other:
        superexec_process = None

        def _start_superexec_if_needed(self) -> None:
            return

    before = set(threading.enumerate())
    executor.end_with_executor(SimpleNamespace(SuperLinkLifespan=Other), told.append)
    Other()._start_superexec_if_needed()
    assert set(threading.enumerate()) == before


def test_it_is_where_flower_starts_it() -> None:
    lifespan = import_module("flwr.superlink.cli.flower_superlink").SuperLinkLifespan
    assert "superexec_process" in lifespan._start_superexec_if_needed.__code__.co_names
    assert "_start_superexec_if_needed" in lifespan.startup.__code__.co_names
