"""What the server lets count: the threat is a store that sends rubbish, or lies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privemo import protocol
from privemo import weights as w
from privemo.config import RunSettings
from privemo.errors import RunError
from privemo.flower import Array, ConfigRecord, Error, Message, RecordDict
from privemo.grid import task_identity
from privemo.history import History
from privemo.orders import RoundOrder, order_digest
from privemo.serverstep import ServerStep
from privemo.statements import FIRST, LedgerHead, Signed, Statement, canonical_hash, sign
from privemo.strategy import StoreAveraging
from tests.support.updates import MODEL, RECIPE, update

# -- replies --------------------------------------------------------------------------------------


def order_for(number: int) -> RoundOrder:
    return RoundOrder("r", number, "emotion-cnn", RECIPE)


class Nodes:
    """As much of a grid as ordering a round needs."""

    def get_node_ids(self) -> list[int]:
        return [11, 12, 13]


KEYS = {name: Ed25519PrivateKey.generate() for name in "abc"}
ROSTER = {name: key.public_key().public_bytes_raw() for name, key in KEYS.items()}
LEDGER = {"entries": 1, "hash": "7" * 64}


def reply_to(
    message: Message,
    store: str,
    made: w.Weights | None,
    *,
    signer: str | None = None,
    history: str = FIRST,
    **changes: object,
) -> Message:
    """What a store answers to an order; `changes` are to its statement, before it is signed."""
    order = dataclasses.replace(order_for(1), history=history)
    facts: dict[str, Any] = {
        "run_id": "r",
        "round": 1,
        "store": store,
        "order": order_digest(order, w.sha256(MODEL)),
        "model_in": w.sha256(MODEL),
        "history": history,
        "status": "trained" if made else "refused",
        "reason": None if made else "no_faces",
        "update_sha256": w.sha256(made) if made else None,
        "consent_log_root": "0" * 64,
        "ledger": LEDGER,
        "details": "0" * 64,
        "versions": {},
        **changes,
    }
    key = KEYS.get(signer or store, KEYS["a"])
    content = RecordDict({protocol.MANIFEST: protocol.signed_record(sign(Statement(**facts), key))})
    if made is not None:
        content[protocol.UPDATE] = w.to_record(made)
    return Message(content, reply_to=message)


def averaging(
    keep: Any, history: History | None = None, settings: RunSettings | None = None
) -> StoreAveraging:
    sizes = {"a": 10.0, "b": 10.0, "c": 20.0}
    return StoreAveraging(order_for, keep, sizes, roster=ROSTER, history=history, settings=settings)


def aggregate(
    *answers: Callable[[Message], Message],
    history: History | None = None,
    settings: RunSettings | None = None,
) -> tuple[dict[str, Any], w.Weights]:
    """What one round makes of the answers of its nodes."""
    seen: dict[str, Any] = {}

    def keep(number: int, manifest: dict[str, Any], after: w.Weights) -> None:
        seen.update(manifest=manifest, after=after)

    strategy = averaging(keep, history, settings)
    with task_identity():
        sent = list(strategy.configure_train(1, w.to_record(MODEL), ConfigRecord(), Nodes()))
        strategy.aggregate_train(1, [answer(m) for answer, m in zip(answers, sent, strict=False)])
    manifest = seen["manifest"]
    assert set(manifest["stores"]) <= {"a", "b", "c"}, "whoever else answers stands apart"
    return {**manifest["stores"], **manifest.get("others", {})}, seen["after"]


def good(store: str) -> Callable[[Message], Message]:
    return lambda message: reply_to(message, store, update())


def test_the_average_uses_the_sizes_the_server_knows() -> None:
    """And not a number that replies state. Those of a run are equal; these are not, to tell which counted."""
    other = {name: 3 * array for name, array in update().items()}
    stores, after = aggregate(good("a"), lambda m: reply_to(m, "c", other))
    assert {s["status"] for s in stores.values()} == {"trained"}
    expected = (10 * 0.1 + 20 * 0.3) / 30
    assert np.allclose(after["a"] - MODEL["a"], expected)


def half_a_surrogate(message: Message) -> Message:
    """Flower keeps what an array says of itself as JSON, and names it in its error."""
    answer = reply_to(message, "b", update())
    arrays = answer.content[protocol.UPDATE]
    arrays[w.IN_RECORD] = Array(dtype="uint8", shape=(4,), stype="\ud800", data=b"junk")
    return answer


def no_manifest(message: Message) -> Message:
    return Message(RecordDict({"junk": ConfigRecord({"x": 1})}), reply_to=message)


def junk_arrays(message: Message) -> Message:
    answer = reply_to(message, "b", update())
    arrays = answer.content[protocol.UPDATE]
    arrays[w.IN_RECORD] = Array(dtype="uint8", shape=(4,), stype="numpy.ndarray", data=b"junk")
    return answer


BAD: dict[str, tuple[Callable[[Message], Message], str]] = {
    "no manifest": (no_manifest, "malformed reply"),
    "half a manifest": (
        lambda m: Message(
            RecordDict({protocol.MANIFEST: ConfigRecord({"statement": b"{}"})}), reply_to=m
        ),
        "malformed reply",
    ),
    "junk arrays": (junk_arrays, "malformed reply"),
    "half a surrogate": (half_a_surrogate, "\\ud800"),
    "a terminal's escape": (
        lambda m: Message(Error(2, "\x1b]0;x\x07"), reply_to=m),
        "\\x1b]0;x\\x07",
    ),
    "an error": (lambda m: Message(Error(2, "x" * 5000), reply_to=m), "error: xxx"),
    "not a number": (
        lambda m: reply_to(m, "b", update(a=np.full((2, 3), np.nan, np.float32))),
        "NaN",
    ),
    "another model": (
        lambda m: reply_to(m, "b", update(), model_in="1" * 64),
        "another model",
    ),
    "another hash": (
        lambda m: reply_to(m, "b", update(), update_sha256="1" * 64),
        "not the update",
    ),
    "an unknown store": (lambda m: reply_to(m, "mallory", update()), "no such store"),
    "another's key": (lambda m: reply_to(m, "b", update(), signer="c"), "not signed by this store"),
    "another round": (lambda m: reply_to(m, "b", update(), round=2), "of another round"),
    "another run": (lambda m: reply_to(m, "b", update(), run_id="x"), "of another round"),
    "another order": (lambda m: reply_to(m, "b", update(), order="1" * 64), "of another order"),
    "another history": (lambda m: reply_to(m, "b", update(), history="1" * 64), "of another round"),
    "an update that is named and did not come": (
        lambda m: reply_to(m, "b", None, status="trained", reason=None, update_sha256="1" * 64),
        "did not come",
    ),
    "a store that answered already": (lambda m: reply_to(m, "a", update()), "answered before"),
}


@pytest.mark.parametrize("kind", BAD)
def test_one_bad_reply_is_one_failed_store_and_changes_nothing_else(kind: str) -> None:
    bad, reason = BAD[kind]
    stores, after = aggregate(good("a"), bad, good("c"))
    failed = {name: facts for name, facts in stores.items() if facts["status"] != "trained"}
    assert len(failed) == 1
    (facts,) = failed.values()
    assert reason in facts["reason"]
    assert len(facts["reason"]) <= 300
    assert stores["a"]["status"] == stores["c"]["status"] == "trained"
    assert np.allclose(after["a"] - MODEL["a"], 0.1)


def test_the_manifest_names_what_the_server_keeps_besides_the_model() -> None:
    seen: dict[str, Any] = {}
    step = ServerStep(RunSettings.of(server_momentum=0.9, ema=0.5))
    strategy = StoreAveraging(
        order_for,
        lambda _n, manifest, after: seen.update(m=manifest, after=after),
        {"a": 1.0},
        roster=ROSTER,
        step=step,
    )
    with task_identity():
        sent = list(strategy.configure_train(1, w.to_record(MODEL), ConfigRecord(), Nodes()))
        strategy.aggregate_train(1, [good("a")(sent[0])])
    assert seen["m"]["server_state"] == w.sha256(step.state())
    assert seen["m"]["model_average"] == w.sha256(step.average or {})
    assert seen["m"]["model_out"] == w.sha256(seen["after"])


def test_a_refusal_carries_its_reason() -> None:
    stores, _ = aggregate(good("a"), lambda m: reply_to(m, "b", None))
    assert stores["b"]["status"] == "refused"
    assert stores["b"]["reason"] == "no_faces"


def test_a_round_without_any_update_is_an_error() -> None:
    with pytest.raises(RunError, match="No store could train in round 1"):
        aggregate(lambda m: reply_to(m, "a", None))


# -- who is asked, and how many it takes -----------------------------------------------------------


def asked(settings: RunSettings, rounds: int) -> list[list[int]]:
    """Nodes that get an order, by round."""
    strategy = StoreAveraging(order_for, lambda *_: None, {}, roster=ROSTER, settings=settings)
    with task_identity():
        return [
            [
                m.metadata.dst_node_id
                for m in strategy.configure_train(
                    number, w.to_record(MODEL), ConfigRecord(), Nodes()
                )
            ]
            for number in range(1, rounds + 1)
        ]


def test_everyone_is_asked_unless_it_says_otherwise() -> None:
    assert asked(RunSettings.of(stores=3), 2) == [[11, 12, 13]] * 2


@pytest.mark.parametrize("seed", [None, 7])
def test_a_share_of_the_stores_is_drawn_anew_for_each_round(seed: int | None) -> None:
    settings = RunSettings.of(stores=3, participation=0.4, seed=seed)
    drawn = asked(settings, 40)
    assert all(len(nodes) == 1 for nodes in drawn)
    assert {node for (node,) in drawn} == {11, 12, 13}
    assert (asked(settings, 40) == drawn) == (seed is not None)


def test_fewer_than_the_quorum_are_no_round() -> None:
    settings = RunSettings.of(stores=3, quorum=3)
    strategy = StoreAveraging(
        order_for, lambda *_: None, {"a": 1.0, "b": 1.0}, roster=ROSTER, settings=settings
    )
    with task_identity():
        sent = list(strategy.configure_train(1, w.to_record(MODEL), ConfigRecord(), Nodes()))
        replies = [reply_to(sent[0], "a", update()), reply_to(sent[1], "b", update())]
        with pytest.raises(RunError, match="Only 2 of the 3 stores that a round takes"):
            strategy.aggregate_train(1, replies)


# -- history --------------------------------------------------------------------------------------


def test_a_manifest_names_the_one_before_and_holds_what_stores_signed() -> None:
    seen: list[dict[str, Any]] = []
    history = History("5" * 64)
    strategy = averaging(lambda _n, manifest, _after: seen.append(manifest), history)
    with task_identity():
        sent = list(strategy.configure_train(1, w.to_record(MODEL), ConfigRecord(), Nodes()))
        order = protocol.order_from(sent[0].content[protocol.CONFIG])
        strategy.aggregate_train(1, [reply_to(sent[0], "a", update(), history="5" * 64)])
    assert order.history == seen[0]["prev"] == "5" * 64
    assert history.head == canonical_hash(seen[0])
    assert history.ledgers == {"a": LedgerHead(**LEDGER)}
    told = seen[0]["stores"]["a"]
    signed = Signed(rfc8785.dumps(told["statement"]), bytes.fromhex(told["signature"]))
    assert signed.verified(ROSTER).update_sha256 == told["update_sha256"]


@pytest.mark.parametrize(
    ("now", "gone"),
    [
        ({"entries": 3, "hash": "8" * 64}, False),
        ({"entries": 2, "hash": "8" * 64}, True),
        ({"entries": 1, "hash": "7" * 64}, True),
        ({"entries": 0, "hash": "0" * 64}, True),
    ],
)
def test_a_store_whose_ledger_went_back_does_not_count(now: dict[str, Any], gone: bool) -> None:
    history = History(ledgers={"b": LedgerHead(entries=2, hash="7" * 64)})
    stores, _ = aggregate(
        good("a"), lambda m: reply_to(m, "b", update(), ledger=now), history=history
    )
    assert history.ledgers["b"].entries == (2 if gone else 3), "what it refused is not forgotten"
    assert ("they are gone" in (stores["b"]["reason"] or "")) == gone
    assert stores["b"]["status"] == ("failed" if gone else "trained")


def test_a_private_round_that_the_ledger_does_not_know_does_not_count() -> None:
    history = History(ledgers={"b": LedgerHead(entries=2, hash="7" * 64)})
    same = {"entries": 2, "hash": "7" * 64}
    stores, _ = aggregate(
        good("a"), lambda m: reply_to(m, "b", update(), ledger=same), history=history
    )
    assert "no entry for this round" in stores["b"]["reason"]
    nothing = {"entries": 0, "hash": FIRST}
    stores, _ = aggregate(good("a"), lambda m: reply_to(m, "b", update(), ledger=nothing))
    assert "no entry for this round" in stores["b"]["reason"]


FAKES: dict[str, Callable[[Message], Message]] = {
    "another's key": lambda m: reply_to(m, "b", update(), signer="c"),
    "an old answer of its own": lambda m: reply_to(m, "b", update(), round=2),
}


@pytest.mark.parametrize("kind", FAKES)
def test_nobody_takes_a_stores_place_by_answering_first_in_its_name(kind: str) -> None:
    stores, after = aggregate(FAKES[kind], good("b"), good("c"))
    assert stores["b"]["status"] == stores["c"]["status"] == "trained"
    (fake,) = [facts for facts in stores.values() if facts["status"] == "failed"]
    assert "update rejected" in fake["reason"]
    assert np.allclose(after["a"] - MODEL["a"], 0.1)


# -- some may be poisoned -------------------------------------------------------------------------

TRIMMED = RunSettings.of(stores=3, aggregation="trimmed_mean", malicious_stores=1)
"""One of three may be poisoned: it takes all three, or to know which one it is."""

MADE_UP = {
    "not a number",
    "another model",
    "another hash",
    "another round",
    "another run",
    "another history",
    "an update that is named and did not come",
}


@pytest.mark.parametrize("kind", sorted(MADE_UP))
def test_who_signs_what_no_honest_store_sends_is_the_poisoned_one(kind: str) -> None:
    other = {name: 3 * array for name, array in update().items()}
    stores, after = aggregate(
        good("a"), BAD[kind][0], lambda m: reply_to(m, "c", other), settings=TRIMMED
    )
    assert stores["b"]["status"] == "failed"
    assert np.allclose(after["a"] - MODEL["a"], 0.2), "nobody else has to be left out"


@pytest.mark.parametrize("kind", sorted(BAD.keys() - MADE_UP))
def test_whoever_may_be_honest_is_not_taken_for_the_poisoned_one(kind: str) -> None:
    """An accident, or another store's name: the poisoned one may still be among the two that answered."""
    with pytest.raises(RunError, match="2 stores answered, of whom 1 may be poisoned"):
        aggregate(good("a"), BAD[kind][0], good("c"), settings=TRIMMED)


def test_a_store_that_lost_its_ledger_is_not_taken_for_the_poisoned_one() -> None:
    history = History(ledgers={"b": LedgerHead(entries=2, hash="7" * 64)})
    with pytest.raises(RunError, match="2 stores answered, of whom 1 may be poisoned"):
        aggregate(good("a"), good("b"), good("c"), history=history, settings=TRIMMED)


def test_repeating_what_another_store_signed_exposes_nobody_who_answered() -> None:
    """Else one store that repeats old answers of others would switch off what holds against it."""
    old = FAKES["an old answer of its own"]
    with pytest.raises(RunError, match="2 stores answered, of whom 1 may be poisoned"):
        aggregate(old, good("b"), good("c"), settings=TRIMMED)


def test_a_number_that_has_no_one_encoding_is_no_statement() -> None:
    """Written as an integer above 2^53 it could not be read back: the manifest would have no hash."""

    def huge(message: Message) -> Message:
        honest = reply_to(message, "b", None)
        text = protocol.signed_from(honest.content).text
        forged = text.replace(b'"epsilon":null', b'"epsilon":10000000000000000')
        assert forged != text
        signed = Signed(forged, KEYS["b"].sign(b"privemo.statement/1\n" + forged))
        content = RecordDict({protocol.MANIFEST: protocol.signed_record(signed)})
        return Message(content, reply_to=message)

    stores, _ = aggregate(good("a"), huge)
    (bad,) = [facts for facts in stores.values() if facts["status"] == "failed"]
    assert "malformed" in bad["reason"]
