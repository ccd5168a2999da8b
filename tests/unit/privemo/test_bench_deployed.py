"""The benchmark of deployed rounds: real processes, held against the same rounds in one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from privemo.bench import deployed as bench
from privemo.config import RunSettings
from privemo.errors import RunError
from privemo.runs import Run


@pytest.mark.slow
def test_deployed_rounds_are_measured_for_both_kinds_of_noise() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "privemo", "bench", "deployed", "--json"],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = {f["figure"]: f for f in map(json.loads, done.stdout.splitlines())}
    for noise in ("local", "distributed"):
        name = f"{noise}_3"
        there, here = found[f"{name}_deployed_round_s"], found[f"{name}_inprocess_round_s"]
        assert there["value"] > here["value"] > 0
        besides = found[f"{name}_besides_s"]
        assert besides["value"] == pytest.approx(there["value"] - here["value"], abs=0.02)
        assert besides["goal"] == "<= 5"
        assert besides["met"] == (besides["value"] <= 5)
    assert len(found) == 6


def laid_out(folder: Path) -> tuple[Path, Path]:
    settings = RunSettings.of(
        stores=2, rounds=2, steps_per_round=1, declared_people=10, consents="everyone",
        init="scratch", model="gray-cnn", seed=0,
    )  # fmt: skip
    return bench._laid_out(folder, settings, 30)


def test_both_run_the_same_stores_and_the_round_in_the_middle_counts(tmp_path: Path) -> None:
    chain, twin = laid_out(tmp_path)
    assert Run(chain).stores == Run(twin / "chain").stores
    assert Run(chain).facts == Run(twin / "chain").facts
    bench._in_one_process(twin)
    assert len(Run(twin / "chain").manifests()) == 2
    assert Run(chain).manifests() == [], "two copies"
    assert 0 < bench._round_s(twin) < 60


def test_a_server_that_does_not_come_up_is_said(tmp_path: Path) -> None:
    chain, _ = laid_out(tmp_path)
    (chain / "server.json").write_text("{}")
    with pytest.raises(RunError, match="ended by itself"):
        bench._deployed(chain)
    assert "server.json" in bench._said("start", chain)
