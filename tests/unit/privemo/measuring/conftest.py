"""Federations whose rounds are whole and whose stores measured nobody yet, copied for each test."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from privemo.errors import RunError
from tests.support.federated import EXACT, TERMS, Federated, half_trained, without
from tests.unit.privemo.measuring.parts import KINDS


def trained(folder: Path, terms: Any, **changes: Any) -> Federated:
    """Its rounds are whole, and nobody measured yet."""
    made = Federated(folder, terms, **changes)
    try:
        made.drive(without(*made.names, kinds=KINDS))
    except RunError:
        assert terms is not None
    shutil.rmtree(made.chain / "counts")
    return made


@pytest.fixture(scope="session")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Federated:
    """Stores that add up exact counts; read it, do not change it."""
    folder = tmp_path_factory.mktemp("sums")
    return trained(folder, EXACT, init=str(half_trained(folder / "start.safetensors")))


@pytest.fixture(scope="session")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Federated:
    """Stores that add up counts and noise; read it, do not change it."""
    return trained(tmp_path_factory.mktemp("noisy"), TERMS, less={"store-02": 1.0})


@pytest.fixture(scope="session")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Federated:
    """Stores that each add noise of their own; read it, do not change it."""
    return trained(tmp_path_factory.mktemp("apart"), TERMS, shared=False)


@pytest.fixture(params=["sums", pytest.param("apart", marks=pytest.mark.slow)])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Federated:
    found: Federated = request.getfixturevalue(request.param)
    return found.copy(tmp_path)
