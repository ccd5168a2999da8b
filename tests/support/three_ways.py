"""One federation run three ways: `python -m tests.support.three_ways FOLDER NOISE`, with one thread a step.

Writes the hash of the finished model of each: as processes over TLS, in one process, and on Ray.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from privemo import simulation
from privemo import weights as w
from privemo.bench.deployed import _deployed, _in_one_process, laid_out
from privemo.config import PrivacySettings, RunSettings
from privemo.runs import Run


def main(folder: Path, noise: str) -> dict[str, str]:
    may_drop = 0.4 if noise == "distributed" else 0.0
    settings = RunSettings.of(
        stores=3,
        rounds=2,
        steps_per_round=1,
        declared_people=10,
        consents="everyone",
        init="scratch",
        model="gray-cnn",
        seed=0,
        threads=1,
        privacy=PrivacySettings.of(sample_rate=0.5, noise=noise, may_drop=may_drop),
    )
    chain, twin = laid_out(folder, settings, 30)
    on_ray = folder / "ray"
    shutil.copytree(twin / "chain", on_ray)
    shutil.copytree(twin / "stores", on_ray / "stores")
    _deployed(chain)
    _in_one_process(twin)
    simulation.run(Run(on_ray), engine="ray")
    runs = {"deployed": chain, "one process": twin / "chain", "ray": on_ray}
    return {way: w.sha256(Run(run).finished()) for way, run in runs.items()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), sys.argv[2])) + "\n")
