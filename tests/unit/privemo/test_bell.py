"""The bell between a store's node and what carries out its tasks: heard at once, and never relied on."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from flwr.supercore.superexec import run_superexec
from flwr.supernode import start_client_internal

from privemo.federation import daemons, supernode
from privemo.federation.bell import BELL, Listener, ring_for_messages
from privemo.federation.family import Family
from privemo.federation.processes import start

Given = Callable[[int], None]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for one in ends:
        try:
            os.close(one)
        except OSError:
            continue  # the test closed it


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Given:
    """Starts a process's life with one end of a bell."""
    return lambda end: monkeypatch.setenv(BELL, str(end))


def node(*runs: int | None) -> SimpleNamespace:
    """Flower's main loop of a node, which takes messages of these runs, one after the other."""
    left = list(runs)
    return SimpleNamespace(_pull_and_store_message=lambda **_: left.pop(0))


def heard(ear: int) -> bytes:
    os.set_blocking(ear, False)
    try:
        return os.read(ear, 100)
    except BlockingIOError:
        return b""


def slept(listener: Listener, seconds: float) -> float:
    began = time.monotonic()
    listener.sleep(seconds)
    return time.monotonic() - began


def test_a_node_rings_for_each_message_and_for_nothing_else(
    pipe: tuple[int, int], given: Given
) -> None:
    ear, rope = pipe
    given(rope)
    place = node(None, 7, None, 7)
    ring_for_messages(place)
    rings = []
    for run in (None, 7, None, 7):
        assert place._pull_and_store_message(state=1) == run
        rings.append(len(heard(ear)))
    assert rings == [0, 1, 0, 1]
    assert BELL not in os.environ, "what the node starts has no hand on the rope"
    assert not os.get_inheritable(rope)


def test_a_message_is_no_worse_off_where_nobody_can_hear(
    pipe: tuple[int, int], given: Given
) -> None:
    ear, rope = pipe
    given(rope)
    place = node(*[7] * 100_000, 8)
    ring_for_messages(place)
    for _ in range(100_000):  # more than the pipe holds
        assert place._pull_and_store_message() == 7
    os.close(ear)
    assert place._pull_and_store_message() == 8


def test_without_a_bell_a_node_is_flowers_own() -> None:
    place = node(7)
    before = place._pull_and_store_message
    ring_for_messages(place)
    assert place._pull_and_store_message is before


def test_who_listens_is_woken_at_once_by_all_rings_together(
    pipe: tuple[int, int], given: Given
) -> None:
    ear, rope = pipe
    given(ear)
    listener = Listener()
    ringing = threading.Timer(0.2, os.write, (rope, b"\0\0\0"))
    ringing.start()
    assert 0.1 < slept(listener, 20) < 10
    ringing.join()
    assert slept(listener, 0.3) >= 0.29, "three rings were one reason to look"
    assert listener.monotonic() <= time.monotonic()


def test_a_bell_that_broke_off_leaves_flowers_own_waiting(
    pipe: tuple[int, int], given: Given
) -> None:
    ear, rope = pipe
    given(ear)
    listener = Listener()
    os.close(rope)
    slept(listener, 0.2)
    for _ in range(3):  # a closed pipe is always readable, and would never let it rest
        assert slept(listener, 0.2) >= 0.19


def test_without_a_bell_it_waits_as_long_as_flower_does() -> None:
    assert slept(Listener(), 0.2) >= 0.19


def test_both_are_where_flower_looks() -> None:
    source = start_client_internal.start_client_internal.__code__
    assert "_pull_and_store_message" in source.co_names
    assert "sleep" in run_superexec.run_superexec.__code__.co_names
    assert run_superexec.time is time


def test_two_processes_of_a_store_are_given_its_two_ends(tmp_path: Path) -> None:
    """As `privemo federation join` starts them: one rings, the other is woken."""
    listens = (
        "import time\n"
        "from privemo.federation.bell import Listener\n"
        "listener, began = Listener(), time.monotonic()\n"
        "listener.sleep(60)\n"
        "print('woken' if time.monotonic() - began < 30 else 'slept on', flush=True)\n"
    )
    rings = (
        "from types import SimpleNamespace\n"
        "from privemo.federation.bell import ring_for_messages\n"
        "place = SimpleNamespace(_pull_and_store_message=lambda: 7)\n"
        "ring_for_messages(place)\n"
        "place._pull_and_store_message()\n"
    )
    log = tmp_path / "log"
    with Family(tmp_path, "a store", print) as family, log.open("ab") as file:
        with supernode._bell() as (ear, rope):
            listening = start([sys.executable, "-c", listens], tmp_path, file, family, bell=ear)
            ringing = start([sys.executable, "-c", rings], tmp_path, file, family, bell=rope)
        assert (ringing.wait(60), listening.wait(60)) == (0, 0)
    assert log.read_text() == "woken\n"


def test_both_daemons_and_who_starts_them_use_it() -> None:
    """A bell that is not connected would be noticed by nothing else: Flower's second would hide it."""
    assert "ring_for_messages" in daemons._supernode.__code__.co_names
    assert "Listener" in daemons._superexec.__code__.co_names
    assert {"_bell", "start"} <= set(supernode._take_part.__code__.co_names)
