"""Stores with held-out people who were read by nobody's model: predictions that a test writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from privemo.config import PrivacySettings
from privemo.countrequest import CountRequest
from privemo.labels import EMOTIONS
from privemo.runs import Run
from privemo.store import Store
from privemo_audits.cellplan import CellPlan
from privemo_consent import Purpose
from tests.support.small_runs import small_run

BANDS = ("25_34", "35_44", "45_54")
PLAN = CellPlan(EMOTIONS, (("age_band", BANDS),))


def request(run: Run, epsilon: float | None = 2.0, delta: float = 1e-5) -> CountRequest:
    return CountRequest(run.run_id, PLAN, epsilon, delta)


def prepared(folder: Path, *, shared: bool = False, may_drop: float = 0.0, **changes: Any) -> Run:
    """A run that was laid out and not trained, whose stores hold predictions of their people."""
    if shared:
        privacy = PrivacySettings(
            epsilon=8.0, sample_rate=0.5, noise="distributed", may_drop=may_drop
        )
        changes = {"stores": 3, "steps_per_round": 1, "privacy": privacy, **changes}
    run = small_run(folder, people=90, model="gray-cnn", **changes)
    for number, name in enumerate(run.stores):
        store = run.store(name)
        try:
            predict(store, np.random.default_rng(number))
        finally:
            store.close()
    return run


def predict(store: Store, rng: np.random.Generator, faces: int = 2) -> pd.DataFrame:
    """Write predictions of everybody who agreed to be measured."""
    known = np.array(sorted(store.registry.persons()))
    agreed = store.gate.still_permitted(known, Purpose.FAIRNESS_AUDIT, store.context)
    persons = np.repeat(known[agreed], faces)
    label = rng.integers(0, 4, len(persons))
    said = np.where(rng.random(len(persons)) < 0.7, label, rng.integers(0, 4, len(persons)))
    bands = dict(zip(sorted(set(persons)), rng.choice([*BANDS, "65_up", ""], 1000), strict=False))
    frame = pd.DataFrame(
        {
            "store": store.config.name,
            "person": persons,
            "face": [f"{store.config.name}-f{i}" for i in range(len(persons))],
            "label": label,
            "prediction": said,
            "age_band": [bands[p] for p in persons],
        }
    )
    frame.to_csv(store.folder / "predictions.csv", index=False)
    return frame
