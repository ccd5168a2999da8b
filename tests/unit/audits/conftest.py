"""Fixtures: a truthful run, copied afresh for each test that spoils it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.audit_runs import RunMaker, copied


@pytest.fixture(scope="session")
def truthful(tmp_path_factory: pytest.TempPathFactory) -> RunMaker:
    """Read it, do not change it."""
    return RunMaker(tmp_path_factory.mktemp("audit") / "RUN").make()


@pytest.fixture
def run(truthful: RunMaker, tmp_path: Path) -> RunMaker:
    """A copy to spoil."""
    return copied(truthful, tmp_path / "RUN")


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., RunMaker]:
    return lambda **options: RunMaker(tmp_path / "OWN", **options).make()
