"""Processes that have to write at the same time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest

__all__ = ["race_until_at_once"]


def race_until_at_once(race: Callable[[int], Sequence[str]]) -> None:
    """Run three writers again until they did write at once, eight times at most.

    On a busy machine, or where nothing is flushed, one may be done before the next begins. That was no race.

    Args:
        race: checks what it has to of one race, whose number it is given, and returns who wrote each entry.
    """
    for number in range(8):
        if sum(a != b for a, b in pairwise(race(number))) > 2:  # two: one after the other
            return
    pytest.fail("they never wrote at once")
