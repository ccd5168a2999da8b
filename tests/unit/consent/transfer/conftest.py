"""A registry with something in every table, its transfer, and the same registry closed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from privemo_consent import ConsentRegistry
from privemo_consent.copies.transfer import write_transfer
from tests.unit.consent.conftest import MovableClock, Yes
from tests.unit.consent.transfer.moves import SHOP, TRAINING, Sent, fill


@pytest.fixture
def full(registry: ConsentRegistry, yes: Yes, clock: MovableClock) -> ConsentRegistry:
    """A registry with something in every table, an erased person, two epochs and two signers."""
    fill(registry, yes)
    clock.forward(minutes=1)
    return registry


@pytest.fixture
def sent(full: ConsentRegistry, tmp_path: Path, clock: MovableClock) -> Sent:
    return Sent(full, tmp_path, clock)


@pytest.fixture
def two(full: ConsentRegistry, tmp_path: Path, clock: MovableClock) -> Any:
    """A registry that was closed, and another handle on it that was open before."""
    with ConsentRegistry.open(full.path, mode="production", clock=clock) as other:
        assert other.decide("anna", TRAINING, SHOP).permit
        made = write_transfer(full, tmp_path / "closed.jsonl", passphrase=None, close=True)
        assert made.closed
        yield full, other
