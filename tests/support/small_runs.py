"""Small prepared runs on noise faces, for tests of stores and federations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from privemo import simulation
from privemo import weights as w
from privemo.client_app import app as client_app
from privemo.config import PrivacySettings, RunSettings
from privemo.faces import load_faces
from privemo.flower import Context, Message
from privemo.grid import InProcessGrid
from privemo.orders import RoundOrder
from privemo.runs import Run
from privemo.server_app import app as server_app
from privemo.store import Store
from privemo_consent import Purpose
from tests.conftest import noise_faces

App = Callable[[Message, Context], Message]


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


def three_stores(folder: Path, *, shared: bool, **changes: Any) -> Run:
    """A prepared run of three stores and small steps; they share the noise, or each adds its own."""
    noise: dict[str, Any] = {"noise": "distributed", "may_drop": 0.4} if shared else {}
    privacy = PrivacySettings(epsilon=8.0, sample_rate=0.5, spare_rounds=2, **noise)
    settings = {"stores": 3, "steps_per_round": 1, "model": "gray-cnn", "privacy": privacy}
    return small_run(folder, people=90, **{**settings, **changes})


def drive(run: Run, app: App = client_app) -> None:
    """Run the missing rounds in this process, with stores that run `app`."""
    configs: list[dict[str, str | int]] = [
        {"store-dir": str(run.folder / "stores" / name)} for name in run.stores
    ]
    InProcessGrid(app, configs).serve(server_app, run_dir=str(run.folder))  # type: ignore[arg-type]


def first_model(run: Run) -> w.Weights:
    """What round 1 starts from."""
    return run.last_whole_round()[1]


def changed(order: RoundOrder, **recipe: float) -> RoundOrder:
    """The order with another recipe."""
    return dataclasses.replace(order, recipe=dataclasses.replace(order.recipe, **recipe))


def used_people(store: Store, purpose: Purpose = Purpose.TRAINING) -> set[str]:
    """Pseudonyms that the log of uses names."""
    return {p for use in store.registry.uses() if use.purpose == purpose for p in use.persons}
