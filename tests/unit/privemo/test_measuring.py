"""Stores of a federation read their own people and are counted: who is, what leaves, and who pays."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from privemo import count_answers, measured, simulation
from privemo import weights as w
from privemo.cli.counting import _exact
from privemo.client_app import app as client_app
from privemo.closing import FINAL_FILE
from privemo.count_answers import counts_from
from privemo.counted import Counted, ask_for, asked, request_of
from privemo.counted import measured as measured_by
from privemo.counting import count_vector
from privemo.errors import NotMeasured, PrivemoError, RunError, SecureSumError, SettingsError
from privemo.flower import ConfigRecord, Context, Grid, Message, RecordDict, ServerApp
from privemo.grid import InProcessGrid
from privemo.heldoutledger import FILE, HeldOutLedger
from privemo.measured import MeasureOrder, check_measured, measure
from privemo.measuring import finish_run, wants_measuring
from privemo.runs import Run
from privemo.secagg import Member, Session, needed
from privemo.secure_counts import AGREED, COUNTS_ROUND, SecureCounts
from privemo.store import Store
from privemo_audits import build_report
from privemo_audits.cellcounts import CellCounts, read_any
from privemo_audits.noisedjoin import join_any
from privemo_consent import ItemKind, Purpose
from tests.support.federated import EXACT, TERMS, App, Federated, half_trained, pooled, without
from tests.support.small_runs import first_model, small_run, used_people

KINDS = ("query.measure", "query.count", "query.advertise")


def trained(folder: Path, terms: Any, **changes: Any) -> Federated:
    """Its rounds are whole, and nobody measured yet."""
    made = Federated(folder, terms, **changes)
    try:
        made.drive(without(*made.names, kinds=KINDS))
    except RunError:
        assert terms is not None
    shutil.rmtree(made.chain / "counts")
    return made


@pytest.fixture(scope="module")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Federated:
    """Stores that add up exact counts; read it, do not change it."""
    folder = tmp_path_factory.mktemp("sums")
    return trained(folder, EXACT, init=str(half_trained(folder / "start.safetensors")))


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Federated:
    """Stores that add up counts and noise; read it, do not change it."""
    return trained(tmp_path_factory.mktemp("noisy"), TERMS, less={"store-02": 1.0})


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Federated:
    """Stores that each add noise of their own; read it, do not change it."""
    return trained(tmp_path_factory.mktemp("apart"), TERMS, shared=False)


@pytest.fixture(params=["sums", pytest.param("apart", marks=pytest.mark.slow)])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Federated:
    found: Federated = request.getfixturevalue(request.param)
    return found.copy(tmp_path)


@contextmanager
def opened(federated: Federated, name: str = "store-01") -> Iterator[Store]:
    store = federated.store(name)
    try:
        yield store
    finally:
        store.close()


def came_of(federated: Federated) -> Counted:
    request = asked(federated.run)
    assert request is not None
    found = Counted.of(federated.run, request)
    assert found is not None
    return found


def finished(federated: Federated, run: Run, app: App) -> Counted | None:
    """What comes after the rounds alone, for a run whose settings a test changed."""
    found: list[Counted | None] = []
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        found.append(finish_run(run, grid))

    configs: list[dict[str, str | int]] = [
        {"store-dir": str(federated.stores / name)} for name in federated.names
    ]
    InProcessGrid(app, configs).serve(server, run_dir=str(run.folder))  # type: ignore[arg-type]
    return found[0]


def paid(federated: Federated) -> dict[str, int]:
    """By store how many releases stand in the ledger of the people measured."""
    paths = {name: federated.stores / name / FILE for name in federated.names}
    return {n: len(HeldOutLedger(p).entries) if p.exists() else 0 for n, p in paths.items()}


def people_of(federated: Federated, name: str = "store-01") -> set[str]:
    return people_in(federated.stores / name / "predictions.csv")


def people_in(predictions: Path) -> set[str]:
    return set(pd.read_csv(predictions, dtype=str)["person"])


def hearing(heard: list[tuple[str, RecordDict]], app: App = client_app) -> App:
    """Stores whose every answer somebody keeps."""

    def listening(message: Message, context: Context) -> Message:
        reply = app(message, context)
        heard.append((message.metadata.message_type, reply.content))
        return reply

    return listening


# -- reading the people ----------------------------------------------------------------------------------


def test_a_store_keeps_what_a_simulated_run_would_have_written(tmp_path: Path) -> None:
    run = small_run(tmp_path, model="gray-cnn", test_fraction=0.5, consents="everyone")
    shutil.copytree(run.folder, tmp_path / "twin")
    twin, weights = Run(tmp_path / "twin"), first_model(run)
    for name in run.stores:
        ours, theirs = run.store(name), twin.store(name)
        measure(ours, weights, MeasureOrder(run.run_id, "gray-cnn", flip=True, threads=1))
        theirs.write_predictions(weights, model="gray-cnn", run_id=run.run_id)  # as `finish` does
        path = Path("stores") / name / "predictions.csv"
        assert (run.folder / path).read_bytes() == (twin.folder / path).read_bytes()
        assert len(people_in(run.folder / path)) > 1
        ours.close()
        theirs.close()


def test_all_measure_with_the_finished_model_after_the_last_round(either: Federated) -> None:
    either.drive()
    assert measured_by(either.run) == dict.fromkeys(either.names)
    said = json.loads((either.chain / "counts" / "measured.json").read_text())
    assert said["model"] == w.sha256(either.run.finished())
    for name in either.names:
        with opened(either, name) as store:
            assert people_of(either, name) == used_people(store, Purpose.FAIRNESS_AUDIT)
            assert not store.vault.counts()[ItemKind.DEMOGRAPHIC]
            check_measured(store)
    assert not list(either.chain.rglob("predictions.csv"))  # they stay where the people are


def test_a_federation_that_agreed_to_no_counts_measures_all_the_same(
    apart: Federated, tmp_path: Path
) -> None:
    made = apart.copy(tmp_path)
    run = made.run
    run.settings = run.settings.model_copy(update={"counts": None})
    assert wants_measuring(run)
    heard: list[tuple[str, RecordDict]] = []
    assert finished(made, run, hearing(heard)) is None
    assert measured_by(run) == dict.fromkeys(made.names)
    assert {kind for kind, _ in heard} == {"query.measure"}
    with pytest.raises(RunError, match="agreed to no counts"):
        request_of(run)


def test_the_gate_is_asked_when_people_are_read(apart: Federated, tmp_path: Path) -> None:
    made = apart.copy(tmp_path)
    with opened(made) as store:
        agreed = sorted(store.registry.persons())
        for person in agreed[: len(agreed) // 2]:
            store.registry.withdraw(person)
    made.drive()
    assert people_of(made) <= set(agreed[len(agreed) // 2 :])
    assert people_of(made)


def test_the_same_model_again_reads_nobody_twice(apart: Federated, tmp_path: Path) -> None:
    made = apart.copy(tmp_path)
    made.drive()
    shutil.rmtree(made.chain / "counts")
    with opened(made) as store:
        uses = len(list(store.registry.uses()))
    made.drive()
    with opened(made) as store:
        assert len(list(store.registry.uses())) == uses


def test_what_is_no_finished_model_of_this_run_is_refused(apart: Federated, tmp_path: Path) -> None:
    made = apart.copy(tmp_path)
    weights = made.run.finished()
    order = MeasureOrder(made.run.run_id, "gray-cnn", flip=True, threads=1)
    name = next(iter(weights))
    with opened(made) as store:
        with pytest.raises(SettingsError, match="signed another model at the end of the run"):
            measure(store, {n: a * 2 for n, a in weights.items()}, order)
        (store.folder / FINAL_FILE).unlink()  # as a store that was away when the end was signed
        for broken, said, words in (
            (weights, MeasureOrder("another", "gray-cnn", flip=True), "another run"),
            (weights, dataclasses.replace(order, zoom=float("nan")), "zoom is 0 to"),
            ({**weights, name: weights[name] * np.nan}, order, "numbers that are none"),
        ):
            with pytest.raises(SettingsError, match=words):
                measure(store, broken, said)
        with pytest.raises(PrivemoError):
            measure(store, {name: weights[name]}, order)
        with pytest.raises(NotMeasured):
            check_measured(store)
        measure(store, weights, order)
        with pytest.raises(
            SettingsError, match=r"another model of this run: delete measured\.json"
        ):
            measure(store, {n: a * 2 for n, a in weights.items()}, order)
        check_measured(store)


def test_a_model_that_overflows_on_a_face_does_not_tell_that_somebody_is_there(
    apart: Federated, tmp_path: Path
) -> None:
    """Finite weights, infinite sums: an answer that hung on it would say of whom the model was made."""
    made = apart.copy(tmp_path)
    crafted = {n: a * np.float32(1e30) for n, a in made.run.finished().items()}
    order = MeasureOrder(made.run.run_id, "gray-cnn", flip=True, threads=1)
    with opened(made) as store:
        (store.folder / FINAL_FILE).unlink()  # it signed no end, and takes what it is sent
        measure(store, crafted, order)
        check_measured(store)
        frame = pd.read_csv(store.folder / "predictions.csv")
        assert len(frame)
        assert set(frame[["p_happy", "p_sad", "p_neutral", "p_surprise"]].to_numpy().flat) == {0.25}
        assert int(count_vector(store, request_of(made.run).plan).sum())  # counted like all others
        with pytest.raises(SettingsError, match="another model of this run"):
            measure(store, made.run.finished(), order)  # nor can it be asked with model after model


def test_predictions_of_an_earlier_run_do_not_pass_for_this_ones(
    apart: Federated, tmp_path: Path
) -> None:
    made = apart.copy(tmp_path)
    old = made.stores / "store-01" / "predictions.csv"
    old.write_text("store,person\nstore-01,somebody\n")
    (old.parent / "measured.json").write_text(
        json.dumps({"schema": "privemo.measured/1", "run_id": "earlier", "model": "0" * 64})
    )
    made.drive()
    assert len(people_of(made)) > 1


def test_a_store_that_dies_before_it_is_done_reads_again(
    apart: Federated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = apart.copy(tmp_path)
    order = MeasureOrder(made.run.run_id, "gray-cnn", flip=True, threads=1)

    def die(*_: object) -> None:
        raise ConnectionError("killed")

    with opened(made) as store:
        with monkeypatch.context() as patch:
            patch.setattr(measured, "write_json", die)
            with pytest.raises(ConnectionError):
                measure(store, made.run.finished(), order)
        before = (store.folder / "predictions.csv").read_bytes()
        assert store.vault.counts()[ItemKind.DEMOGRAPHIC]  # else they could not be read again
        measure(store, made.run.finished(), order)
        assert (store.folder / "predictions.csv").read_bytes() == before
        assert not store.vault.counts()[ItemKind.DEMOGRAPHIC]


# -- the joined audit ------------------------------------------------------------------------------------


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


# -- who is counted --------------------------------------------------------------------------------------


def test_whoever_withdraws_after_being_read_is_not_counted(sums: Federated, tmp_path: Path) -> None:
    made = sums.copy(tmp_path)
    gone: list[str] = []

    def withdrawing(message: Message, context: Context) -> Message:
        if message.metadata.message_type == "query.mask" and not gone:
            gone.append(min(people_of(made)))
            with opened(made) as store:
                store.registry.withdraw(gone[0])
        return client_app(message, context)

    made.drive(withdrawing)
    read = sum(len(people_of(made, name)) for name in made.names)
    assert json.loads(came_of(made).joined.read_bytes())["performance"]["persons"] == read - 1


def test_a_store_of_few_people_is_in_no_exact_sum_and_the_others_are(
    sums: Federated, tmp_path: Path
) -> None:
    made = sums.copy(tmp_path)

    def withdrawing(message: Message, context: Context) -> Message:
        if message.metadata.message_type == "query.advertise" and len(people_of(made)) > 9:
            with opened(made) as store:
                store.erase(sorted(people_of(made))[9:])
        return client_app(message, context)

    made.drive(withdrawing)
    found = came_of(made)
    assert found.left_out == {"store-01": "too_few_people"}
    assert found.stores == ("store-02", "store-03")
    assert not (made.stores / "store-01" / AGREED).exists()  # nothing left it


def test_a_store_that_agreed_to_less_is_named_and_the_rest_goes_on(
    noisy: Federated, tmp_path: Path
) -> None:
    made = noisy.copy(tmp_path)
    made.drive()
    found = came_of(made)
    assert found.left_out == {"store-02": "request_refused"}
    assert found.stores == ("store-01", "store-03")
    assert paid(made) == {"store-01": 1, "store-02": 0, "store-03": 1}
    # For what it agreed to, it is there.
    ask_for(made.run, request_of(made.run, epsilon=1.0))
    made.drive()
    less = Counted.of(made.run, request_of(made.run, epsilon=1.0))
    assert less is not None
    assert less.stores == tuple(made.names)
    assert paid(made) == {"store-01": 2, "store-02": 1, "store-03": 2}
    assert asked(made.run) == request_of(made.run)


def test_fewer_stores_than_it_takes_are_a_failure_that_says_why(
    noisy: Federated, tmp_path: Path
) -> None:
    made = noisy.copy(tmp_path)
    with pytest.raises(RunError, match="1 of 3 stores"):
        made.drive(without("store-01", kinds=("query.advertise",)))
    found = came_of(made)
    assert found.error is not None
    assert found.left_out["store-02"] == "request_refused"
    assert "no such store" not in found.left_out["store-01"]  # a store's own words stay with it
    assert not found.joined.exists()
    assert paid(made) == dict.fromkeys(made.names, 0)


def test_a_quorum_of_stores_with_noise_of_their_own(apart: Federated, tmp_path: Path) -> None:
    made = apart.copy(tmp_path)
    run = made.run
    run.settings = run.settings.model_copy(update={"quorum": 3})
    with pytest.raises(
        RunError, match=r"2 of 3 stores counted, and it takes 3 \(store-02: no answer"
    ):
        finished(made, run, without("store-02", kinds=KINDS))
    found = came_of(made)
    assert found.error is not None
    assert not found.joined.exists()
    assert len(list((found.folder / "stores").iterdir())) == 2  # paid for, and kept


def test_a_store_that_was_away_is_measured_and_counted_once_it_is_back(
    apart: Federated, tmp_path: Path
) -> None:
    made = apart.copy(tmp_path)
    made.drive(without("store-03", kinds=KINDS))
    assert measured_by(made.run)["store-03"] == "no answer"
    assert came_of(made).left_out == {"store-03": "no answer"}
    made.drive(without("store-03", kinds=("query.measure",)))  # there, and did not read anybody
    assert came_of(made).left_out == {"store-03": "not_measured"}
    made.drive()
    assert came_of(made).stores == tuple(made.names)
    assert paid(made) == dict.fromkeys(made.names, 1)


# -- asked again -----------------------------------------------------------------------------------------


def test_what_was_counted_is_asked_of_nobody_again(either: Federated) -> None:
    either.drive()
    before = came_of(either).joined.read_bytes()
    heard: list[tuple[str, RecordDict]] = []
    either.drive(hearing(heard))
    assert heard == []
    assert came_of(either).joined.read_bytes() == before


def test_a_server_that_forgot_gets_the_same_noise_again_for_nothing(
    apart: Federated, tmp_path: Path
) -> None:
    made = apart.copy(tmp_path)
    made.drive()
    before = came_of(made).joined.read_bytes()
    shutil.rmtree(made.chain / "counts")
    with opened(made) as store:
        store.registry.withdraw(min(people_of(made)))  # other bytes would tell
    made.drive()
    assert came_of(made).joined.read_bytes() == before
    assert paid(made) == dict.fromkeys(made.names, 1)


def test_as_many_releases_as_agreed_and_exact_counts_once(
    noisy: Federated, sums: Federated, tmp_path: Path
) -> None:
    """A server that asks anew could take the difference of two sums."""
    for name, source, times, reason in (
        ("noisy", noisy, 2, "budget_exhausted"),
        ("sums", sums, 1, "not_agreed"),
    ):
        made = source.copy(tmp_path / name)
        for _ in range(times):
            made.drive()
            shutil.rmtree(made.chain / "counts")
        with pytest.raises(RunError, match="a sum of counts takes 2"):
            made.drive()
        assert came_of(made).left_out["store-01"] == reason
        assert paid(made)["store-01"] == (times if source is noisy else 0)


def test_exact_counts_are_of_the_model_alone_whose_end_was_signed(
    sums: Federated, tmp_path: Path
) -> None:
    """A server could have people read, before it shows any end, with a model made to tell one of them."""
    made = sums.copy(tmp_path)
    order = MeasureOrder(made.run.run_id, "gray-cnn", flip=True, threads=1)
    made.drive(without("store-02", kinds=("query.advertise",)))
    assert came_of(made).error is None  # two of three are enough
    shutil.rmtree(made.chain / "counts")
    for name in made.names:
        (made.stores / name / AGREED).unlink(missing_ok=True)
    with opened(made) as store:
        kept = (store.folder / FINAL_FILE).read_bytes()
        (store.folder / FINAL_FILE).unlink()
        (store.folder / "measured.json").unlink()
        measure(store, {n: a * 2 for n, a in made.run.finished().items()}, order)
        (store.folder / FINAL_FILE).write_bytes(kept)
    made.drive()
    assert came_of(made).left_out == {"store-01": "not_measured"}


def test_a_sum_in_another_runs_name_is_refused(noisy: Federated, tmp_path: Path) -> None:
    """Else a server counts as often as the budget lasts, and not as often as was agreed."""
    made = noisy.copy(tmp_path)
    made.drive()
    foreign = replace(request_of(made.run), run_id="another-run")
    with opened(made) as store:
        members = tuple(sorted(store.config.roster))
        known = needed(len(members), 1 - store.config.noise_stores / len(members))
        session = Session(
            store.config.run_id, COUNTS_ROUND, "ab" * 16, foreign.digest(), members, *known
        )
        with pytest.raises(SecureSumError, match="agreed to another sum of counts"):
            SecureCounts(store).advertise_counts(foreign, session)
        ours = replace(foreign, run_id=store.config.run_id)
        SecureCounts(store).advertise_counts(ours, replace(session, order=ours.digest()))


def test_masked_numbers_that_were_lost_on_their_way_are_sent_again(
    noisy: Federated, tmp_path: Path
) -> None:
    made = noisy.copy(tmp_path)
    twice: list[bool] = []

    def repeating(message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        if message.metadata.message_type == "query.mask":
            again = client_app(message, context)
            one, two = (r.content["vector"]["vector"].numpy() for r in (reply, again))  # type: ignore[index,union-attr]
            twice.append(np.array_equal(one, two))
        return reply

    made.drive(repeating)
    assert twice == [True, True]
    assert paid(made)["store-01"] == 1


def test_a_server_that_dies_with_all_numbers_there_goes_on_with_that_sum(
    noisy: Federated, tmp_path: Path
) -> None:
    made = noisy.copy(tmp_path)
    with pytest.raises(RunError, match="a sum of counts takes 2"):
        made.drive(without(*made.names, kinds=("query.confirm",)))
    assert came_of(made).error is not None
    heard: list[tuple[str, RecordDict]] = []
    made.drive(hearing(heard))
    assert {kind for kind, _ in heard} == {"query.confirm", "query.reveal"}
    assert came_of(made).stores == ("store-01", "store-03")
    assert came_of(made).left_out == {"store-02": "request_refused"}
    assert paid(made) == {"store-01": 1, "store-02": 0, "store-03": 1}
    assert not list(made.chain.rglob("pending.bin"))


def test_a_store_that_dies_between_paying_and_answering_has_paid(
    sums: Federated, noisy: Federated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = noisy.copy(tmp_path)
    real = Member.mask

    def dying(self: Member, vector: Any) -> Any:
        if self.name == "store-01":
            raise ConnectionError("killed")
        return real(self, vector)

    monkeypatch.setattr(Member, "mask", dying)
    with pytest.raises(RunError, match="a sum of counts takes 2"):
        made.drive()
    assert paid(made) == {"store-01": 1, "store-02": 0, "store-03": 1}
    made = sums.copy(tmp_path / "exact")
    made.drive()
    assert came_of(made).stores == ("store-02", "store-03")
    assert (made.stores / "store-01" / AGREED).exists()  # its numbers count as gone


# -- who lies, and who listens ---------------------------------------------------------------------------


def test_what_a_store_answers_holds_no_person_and_no_number_of_them(
    either: Federated,
) -> None:
    heard: list[tuple[str, RecordDict]] = []
    either.drive(hearing(heard))
    secret = set()
    for name in either.names:
        frame = pd.read_csv(either.stores / name / "predictions.csv", dtype=str)
        secret |= set(frame["person"]) | set(frame["face"])
    assert secret
    for kind, content in heard:
        text = repr(content)
        assert not any(word in text for word in secret), kind
        if kind == "query.measure":
            record = content["content"]
            assert isinstance(record, ConfigRecord)
            assert set(record) == {"store"}  # done, and nothing else


def test_counts_that_their_store_did_not_sign_are_left_out(
    apart: Federated, tmp_path: Path
) -> None:
    made = apart.copy(tmp_path)
    heard: list[tuple[str, RecordDict]] = []

    def lying(message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        here = Path(str(context.node_config["store-dir"])).name
        if message.metadata.message_type == "query.count" and here == "store-01":
            heard.append((here, reply.content))
            reply.content = changed_answer(reply.content, signature=b"0" * 64)
        return reply

    made.drive(lying)
    assert came_of(made).stores == ("store-02", "store-03")
    assert "not signed by this store" in came_of(made).left_out["store-01"]
    ((_, honest),) = heard
    roster = made.run.roster
    assert counts_from(honest, roster)[0] == "store-01"
    for change, words in (
        ({"store": "store-02"}, "not signed by this store"),
        ({"counts": b"{}"}, "not signed by this store"),
        ({"counts": 3}, "without signed counts"),
        ({"store": "stranger"}, "no such store"),
        ({"store": 3}, "no text"),
    ):
        with pytest.raises(PrivemoError, match=words):
            counts_from(changed_answer(honest, **change), roster)


def changed_answer(content: RecordDict, **change: Any) -> RecordDict:
    record = content["content"]
    assert isinstance(record, ConfigRecord)
    return RecordDict({"content": ConfigRecord({**record, **change})})


def test_counts_of_something_else_are_left_out_though_they_are_signed(
    apart: Federated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = apart.copy(tmp_path)
    real = count_answers.noised_counts

    def other(store: Store, *args: Any) -> bytes:
        data = real(store, *args)
        if store.config.name == "store-03":
            return data.replace(made.run.run_id.encode(), b"another-run-12345")
        return data

    monkeypatch.setattr(count_answers, "noised_counts", other)
    made.drive()
    assert "of something else than was asked" in came_of(made).left_out["store-03"]


def test_a_store_answers_within_its_terms_alone(apart: Federated, tmp_path: Path) -> None:
    """A server whose own settings say more than was agreed on."""
    made = apart.copy(tmp_path)
    made.drive()
    facts = json.loads((made.chain / "run.json").read_text())
    facts["settings"]["counts"]["epsilon"] = 3.0
    (made.chain / "run.json").write_text(json.dumps(facts))
    with pytest.raises(RunError, match="does not follow the round before"):
        made.drive()  # and its own history notices as well
    store = made.store("store-01")
    try:
        heard = count_answers.ANSWERS["count"](
            RecordDict({"config": count_answers.request_record(request_of(made.run))}), store
        )
    finally:
        store.close()
    assert heard["content"]["reason"] == "request_refused"  # type: ignore[index,call-overload]
    assert paid(made)["store-01"] == 1


def test_a_store_that_shares_its_noise_sends_no_counts_of_its_own(
    noisy: Federated, tmp_path: Path
) -> None:
    made = noisy.copy(tmp_path)
    order = MeasureOrder(made.run.run_id, "gray-cnn", flip=True, threads=1)
    with opened(made) as store:
        measure(store, made.run.finished(), order)
        heard = count_answers.ANSWERS["count"](
            RecordDict({"config": count_answers.request_record(request_of(made.run))}), store
        )
    assert heard["content"]["reason"] == "request_refused"  # type: ignore[index,call-overload]
    assert paid(made)["store-01"] == 0


def test_a_damaged_file_of_the_server_is_named(apart: Federated, tmp_path: Path) -> None:
    made = apart.copy(tmp_path)
    (made.chain / "counts").mkdir()
    for name, words in (
        ("asked.json", "asked.json is damaged"),
        ("measured.json", "cannot be read as JSON"),
    ):
        (made.chain / "counts" / name).write_text("{")
        with pytest.raises(RunError, match=words):
            (asked if name == "asked.json" else measured_by)(made.run)


def test_the_first_model_is_not_the_finished_one(apart: Federated) -> None:
    """So that the tests above can tell."""
    assert w.sha256(first_model(apart.run)) == w.sha256(apart.run.last_whole_round()[1])
    assert apart.run.facts["model"]["initial"] != w.sha256(apart.run.finished())
