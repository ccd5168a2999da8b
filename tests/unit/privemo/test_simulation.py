"""A chain on one machine: prepared whole, run to the end, resumed, repeated."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privemo import simulation
from privemo import weights as w
from privemo.errors import DataError, RunError, RunInterrupted
from privemo.faces import load_faces
from privemo.ledger import Ledger
from privemo.runs import Run
from privemo.storeconfig import KEY_FILE
from privemo_audits import build_report
from privemo_consent import ConsentRegistry, ItemKind, Purpose, Vault
from tests.conftest import noise_faces
from tests.support.small_runs import small_run


def model_of(run: Run) -> str:
    return w.sha256(w.load_weights(run.model_path))


def prepared(folder: Path, **changes: Any) -> Run:
    """With a small network: what is tested here is alike for all, and the first test takes the usual one."""
    return small_run(folder, **{"model": "gray-cnn", **changes})


def whole(folder: Path, **changes: Any) -> Run:
    folder.mkdir(exist_ok=True)
    run = prepared(folder, **changes)
    simulation.run(run)
    simulation.finish(run)
    return run


def trained(folder: Path, **changes: Any) -> str:
    """The model after the last round, of a run that nobody finishes: what is measured then costs as much."""
    folder.mkdir()
    run = prepared(folder, **changes)
    simulation.run(run)
    return str(run.manifests()[-1]["model_out"])


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that nobody disturbed. Read it, do not change it."""
    return whole(tmp_path_factory.mktemp("straight"))


@pytest.fixture(scope="module")
def central(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same for central training. Read it, do not change it."""
    return whole(tmp_path_factory.mktemp("central"), **CENTRAL)


def test_a_run_from_end_to_end(tmp_path: Path) -> None:
    run = whole(tmp_path, model="emotion-cnn")
    assert [m["round"] for m in run.manifests()] == [1, 2]
    for manifest in run.manifests():
        assert {s["status"] for s in manifest["stores"].values()} == {"trained"}
    assert run.manifests()[0]["model_out"] == run.manifests()[1]["model_in"]
    assert run.manifests()[1]["model_out"] == model_of(run)
    for name in run.stores:
        store = run.store(name)
        assert [e.round for e in store.ledger.entries] == [1, 2]
        assert (store.folder / "predictions.csv").exists()
        store.close()


def test_the_manifest_names_the_update_that_the_ledger_paid_for(straight: Run) -> None:
    for manifest in straight.manifests():
        for name, facts in manifest["stores"].items():
            store = straight.store(name)
            entry = store.ledger.entries[manifest["round"] - 1]
            assert entry.update_sha256 == facts["update_sha256"]
            store.close()


def test_same_seed_same_model_and_another_seed_another(straight: Run, tmp_path: Path) -> None:
    same = trained(tmp_path / "same")
    other = trained(tmp_path / "other", seed=6)
    assert model_of(straight) == same != other


def test_without_a_seed_noise_comes_from_the_operating_system(tmp_path: Path) -> None:
    a = trained(tmp_path / "a", seed=None, rounds=1)
    b = trained(tmp_path / "b", seed=None, rounds=1)
    assert Run(tmp_path / "a/run").facts["privacy"]["noise_source"] == "os_entropy"
    assert a != b


def test_nobody_is_used_without_live_consent_and_nobody_stands_in_two_stores(
    straight: Run,
) -> None:
    seen: list[set[str]] = []
    for name in straight.stores:
        store = straight.store(name)
        used = {
            p for u in store.registry.uses() if u.purpose == Purpose.TRAINING for p in u.persons
        }
        seen.append(used)
        store.close()
    assert all(seen)
    assert not seen[0] & seen[1]


def test_someone_is_erased_between_two_rounds_and_the_audit_passes(tmp_path: Path) -> None:
    """GDPR 17 on the main road: the run goes on, and its audit counts what cannot be looked up."""
    run = prepared(tmp_path, people=160, declared_people=20)

    def erase_after_round_one(event: dict[str, Any]) -> None:
        if event["event"] == "round" and event["manifest"]["round"] == 1:
            store = run.store("store-01")
            used = {p for use in store.registry.uses() for p in use.persons}
            erased.extend(sorted(p for p in used if p is not None)[:2])
            store.erase(erased)
            store.close()

    erased: list[str] = []
    simulation.run(run, listener=erase_after_round_one)
    simulation.finish(run)
    store = run.store("store-01")
    try:
        gone = [u.round for u in store.registry.uses() for p in u.persons if p is None]
        assert not set(erased) & {p for u in store.registry.uses() for p in u.persons}
        assert all(store.vault.of_person(person) == [] for person in erased)
    finally:
        store.close()
    assert set(gone) == {1}
    report = build_report(run.folder)
    assert report.failed_checks == ()
    log = report.lineage.consent_logs["store-01"]
    assert (log["erasures"], log["erased_uses"]) == (2, len(gone))
    assert report.lineage.consent_logs["store-02"]["erasures"] == 0


def test_a_finished_run_holds_no_demographic_labels_but_for_the_audit(tmp_path: Path) -> None:
    """EU AI Act 10(5). Finishing and auditing once more gives the same report."""
    run = prepared(tmp_path, people=160, declared_people=20, rounds=1)
    simulation.run(run)
    simulation.finish(run)
    for name in run.stores:
        store = run.store(name)
        assert store.vault.counts()[ItemKind.DEMOGRAPHIC] == 0
        assert store.vault.counts()[ItemKind.FACE] > 0
        store.close()
    first = build_report(run.folder)
    simulation.finish(run)
    assert first.groups
    assert build_report(run.folder).to_json() == first.to_json()


def test_an_audit_outside_the_store_needs_no_face(tmp_path: Path) -> None:
    """What docs/reference/run-files.md tells to hand over: the same report, and nothing to open."""
    run = prepared(tmp_path, people=160, declared_people=20, rounds=1)
    simulation.run(run)
    simulation.finish(run)
    copy = tmp_path / "copy"
    shutil.copytree(run.folder, copy)
    for folder in (copy / "stores").iterdir():
        with ConsentRegistry.open(folder / "consent.sqlite", mode="simulation") as registry:
            for kind in ItemKind:
                Vault(registry).delete(kind=kind)
            assert not any(Vault(registry).counts().values())
    assert build_report(copy).to_json() == build_report(run.folder).to_json()


class Stop:
    """A listener that presses Ctrl-C after so many stores."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] == "store":
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt


def test_a_run_is_resumed_by_the_command_that_began_it(tmp_path: Path) -> None:
    run = prepared(tmp_path, stores=1)
    with pytest.raises(RunInterrupted, match=rf"privemo train --resume {run.folder}"):
        simulation.run(run, listener=Stop(1))


@pytest.mark.parametrize(
    "after", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)]
)
def test_an_interrupted_run_resumes_to_the_very_same_model_and_spends_nothing_twice(
    straight: Run, tmp_path: Path, after: int
) -> None:
    run = prepared(tmp_path)
    with pytest.raises(RunInterrupted, match=r"privemo simulate --resume"):
        simulation.run(run, listener=Stop(after))
    again = Run(run.folder)
    simulation.run(again)
    simulation.finish(again)
    # Run ids differ, but neither data, sampling nor noise depend on them.
    assert model_of(again) == model_of(straight)
    for name in again.stores:
        store = again.store(name)
        assert [e.round for e in store.ledger.entries] == [1, 2]
        assert store.ledger.entries[-1].epsilon_rdp <= 8.0
        store.close()


CENTRAL = {
    "stores": 1,
    "rounds": 4,
    "steps_per_round": 1,
    "server_momentum": 0.9,
    "ema": 0.5,
    "lr_schedule": "cosine",
    "privacy": {"epsilon": 8.0, "sample_rate": 0.5, "rate_growth": 2.0, "views": 2},
}
"""Central training: momentum, average and schedules are all the server's."""


@pytest.mark.parametrize(
    "change",
    [{}, pytest.param({"server_optimizer": "adam", "server_lr": 0.01}, marks=pytest.mark.slow)],
)
def test_the_servers_memory_survives_an_interruption(
    central: Run, tmp_path: Path, change: dict[str, Any]
) -> None:
    straight = whole(tmp_path / "straight", **CENTRAL, **change) if change else central
    (tmp_path / "stopped").mkdir()
    run = prepared(tmp_path / "stopped", **CENTRAL, **change)
    with pytest.raises(RunInterrupted):
        simulation.run(run, listener=Stop(2))
    assert 0 < len(run.manifests()) < 4
    again = Run(run.folder)
    simulation.run(again)
    simulation.finish(again)
    assert model_of(again) == model_of(straight)
    last = again.manifests()[-1]
    assert model_of(again) == last["model_average"] != last["model_out"]
    assert build_report(again.folder).passed
    kept = sorted(p.name for p in (again.folder / "checkpoints").glob("*.safetensors"))
    assert kept == sorted(f"{k}-000{n}.safetensors" for k in ("round", "state") for n in (3, 4))


def test_an_altered_round_is_not_gone_on_from(tmp_path: Path) -> None:
    run = prepared(tmp_path)
    with pytest.raises(RunInterrupted):
        simulation.run(run, listener=Stop(3))
    (run.folder / "run.json").write_text((run.folder / "run.json").read_text().replace("IE", "DE"))
    with pytest.raises(RunError, match=r"Round 1 .* does not follow the round before it"):
        simulation.run(Run(run.folder))
    assert len(run.manifests()) == 1


def lose_the_disk(run: Run, name: str) -> None:
    """A store is set up anew: its registry and keys come from a backup, its ledger does not."""
    folder = run.folder / "stores" / name
    for lost in ("ledger.jsonl", "ledger.head", "statements.jsonl"):
        (folder / lost).unlink()
    shutil.rmtree(folder / "outbox")


def test_a_store_that_lost_its_ledger_has_no_fresh_budget(tmp_path: Path) -> None:
    run = prepared(tmp_path)
    with pytest.raises(RunInterrupted):
        simulation.run(run, listener=Stop(3))  # in round 2, after its first store
    lose_the_disk(run, "store-02")
    simulation.run(Run(run.folder))
    told = Run(run.folder).manifests()[-1]["stores"]
    assert told["store-01"]["status"] == "trained"
    assert (told["store-02"]["status"], told["store-02"]["reason"]) == ("refused", "ledger_lost")
    assert told["store-02"]["statement"]["ledger"] == {"entries": 0, "hash": "0" * 64}
    store = run.store("store-02")
    assert store.ledger.entries == ()
    store.close()
    simulation.finish(run)
    failed = build_report(run.folder).failed_checks
    assert {"ledger.covers_updates", "manifests.verify"} <= set(failed)


def test_an_altered_memory_of_the_server_is_not_used(tmp_path: Path) -> None:
    run = prepared(tmp_path, **CENTRAL)
    with pytest.raises(RunInterrupted):
        simulation.run(run, listener=Stop(2))
    path = run.folder / "checkpoints" / f"state-000{len(run.manifests())}.safetensors"
    state = {name: array + 1 for name, array in w.load_weights(path).items()}
    w.save_weights(path, state)
    with pytest.raises(RunError, match="not the server's state"):
        simulation.run(Run(run.folder))


def test_the_published_model_is_the_average_that_the_last_round_names(
    central: Run, tmp_path: Path
) -> None:
    run = Run(shutil.copytree(central.folder, tmp_path / "run"))
    last = w.load_weights(run.folder / "checkpoints" / "round-0004.safetensors")
    w.save_weights(run.model_path, last)
    report = build_report(run.folder)
    assert [c.id for c in report.checks if not c.passed and c.required] == ["model.provenance"]


def test_growing_batches_are_ordered_as_planned_and_keep_the_budget(central: Run) -> None:
    run = central
    orders = [run.order_for(number).recipe for number in range(1, 5)]
    assert [r.sample_rate for r in orders] == pytest.approx([0.25, 1 / 3, 5 / 12, 0.5])
    assert [r.normaliser for r in orders] == pytest.approx([2.5, 10 / 3, 25 / 6, 5.0])
    assert [r.lr / run.facts["lr"] for r in orders] == pytest.approx([1, 0.7525, 0.2575, 0.01])
    store = run.store("store-01")
    entries = store.ledger.entries
    store.close()
    assert [e.sample_rate for e in entries] == pytest.approx([r.sample_rate for r in orders])
    assert 7.9 < entries[-1].epsilon_rdp <= 8.0


def test_runs_of_other_seeds_share_a_split_when_it_has_a_seed_of_its_own(tmp_path: Path) -> None:
    def people(folder: str, **seeds: int | None) -> list[tuple[str, ...]]:
        (tmp_path / folder).mkdir()
        run = prepared(tmp_path / folder, consents="realistic", **seeds)
        found = []
        for name in run.stores:
            store = run.store(name)
            found.append(tuple(sorted(store.registry.persons())))
            found.append(tuple(sorted(map(str, store.config.withdrawals))))
            store.close()
        return found

    first = people("a", seed=1, split_seed=4)
    assert people("b", seed=2, split_seed=4) == first
    assert people("c", seed=None, split_seed=4) == first
    assert people("d", seed=4) == first  # the split follows the seed when it has none
    assert people("e", seed=1) != first


def test_an_unfinished_run_has_no_model(tmp_path: Path) -> None:
    run = prepared(tmp_path)
    with pytest.raises(RunError, match="0 of 2 rounds"):
        simulation.finish(run)
    assert not run.model_path.exists()


def test_an_altered_checkpoint_is_not_resumed(tmp_path: Path) -> None:
    run = prepared(tmp_path)
    weights = w.load_weights(run.folder / "checkpoints" / "round-0000.safetensors")
    next(iter(weights.values()))[:] += 1
    run.keep_start(weights)
    with pytest.raises(RunError, match="was changed"):
        simulation.run(run)


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    run = prepared(tmp_path)
    before = sorted(p.name for p in run.folder.iterdir())
    data = tmp_path / "faces.npz"
    with pytest.raises(RunError, match="not empty"):
        simulation.prepare(load_faces(data), run.folder, run.settings)
    assert sorted(p.name for p in run.folder.iterdir()) == before


def test_a_run_that_cannot_be_prepared_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'shoe_size'"):
        prepared(tmp_path, sensitive=("shoe_size",))
    assert [p.name for p in tmp_path.iterdir()] == ["faces.npz"]


def test_one_store_too_small_is_left_out_and_the_federation_goes_on(tmp_path: Path) -> None:
    run = prepared(tmp_path)
    store = run.store("store-02")
    people = np.array(store.registry.persons())
    agreed = store.gate.still_permitted(people, Purpose.TRAINING, store.context)
    store.registry.withdraw_many(sorted(people[agreed].tolist())[3:])
    store.close()
    simulation.run(run)
    stores = run.manifests()[0]["stores"]
    assert stores["store-01"]["status"] == "trained"
    told = stores["store-02"]
    assert (told["status"], told["reason"]) == ("refused", "too_few_people")
    assert told["update_sha256"] is None
    assert told["statement"]["status"] == "refused"


def test_when_no_store_can_train_the_run_stops_with_the_reasons(tmp_path: Path) -> None:
    run = prepared(tmp_path, declared_people=500)
    with pytest.raises(RunError, match=r"No store could train.*store-01: too_few_people"):
        simulation.run(run)
    assert run.manifests() == []


def test_what_went_wrong_in_a_store_is_said_to_whoever_runs_the_simulation(tmp_path: Path) -> None:
    run = prepared(tmp_path)
    for name in run.stores:
        (run.folder / "stores" / name / "ledger.jsonl").write_text("{}\n")
    with pytest.raises(RunError, match=r"LedgerError.*entry 0 is unreadable.*backup"):
        simulation.run(run)


def test_what_went_wrong_in_a_store_stays_on_its_machine(tmp_path: Path) -> None:
    """Flower sends the text of an exception to the server: only the kind of ours may leave."""
    run = prepared(tmp_path)
    (run.folder / "stores" / "store-02" / "ledger.jsonl").write_text("{}\n")
    simulation.run(run)
    first = run.manifests()[0]
    facts = {
        **first["stores"],
        **first["others"],
    }  # a store that failed had no time to say who it is
    failed = {name: f for name, f in facts.items() if f["status"] == "failed"}
    assert [f["reason"] for f in failed.values()] == ["error: LedgerError"]
    assert str(tmp_path) not in json.dumps(run.manifests())


def test_two_processes_do_not_drive_one_run(tmp_path: Path) -> None:
    run = prepared(tmp_path)
    with (run.folder / ".lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another process"):
            simulation.run(run)


def test_training_without_privacy_says_so_and_keeps_no_ledger(tmp_path: Path) -> None:
    run = whole(tmp_path, privacy=None, plain={"epochs": 1}, stores=1, rounds=1)
    assert run.facts["privacy"]["private"] is False
    assert not (run.folder / "stores" / "store-01" / "ledger.jsonl").exists()
    store = run.store("store-01")
    assert any(u.purpose == Purpose.TRAINING for u in store.registry.uses())
    store.close()


def test_the_run_says_that_its_consents_are_simulated(tmp_path: Path) -> None:
    run = prepared(tmp_path)
    assert run.facts["simulated"] is True
    store = json.loads((run.folder / "stores" / "store-01" / "store.json").read_text())
    assert store["registry_mode"] == "simulation"


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [
        ["--stores", "2", "--steps", "3"],
        ["--stores", "3", "--steps", "1", "--noise", "distributed"],
    ],
    ids=["local", "shared"],
)
def test_ray_gives_the_same_model_as_one_process(how: list[str], tmp_path: Path) -> None:
    """Each engine in a process of its own, as a user starts it; Ray leaves processes behind.

    That deployed stores end in the model of one process: `tests/faults/test_federation_processes.py`.
    """
    np.savez(tmp_path / "faces.npz", **noise_faces(60))
    for engine in ("inprocess", "ray"):
        command = [sys.executable, "-m", "privemo", "simulate", "--engine", engine]
        command += ["--data", str(tmp_path / "faces.npz"), "--out", str(tmp_path / engine)]
        command += [*how, "--rounds", "2", "--sample-rate", "0.5"]
        command += ["--declared-people", "10", "--init", "scratch", "--seed", "5"]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr[-2000:]
    models = [w.load_weights(tmp_path / e / "model.safetensors") for e in ("inprocess", "ray")]
    assert w.sha256(models[0]) == w.sha256(models[1])


@pytest.fixture
def failed_round(tmp_path: Path) -> Run:
    """One of two stores trained, and the round took both."""
    run = prepared(tmp_path, quorum=2)
    key = run.folder / "stores/store-02" / KEY_FILE
    key.rename(key.with_name("put away"))
    with pytest.raises(RunError, match="Only 1 of the 2 stores"):
        simulation.run(run)
    key.with_name("put away").rename(key)
    assert run.manifests() == []
    return run


def test_what_a_store_sent_for_a_round_that_failed_is_sent_again_for_nothing(
    failed_round: Run,
) -> None:
    simulation.run(failed_round)
    for name in failed_round.stores:
        ledger = Ledger(failed_round.folder / "stores" / name / "ledger.jsonl")
        assert [entry.round for entry in ledger.entries] == [1, 2]


def test_a_ledger_lost_after_a_round_that_failed_is_missed(failed_round: Run) -> None:
    """The server remembers how far it went, though no manifest says so."""
    store = failed_round.folder / "stores/store-01"
    for name in ("ledger.jsonl", "ledger.head"):
        (store / name).unlink()
    for left in (store / "outbox").iterdir():
        left.unlink()
    with pytest.raises(RunError, match=r"store-01: ledger_lost"):
        simulation.run(failed_round)
    assert not (store / "ledger.jsonl").exists()


def test_a_damaged_memory_of_ledgers_is_named(failed_round: Run) -> None:
    path = failed_round.folder / "checkpoints/ledger-heads.jsonl"
    whole = path.read_bytes()
    path.write_bytes(
        whole + b'{"schema":"privemo.ledger-head/1","store":"sto'
    )  # as the server died
    assert failed_round.history().known()["store-01"].entries == 1
    for damaged in (
        b"{\n",
        b'{"schema":"privemo.ledger-head/2"}\n',
        whole.replace(b": 1", b": -1"),
    ):
        path.write_bytes(whole + damaged)
        with pytest.raises(RunError, match=r"ledger-heads\.jsonl is damaged"):
            failed_round.history()
