"""The joined audit of exact counts is the pooled one; of noised counts, what was paid for."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from privemo import simulation
from privemo.cli.counting import _exact
from privemo.counted import Counted, asked
from privemo.counting import count_vector
from privemo.heldoutledger import FILE, HeldOutLedger
from privemo_audits import build_report
from privemo_audits.cellcounts import CellCounts, read_any
from privemo_audits.noisedjoin import join_any
from tests.support.federated import EXACT, Federated, pooled
from tests.support.small_runs import small_run
from tests.unit.privemo.measuring.parts import came_of, opened, paid


def test_the_joined_audit_of_a_sum_is_the_pooled_one_to_the_last_digit(
    sums: Federated, tmp_path: Path
) -> None:
    made = sums.copy(tmp_path)
    made.drive()
    found = came_of(made)
    assert found.stores == tuple(made.names)
    assert found.left_out == {}
    stores = [made.store(name) for name in made.names]
    assert found.joined.read_bytes() == pooled(stores, " + ".join(made.names)).to_json()
    for store in stores:
        store.close()
    performance = json.loads(found.joined.read_bytes())["performance"]
    assert performance["persons"] > 30
    named = np.array(performance["confusion"]["counts"]).any(axis=0)
    assert named.sum() > 1  # a model that names one emotion would prove little
    assert paid(made) == dict.fromkeys(made.names, 0)
    # What the server kept is a file of counts like any other.
    assert join_any([read_any(found.folder / "sum.json")]).to_json() == found.joined.read_bytes()


def test_each_stores_noised_counts_are_joined_and_paid_for_before_they_leave(
    apart: Federated, tmp_path: Path
) -> None:
    made = apart.copy(tmp_path)
    made.drive()
    found = came_of(made)
    files = sorted((found.folder / "stores").iterdir())
    assert [file.stem for file in files] == made.names
    assert join_any([read_any(file) for file in files]).to_json() == found.joined.read_bytes()
    for file in files:
        (entry,) = HeldOutLedger(made.stores / file.stem / FILE).entries
        counts = read_any(file)
        assert isinstance(counts, CellCounts)
        assert counts.noise is not None
        assert counts.noise.noise_multiplier == entry.noise_multiplier
        with opened(made, file.stem) as store:
            off = np.concatenate([counts.counts(t).ravel() for t in counts.plan.tables])
            off = off - count_vector(store, counts.plan)
        assert 0.6 * counts.noise.variance**0.5 < off.std() < 1.6 * counts.noise.variance**0.5


def test_exact_counts_that_stores_carry_by_hand_join_to_the_pooled_audit(
    apart: Federated, tmp_path: Path
) -> None:
    """Noise of their own, and none of it here: what `privemo audit counts` writes in each store."""
    made = apart.copy(tmp_path)
    made.drive()
    files = []
    stores = [made.store(name) for name in made.names]
    for store in stores:
        files.append(tmp_path / f"{store.config.name}.json")
        _exact(store, files[-1])
    joined = join_any([read_any(file) for file in files])
    assert joined.to_json() == pooled(stores).to_json()
    for store in stores:
        store.close()


@pytest.mark.parametrize(
    "engine", ["inprocess", pytest.param("ray", marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
def test_a_simulated_run_counts_as_a_deployed_one_does(
    engine: simulation.Engine, tmp_path: Path
) -> None:
    """The same apps: the run's settings ask for it, wherever it runs."""
    privacy = {"epsilon": 8.0, "sample_rate": 0.5, "noise": "distributed"}
    run = small_run(
        tmp_path,
        people=180,
        stores=3,
        rounds=1,
        steps_per_round=1,
        model="gray-cnn",
        privacy=privacy,
        test_fraction=0.5,
        consents="everyone",
        counts=EXACT,
    )
    if engine == "ray":  # whose processes outlive the run, but not the process that began it
        code = (
            "import sys; from privemo import Run, simulation; "
            "simulation.run(Run(sys.argv[1]), engine='ray')"
        )
        command = [sys.executable, "-c", code, str(run.folder)]
        subprocess.run(command, check=True, timeout=500, capture_output=True)
    else:
        simulation.run(run)
    simulation.finish(run)
    request = asked(run)
    assert request is not None
    found = Counted.of(run, request)
    assert found is not None
    stores = [run.store(name) for name in run.stores]
    assert found.joined.read_bytes() == pooled(stores, " + ".join(run.stores)).to_json()
    for store in stores:
        store.close()
    report = build_report(run.folder)
    assert (
        report.performance.persons
        == json.loads(found.joined.read_bytes())["performance"]["persons"]
    )


def test_the_audit_of_a_deployed_run_takes_its_predictions_and_its_ledgers(
    apart: Federated, tmp_path: Path
) -> None:
    made = apart.copy(tmp_path)
    made.drive()
    shutil.move(made.stores, made.chain / "stores")
    report = build_report(made.chain)
    checks = {check.id: check.passed for check in report.checks}
    assert checks["privacy.held_out_within_budget"]
    assert report.performance.persons > 30
