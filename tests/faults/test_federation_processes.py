"""A federation of real processes on loopback: TLS, known stores only, kills on the way. Minutes; marked
slow."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from privemo import weights as w
from privemo.client_app import app as client_app
from privemo.closing import check_model
from privemo.counted import Counted, asked
from privemo.federation.authority import issue
from privemo.federation.family import started
from privemo.federation.identity import enroll
from privemo.grid import InProcessGrid
from privemo.runs import Run
from privemo.server_app import app as server_app
from privemo.statements import canonical_hash
from privemo.store import Store
from tests.support.clocks import COMPILER
from tests.support.deployed import (
    ENVIRONMENT,
    Cable,
    Federation,
    child_of,
    family,
    paid_for_what_counted,
    privemo,
    until,
)
from tests.support.federated import pooled
from tests.support.sealed import WORD, seal_store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EXAMPLE = Path(__file__).parents[2] / "examples" / "federation" / "federation.py"


def test_deployed_stores_end_in_the_model_of_one_process_and_strangers_stay_outside(
    federation: Federation, tmp_path: Path
) -> None:
    twin = tmp_path / "twin"
    shutil.copytree(federation.chain, twin / "chain")
    shutil.copytree(federation.stores, twin / "stores")
    federation.serve()
    for name in federation.names:
        federation.start(name, "join", federation.stores / name)
    strangers(federation, tmp_path)
    until("all stores are online", lambda: federation.online() == 3)
    done = privemo("federation", "run", federation.chain)
    assert done.returncode == 0, done.stderr
    deployed = Run(federation.chain)
    assert [m["secure_sum"]["summed"] for m in deployed.manifests()] == [federation.names] * 2
    last = deployed.manifests()[-1]
    assert w.sha256(w.load_weights(deployed.model_path)) == last["model_average"]
    assert sorted(deployed.closings()) == federation.names
    for name in federation.names:
        check_model(federation.stores / name, last["model_average"], run_id=deployed.run_id)
    assert in_one_process(twin, federation.names) == last["model_out"]
    again = privemo("federation", "run", federation.chain)
    assert again.returncode == 0, "nothing is missing"
    assert privemo("federation", "stop", federation.chain).returncode == 0
    assert federation.processes["server"].wait(60) == 0


def in_one_process(twin: Path, names: list[str]) -> str:
    """The model of the same run with the same stores, without a network."""
    configs: list[dict[str, str | int]] = [
        {"store-dir": str(twin / "stores" / name)} for name in names
    ]
    InProcessGrid(client_app, configs).serve(server_app, run_dir=str(twin / "chain"))
    return str(Run(twin / "chain").manifests()[-1]["model_out"])


def test_deployed_stores_measure_and_their_joined_audit_is_the_pooled_one(tmp_path: Path) -> None:
    groups = tmp_path / "groups.toml"
    groups.write_text(
        'schema = "privemo.groups/1"\n[groups]\nage_band = ["25_34", "35_44", "45_54"]\n'
    )
    federation = Federation(
        tmp_path,
        *("--sensitive", "age_band", "--groups", groups, "--exact-counts"),
        people=180,
        test_fraction=0.5,
        consents="everyone",
    )
    try:
        federation.serve()
        federation.open_stores()
        done = privemo("federation", "run", federation.chain)
        assert done.returncode == 0, done.stderr
        assert "3 of 3 stores measured it" in " ".join(done.stderr.split())
        told = privemo("federation", "counts", federation.chain, "--json")
        assert told.returncode == 0, told.stderr
        found = json.loads(told.stdout)
        assert found["left_out"] == {}
        stores = [Store(federation.stores / name) for name in federation.names]
        together = pooled(stores, " + ".join(federation.names))
        for store in stores:
            store.close()
        assert Path(found["joined"]).read_bytes() == together.to_json()
        assert not list(federation.chain.rglob("predictions.csv"))
        asked_again = privemo("federation", "counts", federation.chain, "--epsilon", "1")
        assert asked_again.returncode == 2
        assert "Exact counts were agreed on" in asked_again.stderr
    finally:
        federation.end()


def strangers(federation: Federation, tmp_path: Path) -> None:
    """A store that nobody registered, and one that trusts another authority, are refused."""
    joined = json.loads((federation.stores / federation.names[0] / "joined.json").read_text())
    authority = (federation.chain / "tls" / "authority.pem").read_bytes()
    for name, trusts in (("unknown", authority), ("deceived", issue(["127.0.0.1"]).authority)):
        folder = tmp_path / name
        enroll(folder, name)
        (folder / "authority.pem").write_bytes(trusts)
        (folder / "joined.json").write_text(json.dumps({**joined, "store": name}))
        federation.start(name, "join", folder)
    for name in ("unknown", "deceived"):
        log = tmp_path / name / "flower" / "supernode.log"
        until(f"{name} tries", lambda log=log: log.exists() and log.stat().st_size > 0)  # type: ignore[misc]
    time.sleep(10)
    for name in ("unknown", "deceived"):
        assert "SuperNode ID" not in (tmp_path / name / "flower" / "supernode.log").read_text()
        gone = federation.processes.pop(name)
        gone.terminate()
        gone.wait(120)


def test_a_store_that_is_killed_is_left_out_and_the_round_counts(federation: Federation) -> None:
    running = federation.run_past_a_round()
    gone = federation.names[1]
    os.kill(child_of(federation.processes[gone]), signal.SIGKILL)
    assert running.wait(600) == 0, federation.said("run")
    last = Run(federation.chain).manifests()[-1]
    assert set(federation.names) - {gone} <= set(last["secure_sum"]["summed"])
    assert federation.processes[gone].wait(60) == 2
    assert "ended by itself" in federation.said(gone)


@pytest.mark.skipif(COMPILER is None, reason="a C compiler, for a wrong clock")
def test_a_store_whose_clock_is_wrong_is_told_so_and_takes_part_once_it_is_right(
    federation: Federation,
) -> None:
    """One is an hour ahead, and is refused; one is 200 s behind all the while, and counts."""
    enrolled = time.monotonic()  # by the right clock: 200 s behind, that is still to come
    federation.serve()
    ahead, behind, right = federation.names
    wrong = federation.start(ahead, "join", federation.stores / ahead, clock=3600)
    federation.start(behind, "join", federation.stores / behind, clock=-200)
    federation.start(right, "join", federation.stores / right)
    assert wrong.wait(180) == 2
    assert "clock is 1:00:0" in federation.said(ahead)
    assert "ahead of the server's: set it" in federation.said(ahead)
    federation.start(ahead, "join", federation.stores / ahead)
    until("its clock was set", lambda: federation.online() == 3)
    until("consents are past by either clock", lambda: time.monotonic() > enrolled + 200)
    done = privemo("federation", "run", federation.chain)
    assert done.returncode == 0, done.stderr
    for manifest in Run(federation.chain).manifests():
        assert manifest["secure_sum"]["summed"] == federation.names
    assert federation.trained(ahead) == federation.trained(behind) == [1, 2]


def test_a_store_whose_keys_have_a_passphrase_takes_part_once_it_is_given(
    federation: Federation, tmp_path: Path
) -> None:
    sealed, *others = federation.names
    seal_store(federation.stores / sealed)
    federation.serve()
    alone = federation.start(sealed, "join", federation.stores / sealed)
    assert alone.wait(180) == 2
    assert "consent.keys needs a passphrase" in "".join(federation.said(sealed).splitlines())
    (word := tmp_path / "word").write_bytes(WORD)
    word.chmod(0o600)
    given = federation.start(
        sealed, "join", federation.stores / sealed, "--passphrase-file", str(word)
    )
    for name in others:
        federation.start(name, "join", federation.stores / name)
    until("all stores are online", lambda: federation.online() == 3)
    word.unlink()  # it was read once, and no message's process looks for it again
    for pid in family(given):
        assert WORD not in Path(f"/proc/{pid}/environ").read_bytes()
    done = privemo("federation", "run", federation.chain)
    assert done.returncode == 0, done.stderr
    for manifest in Run(federation.chain).manifests():
        assert manifest["secure_sum"]["summed"] == federation.names
    assert federation.trained(sealed) == [1, 2]


def test_a_store_that_stands_still_holds_nobody_up_and_comes_back(federation: Federation) -> None:
    """A laptop's lid was closed."""
    running = federation.run_past_a_round()
    slow = federation.names[2]
    still = family(federation.processes[slow])
    for pid in still:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert running.wait(600) == 0, federation.said("run")
    finally:
        for pid in still:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    paid_for_what_counted(federation)
    until("the store is back", lambda: federation.online() == 3)


def test_a_store_that_is_there_and_does_not_answer_stops_nobody_beyond_the_timeout(
    tmp_path: Path,
) -> None:
    """Its node says that it is there all the while; what carries out its tasks stands still."""
    federation = Federation(tmp_path, "--round-timeout", "45")
    try:
        running = federation.run_past_a_round()
        slow = federation.names[2]
        node = child_of(federation.processes[slow])
        still = [p for p in family(federation.processes[slow])[1:] if p != node]
        began = time.monotonic()
        for pid in still:
            os.kill(pid, signal.SIGSTOP)
        try:
            assert running.wait(600) == 0, federation.said("run")
            assert federation.online() == 3, "it was there all the while"
        finally:
            for pid in still:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        assert time.monotonic() - began < 500, "no step waited for an hour"
        run = Run(federation.chain)
        assert len(run.manifests()) == 2
        assert set(federation.names) - {slow} <= set(run.manifests()[1]["secure_sum"]["summed"])
        paid_for_what_counted(federation)
        assert federation.processes[slow].poll() is None, "it stays"
    finally:
        federation.end()


def gone(pids: list[int]) -> bool:
    return all(started(pid) is None for pid in pids)


def test_who_is_killed_leaves_no_process_and_the_next_one_takes_its_place(
    federation: Federation,
) -> None:
    """`kill -9` of the commands themselves, not of what they started."""
    name = federation.names[0]
    store = federation.stores / name
    log = store / "flower" / "supernode.log"
    federation.serve()
    federation.start(name, "join", store)
    until("it takes part", lambda: "takes part" in federation.said(name))
    twice = privemo("federation", "join", store)
    assert twice.returncode == 2
    assert "being served already, by process" in " ".join(twice.stderr.split())
    for command, words in ((name, ("join", store)), ("server", ("start", federation.chain))):
        killed = federation.processes[command]
        theirs = family(killed)[1:]
        assert theirs
        killed.kill()
        killed.wait()
        until(f"what {command} started is gone", lambda pids=theirs: gone(pids), 60)  # type: ignore[misc]
        federation.start(command, *words)
        ready = "takes part" if command == name else "Serving"
        until(f"{command} again", lambda c=command, r=ready: federation.said(c).count(r) == 2)  # type: ignore[misc]
    until("the store is let in", lambda: federation.online() == 1)
    assert log.read_text().count("SuperNode ID") >= 2

    left = federation.processes["server"]
    theirs = family(left)[1:]
    os.kill(child_of(left), signal.SIGSTOP)  # so that it cannot end by itself
    left.kill()
    left.wait()
    done = privemo("federation", "stop", federation.chain)
    assert done.returncode == 0, done.stderr
    until("nothing is left", lambda: gone(theirs), 30)
    nothing = privemo("federation", "stop", federation.chain)
    assert nothing.returncode == 2
    assert "nothing to stop" in " ".join(nothing.stderr.split())


def command_line(process: int) -> bytes:
    return Path(f"/proc/{process}/cmdline").read_bytes()


def test_a_server_whose_executor_is_killed_ends_and_says_so_and_comes_back(
    federation: Federation,
) -> None:
    """It would let stores in and answer, and a run would wait for ever."""
    federation.serve()
    server = federation.processes["server"]
    (executor,) = (p for p in family(server) if b"flower-superexec" in command_line(p))
    os.kill(executor, signal.SIGKILL)
    assert server.wait(60) == 2
    assert "what starts this server's apps ended (-9)" in federation.said("server")
    federation.serve()
    federation.open_stores()
    assert privemo("federation", "run", federation.chain).returncode == 0
    assert len(Run(federation.chain).manifests()) == 2


def test_a_store_whose_executor_is_killed_ends_and_says_so_and_comes_back(
    federation: Federation,
) -> None:
    """Its node would stay online, and take orders that nobody carries out."""
    federation.serve()
    federation.open_stores()
    name = federation.names[1]
    store = federation.processes[name]
    (executor,) = (p for p in family(store) if b"daemons\0superexec" in command_line(p))
    os.kill(executor, signal.SIGKILL)
    assert store.wait(60) == 2
    assert "ended" in federation.said(name)
    until("the server has missed it", lambda: federation.online() == 2)
    federation.start(name, "join", federation.stores / name)
    until("it is back", lambda: federation.online() == 3)
    assert privemo("federation", "run", federation.chain).returncode == 0
    for manifest in Run(federation.chain).manifests():
        assert manifest["secure_sum"]["summed"] == federation.names


def test_an_operator_who_is_killed_stops_no_run_and_can_watch_it_and_end_it(
    federation: Federation,
) -> None:
    running = federation.run_past_a_round()
    running.kill()
    running.wait()
    watched = privemo("watch", federation.chain, "--once", "--json")
    assert watched.returncode == 0, watched.stderr
    events = [json.loads(line) for line in watched.stdout.splitlines()]
    assert {e["round"] for e in events if "round" in e} >= {1}
    until(
        "the app of before goes on, and then there is nothing left to do",
        lambda: privemo("federation", "run", federation.chain).returncode == 0,
    )
    paid_for_what_counted(federation)
    run = Run(federation.chain)
    assert sorted(run.closings()) == federation.names
    assert [m["secure_sum"]["summed"] for m in run.manifests()] == [federation.names] * 2


def test_a_server_killed_while_it_puts_a_round_together_and_again_later_ends_in_one_chain(
    federation: Federation,
) -> None:
    """First Flower's app dies, with a store's answer due; then, in the next round, the SuperLink."""
    federation.serve()
    federation.open_stores()
    heads = federation.chain / "checkpoints" / "ledger-heads.jsonl"
    running = federation.start("run", "run", federation.chain)
    until("a store has paid", lambda: any(map(federation.trained, federation.names)), 400)
    still = family(federation.processes[federation.names[2]])
    for pid in still:  # nobody can finish without it: it takes part in this sum
        os.kill(pid, signal.SIGSTOP)
    try:
        until("two were heard", lambda: heads.exists() and heads.read_bytes().count(b"\n") > 1)
        beside = privemo("federation", "run", federation.chain)
        assert beside.returncode == 2
        said = " ".join(beside.stderr.split())
        who = re.search(r"is being run by another process \(process (\d+) since ", said)
        assert who is not None, said
        assert b"flwr-serverapp" in Path(f"/proc/{who[1]}/cmdline").read_bytes()
        os.kill(int(who[1]), signal.SIGKILL)
    finally:
        for pid in still:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    assert running.wait(400) == 2, federation.said("run")
    run = Run(federation.chain)
    assert len(run.manifests()) < run.settings.rounds
    assert len(run.history().known()) >= 2, "who has paid is known"
    running = federation.start("run", "run", federation.chain)
    until("the first round", (federation.chain / "rounds" / "0001.json").exists, 400)
    os.kill(child_of(federation.processes["server"]), signal.SIGKILL)
    assert running.wait(400) in (0, 2), federation.said("run")
    assert federation.processes["server"].wait(120) in (0, 2)
    federation.serve()
    until("the stores are back", lambda: federation.online() == 3, 400)
    done = privemo("federation", "run", federation.chain)
    assert done.returncode == 0, done.stderr
    paid_for_what_counted(federation)
    assert run.history().head == canonical_hash(run.manifests()[-1]), "each follows the one before"
    assert sorted(run.closings()) == federation.names


def test_a_line_that_is_cut_in_a_round_costs_at_most_that_store_its_part(
    federation: Federation,
) -> None:
    far = federation.names[1]
    joined = federation.stores / far / "joined.json"
    content = json.loads(joined.read_text())
    cable = Cable(int(content["address"].rpartition(":")[2]))
    joined.write_text(json.dumps({**content, "address": f"127.0.0.1:{cable.port}"}))
    try:
        federation.serve()
        federation.open_stores()
        running = federation.start("run", "run", federation.chain)
        until("the store trains", lambda: bool(federation.trained(far)), 400)
        assert cable.carried > 100_000, "the store talks over this line: the model came this way"
        cable.cut()
        assert cable.broken >= 2, "it was in use"
        time.sleep(8)
        cable.mend()
        assert running.wait(600) == 0, federation.said("run")
        paid_for_what_counted(federation)
        until("the store is back", lambda: federation.online() == 3)
    finally:
        cable.close()


def test_a_store_whose_disk_is_full_sits_out_and_pays_for_nothing(federation: Federation) -> None:
    full = federation.names[0]
    federation.serve()
    federation.open_stores(
        **{full.replace("-", "_"): 16_384}
    )  # room for small files, not for the log of uses
    done = privemo("federation", "run", federation.chain)
    assert done.returncode == 0, done.stderr
    paid_for_what_counted(federation)
    for manifest in Run(federation.chain).manifests():
        assert full not in manifest["secure_sum"]["summed"]
        assert set(federation.names) - {full} <= set(manifest["secure_sum"]["summed"])
    assert federation.trained(full) == []


@pytest.mark.timeout(1800)
def test_the_example_survives_the_death_of_its_server(tmp_path: Path) -> None:
    example = subprocess.Popen(
        [sys.executable, str(EXAMPLE), str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    try:
        said, complained = example.communicate(timeout=1500)
    finally:
        if example.poll() is None:  # as Ctrl-C does: it ends what it started
            example.send_signal(signal.SIGINT)
            example.wait(200)
    assert example.returncode == 0, said[-2000:] + complained[-2000:]
    assert "The server is killed in the middle of a round." in said
    assert "The run ended with exit code 2." in said  # it was interrupted, and went on afterwards
    run = Run(tmp_path / "out" / "chain")
    assert [m["round"] for m in run.manifests()] == list(range(1, run.settings.rounds + 1))
    report = json.loads((run.folder / "report.json").read_text())
    checks = {check["id"]: check["passed"] for check in report["checks"] if check["required"]}
    promised = {
        *("manifests.verify", "ledger.chain", "ledger.covers_updates", "privacy.within_budget"),
        *("privacy.recomputed_agrees", "lineage.no_violation", "consent_log.verifies"),
        *("minors.none_trained", "model.provenance"),
    }
    assert promised <= set(checks)
    assert all(checks.values()), [name for name, passed in checks.items() if not passed]
    assert sorted(run.closings()) == run.stores
    assert "Breaches of consent found" in said
    assert "Counted in " in said
    request = asked(run)
    assert request is not None
    found = Counted.of(run, request)
    assert found is not None
    assert set(run.stores) == set(found.stores) | set(found.left_out)
    assert json.loads(found.joined.read_bytes())["schema"] == "privemo.noised-audit/1"
