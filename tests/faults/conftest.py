from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.consent import make_registry
from tests.support.deployed import Federation


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A consent registry, small, whole and closed, with an entry of every kind."""
    return make_registry(tmp_path / "consent.sqlite")


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    """A server and three stores; their processes end with the test."""
    made = Federation(tmp_path)
    try:
        yield made
    finally:
        made.end()
