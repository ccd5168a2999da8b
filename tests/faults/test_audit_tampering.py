"""Someone edits the record after the fact. Each row is one attempt; the audit names it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from privemo_audits import ConsentLogError, build_report
from tests.support.audit_runs import RunMaker, copied

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def truthful(tmp_path_factory: pytest.TempPathFactory) -> RunMaker:
    made = RunMaker(tmp_path_factory.mktemp("tamper") / "RUN", trained=10, held_out=40, rounds=3)
    return made.make()


@pytest.fixture
def run(truthful: RunMaker, tmp_path: Path) -> RunMaker:
    return copied(truthful, tmp_path / "RUN")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda r: [r[0], r[1] | {"epsilon_rdp": 0.01}, r[2]], "ledger entry 1: its content"),
        (lambda r: [r[0] | {"noise_multiplier": 9.0}, *r[1:]], "ledger entry 0: its content"),
        (lambda r: [r[0] | {"note": "harmless"}, *r[1:]], "ledger entry 0: its content"),
        (lambda r: [r[0], r[2]], "ledger entry 1: it does not follow"),
        (lambda r: [r[1], r[2]], "ledger entry 0: it does not follow"),
        (lambda r: [r[1], r[0], r[2]], "ledger entry 0: it does not follow"),
        (lambda r: [*r, r[2]], "ledger entry 3: it does not follow"),
        (lambda r: [r[0], r[1] | {"hash": "0" * 64}, r[2]], "ledger entry 1: its content"),
    ],
)  # fmt: skip
def test_an_edited_ledger_is_named_by_entry(
    run: RunMaker, change: Callable[[Rows], Rows], named: str
) -> None:
    run.edit_ledger(1, change)
    report = build_report(run.directory)
    assert "ledger.chain" in report.failed_checks
    assert not report.privacy.ledger_chain.intact
    assert any(f"store-02: {named}" in b for b in report.privacy.ledger_chain.breaks)
    assert not any("store-01" in b for b in report.privacy.ledger_chain.breaks)


def test_a_ledger_cut_short_and_chained_anew_misses_an_update(run: RunMaker) -> None:
    """The chain of a forger is whole; what arrived at the server tells."""
    run.edit_ledger(0, lambda rows: rows[:2], rechain=True)
    report = build_report(run.directory)
    assert report.privacy.ledger_chain.intact
    assert report.failed_checks == ("ledger.covers_updates", "manifests.verify")


def test_fewer_steps_under_a_chain_made_anew_lower_the_claim_not_the_truth(run: RunMaker) -> None:
    """Steps cut to one: the stated claim is then too high, never too low; nothing is believed less."""
    before = build_report(run.directory).privacy.epsilon_max_person
    run.edit_ledger(0, lambda rows: [r | {"steps": 1} for r in rows], rechain=True)
    after = build_report(run.directory).privacy.epsilon_max_person
    assert before == after


def unlocked(path: Path, *statements: str) -> None:
    """Edit a registry as someone with the file can: triggers away, edit, triggers back."""
    with sqlite3.connect(path) as db:
        triggers = db.execute("SELECT name, sql FROM sqlite_master WHERE type='trigger'").fetchall()
        for name, _ in triggers:
            db.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            db.execute(statement)
        for _, sql in triggers:
            db.execute(sql)
    db.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET expires = expires + 1 WHERE seq = 5",
        "UPDATE events SET status = 4 WHERE seq = (SELECT max(seq) FROM events)",
        "DELETE FROM events WHERE seq = (SELECT max(seq) FROM events)",
        "UPDATE uses SET persons = substr(persons, 5) WHERE seq = 0",
        "UPDATE persons SET handle = randomblob(16) WHERE pid = 0",
        "UPDATE checkpoints SET note = replace(note, substr(note, -20, 4), 'AAAA') WHERE log = 0",
        "DELETE FROM checkpoints WHERE log = 0",
    ],
)
def test_an_edited_registry_is_named(run: RunMaker, statement: str) -> None:
    unlocked(run.path(0, "consent.sqlite"), statement)
    report = build_report(run.directory)
    assert "consent_log.verifies" in report.failed_checks
    (evidence,) = [c.evidence for c in report.checks if c.id == "consent_log.verifies"]
    assert evidence.startswith("store-01: ")
    assert report.lineage.consent_logs["store-01"]["verified"] is False
    assert report.lineage.consent_logs["store-02"]["verified"] is True


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE persons SET sealed = (SELECT sealed FROM persons WHERE pid = 1) WHERE pid = 0",
        "UPDATE persons SET wrapped = (SELECT wrapped FROM persons WHERE pid = 1) WHERE pid = 0",
    ],
)
def test_a_person_put_in_another_ones_place_stops_the_audit(run: RunMaker, statement: str) -> None:
    """Nobody can say who the row is any more: there is nothing to hold the uses against."""
    unlocked(run.path(0, "consent.sqlite"), statement)
    with pytest.raises(ConsentLogError, match=r"store-01.*person row 0"):
        build_report(run.directory)


def test_a_registry_put_in_another_ones_place_is_named(run: RunMaker) -> None:
    """Each log verifies by itself; the rounds remember its root."""
    one, two = run.path(0, "consent.sqlite"), run.path(1, "consent.sqlite")
    one.write_bytes(two.read_bytes())
    shutil.rmtree(run.path(0, "consent.keys"))
    shutil.copytree(run.path(1, "consent.keys"), run.path(0, "consent.keys"))
    report = build_report(run.directory)
    assert "consent_log.verifies" in report.failed_checks
    assert report.lineage.violations_by_kind["log_root"] == 3
    assert report.lineage.violations_by_kind["foreign_use"] > 0


def test_a_registry_beside_the_keys_of_another_is_no_registry(run: RunMaker) -> None:
    one, two = run.path(0, "consent.sqlite"), run.path(1, "consent.sqlite")
    one.write_bytes(two.read_bytes())
    with pytest.raises(ConsentLogError, match=r"store-01.*registry's own keys"):
        build_report(run.directory)


def test_an_erased_person_cannot_be_looked_up_and_is_counted(run: RunMaker) -> None:
    before = build_report(run.directory)
    with run.registry(0) as registry:
        registry.erase(run.people(0, "train")[0])  # drawn into every batch
    report = build_report(run.directory)
    assert report.passed
    facts = report.lineage.consent_logs["store-01"]
    assert (facts["erasures"], facts["erased_uses"]) == (1, run.rounds * run.steps)
    assert facts["signed"] == facts["entries"]
    assert report.lineage.uses == before.lineage.uses - run.rounds * run.steps
    assert any("1 person was erased since" in limit for limit in report.limits)
