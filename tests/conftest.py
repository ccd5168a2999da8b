"""Shared fixtures. Faces here are noise or people who do not exist; no photograph is ever needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from privemo.machine import quiet_environment
from tests.support.postgres import PostgresServer, find_binaries, running_postgres
from tests.support.temporary import use_memory

quiet_environment()
use_memory()
# Workers side by side have a core each: threads that wait for each other's would take a fifth longer.
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")


def noise_faces(people: int = 40, images: int = 2, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Columns of a face table whose four classes are told apart by where the picture is bright."""
    rng = np.random.default_rng(seed)
    n = people * images
    label = np.arange(n) % 4
    pixels = rng.integers(0, 90, (n, 48, 48), dtype=np.uint8)
    for row, kind in enumerate(label):
        y, x = 24 * (kind // 2), 24 * (kind % 2)
        pixels[row, y : y + 24, x : x + 24] += 120
    return {
        "images": pixels,
        "label": label.astype(np.int8),
        "label_names": np.array(["happy", "sad", "neutral", "surprise"]),
        "identity": np.array([f"p{i // images:04d}" for i in range(n)]),
        "age_band": np.array(
            [("25_34", "35_44", "45_54", "13_15")[(i // images) % 4] for i in range(n)]
        ),
    }


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    """A small readable face table."""
    path = tmp_path / "faces.npz"
    np.savez(path, **noise_faces())
    return path


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL on loopback, one for the whole session."""
    if find_binaries() is None:
        if os.environ.get("PRIVEMO_REQUIRE_POSTGRES"):
            pytest.fail("no PostgreSQL is installed, and PRIVEMO_REQUIRE_POSTGRES asks for one")
        pytest.skip("no PostgreSQL is installed: apt install postgresql")
    with running_postgres() as server:
        yield server
