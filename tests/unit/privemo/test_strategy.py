"""What the server lets count: the threat is a store that sends rubbish, or lies."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privemo import protocol
from privemo import weights as w
from privemo.config import RunSettings
from privemo.errors import RunError, UpdateRejected
from privemo.flower import Array, ConfigRecord, Error, Message, RecordDict
from privemo.grid import _task_identity
from privemo.orders import PlainRecipe, PrivateRecipe, RoundOrder
from privemo.serverstep import ServerStep
from privemo.strategy import StoreAveraging, check_update, norm_bound

MODEL: w.Weights = {"a": np.zeros((2, 3), np.float32), "b": np.ones(4, np.float32)}

RECIPE = PrivateRecipe(
    noise_multiplier=1.0,
    sample_rate=0.25,
    steps=10,
    max_grad_norm=1.0,
    normaliser=25.0,
    lr=0.1,
    momentum=0.9,
)


def update(**changes: object) -> w.Weights:
    made: dict[str, object] = {
        "a": np.full((2, 3), 0.1, np.float32),
        "b": np.full(4, -0.1, np.float32),
    }
    made.update(changes)
    return {k: v for k, v in made.items() if v is not None}  # type: ignore[misc]


def test_an_honest_update_passes() -> None:
    check_update(update(), MODEL, bound=1.0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"b": None}, "parameters differ: b"),
        ({"c": np.zeros(1, np.float32)}, "parameters differ: c"),
        ({"a": np.zeros((3, 2), np.float32)}, r"a is float32\[3, 2\], expected float32\[2, 3\]"),
        ({"a": np.zeros((2, 3), np.float64)}, "a is float64"),
        ({"b": np.array([0, np.nan, 0, 0], np.float32)}, "b holds NaN"),
        ({"b": np.array([0, np.inf, 0, 0], np.float32)}, "b holds NaN or infinity"),
        ({"b": np.full(4, 1e6, np.float32)}, "over the bound"),
        ({"b": np.full(4, 3e38, np.float32)}, "over the bound"),
    ],
)
def test_a_poisoned_update_is_rejected_with_the_reason(
    changes: dict[str, object], says: str
) -> None:
    with pytest.raises(UpdateRejected, match=says):
        check_update(update(**changes), MODEL, bound=1.0)


@given(scale=st.floats(0.0, 10.0))
def test_the_bound_is_the_euclidean_norm(scale: float) -> None:
    a = np.zeros((2, 3), np.float32)
    a[0, 0] = scale
    made = {"a": a, "b": np.zeros(4, np.float32)}
    if float(a[0, 0]) <= 2.0:
        check_update(made, MODEL, bound=2.0)
    else:
        with pytest.raises(UpdateRejected):
            check_update(made, MODEL, bound=2.0)


def test_the_bound_follows_public_numbers_alone() -> None:
    order = RoundOrder("r", 1, "emotion-cnn", RECIPE)
    signal_and_noise = 3.0 + 1.0 * math.sqrt(10_000) / 25.0
    assert norm_bound(order, 10_000) == pytest.approx(2 * 0.1 * 10 * signal_and_noise / 0.1)
    adam = RoundOrder("r", 1, "emotion-cnn", dataclasses.replace(RECIPE, optimizer="adam"))
    assert norm_bound(adam, 10_000) == pytest.approx(2 * 3.2 * 0.1 * 10 * 100)
    plain = RoundOrder("r", 1, "emotion-cnn", PlainRecipe(1, 8, 0.1, 0.0))
    assert math.isfinite(norm_bound(plain, 10_000))


# -- replies --------------------------------------------------------------------------------------


def order_for(number: int) -> RoundOrder:
    return RoundOrder("r", number, "emotion-cnn", RECIPE)


class Nodes:
    """As much of a grid as ordering a round needs."""

    def get_node_ids(self) -> list[int]:
        return [11, 12, 13]


def reply_to(message: Message, store: str, made: w.Weights | None, **changes: object) -> Message:
    declared = {
        "store": store,
        "reason": "" if made else "no_faces",
        "update-sha256": w.sha256(made) if made else "",
        "model-in": w.sha256(MODEL),
        "consent-log-root": "0" * 64,
        **changes,
    }
    content = RecordDict({protocol.MANIFEST: ConfigRecord(declared)})  # type: ignore[arg-type]
    if made is not None:
        content[protocol.UPDATE] = w.to_record(made)
    return Message(content, reply_to=message)


def aggregate(*answers: Callable[[Message], Message]) -> tuple[dict[str, Any], w.Weights]:
    """What one round makes of the answers of its nodes."""
    seen: dict[str, Any] = {}

    def keep(number: int, manifest: dict[str, Any], after: w.Weights) -> None:
        seen.update(manifest=manifest, after=after)

    strategy = StoreAveraging(order_for, keep, {"a": 10.0, "b": 10.0, "c": 20.0})
    with _task_identity():
        sent = list(strategy.configure_train(1, w.to_record(MODEL), ConfigRecord(), Nodes()))
        strategy.aggregate_train(1, [answer(m) for answer, m in zip(answers, sent, strict=False)])
    manifest = seen["manifest"]
    assert set(manifest["stores"]) <= {"a", "b", "c"}, "whoever else answers stands apart"
    return {**manifest["stores"], **manifest.get("others", {})}, seen["after"]


def good(store: str) -> Callable[[Message], Message]:
    return lambda message: reply_to(message, store, update())


def test_the_average_uses_the_sizes_the_server_knows() -> None:
    other = {name: 3 * array for name, array in update().items()}
    stores, after = aggregate(good("a"), lambda m: reply_to(m, "c", other))
    assert {s["status"] for s in stores.values()} == {"trained"}
    expected = (10 * 0.1 + 20 * 0.3) / 30
    assert np.allclose(after["a"] - MODEL["a"], expected)


def no_manifest(message: Message) -> Message:
    return Message(RecordDict({"junk": ConfigRecord({"x": 1})}), reply_to=message)


def junk_arrays(message: Message) -> Message:
    answer = reply_to(message, "b", update())
    arrays = answer.content[protocol.UPDATE]
    arrays["a"] = Array(dtype="float32", shape=(2, 3), stype="numpy.ndarray", data=b"junk")
    return answer


BAD: dict[str, tuple[Callable[[Message], Message], str]] = {
    "no manifest": (no_manifest, "malformed reply"),
    "half a manifest": (
        lambda m: Message(
            RecordDict({protocol.MANIFEST: ConfigRecord({"store": "b"})}), reply_to=m
        ),
        "malformed reply",
    ),
    "junk arrays": (junk_arrays, "malformed reply"),
    "an error": (lambda m: Message(Error(2, "x" * 5000), reply_to=m), "error: xxx"),
    "not a number": (
        lambda m: reply_to(m, "b", update(a=np.full((2, 3), np.nan, np.float32))),
        "NaN",
    ),
    "another model": (
        lambda m: reply_to(m, "b", update(), **{"model-in": "1" * 64}),
        "another model",
    ),
    "another hash": (
        lambda m: reply_to(m, "b", update(), **{"update-sha256": "1" * 64}),
        "not the update",
    ),
    "an unknown store": (lambda m: reply_to(m, "mallory", update()), "no such store"),
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
        step=step,
    )
    with _task_identity():
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
