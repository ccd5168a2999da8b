"""What a store owes people besides asking them: dues destroyed, erasures finished, readings announced."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from privemo import simulation
from privemo.runs import Run
from privemo.store import Store
from privemo_audits import build_report
from privemo_audits.report import Report
from privemo_audits.upkeep import Due, Upkeep, upkeep_faults
from privemo_consent import ItemKind, Vault
from tests.support.audit_runs import RunMaker
from tests.support.small_runs import small_run

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


def failed(report: Report) -> set[str]:
    return {c.id for c in report.checks if not c.passed and c.id.startswith("consent.")}


def whole(folder: Path) -> Run:
    run = small_run(folder, people=120)
    simulation.run(run)
    simulation.finish(run)
    return run


def withdrawn(run: Run) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for name in run.stores:
        store = run.store(name)
        out[name] = [person for person, _, _ in store.config.withdrawals]
        store.close()
    return out


def test_a_truthful_run_owes_nobody_anything(truthful: RunMaker) -> None:
    report = build_report(truthful.directory)
    ours = {c.id for c in report.checks if c.id.startswith("consent.")}
    assert {"consent.nothing_overdue", "consent.erasures_complete"} < ours
    assert not failed(report)


def test_faces_of_whoever_withdrew_are_gone_when_a_run_ends(tmp_path: Path) -> None:
    run = whole(tmp_path)
    gone = withdrawn(run)
    assert sum(map(len, gone.values()))
    for name, people in gone.items():
        store = run.store(name)
        vault = Vault(store.registry)
        assert vault.counts()[ItemKind.FACE]
        assert not [item for person in people for item in vault.of_person(person)]
        store.close()
    assert not failed(build_report(run.folder))


def test_faces_that_stayed_are_named_with_the_day_they_were_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "destroy_overdue", lambda self: 0)
    run = whole(tmp_path)
    report = build_report(run.folder)
    assert failed(report) == {"consent.nothing_overdue"}
    named = {v.person for v in report.lineage.violation_list if v.kind == "overdue"}
    assert {person for people in withdrawn(run).values() for person in people} <= named
    (check,) = [c for c in report.checks if c.id == "consent.nothing_overdue"]
    assert "due to be destroyed on" in check.evidence
    assert "purpose satisfied" in check.evidence


def test_an_audit_repeated_later_says_the_same(
    run: RunMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Terms run out with time: what the run owed is judged as of its end."""
    before = build_report(run.directory).to_json()
    later = datetime.now(UTC) + timedelta(days=5000)
    monkeypatch.setattr("privemo_consent.reader.RegistryReader.now", lambda self: later)
    assert build_report(run.directory).to_json() == before


def test_a_key_that_came_back_after_an_erasure_is_found(run: RunMaker) -> None:
    store = run.stores[0]
    keys = run.path(store, "consent.keys")
    shutil.copytree(keys, run.directory / "old")
    with run.registry(store) as registry:
        registry.erase(run.people(store, "no")[0])
    assert not failed(build_report(run.directory))
    shutil.rmtree(keys)
    shutil.move(run.directory / "old", keys)
    report = build_report(run.directory)
    assert "consent.erasures_complete" in failed(report)
    (found,) = [v for v in report.lineage.violation_list if v.kind == "erasure_incomplete"]
    assert (found.store, found.person) == (store, None)


def upkeep(told: datetime | None, first: datetime | None) -> Upkeep:
    return Upkeep((), 0, 0, told, first)


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (upkeep(None, None), None),
        (upkeep(NOON, None), None),
        (upkeep(NOON, NOON), None),
        (upkeep(NOON, NOON + timedelta(hours=1)), None),
        (upkeep(NOON + timedelta(hours=1), NOON), "people were told on 2026-11-29 13:00"),
        (upkeep(None, NOON), "people were told never"),
    ],
)
def test_people_are_told_before_the_first_reading(one: Upkeep, words: str | None) -> None:
    found = upkeep_faults("store-01", one)
    assert [v.kind for v in found] == ([] if words is None else ["read_before_told"])
    assert words is None or words in found[0].detail


def test_each_due_is_named() -> None:
    due = Due("anna", "consent_record", NOON, "record_term")
    (found,) = upkeep_faults("store-02", Upkeep((due,), 0, 0, None, None))
    assert (found.kind, found.store, found.person) == ("overdue", "store-02", "anna")
    assert "consent record was due to be destroyed on 2026-11-29" in found.detail
