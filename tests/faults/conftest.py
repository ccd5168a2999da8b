from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.consent import make_registry


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A consent registry, small, whole and closed, with an entry of every kind."""
    return make_registry(tmp_path / "consent.sqlite")
