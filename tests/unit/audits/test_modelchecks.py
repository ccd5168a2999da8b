"""A model that is not the one that the rounds made, and a run that is not whole."""

from __future__ import annotations

from privemo_audits import build_report
from tests.support.audit_runs import RunMaker


def test_another_model_than_the_rounds_made_is_named(run: RunMaker) -> None:
    (run.directory / "model.safetensors").write_bytes(b"another")
    report = build_report(run.directory)
    assert report.failed_checks == ("model.provenance",)


def test_a_round_that_started_elsewhere_is_named(run: RunMaker) -> None:
    run.edit_json("rounds/0002.json", lambda r: r.update(model_in="ab" * 32))
    assert build_report(run.directory).failed_checks == ("model.provenance",)


def test_an_interrupted_run_is_audited_as_far_as_it_went(run: RunMaker) -> None:
    run.edit_json("run.json", lambda r: r.update(rounds=5))
    report = build_report(run.directory)
    assert report.passed
    (found,) = [c for c in report.checks if c.id == "run.complete"]
    assert (found.passed, found.required) == (False, False)
