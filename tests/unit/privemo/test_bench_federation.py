"""The benchmark of a federation: one model whichever way it is run, and figures that add up."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from typer.testing import CliRunner

from privemo.bench import federation as bench
from privemo.cli import app
from privemo.errors import RunError, SettingsError

SMALL = "--stores 2 --rounds 1 --people 40 --model gray-cnn --no-ray --json"


def test_a_run_ends_in_the_model_of_the_plain_loop_and_is_measured_against_it() -> None:
    done = CliRunner().invoke(app, ["bench", "federation", *SMALL.split()])
    assert done.exit_code == 0, done.output
    found = {f["figure"]: f for f in map(json.loads, done.stdout.splitlines())}
    assert list(found) == [
        *("plain_2_s", "prepare_2_s", "inprocess_2", "inprocess_2_first_round_s"),
        *("ready_2_s", "peak_2_mib"),
    ]
    assert all(f["value"] > 0 for f in found.values())
    assert found["inprocess_2"]["goal"] == "<= 1.1"
    assert found["inprocess_2"]["met"] == (found["inprocess_2"]["value"] <= 1.1)


def test_with_nothing_to_measure_it_says_so() -> None:
    with pytest.raises(SettingsError, match="No run is left"):
        next(bench.figures(one_process=False, ray=False))


@pytest.mark.slow
def test_stores_side_by_side_are_figures_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one thread for each step everywhere they end in the very model; else how far apart is said."""
    before = torch.get_num_threads()
    try:
        for threads, words in ((1, "the same"), (2, "fewer")):
            torch.set_num_threads(threads)
            monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
            asked = [*SMALL.split(), "--workers", "2", "--no-one-process"]
            done = CliRunner().invoke(app, ["bench", "federation", *asked])
            assert done.exit_code == 0, done.output
            found = {f["figure"]: f for f in map(json.loads, done.stdout.splitlines())}
            assert "inprocess_2" not in found
            assert found["inprocess_2_workers_2"]["unit"] == "x plain, by the clock"
            assert found["inprocess_2_workers_2"]["goal"] == "<= 1.1"
            apart = found["inprocess_2_workers_2_apart"]
            assert apart["unit"] == f"most of a weight, with {words} threads a step"
            assert apart["value"] == 0 if threads == 1 else apart["value"] < 1e-3
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
def test_on_ray_our_app_stands_beside_flowers_own_pattern() -> None:
    asked = [*SMALL.split(), "--no-one-process", "--ray"]
    done = subprocess.run(  # for Ray leaves processes behind
        [sys.executable, "-m", "privemo", "bench", "federation", *asked],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    found = {f["figure"]: f["value"] for f in map(json.loads, lines)}
    for name in ("ray_2", "quickstart_2"):
        assert found[name] > 0
        assert found[f"{name}_first_round_s"] > 0


@pytest.mark.slow
def test_another_model_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = bench._Plain.end

    def other(plain: bench._Plain) -> None:
        honest(plain)
        next(iter(plain.model.values())).flat[0] += 1e-6

    monkeypatch.setattr(bench._Plain, "end", other)
    with pytest.raises(RunError, match="another model than the plain loop"):
        list(bench.figures(stores=(2,), rounds=1, people=40, model="gray-cnn", ray=False))
