"""Whoever is refused is logged, and nobody fills the disk by being refused."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from privemo.federation import throttled
from privemo.federation.throttled import MOST, Quiet, Throttled
from tests.support.doorkept import begun


def test_the_first_lines_of_a_minute_are_told_and_the_others_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(throttled, "time", SimpleNamespace(monotonic=lambda: now[0]))
    told = list[str]()
    log = Throttled(told.append, most=3, seconds=60)
    for number in range(10):
        log(f"line {number}")
    assert told == ["line 0", "line 1", "line 2"]
    now[0] += 60
    log("later")
    assert told[3:] == ["7 more were refused before, and not written down.", "later"]
    now[0] += 60
    log("later still")
    assert told[5:] == ["later still"], "they were told of once"


def test_none_is_lost_or_counted_twice_from_many_threads() -> None:
    told = list[str]()
    log = Throttled(told.append, most=50, seconds=600)
    threads = [threading.Thread(target=lambda: [log("x") for _ in range(100)]) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(told) == 50
    assert log._lines == 800


def test_the_servers_refusals_go_through_it_and_its_own_end_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all of Flower's places as the doorkeeper finds them."""
    found = begun(monkeypatch, tmp_path / "nodes")
    door = found.layers[0].kwargs["log"]
    assert isinstance(door, Throttled)
    assert found.of_handshakes is door
    assert not isinstance(found.of_its_end, Throttled)
    assert MOST >= 60, "ten stores with a wrong clock would be told of each"


@pytest.mark.parametrize(
    ("name", "level", "facts", "written"),
    [
        ("uvicorn.access", logging.INFO, ("1.2.3.4:5", "GET", "/x", "1.1", 404), False),
        ("uvicorn.access", logging.INFO, ("1.2.3.4:5", "GET", "/x", "1.1", 401), False),
        ("uvicorn.access", logging.INFO, ("1.2.3.4:5", "GET", "/x", "1.1", 500), True),
        ("uvicorn.access", logging.INFO, ("1.2.3.4:5", "GET", "/x", "1.1", 200), True),
        ("uvicorn.error", logging.WARNING, (), False),
        ("uvicorn.error", logging.INFO, (), True),
        ("uvicorn.error", logging.ERROR, (), True),
    ],
)
def test_what_uvicorn_says_of_refusals_is_left_out(
    name: str, level: int, facts: tuple[object, ...], written: bool
) -> None:
    record = logging.LogRecord(name, level, "x", 1, "%s" * len(facts), facts, None)
    assert Quiet().filter(record) is written
