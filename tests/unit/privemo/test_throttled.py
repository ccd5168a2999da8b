"""Whoever is refused is logged, and nobody fills the disk by being refused."""

from __future__ import annotations

import threading
import time

from privemo.federation import doorkeeper
from privemo.federation.throttled import MOST, Throttled


def test_the_first_lines_of_a_minute_are_told_and_the_others_counted() -> None:
    told = list[str]()
    log = Throttled(told.append, most=3, seconds=0.4)
    for number in range(10):
        log(f"line {number}")
    assert told == ["line 0", "line 1", "line 2"]
    time.sleep(0.5)
    log("later")
    assert told[3:] == ["7 more were refused before, and not written down.", "later"]
    time.sleep(0.5)
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


def test_the_servers_refusals_go_through_it_and_its_own_end_does_not() -> None:
    assert "Throttled" in doorkeeper.main.__code__.co_names
    assert MOST >= 60, "ten stores with a wrong clock would be told of each"
