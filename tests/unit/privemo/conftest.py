"""A prepared run of two stores, and its first store opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from privemo.runs import Run
from privemo.store import Store
from tests.support.small_runs import small_run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return small_run(tmp_path, model="gray-cnn")


@pytest.fixture
def store(run: Run) -> Iterator[Store]:
    opened = run.store("store-01")
    yield opened
    opened.close()
