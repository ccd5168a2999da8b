"""What stores that differ cost, and what layers of their own bring: one line of JSON for each run.

    privemo synth --people 3000 --images 1 --seed 12 --out people.npz
    python scripts/compare_skew.py --data people.npz --out skew.jsonl

Ten stores of people who do not exist, local noise, epsilon 8, the small network from scratch and one seed.
Each run is a real one in one process: registries, vaults, ledgers, signatures. What is held out is shared out
like what is trained on, and each store reads its own part, with its own last layer where it has one (this
network has no normalisation to keep). A run that stands in the file is not made again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from privemo import RunSettings, simulation
from privemo.faces import FaceTable, load_faces
from privemo.recipes import local_recipe
from privemo_audits import evaluate_predictions
from privemo_audits.predictions import load_predictions
from privemo_audits.runfiles import load_run

STORES, SEED = 10, 0
SKEWS: dict[str, dict[str, float]] = {
    "alike": {},
    "emotions": {"label_skew": 0.3},
    "camera": {"camera_skew": 1.0},
    "size": {"size_skew": 1.0},
}
RUNS = [(skew, own) for own in ("none", "head") for skew in SKEWS]


def measured(table: FaceTable, people: int, skew: str, personal: str) -> dict[str, Any]:
    """One run, and how well its stores read the people held out."""
    declared = RunSettings.of(stores=STORES).public_people(people)
    settings = local_recipe(declared).settings(
        {"epsilon": 8.0},
        stores=STORES,
        seed=SEED,
        # As if stores were alike: nobody tells the server their sizes.
        declared_people=declared,
        consents="everyone",
        init="scratch",
        model="gray-cnn",
        personal=personal,
        **SKEWS[skew],
    )
    with tempfile.TemporaryDirectory() as folder:
        run = simulation.prepare(table, Path(folder) / "run", settings)
        simulation.run(run)
        simulation.finish(run)
        predictions = load_predictions(load_run(run.folder))
        found = evaluate_predictions(predictions)
        refused = sorted(
            {
                f"{name}: {entry['reason']}"
                for manifest in run.manifests()
                for name, entry in manifest["stores"].items()
                if entry["status"] != "trained"
            }
        )
    return {
        "skew": skew,
        "personal": personal,
        "accuracy": found["accuracy"],
        "interval": found["accuracy_ci"],
        "n": found["n"],
        "refused": refused,
    }


def main() -> None:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    done = set()
    if asked.out.exists():
        rows = map(json.loads, asked.out.read_text().splitlines())
        done = {(row["skew"], row["personal"]) for row in rows}
    table = load_faces(asked.data)
    people = len(np.unique(table.person))
    for skew, personal in RUNS:
        if (skew, personal) not in done:
            row = measured(table, people, skew, personal)
            print(json.dumps(row), flush=True)
            with asked.out.open("a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
