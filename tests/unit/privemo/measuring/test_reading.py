"""A store reads its own people with the finished model, through the gate, and no other model."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from privemo import measured
from privemo import weights as w
from privemo.closing import FINAL_FILE
from privemo.counted import measured as measured_by
from privemo.counted import request_of
from privemo.counting import count_vector
from privemo.errors import NotMeasured, PrivemoError, RunError, SettingsError
from privemo.flower import RecordDict
from privemo.measured import MeasureOrder, check_measured, measure
from privemo.measuring import wants_measuring
from privemo.runs import Run
from privemo_consent import ItemKind, Purpose
from tests.support.federated import Federated
from tests.support.small_runs import first_model, small_run, used_people
from tests.unit.privemo.measuring.parts import (
    before_the_rounds,
    finished,
    hearing,
    opened,
    people_in,
    people_of,
)


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
        with pytest.raises(NotMeasured, match="has not signed its end: once it has"):
            measure(store, weights, order)
        assert store.vault.counts()[ItemKind.DEMOGRAPHIC]  # reading people ends with deleting them
    with opened(made) as store, before_the_rounds(store):  # or as one that took no part
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
        measure(store, weights, order)  # asked once more: it has
        with pytest.raises(SettingsError, match="another flip or zoom: delete"):
            measure(store, weights, dataclasses.replace(order, zoom=0.0))
        check_measured(store)


def test_a_model_that_overflows_on_a_face_does_not_tell_that_somebody_is_there(
    apart: Federated, tmp_path: Path
) -> None:
    """Finite weights, infinite sums: an answer that hung on it would say of whom the model was made."""
    made = apart.copy(tmp_path)
    crafted = {n: a * np.float32(1e30) for n, a in made.run.finished().items()}
    order = MeasureOrder(made.run.run_id, "gray-cnn", flip=True, threads=1)
    with opened(made) as store, before_the_rounds(store):  # there it takes what it is sent
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
    old.write_text(
        "store,person,face,label,prediction\nstore-01,somebody,f,happy,happy\n", encoding="utf-8"
    )
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


def test_the_first_model_is_not_the_finished_one(apart: Federated) -> None:
    """So that the tests above can tell."""
    assert w.sha256(first_model(apart.run)) == w.sha256(apart.run.last_whole_round()[1])
    assert apart.run.facts["model"]["initial"] != w.sha256(apart.run.finished())
