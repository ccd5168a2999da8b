"""`kill -9` of what carries out a store's part of a round, at moments that are chosen, in a real federation.

| killed | the store has paid | its numbers |
|---|---|---|
| once trained, before the ledger | nothing | are in no sum |
| after the ledger, before the answer | once | are in no sum; an update of its own is sent when asked again |
| handing the answer to its node | once | are in no sum |
| its node, sending the answer | once | are in no sum; it has to join again |
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from privemo.ledger import Ledger
from privemo.runs import Run
from privemo.statements import canonical_hash
from privemo_audits import build_report
from tests.support.deployed import (
    Federation,
    child_of,
    paid_for_what_counted,
    privemo,
    until,
)
from tests.support.held import app_at, held

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

Running = subprocess.Popen[bytes]


def once_trained(federation: Federation, name: str) -> Running:
    """All of its computation is done, and nothing is written down of it."""
    door, ledger = (federation.stores / name / f for f in ("admissions.jsonl", "ledger.jsonl"))
    with ExitStack() as locks:
        lock = locks.enter_context(held(door))
        running = federation.start("run", "run", federation.chain)
        app = app_at(federation, name, door)
        locks.enter_context(held(ledger))
        os.close(lock)
        assert app_at(federation, name, ledger) == app
        os.kill(app, signal.SIGKILL)
    return running


def once_paid(federation: Federation, name: str) -> Running:
    """The ledger has it, and nobody has been told."""
    statements = federation.stores / name / "statements.jsonl"
    with held(statements):
        running = federation.start("run", "run", federation.chain)
        app = app_at(federation, name, statements)
        os.kill(app, signal.SIGKILL)
    return running


def handing_over(federation: Federation, name: str) -> Running:
    """Its node knows that there is an answer, and has none of its parts."""
    running, app = half_sent(federation, name)
    os.kill(app, signal.SIGKILL)
    return running


def half_sent(federation: Federation, name: str) -> tuple[Running, int]:
    """A store's node sends its answer, of which its app, which stands still, has given it no part."""
    store, node = federation.stores / name, child_of(federation.processes[name])
    statements = store / "statements.jsonl"
    with held(statements):
        running = federation.start("run", "run", federation.chain)
        app = app_at(federation, name, statements)
        os.kill(node, signal.SIGSTOP)
    until("it signed", lambda: statements.stat().st_size > 0)
    time.sleep(3)  # it comes no further than to its node, which stands still
    os.kill(app, signal.SIGSTOP)
    os.kill(node, signal.SIGCONT)
    log = store / "flower" / "supernode.log"
    until("its node has begun to send it", lambda: "Sending: train.mask" in log.read_text())
    return running, app


@pytest.mark.parametrize(
    ("kill", "paid"), [(once_trained, []), (once_paid, [1]), (handing_over, [1])]
)
def test_a_store_whose_app_is_killed_in_a_sum_is_left_out_and_takes_part_in_the_next(
    federation: Federation, kill: Callable[[Federation, str], Running], paid: list[int]
) -> None:
    federation.serve()
    federation.open_stores()
    name = federation.names[1]
    running = kill(federation, name)
    assert federation.trained(name) == paid
    assert running.wait(900) == 0, federation.said("run")
    assert federation.processes[name].poll() is None, "the store stays"
    left_out_once(federation, name, paid)


def test_a_store_whose_node_is_killed_in_an_upload_joins_again_and_is_measured(
    federation: Federation,
) -> None:
    federation.serve()
    federation.open_stores()
    name = federation.names[1]
    running, app = half_sent(federation, name)
    os.kill(child_of(federation.processes[name]), signal.SIGKILL)
    os.kill(app, signal.SIGCONT)
    assert federation.processes[name].wait(120) != 0, "the store says that it is out"
    until("its app ends, too", lambda: not Path(f"/proc/{app}").exists())
    assert running.wait(900) == 0, federation.said("run")
    federation.start(name, "join", federation.stores / name)
    until("it is back", lambda: federation.online() == 3)
    again = privemo("federation", "run", federation.chain)
    assert again.returncode == 0, again.stderr
    assert "3 of 3 stores measured it" in again.stderr
    for manifest in Run(federation.chain).manifests():
        assert manifest["secure_sum"]["summed"] == [n for n in federation.names if n != name]
    assert federation.trained(name) == [1]
    paid_for_what_counted(federation)
    audited(federation)  # and it signed the end, though nothing of it came


def left_out_once(federation: Federation, name: str, paid: list[int]) -> None:
    """Of the first round, for which it paid so; all else is as it should be."""
    first, second = Run(federation.chain).manifests()
    assert first["secure_sum"]["summed"] == [n for n in federation.names if n != name]
    assert second["secure_sum"]["summed"] == federation.names
    assert federation.trained(name) == [*paid, 2]
    paid_for_what_counted(federation)
    audited(federation)


def test_an_update_that_was_paid_for_and_not_sent_is_sent_when_the_run_goes_on(
    tmp_path: Path,
) -> None:
    """Where each store adds its own noise, and the round needs all of them."""
    federation = Federation(tmp_path, "--quorum", "3", shared=False)
    name = federation.names[1]
    ledger = federation.stores / name / "ledger.jsonl"
    try:
        federation.serve()
        federation.open_stores()
        running = once_paid(federation, name)
        (paid,) = Ledger(ledger).entries
        assert running.wait(600) == 2
        assert Run(federation.chain).manifests() == []
        again = privemo("federation", "run", federation.chain)
        assert again.returncode == 0, again.stderr
        entries = Ledger(ledger).entries
        assert entries[0] == paid
        for manifest, entry in zip(Run(federation.chain).manifests(), entries, strict=True):
            assert manifest["stores"][name]["update_sha256"] == entry.update_sha256
            assert manifest["round"] == entry.round
        audited(federation)
    finally:
        federation.end()


def audited(federation: Federation) -> None:
    """The chain of manifests holds, no update counts twice, and no epsilon is too small for what counts."""
    run = Run(federation.chain)
    manifests = run.manifests()
    assert [m["round"] for m in manifests] == [1, 2]
    assert run.history().head == canonical_hash(manifests[-1])
    updates = [
        entry["update_sha256"]
        for manifest in manifests
        for entry in manifest["stores"].values()
        if entry["status"] == "trained"
    ]
    assert len(set(updates)) == len(updates)
    assert sorted(run.closings()) == federation.names
    federation.end()
    federation.stores.rename(federation.chain / "stores")
    passed = {check.id: check.passed for check in build_report(federation.chain).checks}
    for check in (
        *("manifests.verify", "ledger.chain", "ledger.covers_updates", "privacy.within_budget"),
        *("privacy.recomputed_agrees", "lineage.no_violation", "model.provenance"),
    ):
        assert passed[check], check
