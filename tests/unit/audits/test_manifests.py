"""Rounds that somebody changed afterwards, and stores whose files are not what they signed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privemo_audits import build_report
from privemo_audits.errors import RunFilesError
from privemo_audits.report import Report
from privemo_audits.runfiles import canonical_hash
from tests.support.audit_runs import RunMaker, sha

CHECK = "manifests.verify"


def evidence(report: Report) -> str:
    (check,) = [c for c in report.checks if c.id == CHECK]
    return check.evidence


def failed(run: RunMaker) -> str:
    """What the check names; nothing where it passes."""
    report = build_report(run.directory)
    return evidence(report) if CHECK in report.failed_checks else ""


def test_an_honest_run_is_chained_and_signed(run: RunMaker) -> None:
    report = build_report(run.directory)
    assert report.passed
    assert "2 manifests" in evidence(report)
    assert "4 statements" in evidence(report)


# -- a server that rewrites history ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "says"),
    [("run.json", "round 1: does not follow"), ("rounds/0001.json", "round 2: does not follow")],
)
def test_what_is_changed_afterwards_is_named(run: RunMaker, name: str, says: str) -> None:
    run.edit_json(name, lambda v: v.update(created="2026-01-01T00:00:00Z"), sealed=False)
    assert says in failed(run)


def test_a_server_that_chains_anew_lacks_the_stores_signatures(run: RunMaker) -> None:
    run.edit_json("rounds/0001.json", lambda v: v.update(finished=v["started"]), sealed=False)
    first = json.loads((run.directory / "rounds/0001.json").read_text())
    run.edit_json("rounds/0002.json", lambda v: v.update(prev=canonical_hash(first)), sealed=False)
    assert "store-01, round 2: signed another history" in failed(run)


def test_a_store_left_out_afterwards_is_missed_by_those_who_signed(run: RunMaker) -> None:
    run.edit_json("rounds/0001.json", lambda v: v["stores"].pop("store-02"), sealed=False)
    assert "round 2: does not follow" in failed(run)


# -- statements ------------------------------------------------------------------------------------


def stated(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    return lambda item: change(item["stores"]["store-01"])


UNSIGNED: dict[str, Callable[[dict[str, Any]], None]] = {
    "no statement": lambda did: did.update(statement=None),
    "no signature": lambda did: did.update(signature=None),
    "a signature of something else": lambda did: did.update(signature="0" * 128),
    "less epsilon": lambda did: did["statement"].update(epsilon=0.01),
    "one word more": lambda did: did["statement"].update(more="words"),
}


@pytest.mark.parametrize("kind", UNSIGNED)
def test_nobody_speaks_for_a_store(run: RunMaker, kind: str) -> None:
    run.edit_json("rounds/0002.json", stated(UNSIGNED[kind]), sealed=False)
    assert "store-01, round 2" in failed(run)
    assert "sign" in failed(run)


def test_a_statement_of_another_store_does_not_pass(run: RunMaker) -> None:
    def swap(item: dict[str, Any]) -> None:
        one, other = item["stores"]["store-01"], item["stores"]["store-02"]
        for key in ("statement", "signature"):
            one[key] = other[key]

    run.edit_json("rounds/0002.json", swap, sealed=False)
    assert "store-01, round 2: what it is said to have done is not signed with its key" in failed(
        run
    )


def test_a_store_without_a_key_in_the_roster_proves_nothing(run: RunMaker) -> None:
    run.edit_json("run.json", lambda v: v["roster"].pop("store-01"))
    assert "store-01, round 1: what it is said" in failed(run)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"update_sha256": sha("another")}, "update"),
        ({"consent_log_root": sha("another")}, "consent log"),
        ({"status": "failed"}, "status"),
    ],
)
def test_a_server_that_says_otherwise_than_the_store_is_named(
    run: RunMaker, change: dict[str, str], what: str
) -> None:
    run.edit_json("rounds/0002.json", stated(lambda did: did.update(change)), sealed=False)
    assert f"store-01, round 2: signed another {what} than the round names" in failed(run)


def test_whoever_refused_need_not_have_signed(run: RunMaker) -> None:
    silent = {"status": "refused", "reason": "silent", "update_sha256": None}
    run.edit_json("rounds/0002.json", stated(lambda did: did.update(silent)))
    bare = {"statement": None, "signature": None}
    run.edit_json("rounds/0002.json", stated(lambda did: did.update(bare)), sealed=False)
    assert failed(run) == ""


# -- a store whose files are others than it signed -------------------------------------------------


def test_a_ledger_that_was_cut_is_noticed_by_what_was_signed(run: RunMaker) -> None:
    run.edit_ledger(0, lambda rows: rows[:-1], rechain=True, sealed=False)
    assert "store-01, round 2: signed a ledger of 2 entries, which has 1" in failed(run)


def test_a_ledger_that_was_written_anew_is_noticed(run: RunMaker) -> None:
    def cheaper(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [row | {"at": "2026-01-01T00:00:00Z"} for row in rows]

    run.edit_ledger(0, cheaper, rechain=True, sealed=False)
    assert "its first 1 entries are not the ones there" in failed(run)


def test_admissions_that_were_changed_are_noticed(run: RunMaker) -> None:
    rows = run.lines("store-01", "admissions.jsonl")
    rows[0]["refused"]["persons"].pop("minor")
    run.write_lines("store-01", "admissions.jsonl", rows)
    assert "other numbers of people admitted and refused" in failed(run)


def test_statements_that_are_gone_are_missed(run: RunMaker) -> None:
    run.path("store-01", "statements.jsonl").unlink()
    assert "is not in its statements.jsonl" in failed(run)


def test_details_that_were_changed_are_not_those_signed(run: RunMaker) -> None:
    rows = run.lines("store-01", "statements.jsonl")
    rows[0]["details"]["nonce"] = sha("another")
    run.write_lines("store-01", "statements.jsonl", rows)
    assert "details that are not in its statements.jsonl" in failed(run)


def test_whoever_trained_asked_the_gate(tmp_path: Path) -> None:
    run = RunMaker(tmp_path / "run", rounds=1).make()
    rows = run.lines("store-01", "admissions.jsonl")
    run.write_lines("store-01", "admissions.jsonl", [r for r in rows if r["purpose"] != "training"])
    run.seal()
    assert "trained without having asked the gate" in failed(run)


# -- what stores kept of what they signed ----------------------------------------------------------


def test_a_server_that_lets_later_rounds_forget_the_stores_is_found(run: RunMaker) -> None:
    """It changes a round, strikes out every signature that came later, and chains anew."""
    run.edit_json("rounds/0001.json", lambda v: v.update(finished=v["started"]), sealed=False)
    first = json.loads((run.directory / "rounds/0001.json").read_text())

    def forget(item: dict[str, Any]) -> None:
        item["prev"] = canonical_hash(first)
        for did in item["stores"].values():
            did.update(
                status="failed", reason="silent", update_sha256=None, statement=None, signature=None
            )

    run.edit_json("rounds/0002.json", forget, sealed=False)
    assert "store-01, round 2: what came before is not what the store signed" in failed(run)


def test_a_server_that_signs_for_all_stores_with_its_own_keys_is_found(run: RunMaker) -> None:
    kept = {s: run.path(s, "statements.jsonl").read_bytes() for s in run.stores}
    run.keys = {s: Ed25519PrivateKey.generate() for s in run.stores}

    def own(info: dict[str, Any]) -> None:
        info["roster"] = {
            s: key.public_key().public_bytes_raw().hex() for s, key in run.keys.items()
        }

    run.edit_json("run.json", own)
    for store, lines in kept.items():
        run.path(store, "statements.jsonl").write_bytes(lines)
    assert "is not in its statements.jsonl" in failed(run)


def test_rounds_that_are_gone_are_missed_by_those_who_signed_them(tmp_path: Path) -> None:
    run = RunMaker(tmp_path / "run", rounds=3).make()
    for number in (2, 3):
        (run.directory / f"rounds/000{number}.json").unlink()
    assert "it signed a round 3, and there are 1: some are gone" in failed(run)


def test_a_ledger_that_was_filled_in_afterwards_is_noticed(run: RunMaker) -> None:
    """The store trained, stated the ledger as it was before, and wrote the entry for the audit alone."""

    def behind(store: str, item: dict[str, Any]) -> list[dict[str, Any]]:
        return [r for r in run.lines(store, "ledger.jsonl") if r["round"] < item["round"]]

    run.ledger_at = behind  # type: ignore[method-assign]
    run.seal()
    assert "signed a ledger in which its update does not stand" in failed(run)


def test_a_torn_or_foreign_line_of_statements_is_an_error(run: RunMaker) -> None:
    path = run.path("store-01", "statements.jsonl")
    good = path.read_bytes()
    for bad in (good[:-5], good + b'{"details": 1}\n', good + b"{}\n"):
        path.write_bytes(bad)
        with pytest.raises(RunFilesError, match=r"statements\.jsonl line"):
            build_report(run.directory)


def test_a_store_that_was_away_in_every_round_needs_no_file_of_its_gate(run: RunMaker) -> None:
    away = {"status": "failed", "reason": "silent", "update_sha256": None}
    for name in ("rounds/0001.json", "rounds/0002.json"):
        run.edit_json(name, lambda item: item["stores"]["store-02"].update(away))
    run.seal()
    run.path(1, "admissions.jsonl").unlink()
    with pytest.raises(RunFilesError, match="admissions"):  # it released, whatever the rounds say
        build_report(run.directory)
    for name in ("ledger.jsonl", "statements.jsonl"):
        run.path(1, name).unlink()
    purposes = {row.store: row.purposes for row in build_report(run.directory).exclusions.stores}
    assert purposes["store-01"]
    assert not purposes["store-02"]


def test_a_store_that_answered_once_needs_it(run: RunMaker) -> None:
    run.path(1, "admissions.jsonl").unlink()
    with pytest.raises(RunFilesError, match=r"store-02/admissions\.jsonl is missing"):
        build_report(run.directory)
