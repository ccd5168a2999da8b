"""Parts of a real registry: a clock that can be moved, a party, a notice, files in tmp_path."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from privemo_consent import (
    AgeBand,
    ConsentRegistry,
    Context,
    Notice,
    Party,
)
from tests.support.notices import whole_notice


class MovableClock:
    def __init__(self) -> None:
        self.time = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def forward(self, **step: float) -> None:
        self.time += timedelta(**step)


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def party() -> Party:
    return Party(id="shop-1", name="A Shop", address="1 Main Street", contact="privacy@example.org")


@pytest.fixture
def notice(party: Party) -> Notice:
    return make_notice(party)


def make_notice(party: Party, version: int = 1, **changes: object) -> Notice:
    return whole_notice(party, version, **changes)


@pytest.fixture
def shop() -> Context:
    return Context(setting="retail", jurisdiction="IE")


@pytest.fixture
def registry(
    tmp_path: Path, party: Party, notice: Notice, clock: MovableClock
) -> Iterator[ConsentRegistry]:
    with ConsentRegistry.create(
        tmp_path / "consent.sqlite", mode="production", controller=party, clock=clock
    ) as opened:
        opened.notice(notice)
        yield opened


@pytest.fixture
def simulation(
    tmp_path: Path, party: Party, notice: Notice, clock: MovableClock
) -> Iterator[ConsentRegistry]:
    with ConsentRegistry.create(
        tmp_path / "simulated.sqlite", mode="simulation", controller=party, clock=clock
    ) as opened:
        opened.notice(notice)
        yield opened


class Yes:
    """The arguments of a plain yes of an adult shopper."""

    def __init__(self, notice: Notice) -> None:
        self.arguments = {"age_band": AgeBand.FROM_25, "jurisdiction": "IE", "notice": notice}

    def __call__(self, **changes: object) -> dict[str, object]:
        return self.arguments | changes


@pytest.fixture
def yes(notice: Notice) -> Yes:
    return Yes(notice)
