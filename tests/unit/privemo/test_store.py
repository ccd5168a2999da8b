"""One store as a threat model: a curious server, a crash, a withdrawal, a second process."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privemo import protocol, simulation
from privemo import weights as w
from privemo.capture import PURPOSE_OF
from privemo.dp import PrivateStepper
from privemo.errors import RunError, SettingsError
from privemo.faces import load_faces
from privemo.models import build_model
from privemo.orders import PlainRecipe, RoundOrder, check_order
from privemo.runs import Run
from privemo.statements import canonical_hash
from privemo.store import Store
from privemo.storeconfig import StoreConfig
from privemo_audits import build_report
from privemo_consent import AgeBand, Item, ItemKind, KeyFileError, Purpose, TamperedError
from privemo_consent.storage import guards
from tests.support.small_runs import changed, first_model, small_run, used_people


def answer_to(run: Run, store: Store, order: RoundOrder) -> str | None:
    """Why a store does not take part. What is no order at all is an error, which nobody signs."""
    try:
        return store.train_round(first_model(run), order).reason
    except SettingsError:
        return "no order"


@pytest.mark.parametrize(
    "nonsense", [{"noise_multiplier": 0.0}, {"noise_multiplier": float("nan")}]
)
def test_a_server_that_asks_for_no_noise_is_refused(
    run: Run, store: Store, nonsense: dict[str, float]
) -> None:
    with pytest.raises(SettingsError):
        store.train_round(first_model(run), changed(run.order_for(1), **nonsense))
    assert used_people(store) == set()
    assert "SettingsError" in (store.folder / "refusals.jsonl").read_text()


def test_a_private_store_never_trains_without_privacy(run: Run, store: Store) -> None:
    order = dataclasses.replace(run.order_for(1), recipe=PlainRecipe(1, 8, 0.1, 0.0))
    assert store.train_round(first_model(run), order).reason == "recipe_refused"


def test_fewer_people_than_a_batch_expects_is_a_refusal(tmp_path: Path) -> None:
    run = small_run(tmp_path, declared_people=500)
    store = run.store("store-01")
    try:
        refused = store.train_round(first_model(run), run.order_for(1))
        assert refused.reason == "too_few_people"
        assert store.ledger.entries == ()
    finally:
        store.close()


def test_the_fewest_people_of_a_store_are_no_lever_of_the_server(tmp_path: Path) -> None:
    """A threshold that follows the order would tell the number of people by halving."""
    run = small_run(tmp_path, declared_people=100)
    store = run.store("store-01")
    try:
        most = store.config.largest_step
        people = len(store.registry.persons())
        assert 5 < people < most  # a step of 5 would be possible, and one of `most` would not
        for n in (1, 5, most):
            asked = changed(run.order_for(1), sample_rate=n / 100, normaliser=float(n))
            assert store.train_round(first_model(run), asked).reason == "too_few_people"
        more = changed(run.order_for(1), sample_rate=(most + 1) / 100, normaliser=float(most + 1))
        assert store.train_round(first_model(run), more).reason == "recipe_refused"
    finally:
        store.close()


def test_a_batch_of_nobody_is_logged_and_passes_the_audit(tmp_path: Path) -> None:
    run = small_run(
        tmp_path, privacy={"epsilon": 8.0, "sample_rate": 0.02}, rounds=4, steps_per_round=1
    )
    simulation.run(run)
    simulation.finish(run)
    store = run.store("store-01")
    try:
        sizes = [len(u.persons) for u in store.registry.uses() if u.purpose == Purpose.TRAINING]
    finally:
        store.close()
    assert len(sizes) == 4
    assert 0 in sizes
    assert build_report(run.folder).lineage.violations == 0


def test_shares_of_people_in_two_stores_are_of_the_agreed_kind(tmp_path: Path) -> None:
    """Each below half of the budget, two different kinds of step need not be below the whole together."""
    run = small_run(
        tmp_path,
        stores=2,
        privacy={"epsilon": 8.0, "sample_rate": 0.5, "max_stores_per_person": 2},
    )
    store = run.store("store-01")
    try:
        other = changed(run.order_for(1), noise_multiplier=50.0)
        assert store.train_round(first_model(run), other).reason == "recipe_refused"
        assert store.train_round(first_model(run), run.order_for(1)).reason is None
    finally:
        store.close()


def test_an_order_that_goes_to_infinity_after_people_were_drawn_is_paid_for(
    run: Run, store: Store
) -> None:
    """Where it stops hangs on their gradients, and the server chose how far it may go."""
    away = {"lr": 1000.0, "proximal": 100.0, "steps": 12, "noise_multiplier": 2.0}
    order = changed(run.order_for(1), **away)
    answer = store.train_round(first_model(run), order)
    assert (answer.reason, answer.update) == ("recipe_refused", None)
    (entry,) = store.ledger.entries
    assert (entry.steps, entry.noise_multiplier) == (12, 2.0)
    assert answer.signed.unverified().ledger.entries == 1
    assert "to infinity" in (store.folder / "refusals.jsonl").read_text()
    # The same once more is drawn once more, and paid for, until nothing is left.
    reasons = [store.train_round(first_model(run), order).reason for _ in range(8)]
    again = reasons.index("budget_exhausted")
    assert set(reasons[:again]) == {"recipe_refused"}
    assert len(store.ledger.entries) == 1 + again > 1


@pytest.mark.parametrize(
    "error", [RuntimeError("can't allocate memory"), MemoryError(), OSError(28, "No space left")]
)
def test_whatever_fails_after_people_were_drawn_is_paid_for(
    run: Run, store: Store, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The server is told that it failed, and may have ordered what fits into memory for nobody alone."""

    def fails(*_: object) -> None:
        raise error

    with monkeypatch.context() as before_anyone:
        before_anyone.setattr(PrivateStepper, "probe", fails)
        with pytest.raises(type(error)):
            store.train_round(first_model(run), run.order_for(1))
    assert store.ledger.entries == (), "nobody had been drawn"
    monkeypatch.setattr(PrivateStepper, "step", fails)
    for times in (1, 2):
        with pytest.raises(type(error)):
            store.train_round(first_model(run), run.order_for(1))
        assert len(store.ledger.entries) == times, "another draw each time"


def test_a_person_who_stops_a_round_tells_the_server_nothing_and_nobody_pays(
    run: Run, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(PrivateStepper, "step", stopped)
    with pytest.raises(KeyboardInterrupt):
        store.train_round(first_model(run), run.order_for(1))
    assert store.ledger.entries == ()


@pytest.mark.parametrize("broken", ["overflow", "rgb"])
def test_weights_that_fail_do_so_whether_or_not_anybody_was_drawn(
    tmp_path: Path, broken: str
) -> None:
    """Else a refusal, which costs nothing, would tell that somebody had been drawn."""
    run = small_run(tmp_path)  # of the usual network, whose filters differ for gray and for colour
    store = run.store("store-01")
    weights = {name: a.copy() for name, a in first_model(run).items()}
    if broken == "overflow":
        for array in weights.values():
            if array.ndim == 2:
                array *= np.float32(1e30)
    else:
        weights = w.from_model(build_model("emotion-cnn", channels=3))
    rare = changed(run.order_for(1), sample_rate=1e-3, normaliser=1e-2, noise_multiplier=1e4)
    for order in (rare, run.order_for(1)):  # hardly ever anybody, and hardly ever nobody
        assert store.train_round(weights, order).reason == "recipe_refused"
    assert store.ledger.entries == ()
    store.close()


@pytest.mark.parametrize(
    "lever",
    [
        {"normaliser": 7.0},  # searching for the private number of people
        {"steps": 0},
        {"steps": 10**9},
        {"steps": True},
        {"max_grad_norm": 7.5e-46},  # noise of this size rounds to zero
        {"lr": 1e30},
        {"lr": float("inf")},
        {"momentum": 1.0},
        {"momentum": -1.0},
        {"sample_rate": "0.5"},
        {"noise_multiplier": 1e-3},
        {"views": 10**9},
        {"views": 64, "images_per_person": 512},  # one person's rows would fill the memory
        {"images_per_person": 0},
        {"optimizer": "lbfgs"},
        {"precision": ["float32"]},
        {"augment": "../../pwned"},
    ],
)
def test_a_dishonest_servers_levers_do_not_move(
    run: Run, store: Store, lever: dict[str, object]
) -> None:
    said = answer_to(run, store, changed(run.order_for(1), **lever))
    assert said == ("recipe_refused" if lever == {"normaliser": 7.0} else "no order")
    assert store.ledger.entries == ()
    assert used_people(store) == set()


@pytest.mark.parametrize(
    "name",
    [
        {"run_id": "../../pwned"},
        {"run_id": "/pwned"},
        {"run_id": "another"},
        {"run_id": 5},
        {"run_id": [1, 2]},
        {"round": -1},
        {"round": True},
        {"threads": 10**9},
        {"model": 3},
    ],
)
def test_an_order_for_another_run_or_of_no_sense_is_refused(
    run: Run, store: Store, name: dict[str, object]
) -> None:
    before = sorted(p.name for p in store.folder.iterdir() if not p.name.startswith("consent"))
    said = answer_to(run, store, dataclasses.replace(run.order_for(1), **name))
    assert said == ("recipe_refused" if name == {"run_id": "another"} else "no order")
    assert "SettingsError" in (store.folder / "refusals.jsonl").read_text()
    after = sorted(p.name for p in store.folder.iterdir() if not p.name.startswith("consent"))
    assert set(after) - set(before) <= {".lock", "refusals.jsonl", "statements.jsonl"}


def test_every_order_of_an_honest_server_passes(run: Run) -> None:
    check_order(run.order_for(1))
    check_order(dataclasses.replace(run.order_for(1), recipe=PlainRecipe(1, 8, 0.1, 0.0)))


@pytest.mark.parametrize(
    "change",
    [{"seed": 5}, {"epsilon_budget": None}, {"withdrawals": [["p1", 1, 1]]}],
)
def test_a_store_of_real_people_takes_no_settings_of_a_simulation(
    store: Store, change: dict[str, object]
) -> None:
    real = {"registry_mode": "production", "seed": None, "withdrawals": [], "epsilon_budget": 8.0}
    facts = {**store.config.model_dump(by_alias=True), **real}
    StoreConfig.of(**facts)
    with pytest.raises(SettingsError, match=r"real people|simulation only"):
        StoreConfig.of(**{**facts, **change})


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE items SET head = (SELECT head FROM items i WHERE i.iid <> items.iid LIMIT 1)",
        "UPDATE items SET head = zeroblob(length(head))",
        "UPDATE items SET body = (SELECT body FROM items i WHERE i.pid <> items.pid LIMIT 1)",
        "UPDATE items SET body = zeroblob(length(body))",
        "UPDATE items SET pid = (SELECT pid FROM items i WHERE i.pid <> items.pid LIMIT 1)",
        "UPDATE items SET kind = 1 - kind WHERE kind < 2",
        "UPDATE persons SET wrapped = zeroblob(length(wrapped))",
    ],
)
def test_a_vault_that_was_tampered_with_trains_nothing(run: Run, store: Store, damage: str) -> None:
    """Faces swapped, answers about age edited, another's picture under an agreeing id: refused."""
    tamper(store, damage)
    with pytest.raises(TamperedError, match=r"^(item|person row) \d+:"):
        store.train_round(first_model(run), run.order_for(1))
    assert used_people(store) == set()
    assert store.ledger.entries == ()


def tamper(store: Store, statement: str) -> None:
    """Edit the registry as someone with the file and no keys can."""
    with closing(sqlite3.connect(store.folder / "consent.sqlite", isolation_level=None)) as db:
        for name in [
            row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        ]:
            db.execute(f"DROP TRIGGER {name}")
        db.execute(statement)
        for sql in guards.triggers().values():
            db.execute(sql)


def test_minors_are_never_used(run: Run, store: Store) -> None:
    store.train_round(first_model(run), run.order_for(1))
    table = load_faces(run.folder.parent / "faces.npz")
    minors = set(table.person[table.column("age_band") == "13_15"].tolist())
    assert used_people(store)
    assert not used_people(store) & minors


def test_of_a_minor_a_store_keeps_no_name_and_no_picture(run: Run) -> None:
    table = load_faces(run.folder.parent / "faces.npz")
    minor = table.column("age_band") == "13_15"
    asked = 0
    for name in run.stores:
        store = run.store(name)
        try:
            held = {item.person for item in everything(store)}
            assert not held & set(table.person[minor].tolist())
            asked += sum(c["minor"].faces for c in store.config.turned_away.values())
        finally:
            store.close()
    assert asked == minor.sum()  # and yet all of them are counted


def everything(store: Store) -> list[Item]:
    return [
        item
        for person in store.registry.persons()
        for kind in ItemKind
        for item in store.vault.of_person(person, kind=kind)
    ]


def test_no_picture_of_anyone_who_did_not_agree_is_written(run: Run) -> None:
    """Byte for byte: what the vault holds is pictures of people with live consent, and no others."""
    with np.load(run.folder.parent / "faces.npz") as source:
        pictures = {
            image.tobytes(): str(p)
            for image, p in zip(source["images"], source["identity"], strict=True)
        }
    held = 0
    for name in run.stores:
        store = run.store(name)
        try:
            for item in everything(store):
                assert not item.body or item.body[:1] == b"{" or pictures[item.body] == item.person
                if item.facts.get("part") is None or not item.body:
                    continue
                purpose = PURPOSE_OF[item.facts["part"]]
                assert store.registry.preview(item.person, purpose, store.context).permit
                held += 1
        finally:
            store.close()
    assert 0 < held < len(pictures)


def test_no_picture_stands_on_the_disk_in_the_open(run: Run) -> None:
    with np.load(run.folder.parent / "faces.npz") as source:
        rows = [image[24:26].tobytes() for image in source["images"]]  # 96 bytes of noise each
    files = [path for path in run.folder.rglob("*") if path.is_file()]
    assert any(path.name == "consent.sqlite" for path in files)
    for path in files:
        content = path.read_bytes()
        assert not any(row in content for row in rows), path.name


def test_a_withdrawal_acts_before_the_next_batch(tmp_path: Path) -> None:
    run = small_run(tmp_path, seed=11, privacy={"epsilon": 8.0, "sample_rate": 1.0})
    path = run.folder / "stores" / "store-01" / "store.json"
    store = run.store("store-01")
    store.train_round(first_model(run), run.order_for(1))
    someone = min(used_people(store))
    store.close()
    content = json.loads(path.read_text())
    content["withdrawals"] = [[someone, 2, 1]]
    path.write_text(json.dumps(content))
    store = run.store("store-01")
    try:
        store.train_round(first_model(run), run.order_for(2))
        batches = [u.batch for u in store.registry.uses() if u.round == 2 and someone in u.persons]
        everyone = sorted({u.batch for u in store.registry.uses() if u.round == 2})
    finally:
        store.close()
    assert batches == [0]  # withdrew before batch 1
    assert everyone == [0, 1, 2]


def test_a_withdrawal_from_another_process_is_seen(run: Run, store: Store) -> None:
    """The kiosk writes to the same registry through its own connection."""
    store.train_round(first_model(run), run.order_for(1))
    someone = min(used_people(store))
    kiosk = run.store("store-01")
    kiosk.registry.withdraw(someone)
    kiosk.close()
    store.train_round(first_model(run), run.order_for(2))
    assert not any(someone in u.persons for u in store.registry.uses() if u.round == 2)


def test_two_processes_do_not_train_one_store(run: Run, store: Store) -> None:
    with (store.folder / ".lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another process"):
            store.train_round(first_model(run), run.order_for(1))


def test_the_table_that_faces_came_from_no_longer_matters(run: Run, store: Store) -> None:
    (run.folder.parent / "faces.npz").unlink()
    assert store.train_round(first_model(run), run.order_for(1)).reason is None


def test_without_its_keys_a_store_does_not_open(run: Run) -> None:
    folder = run.folder / "stores" / "store-01"
    (folder / "consent.keys").rename(run.folder / "taken")
    with pytest.raises(KeyFileError, match=r"consent\.keys"):
        run.store("store-01")


def test_a_folder_of_an_earlier_version_is_named(run: Run) -> None:
    path = run.folder / "stores" / "store-01" / "store.json"
    path.write_text(path.read_text().replace("privemo.store/3", "privemo.store/1"))
    with pytest.raises(RunError, match=r"not of schema privemo\.store/3"):
        run.store("store-01")


def admission(store: Store) -> dict[str, Any]:
    return json.loads((store.folder / "admissions.jsonl").read_text().splitlines()[-1])


def test_everyone_is_counted_also_who_was_turned_away(run: Run, store: Store) -> None:
    store.train_round(first_model(run), run.order_for(1))
    line = admission(store)
    table = load_faces(run.folder.parent / "faces.npz")
    train, _ = table.split(0.2, seed=5)
    rows = table.partition(train, 2, seed=5)[0]
    for unit, asked in (("faces", len(rows)), ("persons", len(set(table.person[rows].tolist())))):
        assert line["asked"][unit] == asked
        assert line["admitted"][unit] + sum(line["refused"][unit].values()) == asked
        assert line["refused"][unit]["minor"] > 0


def test_whoever_agrees_after_being_turned_away_is_not_there_and_is_told_apart(
    run: Run, store: Store
) -> None:
    """Their face was never taken, so it can neither train nor count as admitted."""
    store.train_round(first_model(run), run.order_for(1))
    before = admission(store)
    (late, *_) = [
        asked.person
        for asked in store.vault.turned_away(lambda facts: facts["part"] == "train")
        if store.registry.preview(asked.person, Purpose.TRAINING, store.context).reason == "refused"
    ]
    store.registry.grant(
        late,
        [Purpose.TRAINING],
        age_band=AgeBand.FROM_35,
        jurisdiction="IE",
        notice=store.registry.notices()[-1],
    )
    store.train_round(first_model(run), run.order_for(2))
    after = admission(store)
    assert after["asked"] == before["asked"]
    assert after["admitted"] == before["admitted"]
    assert after["refused"]["persons"]["not_captured"] == 1
    assert after["refused"]["faces"]["not_captured"] == 2
    assert late not in used_people(store)


# -- erasure ---------------------------------------------------------------------------------------


def test_whoever_is_erased_is_gone_and_training_goes_on(run: Run, store: Store) -> None:
    store.train_round(first_model(run), run.order_for(1))
    someone = min(used_people(store))
    before = admission(store)["asked"]["faces"]
    assert store.erase([someone]).items == 2
    assert store.vault.of_person(someone) == []
    assert store.train_round(first_model(run), run.order_for(2)).reason is None
    later = [u for u in store.registry.uses() if u.round == 2]
    assert later
    assert not any(someone in u.persons for u in later)
    assert any(None in u.persons for u in store.registry.uses() if u.round == 1)
    assert admission(store)["asked"]["faces"] == before - 2
    store.registry.verify()


def test_an_erasure_from_a_kiosk_in_the_middle_of_a_batch_is_heeded(
    run: Run, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the decision and the record of the use, another process erases one of the drawn."""
    real, gone = store._consistent_decision, []

    def decide(drawn: Any) -> Any:
        ok, seq = real(drawn)
        if not gone and ok.any():
            gone.append(str(drawn[ok][0]))
            kiosk = run.store("store-01")
            kiosk.registry.erase(gone[0])
            kiosk.close()
        return ok, seq

    monkeypatch.setattr(store, "_consistent_decision", decide)
    assert store.train_round(first_model(run), run.order_for(1)).reason is None
    assert gone
    assert gone[0] not in used_people(store)


def test_an_erasure_while_faces_are_read_is_heeded(
    run: Run, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the gate's decision and the opening: the table is read again, without them."""
    real, gone = store.gate.admit, []

    def admit(sealed: Any, *more: Any) -> Any:
        if not gone:
            gone.append(str(sealed.person[0]))
            store.registry.erase(gone[0])
        return real(sealed, *more)

    monkeypatch.setattr(store.gate, "admit", admit)
    assert store.train_round(first_model(run), run.order_for(1)).reason is None
    assert gone[0] not in used_people(store)


def test_whoever_is_erased_leaves_the_predictions_too(run: Run, store: Store) -> None:
    n = store.write_predictions(first_model(run), model=run.settings.model, run_id=run.run_id)
    someone = min(used_people(store, Purpose.FAIRNESS_AUDIT))
    assert len(store.registry.export(someone)["predictions"]) == 2
    store.registry.erase(someone)  # as a kiosk does
    text = (store.folder / "predictions.csv").read_text()
    assert someone not in text
    assert len(text.splitlines()) == 1 + n - 2
    assert store.forget_erased() == 0


def test_an_erasure_while_people_are_measured_leaves_no_row(
    run: Run, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the gate let them through, and before their row is there to be found."""
    real, gone = store._held_out, []

    def held_out(run_id: str) -> Any:
        faces, columns = real(run_id)
        gone.append(str(faces.person[0]))
        kiosk = run.store("store-01")
        kiosk.registry.erase(gone[0])
        kiosk.close()
        return faces, columns

    monkeypatch.setattr(store, "_held_out", held_out)
    n = store.write_predictions(first_model(run), model=run.settings.model, run_id=run.run_id)
    text = (store.folder / "predictions.csv").read_text()
    assert gone[0] not in text
    assert len(text.splitlines()) == 1 + n


def test_whoever_is_measured_while_the_erased_are_looked_for_keeps_their_row(
    run: Run, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write_predictions(first_model(run), model=run.settings.model, run_id=run.run_id)
    path, real = store.folder / "predictions.csv", store.registry.persons

    def persons() -> list[str]:
        found = list(real())
        with path.open("a") as file:  # enrolled and measured once the registry had answered
            file.write(path.read_text().splitlines()[1].replace(found[0], "somebody-new") + "\n")
        return found

    before = path.read_text()
    monkeypatch.setattr(store.registry, "persons", persons)
    assert store.forget_erased() == 0
    assert path.read_text().startswith(before)


def test_a_store_says_what_of_that_which_is_due_is_not_gone(run: Run, store: Store) -> None:
    path = store.folder / "predictions.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RunError, match=r"not all that is due is gone: .*predictions\.csv"):
        store.destroy_overdue()
    path.unlink()
    assert store.destroy_overdue() == 0


def test_whoever_takes_back_the_audit_leaves_the_predictions_when_it_is_due(
    run: Run, store: Store
) -> None:
    store.write_predictions(first_model(run), model=run.settings.model, run_id=run.run_id)
    someone = min(used_people(store, Purpose.FAIRNESS_AUDIT))
    store.registry.withdraw(someone, [Purpose.FAIRNESS_AUDIT])
    store.destroy_overdue()
    assert someone not in (store.folder / "predictions.csv").read_text()
    assert someone in store.registry.persons()


# -- held-out faces --------------------------------------------------------------------------------


TOLD = (
    "schema", "run_id", "round", "store", "order", "model_in", "history", "status", "reason",
    "update_sha256", "consent_log_root", "ledger", "epsilon", "details", "versions",
)  # fmt: skip
"""All that a store's statement may hold: public already, or a hash of what nobody can guess."""


def test_what_leaves_a_store_holds_no_pseudonym_count_label_or_picture(
    run: Run, store: Store
) -> None:
    result = store.train_round(first_model(run), run.order_for(1))
    content = protocol.pack_result(result)
    said = json.loads(protocol.signed_from(content).text)
    assert set(said) == set(TOLD)
    assert said["ledger"] == {"entries": 1, "hash": store.ledger.head}
    assert said["epsilon"] == store.ledger.entries[0].epsilon_rdp
    # What the details are is told to nobody, and cannot be tried out: a random number is hashed with them.
    (line,) = (store.folder / "statements.jsonl").read_text().splitlines()
    details = json.loads(line)["details"]
    assert canonical_hash(details) == said["details"]
    assert len(bytes.fromhex(details.pop("nonce"))) == 32
    assert canonical_hash(details) != said["details"]
    update = protocol.update_of(content)
    assert update is not None
    assert {k: v.shape for k, v in update.items()} == {
        k: v.shape for k, v in first_model(run).items()
    }
    assert set(content) == {protocol.MANIFEST, protocol.UPDATE}


def test_an_order_survives_the_wire(run: Run) -> None:
    order = run.order_for(2)
    assert protocol.order_from(protocol.order_record(order)) == order
    record = protocol.order_record(order)
    del record["steps"]
    with pytest.raises(RunError, match="incomplete"):
        protocol.order_from(record)


def test_predictions_are_of_those_who_agreed_to_an_audit(run: Run, store: Store) -> None:
    n = store.write_predictions(first_model(run), model=run.settings.model, run_id=run.run_id)
    lines = (store.folder / "predictions.csv").read_text().splitlines()
    assert len(lines) == n + 1
    assert lines[0].endswith("age_band")
    people = {line.split(",")[1] for line in lines[1:]}
    assert people == used_people(store, Purpose.FAIRNESS_AUDIT)
    assert not any(",13_15" in line for line in lines)


def test_demographic_labels_are_read_for_the_audit_alone_and_deleted_after_it(
    run: Run, store: Store
) -> None:
    """EU AI Act 10(5): a purpose of their own, apart from the faces, gone when the audit has them."""
    held = store.vault.counts()[ItemKind.DEMOGRAPHIC]
    assert held > 0
    labelled = store.vault.sealed(kind=ItemKind.DEMOGRAPHIC).person.tolist()
    for person in labelled:
        assert store.registry.preview(person, Purpose.FAIRNESS_AUDIT, store.context).permit
    assert not any(
        "35_44" in str(item.facts) for item in everything(store) if not item.facts.get("part")
    )
    store.write_predictions(first_model(run), model=run.settings.model, run_id=run.run_id)
    before = (store.folder / "predictions.csv").read_text()
    assert store.forget_demographics() == held
    assert store.vault.counts()[ItemKind.DEMOGRAPHIC] == 0
    assert (
        store.write_predictions(first_model(run), model=run.settings.model, run_id=run.run_id) > 0
    )
    assert (store.folder / "predictions.csv").read_text() == before  # to be audited again


def test_once_demographic_labels_are_gone_nothing_is_predicted_in_their_place(
    run: Run, store: Store
) -> None:
    store.forget_demographics()
    assert (
        store.write_predictions(first_model(run), model=run.settings.model, run_id=run.run_id) == 0
    )
    assert used_people(store, Purpose.FAIRNESS_AUDIT) == set()
