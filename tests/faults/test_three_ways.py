"""One seed, three ways of running, one model: to the last bit, where a step has one thread everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("noise", ["local", "distributed"])
def test_one_seed_is_one_model_deployed_in_one_process_and_on_ray(
    tmp_path: Path, noise: str
) -> None:
    done = subprocess.run(  # for Ray leaves processes behind, and threads are counted once
        [sys.executable, "-m", "tests.support.three_ways", str(tmp_path), noise],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=800,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    models = json.loads(done.stdout.splitlines()[-1])
    assert set(models) == {"deployed", "one process", "ray"}
    assert len(set(models.values())) == 1, models
