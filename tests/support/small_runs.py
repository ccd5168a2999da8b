"""Small prepared runs on noise faces, for tests of stores and federations."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from privemo import simulation
from privemo import weights as w
from privemo.config import PrivacySettings, RunSettings
from privemo.faces import load_faces
from privemo.orders import RoundOrder
from privemo.runs import Run
from privemo.store import Store
from privemo_consent import Purpose
from tests.conftest import noise_faces


def small_run(
    folder: Path,
    *,
    people: int = 60,
    faces: dict[str, np.ndarray] | None = None,
    budget: Path | None = None,
    **changes: Any,
) -> Run:
    """A prepared run of two stores, with seeded noise unless told otherwise."""
    data = folder / "faces.npz"
    np.savez(data, **(noise_faces(people) if faces is None else faces))
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


def first_model(run: Run) -> w.Weights:
    """What round 1 starts from."""
    return run.last_whole_round()[1]


def changed(order: RoundOrder, **recipe: float) -> RoundOrder:
    """The order with another recipe."""
    return dataclasses.replace(order, recipe=dataclasses.replace(order.recipe, **recipe))


def used_people(store: Store, purpose: Purpose = Purpose.TRAINING) -> set[str]:
    """Pseudonyms that the log of uses names."""
    return {p for use in store.registry.uses() if use.purpose == purpose for p in use.persons}
