"""Layers that stay in their store: a curious server never gets them, and a crash costs nobody theirs."""

from __future__ import annotations

import errno
import os
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
from privemo.federation.invitation import layers_of_others
from privemo.labels import EMOTIONS
from privemo.ledger import Ledger
from privemo.models import MODELS, build_model
from privemo.orders import PlainRecipe, RoundOrder, order_digest
from privemo.outbox import Outbox
from privemo.personal import Personal, own_parameters
from privemo.runs import Run
from privemo.storeconfig import StoreConfig
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
            theirs.append(store.personal.onto(after, model="emotion-cnn", run_id=finished.run_id))
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


def kept(store: Path, run_id: str) -> dict[str, bytes]:
    """A store's own layers of a run, by file."""
    return {p.name: p.read_bytes() for p in sorted((store / "personal" / run_id).glob("*"))}


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
        one, two = (kept(run.folder / "stores" / name, run.run_id) for run in (whole, stopped))
        assert list(one) == ["0002.safetensors", "0003.safetensors"]
        assert one == two


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
        file = store.folder / "personal" / run.run_id / "0001.safetensors"
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


def personal_of(folder: Path, run_id: str, layers: str = "head") -> Personal:
    """Of a run without privacy, in which nothing is paid for."""
    config = StoreConfig.of(
        name="store-01",
        run_id=run_id,
        registry_mode="simulation",
        epsilon_budget=None,
        declared_people=10,
        largest_step=5,
        personal=layers,
    )
    return Personal(folder, config, Outbox(folder, config))


GRAY = w.from_model(build_model("gray-cnn", channels=1, seed=0))
HEAD = own_parameters(build_model("gray-cnn"), "head")
RECIPE = PlainRecipe(epochs=1, batch=8, lr=0.1, weight_decay=0.0, personal="head")


def trained(personal: Personal, number: int, value: float) -> w.Weights:
    """A round after which every weight is `value`; what leaves."""
    order = RoundOrder("any", number, "gray-cnn", RECIPE)
    model = w.model_for("gray-cnn", {n: np.full_like(a, value) for n, a in GRAY.items()})
    update = personal.split(model, {n: np.ones_like(a) for n, a in GRAY.items()}, order)
    personal._outbox.release(order, "0" * 64, w.to_bytes(update))
    personal.settle()
    return update


def read_with(personal: Personal, run_id: str, before: int | None = None) -> set[float]:
    """Values of the head that a store reads with; of the rest nothing may change."""
    found = personal.onto(GRAY, model="gray-cnn", run_id=run_id, before=before)
    assert all(np.array_equal(found[n], GRAY[n]) for n in set(GRAY) - HEAD)
    if all(np.array_equal(found[n], GRAY[n]) for n in HEAD):
        return set()
    return {float(value) for n in HEAD for value in found[n].ravel()}


def test_a_store_that_lost_them_begins_with_what_the_run_began_with(tmp_path: Path) -> None:
    personal = personal_of(tmp_path, "r")
    assert personal.onto(GRAY, model="gray-cnn", run_id="r") is GRAY
    trained(personal, 2, 7.0)
    assert read_with(personal, "r", before=2) == set()
    assert read_with(personal, "r", before=3) == {7.0}
    (tmp_path / "personal" / "r" / "0002.safetensors").unlink()
    assert read_with(personal, "r") == set()


def test_a_store_that_is_not_asked_in_every_round_keeps_its_last_two(tmp_path: Path) -> None:
    """Round 7 is trained anew, from 4: what lies between was other stores' alone."""
    personal = personal_of(tmp_path, "r")
    for number in (1, 4, 7):
        trained(personal, number, float(number))
    assert list(kept(tmp_path, "r")) == ["0004.safetensors", "0007.safetensors"]
    assert read_with(personal, "r", before=7) == {4.0}


# -- another run ---------------------------------------------------------------------------------------


def test_layers_of_an_earlier_run_are_kept_and_not_read(tmp_path: Path) -> None:
    """The later run is the shorter one: by their numbers alone, rounds of the earlier one are the last."""
    earlier, later = personal_of(tmp_path, "run-a"), personal_of(tmp_path, "run-b")
    for number in range(1, 6):
        trained(earlier, number, 1.0)
    before = kept(tmp_path, "run-a")
    assert read_with(later, "run-b") == set()
    assert read_with(later, "run-b", before=9) == set()
    for number in (1, 2):
        trained(later, number, 2.0)
    assert read_with(later, "run-b") == {2.0}
    assert read_with(later, "run-b", before=2) == {2.0}
    assert kept(tmp_path, "run-a") == before
    assert read_with(later, "run-a") == set(), "a model of another run is nobody's here"


@pytest.mark.parametrize("where", ["", "run-a", "run"])
def test_a_run_that_keeps_nothing_in_its_stores_reads_nothing(where: str, tmp_path: Path) -> None:
    file = tmp_path / "personal" / where / "0005.safetensors"
    w.save_weights(file, {name: np.full_like(GRAY[name], 7) for name in HEAD})
    personal = personal_of(tmp_path, "run", "none")
    assert personal.onto(GRAY, model="gray-cnn", run_id="run") is GRAY
    assert file.exists()


def test_files_of_an_old_version_are_of_another_run(tmp_path: Path) -> None:
    """They lay loose, and said nothing of their run."""
    loose = tmp_path / "personal" / "0005.safetensors"
    w.save_weights(loose, {name: np.full_like(GRAY[name], 7) for name in HEAD})
    before = loose.read_bytes()
    personal = personal_of(tmp_path, "r")
    for number in (6, 7, 8):
        assert read_with(personal, "r") == ({float(number - 1)} if number > 6 else set())
        trained(personal, number, float(number))
    assert loose.read_bytes() == before
    assert layers_of_others(tmp_path, "r") == ["0005.safetensors"]
    assert layers_of_others(tmp_path, "s") == ["0005.safetensors", "r"]
    assert layers_of_others(tmp_path / "none", "r") == []


@pytest.mark.parametrize("personal", ["none", "head"])
def test_a_store_trains_and_measures_as_if_it_had_never_been_in_another_run(
    personal: str, tmp_path: Path
) -> None:
    """Of another network, too: it stopped every reading, and every round but the first."""
    said: list[bytes] = []
    sent: list[list[str | None]] = []
    for left in (False, True):
        (folder := tmp_path / str(left)).mkdir()
        run = small_run(folder, personal=personal, model="gray-cnn")
        model, store = first_model(run), run.store("store-01")
        try:
            if left:
                for where, array in (("", np.zeros((2, 2))), ("another", np.ones((4, 4)))):
                    w.save_weights(
                        store.folder / "personal" / where / "0001.safetensors",
                        {name: array.astype(np.float32) for name in HEAD},
                    )
            sent.append([store.train_round(model, run.order_for(n)).update_sha256 for n in (1, 2)])
            store.write_predictions(model, model="gray-cnn", run_id=run.run_id)
            said.append((store.folder / "predictions.csv").read_bytes())
        finally:
            store.close()
    assert sent[0] == sent[1]
    assert None not in sent[0]
    assert said[0] == said[1]


@pytest.mark.parametrize("run_id", ["", "..", "../../run", "/run", "a/b", "a\n", "a" * 65])
def test_a_run_that_would_name_another_folder_is_none(run_id: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="run_id"):
        personal_of(tmp_path, run_id)


# -- a disk that fails ---------------------------------------------------------------------------------


@pytest.mark.parametrize("persisted", [False, True])
def test_where_they_cannot_be_written_nothing_leaves_and_the_round_is_trained_anew(
    persisted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk says that it failed: before the file was there, or although it is."""
    for name in ("right", "failed"):
        (tmp_path / name).mkdir()
    right, run = (  # nobody withdraws in between, which a round trained anew heeds
        small_run(tmp_path / name, personal="head", model="gray-cnn", consents="everyone")
        for name in ("right", "failed")
    )
    sound, store = right.store("store-01"), run.store("store-01")
    folder, replace = store.folder / "personal" / run.run_id, os.replace

    def fail(source: str, target: Path) -> None:
        if Path(target).parent == folder:
            if persisted:
                replace(source, target)
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    try:
        for one in (sound, store):
            one.train_round(first_model(run), run.order_for(1))
        expected = sound.train_round(first_model(run), run.order_for(2))
        before = kept(store.folder, run.run_id)
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", fail)
            with pytest.raises(RunError, match=r"0002-\w{64}\.pending could not be written"):
                store.train_round(first_model(run), run.order_for(2))
        assert len(store.ledger.entries) == 1
        assert len(list((store.folder / "outbox").iterdir())) == 1
        left = kept(store.folder, run.run_id).keys() - before.keys()
        assert len(left) == persisted
        assert all(name.endswith(".pending") for name in left)
        again = store.train_round(first_model(run), run.order_for(2))
        assert again.update_sha256 == expected.update_sha256
        assert kept(store.folder, run.run_id) == kept(sound.folder, run.run_id)
    finally:
        sound.close()
        store.close()


def test_an_older_one_that_cannot_be_deleted_stops_the_store_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    personal = personal_of(tmp_path, "r")
    trained(personal, 1, 1.0)
    trained(personal, 2, 2.0)

    def fail(self: Path, *, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fail)
        with pytest.raises(RunError, match=r"0001\.safetensors cannot be deleted"):
            trained(personal, 3, 3.0)
    trained(personal, 3, 3.0)
    assert list(kept(tmp_path, "r")) == ["0002.safetensors", "0003.safetensors"]
    assert read_with(personal, "r") == {3.0}


def test_a_damaged_file_stops_the_store_and_names_the_file(tmp_path: Path) -> None:
    run = small_run(tmp_path, personal="head")
    store = run.store("store-01")
    try:
        store.train_round(first_model(run), run.order_for(1))
        file = store.folder / "personal" / run.run_id / "0001.safetensors"
        whole = file.read_bytes()
        head = w.from_bytes(whole)
        for damaged in (
            whole[:40],
            w.to_bytes({name: array[:1] for name, array in head.items()}),
            w.to_bytes(dict(list(head.items())[:1])),
            w.to_bytes(head | {"features.0.bias": np.ones(32, np.float32)}),
        ):
            file.write_bytes(damaged)
            with pytest.raises(RunError, match=r"/0001\.safetensors.* or delete it: store-01"):
                store.train_round(first_model(run), run.order_for(2))
            assert file.read_bytes() == damaged
        file.unlink()
        assert store.train_round(first_model(run), run.order_for(2)).update is not None
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
