from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pydantic
import pytest

from privemo_audits import Report, build_report, write_report
from tests.support.audit_runs import RunMaker


def test_equal_runs_give_equal_bytes(truthful: RunMaker) -> None:
    first, second = build_report(truthful.directory), build_report(str(truthful.directory))
    assert first.to_json() == second.to_json()


def test_json_is_canonical_and_comes_back_as_it_was(truthful: RunMaker) -> None:
    import rfc8785

    report = build_report(truthful.directory)
    raw = report.to_json()
    assert rfc8785.dumps(json.loads(raw)) == raw
    assert Report.from_json(raw).to_json() == raw


def test_json_says_what_was_agreed(truthful: RunMaker) -> None:
    value = json.loads(build_report(truthful.directory).to_json())
    assert value["schema"] == "privemo.report/3"
    assert {
        "run",
        "data",
        "exclusions",
        "performance",
        "groups",
        "privacy",
        "lineage",
        "summary",
        "verdict",
        "limits",
        "checks",
    } <= set(value)
    assert value["exclusions"]["minors"]["total"] > 0
    assert value["performance"]["accuracy_ci"][0] > value["performance"]["chance"]
    assert set(value["performance"]["per_emotion"]["happy"]) >= {
        "precision",
        "recall",
        "f1",
        "n",
        "ci",
    }
    assert value["privacy"]["epsilon_max_person"] <= 8
    assert set(value["privacy"]["accountants"]) == {"rdp", "prv"}
    assert {"rdp", "pld"} <= set(value["privacy"]["recomputed"])
    assert value["lineage"]["violations"] == 0
    assert 6 <= len(value["summary"]) <= 10
    assert all(set(g) >= {"feature", "group", "n", "accuracy", "ci", "f1", "status"}
               for g in value["groups"])  # fmt: skip


def test_nothing_of_a_report_can_be_changed(truthful: RunMaker) -> None:
    report = build_report(truthful.directory)
    with pytest.raises(pydantic.ValidationError):
        report.passed = False  # type: ignore[misc]
    with pytest.raises(pydantic.ValidationError):
        Report.model_validate(report.model_dump(by_alias=True) | {"extra": 1})


def test_simulated_consents_are_said_loudly(truthful: RunMaker) -> None:
    report = build_report(truthful.directory)
    assert report.limits[0].startswith("SIMULATED CONSENTS")
    assert any("simulated" in sentence for sentence in report.summary[:2])


def test_evidence_names_every_file_by_its_hash(truthful: RunMaker) -> None:
    import hashlib

    files = build_report(truthful.directory).evidence.files
    assert {
        "run.json",
        "rounds/0001.json",
        "rounds/0002.json",
        "model.safetensors",
        "stores/store-01/ledger.jsonl",
        "stores/store-02/predictions.csv",
        "stores/store-01/admissions.jsonl",
    } <= set(files)
    for name, digest in files.items():
        assert hashlib.sha256((truthful.directory / name).read_bytes()).hexdigest() == digest


def test_auditing_changes_nothing_in_the_run(run: RunMaker) -> None:
    def state() -> dict[str, bytes]:
        return {
            str(p.relative_to(run.directory)): p.read_bytes()
            for p in run.directory.rglob("*")
            if p.is_file()
        }

    before = state()
    build_report(run.directory)
    assert state() == before


def test_import_is_cheap_and_without_the_training_code(tmp_path: Path) -> None:
    code = (
        "import sys, privemo_audits\n"
        "heavy = {'pandas','fairlearn','sklearn','matplotlib','dp_accounting','scipy','numpy',"
        "'torch','opacus','flwr','privemo','pydantic','sqlalchemy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_an_audit_never_imports_the_training_code(truthful: RunMaker) -> None:
    code = (
        "import sys; from privemo_audits import build_report\n"
        f"build_report({str(truthful.directory)!r})\n"
        "print(sorted({'torch','opacus','flwr','privemo'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_all_files_are_written(truthful: RunMaker, tmp_path: Path) -> None:
    report = build_report(truthful.directory)
    json_path, html_path, *others = write_report(report, tmp_path / "deep" / "out", run_dir="RUN")
    assert json_path.read_bytes() == report.to_json()
    assert html_path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [p.name for p in others] == [
        "report-plain.html",
        "report-regulator.html",
        "report.md",
        "model_card.md",
    ]
    assert set(json_path.parent.iterdir()) == {json_path, html_path, *others}
