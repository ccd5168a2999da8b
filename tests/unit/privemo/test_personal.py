"""Layers that stay in their store: a curious server never gets them, and a crash costs nobody theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch import nn

from privemo import simulation
from privemo import weights as w
from privemo.config import RunSettings
from privemo.errors import RunError, RunInterrupted, SettingsError
from privemo.labels import EMOTIONS
from privemo.ledger import Ledger
from privemo.models import MODELS, build_model
from privemo.orders import order_digest
from privemo.personal import Personal, own_parameters
from privemo.runs import Run
from privemo.training import predict
from privemo_audits import build_report
from tests.support.small_runs import changed, first_model, small_run


@pytest.mark.parametrize("model", MODELS)
def test_every_model_of_the_study_has_a_head(model: str) -> None:
    network = build_model(model)
    own = own_parameters(network, "head")
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters() if name in own}
    assert sorted(map(len, shapes.values())) == [1, 2]
    assert {shape[0] for shape in shapes.values()} == {4}, "one of them to each emotion"


def test_some_have_a_normalisation_and_the_others_say_that_they_have_none() -> None:
    found = {}
    for model in MODELS:
        network = build_model(model)
        layers = sum(isinstance(m, nn.GroupNorm) for m in network.modules())
        try:
            found[model] = len(own_parameters(network, "norm"))
        except SettingsError:
            found[model] = 0
        assert found[model] == 2 * layers, model
    assert found["emotion-cnn"] > 0
    assert found["gray-cnn"] == 0


def test_a_network_that_has_nothing_else_keeps_nothing_to_itself() -> None:
    for network, layers in (
        (nn.Linear(4, 4), "head"),
        (nn.Sequential(nn.Linear(4, 4)), "norm"),
        (nn.Sequential(nn.Conv2d(1, 4, 3)), "head"),
    ):
        with pytest.raises(SettingsError, match="no such layers, or no others"):
            own_parameters(network, layers)  # type: ignore[arg-type]
    assert own_parameters(nn.Linear(4, 4), "none") == frozenset()


@pytest.fixture(scope="module", params=["head", "norm"])
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("own")
    run = small_run(folder, personal=request.param, lr=0.3, sensitive=())
    simulation.run(run)
    simulation.finish(run)
    return run


def test_the_server_never_gets_them(finished: Run) -> None:
    start = w.initial_weights("scratch", model="emotion-cnn", channels=1, seed=5)[0]
    after, own = w.load_weights(finished.model_path), set(finished.facts["model"]["personal"])
    assert w.sha256(start) == finished.facts["model"]["initial"]
    moved = {name for name in after if not np.array_equal(after[name], start[name])}
    assert own
    assert moved == set(after) - own
    for path in finished.folder.glob("stores/*/outbox/*.safetensors"):
        sent = w.load_weights(path)
        assert not any(sent[name].any() for name in own)
        assert all(sent[name].any() for name in set(sent) - own)


def test_every_store_reads_with_its_own(finished: Run) -> None:
    after, own = w.load_weights(finished.model_path), set(finished.facts["model"]["personal"])
    theirs = []
    for name in finished.stores:
        store = finished.store(name)
        try:
            theirs.append(store.personal.onto(after))
            faces, _ = store._held_out("again")
        finally:
            store.close()
        assert {n for n in after if not np.array_equal(theirs[-1][n], after[n])} == own
        table = pd.read_csv(finished.folder / "stores" / name / "predictions.csv")
        said = table[[f"p_{emotion}" for emotion in EMOTIONS]].to_numpy()
        expected = predict(w.model_for("emotion-cnn", theirs[-1]), faces.images, flip=True)
        assert len(said)
        assert np.allclose(said, expected, atol=1e-5)
    assert any(not np.array_equal(theirs[0][name], theirs[1][name]) for name in own)


def test_one_epsilon_covers_them_and_the_audit_passes(finished: Run) -> None:
    facts = finished.facts["privacy"]
    for name in finished.stores:
        ledger = Ledger(finished.folder / "stores" / name / "ledger.jsonl")
        assert [(e.steps, e.noise_multiplier) for e in ledger.entries] == [
            (facts["steps_per_round"], facts["noise_multiplier"])
        ] * finished.settings.rounds
        assert ledger.entries[-1].epsilon_rdp <= 8.0
    assert build_report(finished.folder).verdict == "passed"


def resumed(folder: Path, stop_after: int | None) -> Run:
    folder.mkdir()
    run = small_run(folder, personal="head", rounds=3, model="gray-cnn")
    if stop_after is not None:
        left: list[int] = []

        def stop(event: dict[str, Any]) -> None:
            if event["event"] == "round":
                left.append(1)
                if len(left) == stop_after:
                    raise KeyboardInterrupt

        with pytest.raises(RunInterrupted):
            simulation.run(run, listener=stop)
    simulation.run(run)
    return run


def test_a_run_that_was_stopped_ends_with_the_same_layers(tmp_path: Path) -> None:
    whole, stopped = resumed(tmp_path / "a", None), resumed(tmp_path / "b", 1)
    assert w.sha256(whole.finish()) == w.sha256(stopped.finish())
    for name in whole.stores:
        one, two = (Personal(run.folder / "stores" / name).onto({}) for run in (whole, stopped))
        assert one.keys() == two.keys()
        files = [
            sorted(p.name for p in (run.folder / "stores" / name / "personal").iterdir())
            for run in (whole, stopped)
        ]
        assert files[0] == files[1] == ["0002.safetensors", "0003.safetensors"]
        for file in files[0]:
            first, second = (
                (run.folder / "stores" / name / "personal" / file).read_bytes()
                for run in (whole, stopped)
            )
            assert first == second


def test_what_was_trained_and_did_not_leave_is_trained_anew_from_the_round_before(
    tmp_path: Path,
) -> None:
    """Power was lost between the file of the own layers and the outbox."""
    run = small_run(tmp_path, personal="head")
    store = run.store("store-01")
    try:
        order, model = run.order_for(1), first_model(run)
        first = store.train_round(model, order)
        assert first.update is not None
        file = store.folder / "personal" / "0001.safetensors"
        right = file.read_bytes()
        w.save_weights(file, {name: array + 1 for name, array in w.from_bytes(right).items()})
        for left in (store.folder / "outbox").iterdir():
            left.unlink()
        again = store.train_round(model, order)
        assert again.update is not None
        assert w.sha256(again.update) == w.sha256(first.update)
        assert file.read_bytes() == right
    finally:
        store.close()


def test_a_store_that_lost_them_begins_with_what_the_run_began_with(tmp_path: Path) -> None:
    weights = {"a": np.ones(2, np.float32), "b": np.zeros(2, np.float32)}
    personal = Personal(tmp_path)
    assert personal.onto(weights) is weights
    w.save_weights(tmp_path / "personal" / "0002.safetensors", {"b": np.full(2, 7, np.float32)})
    assert personal.onto(weights, before=2) is weights
    assert personal.onto(weights, before=3)["b"].tolist() == [7, 7]
    assert weights["b"].tolist() == [0, 0]


def test_a_damaged_file_stops_the_store_and_names_the_file(tmp_path: Path) -> None:
    run = small_run(tmp_path, personal="head")
    store = run.store("store-01")
    try:
        store.train_round(first_model(run), run.order_for(1))
        file = store.folder / "personal" / "0001.safetensors"
        file.write_bytes(file.read_bytes()[:40])
        with pytest.raises(RunError, match=r"personal/0001\.safetensors"):
            store.train_round(first_model(run), run.order_for(2))
    finally:
        store.close()


def test_an_order_that_names_them_is_another_order(tmp_path: Path) -> None:
    run = small_run(tmp_path)
    orders = [changed(run.order_for(1), personal=layers) for layers in ("none", "head", "norm")]
    assert len({order_digest(order, "0" * 64) for order in orders}) == 3


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"stores": 1}, "single store"),
        (
            {"privacy": {"noise": "distributed"}, "steps_per_round": 1},
            "only its share of the noise",
        ),
    ],
)
def test_where_they_make_no_sense_they_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        RunSettings.of(personal="head", **settings)


@pytest.mark.parametrize(
    ("agreed", "asked"), [("head", "none"), ("head", "norm"), ("none", "head")]
)
def test_a_server_cannot_ask_for_layers_that_were_to_stay(
    tmp_path: Path, agreed: str, asked: str
) -> None:
    """The head of a store that was told to share all of it would leave with the next update."""
    run = small_run(
        tmp_path, personal=agreed, model="gray-cnn" if "norm" not in asked else "emotion-cnn"
    )
    store = run.store("store-01")
    try:
        order = changed(run.order_for(1), personal=asked)
        assert store.train_round(first_model(run), order).reason == "recipe_refused"
        assert store.ledger.entries == ()
        assert not (store.folder / "personal").exists()
    finally:
        store.close()
