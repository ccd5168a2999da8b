"""Small prepared runs on noise faces, for tests of stores and federations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from privemo import simulation
from privemo.config import PrivacySettings, RunSettings
from privemo.faces import load_faces
from privemo.runs import Run
from tests.conftest import noise_faces


def small_run(folder: Path, *, people: int = 60, budget: Path | None = None, **changes: Any) -> Run:
    """A prepared run of two stores, with seeded noise unless told otherwise."""
    data = folder / "faces.npz"
    np.savez(data, **noise_faces(people))
    settings = RunSettings.of(
        **{
            "stores": 2,
            "rounds": 2,
            "steps_per_round": 3,
            "privacy": PrivacySettings(epsilon=8.0, sample_rate=0.5),
            "declared_people": 10,
            "init": "scratch",
            "seed": 5,
            "threads": 1,
            "sensitive": ("age_band",),
            **changes,
        }
    )
    return simulation.prepare(load_faces(data), folder / "run", settings, budget=budget)
