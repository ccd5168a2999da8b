"""A registry that a kiosk asks, and the kiosk on loopback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from privemo_consent import (
    ConsentRegistry,
)
from tests.support.kiosk import kiosk_registry, running, settings_for


@pytest.fixture
def registry(tmp_path: Path) -> Any:
    with kiosk_registry(tmp_path / "consent.sqlite", ["en"]) as made:
        yield made


@pytest.fixture
def kiosk(registry: ConsentRegistry, tmp_path: Path) -> Any:
    with running(registry, settings_for(tmp_path)) as url:
        yield url
