"""Rounds in which stores share the noise: whole runs, silent stores, servers that ask for something else."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privemo import secure_protocol, secure_store, simulation
from privemo import weights as w
from privemo.client_app import app as client_app
from privemo.config import PrivacySettings, RunSettings
from privemo.errors import LedgerLost, RunError, SecureSumError, SettingsError
from privemo.flower import Array, ArrayRecord, ConfigRecord, Context, Message
from privemo.grid import InProcessGrid
from privemo.ledger import Ledger
from privemo.orders import order_digest
from privemo.runs import Run
from privemo.secagg import Advert, Session, needed
from privemo.secure_store import SecureStore
from privemo.server_app import app as server_app
from privemo.statements import read_signing_key
from privemo.store import Store
from privemo.storeconfig import KEY_FILE
from privemo_audits import build_report
from tests.support.small_runs import App, changed, drive, first_model, small_run

STEPS = ("advertise", "share", "mask", "confirm", "reveal")
TURNS = [
    step if step in ("mask", "confirm") else pytest.param(step, marks=pytest.mark.slow)
    for step in STEPS
]
"""All numbers are there from `confirm` on. The steps further off run in `make test-all`, and below."""


def shared_run(folder: Path, *, may_drop: float = 0.4, **changes: Any) -> Run:
    """Three stores that share the noise; two of them are enough unless told otherwise."""
    privacy = PrivacySettings(epsilon=8.0, sample_rate=0.5, noise="distributed", may_drop=may_drop)
    settings = {"stores": 3, "steps_per_round": 1, "model": "gray-cnn", "privacy": privacy}
    return small_run(folder, people=90, **{**settings, **changes})


def silent(store: str, step: str, *, round_: int = 1) -> App:
    """Stores of which one fails at a step of a round, and at all that follow in it."""
    late = STEPS[STEPS.index(step) :]

    def app(message: Message, context: Context) -> Message:
        name = Path(str(context.node_config["store-dir"])).name
        kind = message.metadata.message_type.split(".")[-1]
        if name == store and kind in late and message.metadata.group_id == str(round_):
            raise ConnectionError("no such store")
        return client_app(message, context)

    return app


def opened(run: Run, name: str = "store-01") -> Store:
    return run.store(name)


def entries(run: Run, name: str) -> int:
    store = opened(run, name)
    try:
        return len(store.ledger.entries)
    finally:
        store.close()


# -- whole runs ----------------------------------------------------------------------------------------


def test_a_run_of_shared_noise_from_end_to_end(tmp_path: Path) -> None:
    run = shared_run(tmp_path)
    simulation.run(run)
    simulation.finish(run)
    for manifest in run.manifests():
        assert manifest["secure_sum"]["summed"] == run.stores
        assert {s["status"] for s in manifest["stores"].values()} == {"trained"}
    assert w.sha256(w.load_weights(run.model_path)) == run.manifests()[-1]["model_out"]
    for name in run.stores:
        store = opened(run, name)
        (first, second) = store.ledger.entries
        assert first.mechanism == "poisson_subsampled_discrete_gaussian_sum"
        assert first.noise_stores == 2
        assert first.epsilon_prv == first.epsilon_rdp < second.epsilon_rdp <= 8.0
        assert not (store.folder / "outbox").exists(), "what is summed up is never sent again"
        store.close()
    assert not run.pending_path.exists()
    report = build_report(run.folder)
    covered = next(c for c in report.checks if c.id == "ledger.covers_updates")
    assert covered.passed
    assert "2 rounds are secure sums of 3 stores" in covered.evidence


def test_the_same_seed_gives_the_same_model_whatever_the_masks(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        run = shared_run(tmp_path / name, rounds=1)
        drive(run)
        found.append(run.manifests()[-1])
    assert found[0]["model_out"] == found[1]["model_out"]
    assert found[0]["secure_sum"]["attempt"] != found[1]["secure_sum"]["attempt"]


@pytest.mark.parametrize("step", TURNS)
def test_a_round_succeeds_without_the_stores_that_may_drop(step: str, tmp_path: Path) -> None:
    run = shared_run(tmp_path, rounds=2)
    drive(run, silent("store-02", step))
    first, second = run.manifests()
    late = step in ("confirm", "reveal")
    assert first["secure_sum"]["summed"] == (run.stores if late else ["store-01", "store-03"])
    gone = first["stores"]["store-02"]
    assert (gone["status"] == "trained") is late
    assert gone["reason"]
    assert second["secure_sum"]["summed"] == run.stores
    # Whoever had not trained paid nothing; whoever had, paid, whether the server used it or not.
    assert entries(run, "store-02") == (2 if late else 1)
    assert entries(run, "store-01") == 2


@pytest.mark.parametrize("step", STEPS)
def test_too_few_stores_fail_the_run_and_it_resumes(step: str, tmp_path: Path) -> None:
    """Once all numbers are there nobody pays twice; before, whoever trained does, in a spare round."""
    privacy = PrivacySettings(epsilon=8.0, sample_rate=0.5, noise="distributed", spare_rounds=1)
    run = shared_run(tmp_path, privacy=privacy, rounds=1, seed=None, split_seed=1)
    with pytest.raises((RunError, SecureSumError), match=r"Round 1: .* it takes 3"):
        drive(run, silent("store-02", step))
    assert run.manifests() == []
    assert run.pending_path.exists() is (step in ("confirm", "reveal"))
    drive(run)
    (manifest,) = run.manifests()
    assert manifest["secure_sum"]["summed"] == run.stores
    twice = step == "mask"
    assert [entries(run, name) for name in run.stores] == ([2, 1, 2] if twice else [1, 1, 1])
    assert not run.pending_path.exists()


def test_a_server_that_died_goes_on_with_the_sum_it_had(tmp_path: Path) -> None:
    """With the very numbers that stores paid for, and stores that are other nodes by now."""
    run = shared_run(tmp_path, rounds=1, seed=None, split_seed=1)

    def dies(message: Message, context: Context) -> Message:
        if message.metadata.message_type == "train.reveal":
            raise KeyboardInterrupt
        return client_app(message, context)

    with pytest.raises(KeyboardInterrupt):
        drive(run, dies)
    store = opened(run)
    (paid,) = [e.update_sha256 for e in store.ledger.entries]
    store.close()
    trained = []

    def watched(message: Message, context: Context) -> Message:
        trained.append(message.metadata.message_type)
        return client_app(message, context)

    configs: list[dict[str, str | int]] = [
        {"store-dir": str(run.folder / "stores" / name)} for name in reversed(run.stores)
    ]
    InProcessGrid(watched, configs).serve(server_app, run_dir=str(run.folder))  # type: ignore[arg-type]
    assert set(trained) == {"train.confirm", "train.reveal", "query.close"}
    assert run.manifests()[0]["stores"]["store-01"]["update_sha256"] == paid


def test_a_kept_sum_of_another_order_is_not_gone_on_with(tmp_path: Path) -> None:
    """The step with it would be one that no store was asked for."""
    privacy = PrivacySettings(epsilon=8.0, sample_rate=0.5, noise="distributed", spare_rounds=1)
    run = shared_run(tmp_path, privacy=privacy, rounds=1, seed=None, split_seed=1)
    with pytest.raises((RunError, SecureSumError), match="it takes 3"):
        drive(run, silent("store-02", "confirm"))
    assert run.pending_path.exists()
    path = run.folder / "run.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "lr": facts["lr"] / 2}))
    asked = []

    def watched(message: Message, context: Context) -> Message:
        asked.append(message.metadata.message_type)
        return client_app(message, context)

    drive(Run(run.folder), watched)
    assert asked.count("train.mask") == 3
    assert entries(run, "store-01") == 2


@pytest.mark.parametrize("noise", ["local", "distributed"])
def test_what_a_store_signed_is_written_down_before_the_next_one_answers(
    noise: str, tmp_path: Path
) -> None:
    privacy = PrivacySettings(epsilon=8.0, sample_rate=0.5)
    changes: dict[str, Any] = {"privacy": privacy} if noise == "local" else {}
    run = shared_run(tmp_path, rounds=1, **changes)
    known = []

    def watched(message: Message, context: Context) -> Message:
        if message.metadata.message_type in ("train", "train.mask"):
            known.append(sorted(Run(run.folder).history().known()))
        return client_app(message, context)

    drive(run, watched)
    assert known == [run.stores[:n] for n in range(3)]


def test_every_try_is_new_noise_and_it_is_paid_for(tmp_path: Path) -> None:
    """Numbers that were masked in two sessions could be unmasked in two sums, and so averaged."""
    run = shared_run(tmp_path, may_drop=0.0, rounds=2, seed=None, split_seed=1)
    for _ in range(2):
        with pytest.raises((RunError, SecureSumError)):
            drive(run, silent("store-02", "reveal"))
    assert not run.pending_path.exists()
    with pytest.raises(RunError, match="budget_exhausted"):
        drive(run)  # the budget was for two steps, and the first was taken twice
    (manifest,) = run.manifests()
    store = opened(run)
    digests = [e.update_sha256 for e in store.ledger.entries]
    store.close()
    assert len(set(digests)) == 2
    assert manifest["stores"]["store-01"]["update_sha256"] == digests[1]


@pytest.mark.parametrize("damage", [b"", b"\0" * 20, b"\0" * 7 + b"\x02{}rest"])
def test_a_kept_sum_that_was_damaged_is_named(damage: bytes, tmp_path: Path) -> None:
    run = shared_run(tmp_path, rounds=1)
    run.pending_path.write_bytes(damage)
    with pytest.raises(RunError, match=r"pending-sum.bin is damaged .* delete it"):
        drive(run)


def test_sums_that_went_to_infinity_are_refused_and_paid_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shared_run(tmp_path, rounds=1)

    def endless(*_: Any) -> dict[str, Any]:
        return {name: np.full_like(a, np.inf) for name, a in first_model(run).items()}

    monkeypatch.setattr(secure_store, "clipped_sum", endless)
    with pytest.raises(RunError, match="recipe_refused"):
        drive(run)
    for name in run.stores:
        assert len(Ledger(run.folder / "stores" / name / "ledger.jsonl").entries) == 1


# -- what a store lets out -----------------------------------------------------------------------------


def test_a_stores_refusal_is_a_reason_and_no_more(tmp_path: Path) -> None:
    run = shared_run(tmp_path, rounds=1)
    path = run.folder / "stores" / "store-02" / "store.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "epsilon_budget": 0.01}))
    drive(run)
    said = run.manifests()[0]["stores"]["store-02"]
    assert (said["status"], said["reason"]) == ("refused", "budget_exhausted")
    assert run.manifests()[0]["secure_sum"]["summed"] == ["store-01", "store-03"]


# -- a server that asks for something else -------------------------------------------------------------


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[Run, SecureStore]]:
    run = shared_run(tmp_path)
    store = opened(run)
    yield run, SecureStore(store)
    store.close()


def session(run: Run, **changes: Any) -> Session:
    enough, threshold = needed(3, 0.4)
    made = {
        "run_id": run.run_id,
        "round": 1,
        "attempt": "a" * 32,
        "order": "0" * 64,
        "members": tuple(run.stores),
        "enough": enough,
        "threshold": threshold,
    }
    return Session(**{**made, **changes})


@pytest.mark.parametrize(
    "other",
    [
        {"members": ("fake-01", "fake-02", "store-01")},
        {"members": ("store-01", "store-02", "store-03", "store-04"), "enough": 3, "threshold": 3},
        {"enough": 3, "threshold": 3},
        {"round": 2},
        {"run_id": "another"},
    ],
)
def test_a_session_other_than_agreed_is_refused(
    secure: tuple[Run, SecureStore], other: dict[str, Any]
) -> None:
    run, store = secure
    with pytest.raises(SecureSumError, match=r"agreed to sums|another round"):
        store.advertise(run.order_for(1), session(run, **other))


@pytest.mark.parametrize(
    "other",
    [
        {"noise_stores": 3},
        {"noise": "local", "noise_stores": 1},
        {"normaliser": 6.0},
        {"noise_multiplier": 0.5},
        {"sample_rate": 0.25, "normaliser": 2.5},
    ],
)
def test_another_order_than_agreed_is_refused(
    secure: tuple[Run, SecureStore], other: dict[str, Any]
) -> None:
    run, store = secure
    order = changed(run.order_for(1), **other)
    with pytest.raises(SettingsError, match=r"not as agreed|normaliser|not agreed on"):
        store.advertise(order, session(run))


def test_a_store_that_shares_its_noise_sends_no_update_of_its_own(
    secure: tuple[Run, SecureStore],
) -> None:
    run, store = secure
    model = first_model(run)
    assert store.store.train_round(model, run.order_for(1)).reason == "recipe_refused"
    local = changed(run.order_for(1), noise="local", noise_stores=1)  # type: ignore[arg-type]
    assert store.store.train_round(model, local).reason == "recipe_refused"
    assert store.store.ledger.entries == ()


def test_an_older_session_is_over_once_another_began(secure: tuple[Run, SecureStore]) -> None:
    """So numbers that were masked twice can be unmasked in one sum at most."""
    run, store = secure
    old, new = session(run), session(run, attempt="b" * 32)
    advert = store.advertise(run.order_for(1), old)
    store.advertise(run.order_for(1), new)
    with pytest.raises(SecureSumError, match="Another session"):
        store.share(old, {"store-01": advert})


def test_an_attempt_that_began_does_not_begin_again(secure: tuple[Run, SecureStore]) -> None:
    run, store = secure
    store.advertise(run.order_for(1), session(run))
    with pytest.raises(SecureSumError, match="began before"):
        store.advertise(run.order_for(1), session(run))


def test_an_attempt_does_not_begin_again_once_another_began(
    secure: tuple[Run, SecureStore],
) -> None:
    """Not after any number of others, and not in another round."""
    run, store = secure
    for attempt in ("a" * 32, "b" * 32):
        store.advertise(run.order_for(1), session(run, attempt=attempt))
    store.advertise(run.order_for(2), session(run, round=2, attempt="c" * 32))
    for attempt in ("a" * 32, "b" * 32, "c" * 32):
        with pytest.raises(SecureSumError, match="began before"):
            SecureStore(store.store).advertise(run.order_for(1), session(run, attempt=attempt))


def test_attempts_have_an_end_and_a_list_that_cannot_be_read_lets_none_begin(
    secure: tuple[Run, SecureStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, store = secure
    monkeypatch.setattr(secure_store, "_MOST_ATTEMPTS", 1)
    store.advertise(run.order_for(1), session(run))
    with pytest.raises(SecureSumError, match="store-01 began 1 attempts in this run"):
        store.advertise(run.order_for(1), session(run, attempt="b" * 32))
    path = store.store.folder / f"secure-sum-{run.run_id}.attempts"
    assert path.stat().st_mode & 0o077 == 0
    path.write_bytes(b"\xff")
    with pytest.raises(SecureSumError, match=rf"secure-sum-{run.run_id}.attempts cannot be read"):
        store.advertise(run.order_for(1), session(run, attempt="b" * 32))
    # Those of an earlier run do not count: else its server could shut the store out of this one.
    path.rename(path.with_name("secure-sum-earlier.attempts"))
    store.advertise(run.order_for(1), session(run, attempt="b" * 32))


@pytest.mark.parametrize("what", ["order", "model"])
def test_stores_of_one_sum_cannot_be_asked_for_different_things(what: str, tmp_path: Path) -> None:
    """A server that asked some stores for less noise, or on another model, would be left with less of it."""
    run = shared_run(tmp_path, may_drop=0.0, rounds=1)

    def lying(message: Message, context: Context) -> Message:
        name = Path(str(context.node_config["store-dir"])).name
        if name == "store-02" and message.metadata.message_type == "train.mask":
            if what == "order":
                config = dict(
                    message.content["config"]
                )  # all stores have one and the same record here
                message.content["config"] = ConfigRecord({**config, "lr": 2 * config["lr"]})
            else:
                arrays = w.from_record(message.content["arrays"])  # type: ignore[arg-type]
                other = {key: array + np.float32(0.5) for key, array in arrays.items()}
                message.content["arrays"] = w.to_record(other)
        return client_app(message, context)

    with pytest.raises(RunError, match="2 of 3 stores sent what they trained"):
        drive(run, lying)
    assert entries(run, "store-02") == 0
    assert entries(run, "store-01") == 1


def saying(step: str, *liars: str, lie: Callable[[str, Message], None]) -> App:
    """Stores of which some change what they answer at a step."""

    def app(message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        name = Path(str(context.node_config["store-dir"])).name
        if name in liars and message.metadata.message_type == f"train.{step}":
            lie(name, reply)
        return reply

    return app


def signed_again(run: Run, name: str, keys: list[bytes], reply: Message, attempt: str) -> None:
    """Other keys in a store's answer, with the signature of that store."""
    order = order_digest(run.order_for(1), w.sha256(first_model(run)))
    said = Advert(keys[0], keys[1], b"").statement(session(run, attempt=attempt, order=order), name)
    signature = read_signing_key(run.folder / "stores" / name).sign(said)
    reply.content["content"]["advert"] = [*keys, signature]  # type: ignore[index]


def attempt_of(run: Run, name: str) -> str:
    state = json.loads((run.folder / "stores" / name / "secure-sum.json").read_text())
    return str(state["session"]["attempt"])


def test_a_store_with_one_key_for_two_is_left_out_by_name_and_the_round_goes_on(
    tmp_path: Path,
) -> None:
    run = shared_run(tmp_path, rounds=1)

    def lie(name: str, reply: Message) -> None:
        mask_key = reply.content["content"]["advert"][0]  # type: ignore[index]
        signed_again(run, name, [mask_key, mask_key], reply, attempt_of(run, name))

    drive(run, saying("advertise", "store-02", lie=lie))
    (manifest,) = run.manifests()
    assert manifest["secure_sum"]["summed"] == ["store-01", "store-03"]
    said = manifest["stores"]["store-02"]
    assert (said["status"], said["reason"]) == (
        "failed",
        "rejected: its keys are one and the same",
    )


def test_stores_with_a_key_in_common_are_named_before_anybody_pays(tmp_path: Path) -> None:
    run = shared_run(tmp_path, rounds=1)
    seen: list[bytes] = []

    def lie(name: str, reply: Message) -> None:
        mask_key, share_key, _ = reply.content["content"]["advert"]  # type: ignore[index,misc]
        seen.append(mask_key)  # type: ignore[arg-type]
        signed_again(run, name, [seen[0], share_key], reply, attempt_of(run, name))  # type: ignore[list-item]

    with pytest.raises(RunError, match="1 of 3 stores sent keys") as found:
        drive(run, saying("advertise", "store-01", "store-03", lie=lie))
    assert "store-01: rejected: it has a key of store-03" in str(found.value)
    assert "store-03: rejected: it has a key of store-01" in str(found.value)
    assert [entries(run, name) for name in run.stores] == [0, 0, 0]


def test_a_store_that_gives_false_shares_is_named_and_the_round_goes_on(tmp_path: Path) -> None:
    run = shared_run(tmp_path, rounds=1)

    def lie(_: str, reply: Message) -> None:
        for key, share in list(reply.content["seeds"].items()):
            reply.content["seeds"][key] = bytes(len(share))  # type: ignore[arg-type,index]

    drive(run, saying("reveal", "store-01", lie=lie))
    (manifest,) = run.manifests()
    assert manifest["secure_sum"]["summed"] == run.stores
    said = {name: entry["reason"] for name, entry in manifest["stores"].items()}
    assert said["store-01"].startswith("rejected: it gave false shares of store-01")
    assert not said["store-02"]
    assert not said["store-03"]


def test_a_store_whose_envelopes_are_no_good_is_named_before_anybody_pays(tmp_path: Path) -> None:
    run = shared_run(tmp_path, rounds=1)

    def garbage(message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        name = Path(str(context.node_config["store-dir"])).name
        if name == "store-02" and message.metadata.message_type == "train.share":
            for key in list(reply.content["keys"]):
                reply.content["keys"][key] = b"garbage"  # type: ignore[index]
        return reply

    with pytest.raises(RunError, match="cannot open the envelope of store-02"):
        drive(run, garbage)
    assert entries(run, "store-01") == 0


JUNK = {
    "nothing": Array(dtype="uint32", shape=(1,), stype="numpy.ndarray", data=b""),
    "another library's": Array(dtype="uint32", shape=(1,), stype="torch.tensor", data=b"x"),
    "a zip archive": Array(dtype="uint32", shape=(1,), stype="numpy.ndarray", data=b"PK\x03\x04"),
    "text": Array(dtype="uint32", shape=(1,), stype="numpy.ndarray", data=b"junk"),
    "half a surrogate, named in the error": Array("uint32", (1,), "\ud800", b"x"),
}


@pytest.mark.parametrize("kind", JUNK)
def test_a_vector_that_is_none_leaves_its_store_out_and_not_the_round(
    kind: str, tmp_path: Path
) -> None:
    run = shared_run(tmp_path, rounds=1)

    def junk(message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        mine = str(context.node_config["store-dir"]).endswith("store-02")
        if mine and message.metadata.message_type == "train.mask":
            reply.content[secure_protocol.VECTOR] = ArrayRecord({"vector": JUNK[kind]})
        return reply

    drive(run, junk)
    (manifest,) = run.manifests()
    assert manifest["secure_sum"]["summed"] == ["store-01", "store-03"]
    assert "rejected" in manifest["stores"]["store-02"]["reason"]


def test_a_node_that_nobody_knows_does_not_spoil_the_audit(tmp_path: Path) -> None:
    run = shared_run(tmp_path)
    simulation_of_a_failing_store = silent("store-03", "advertise")
    drive(run, simulation_of_a_failing_store)
    first = run.manifests()[0]
    assert set(first["stores"]) == set(run.stores)
    assert first["stores"]["store-03"]["reason"] == "silent"
    assert first["others"]["node-4"]["reason"].startswith("error")
    simulation.finish(run)
    assert build_report(run.folder).privacy.epsilon_max_person


def test_without_a_session_there_is_nothing_to_go_on_with(
    secure: tuple[Run, SecureStore],
) -> None:
    run, store = secure
    with pytest.raises(SecureSumError, match="no secure sum in progress"):
        store.confirm(session(run), run.stores)
    (store.store.folder / "secure-sum.json").write_text("{")
    with pytest.raises(SecureSumError, match="no secure sum in progress"):
        store.reveal(session(run), {})


def test_a_key_that_is_not_the_rosters_is_noticed(secure: tuple[Run, SecureStore]) -> None:
    _, store = secure
    path = store.store.folder / KEY_FILE
    path.write_bytes(Ed25519PrivateKey.generate().private_bytes_raw())
    with pytest.raises(SecureSumError, match="not the key that the roster names"):
        SecureStore(store.store)
    path.write_bytes(b"short")
    with pytest.raises(RunError, match="no store's key"):
        SecureStore(store.store)
    path.unlink()
    with pytest.raises(RunError, match="no store's key"):
        SecureStore(store.store)


def test_a_store_of_local_noise_is_in_no_secure_sum(run: Run, store: Store) -> None:
    with pytest.raises(SecureSumError, match="roster is empty"):
        SecureStore(store)
    shared = changed(run.order_for(1), noise="distributed", steps=1)  # type: ignore[arg-type]
    assert store.train_round(first_model(run), shared).reason == "recipe_refused"


def test_a_ledger_that_lost_entries_is_told_before_anybody_trains(
    secure: tuple[Run, SecureStore],
) -> None:
    run, store = secure
    known = {"store-01": (3, "7" * 64)}
    order = dataclasses.replace(run.order_for(1), ledgers=known)
    with pytest.raises(LedgerLost, match="store-01 had 3 ledger entries"):
        store.advertise(order, session(run))


def test_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    run = shared_run(tmp_path)
    keys = set()
    for name in run.stores:
        path = run.folder / "stores" / name / KEY_FILE
        assert path.stat().st_mode & 0o077 == 0
        keys.add(path.read_bytes())
    assert len(keys) == len(run.stores)
    assert "roster" in run.facts
    assert not any(key.hex() in json.dumps(run.facts) for key in keys)


# -- settings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"stores": 2}, "3 to 200 stores"),
        ({"quorum": 2}, "the server sees the sum alone"),
        ({"participation": 0.7}, "the server sees the sum alone"),
        ({"stores": 5, "aggregation": "median", "malicious_stores": 1}, "sees the sum alone"),
        ({"stores": 201}, "3 to 200 stores"),
        ({"steps_per_round": 2}, "one step to a round"),
        (
            {"privacy": PrivacySettings(noise="distributed", max_stores_per_person=2)},
            "a person is in one store",
        ),
    ],
)
def test_settings_that_sums_cannot_keep_are_refused(settings: dict[str, Any], why: str) -> None:
    privacy = PrivacySettings(noise="distributed")
    with pytest.raises(SettingsError, match=why):
        RunSettings.of(**{"stores": 3, "steps_per_round": 1, "privacy": privacy, **settings})


def test_what_may_drop_is_for_shared_noise_alone() -> None:
    with pytest.raises(SettingsError, match="distributed noise"):
        PrivacySettings.of(may_drop=0.2)
    with pytest.raises(SettingsError, match="may_drop"):
        PrivacySettings.of(noise="distributed", may_drop=0.5)
    with pytest.raises(SettingsError, match="sgd"):
        RunSettings.of(
            stores=3,
            steps_per_round=1,
            privacy=PrivacySettings(noise="distributed", optimizer="adam"),
        )


def test_a_run_of_local_noise_is_written_as_before() -> None:
    """Its name and its seeded draws hang on its settings as they are written."""
    written = RunSettings().model_dump(mode="json")
    assert "noise" not in written["privacy"]
    assert RunSettings.of(**written) == RunSettings()
    shared = RunSettings(
        stores=3, steps_per_round=1, privacy=PrivacySettings(noise="distributed", may_drop=0.1)
    )
    assert RunSettings.of(**shared.model_dump(mode="json")) == shared
