"""Aggregation on the server: validates, bounds and averages the stores' updates.

An update is data from outside. Before it counts it must carry the names, shapes and type of the
model, be finite, and stay within a norm that follows from public numbers alone. One bad store is left
out of the round and named; the federation goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from privemo import protocol
from privemo import weights as w
from privemo.config import RunSettings
from privemo.errors import RunError, UpdateRejected
from privemo.flower import (
    ArrayRecord,
    ConfigRecord,
    Grid,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
    Strategy,
)
from privemo.orders import PrivateRecipe, RoundOrder
from privemo.serverstep import ServerStep

__all__ = ["Round", "StoreAveraging", "check_update", "named_and_others", "norm_bound"]

OrderFor = Callable[[int], RoundOrder]
WholeRound = Callable[[int, dict[str, Any], w.Weights], None]


@dataclass
class Round:
    """What is known of the round in progress."""

    number: int
    started: datetime
    order: RoundOrder
    weights: w.Weights
    model_in: str


class StoreAveraging(Strategy):
    """The server's step with the average of updates, sum(weight * update) / sum(weight), by public weights.

    The weights are the public sizes that the server itself knows, not the number of faces used (Flower's
    own `FedAvg` weighs by `num-examples`, which tells the server how many people agreed), and not what
    a reply says of itself: one store could claim all the weight.

    Args:
        order_for: the order of a round; rounds count from 1 over the whole run, resumed or not.
        sizes: for each store of the run its public size.
        on_whole_round: called with the round's manifest and the new weights once a round is whole.
        first_round: where to go on after an interruption.
        step: from the model and the average update to the next model; adds the update by default.
    """

    def __init__(
        self,
        order_for: OrderFor,
        on_whole_round: WholeRound,
        sizes: Mapping[str, float],
        *,
        first_round: int = 1,
        step: ServerStep | None = None,
    ) -> None:
        self.order_for = order_for
        self.on_whole_round = on_whole_round
        self.sizes = dict(sizes)
        self.first_round = first_round
        self.step = step or ServerStep(RunSettings())
        self._round: Round | None = None

    def summary(self) -> None:
        """Nothing to print: progress is shown by whoever listens."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The same model and the same order for every store."""
        now = self._begin(server_round, arrays)
        record = protocol.order_record(now.order)
        return [
            Message(
                RecordDict({protocol.ARRAYS: arrays, protocol.CONFIG: record}),
                dst_node_id=node,
                message_type=MessageType.TRAIN,
                group_id=str(now.number),
            )
            for node in sorted(grid.get_node_ids())
        ]

    def _begin(self, server_round: int, arrays: ArrayRecord) -> Round:
        number = self.first_round + server_round - 1
        order, weights = self.order_for(number), w.from_record(arrays)
        self._round = Round(number, datetime.now(UTC), order, weights, w.sha256(weights))
        return self._round

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average what passes; raise when nothing does.

        Raises:
            RunError: no store delivered a usable update.
        """
        if self._round is None:
            raise RunError("Replies arrived for a round that was never ordered.")
        now = self._round
        bound = norm_bound(now.order, sum(a.size for a in now.weights.values()))
        total: w.Weights = {name: np.zeros_like(a) for name, a in now.weights.items()}
        weight_sum = 0.0
        stores: dict[str, dict[str, Any]] = {}
        # Sorted by store, so that the floating-point sum does not depend on who answered first.
        for reply in sorted(map(_read, replies), key=lambda reply: reply.name):
            update = self._judge(reply, stores, now, bound)
            if update is not None:
                weight_sum += self.sizes[reply.name]
                for key, array in update.items():
                    total[key] += np.float32(self.sizes[reply.name]) * array
        if weight_sum == 0.0:
            reasons = "; ".join(f"{name}: {s['reason']}" for name, s in stores.items()) or "silence"
            raise RunError(f"No store could train in round {now.number} ({reasons}).")
        share = np.float32(1.0 / weight_sum)
        return self._step(
            now, {k: share * a for k, a in total.items()}, named_and_others(stores, self.sizes)
        )

    def _step(
        self, now: Round, update: w.Weights, told: dict[str, Any]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The server's step, and the round is whole: `told` is what its manifest says of the stores."""
        after = self.step(now.number, now.weights, update)
        if not all(np.isfinite(array).all() for array in after.values()):
            raise RunError(
                f"Round {now.number} drove the model to infinity; lower the learning rate."
            )
        manifest = {
            "schema": "privemo.round/1",
            "run_id": now.order.run_id,
            "round": now.number,
            "started": _utc(now.started),
            "finished": _utc(datetime.now(UTC)),
            "model_in": now.model_in,
            "model_out": w.sha256(after),
            **self._memory(),
            **told,
        }
        self.on_whole_round(now.number, manifest, after)
        return w.to_record(after), None

    def _memory(self) -> dict[str, str]:
        """Names of what the server keeps besides the model, if anything."""
        state, average = self.step.state(), self.step.average
        return {
            **({"model_average": w.sha256(average)} if average else {}),
            **({"server_state": w.sha256(state)} if state else {}),
        }

    def _judge(
        self, reply: _Reply, stores: dict[str, dict[str, Any]], now: Round, bound: float
    ) -> w.Weights | None:
        """Enter a reply into the manifest's `stores`; its update, if it counts."""
        name, facts = reply.name, reply.facts
        if reply.update is not None:
            try:
                if name not in self.sizes:
                    raise UpdateRejected("no such store takes part in this run")
                if name in stores:
                    raise UpdateRejected("this store answered before")
                if facts["model_in"] != now.model_in:
                    raise UpdateRejected("it starts from another model")
                check_update(reply.update, now.weights, bound=bound)
                if w.sha256(reply.update) != facts["update_sha256"]:
                    raise UpdateRejected("it is not the update that its manifest names")
            except UpdateRejected as rejected:
                facts = {**facts, "status": "failed", "reason": f"update rejected: {rejected}"}
                reply = _Reply(name, facts, None)
        # Someone who takes another store's name does not overwrite what that store said.
        entry = name if name in self.sizes and name not in stores else f"{name} ({facts['node']})"
        stores[entry] = {key: facts[key] for key in _KEPT}
        return reply.update

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Nothing: an accuracy on private faces would be a release that nobody accounted for."""
        return []

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Nothing was asked, so nothing comes."""
        return None


def check_update(update: w.Weights, model: w.Weights, *, bound: float) -> None:
    """Let an update pass, or say what is wrong with it.

    Raises:
        UpdateRejected: other names, shapes or type than the model, not finite, or longer than `bound`.
    """
    if set(update) != set(model):
        odd = sorted(set(update) ^ set(model))[:3]
        raise UpdateRejected(f"parameters differ: {', '.join(odd)}")
    for name, array in update.items():
        if array.shape != model[name].shape or array.dtype != np.float32:
            raise UpdateRejected(
                f"{name} is {array.dtype}{list(array.shape)}, "
                f"expected float32{list(model[name].shape)}"
            )
        if not np.isfinite(array).all():
            raise UpdateRejected(f"{name} holds NaN or infinity")
    norm = math.sqrt(sum(float(np.vdot(a, a)) for a in update.values()))
    if norm > bound:
        raise UpdateRejected(f"its norm {norm:.3g} is over the bound {bound:.3g}")


def norm_bound(order: RoundOrder, parameters: int) -> float:
    """Twice the norm that an honest update can be expected to stay under, from public numbers.

    A private step moves the model by lr * (clipped sum + noise) / normaliser. The clipped sum has at most
    the norm of 3 normal batches of people, all agreeing; the noise has norm
    noise_multiplier * max_grad_norm * sqrt(parameters). Momentum adds at most 1 / (1 - momentum). Adam
    divides by what it has seen: none of its steps moves a parameter by more than about 3.2 learning rates
    (Kingma & Ba 2015, section 2.1).
    """
    recipe = order.recipe
    if not isinstance(recipe, PrivateRecipe):
        return 1e3
    if recipe.optimizer == "adam":
        return 2 * 3.2 * recipe.lr * recipe.steps * math.sqrt(parameters)
    signal = 3 * recipe.max_grad_norm
    noise = (
        recipe.noise_multiplier * recipe.max_grad_norm * math.sqrt(parameters) / recipe.normaliser
    )
    return 2 * recipe.lr * recipe.steps * (signal + noise) / (1 - recipe.momentum)


def named_and_others(
    told: Mapping[str, dict[str, Any]], names: Collection[str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """What a manifest says of the stores of the run, and apart from them of whoever else answered."""
    others = {name: told[name] for name in sorted(told) if name not in names}
    stores = {name: told[name] for name in sorted(told) if name in names}
    return {"stores": stores, **({"others": others} if others else {})}


_KEPT = ("status", "reason", "update_sha256", "consent_log_root")


@dataclass(frozen=True)
class _Reply:
    """A reply, read: the store it names, the facts it states, and its update if there is one."""

    name: str
    facts: dict[str, Any]
    update: w.Weights | None


def _read(message: Message) -> _Reply:
    """Read a reply. Whatever is malformed becomes a failure of that node, never of the round."""
    node = f"node-{message.metadata.src_node_id}"
    facts: dict[str, Any] = {
        "node": node,
        "status": "failed",
        "reason": None,
        "update_sha256": None,
        "consent_log_root": None,
        "model_in": None,
    }
    if message.has_error():
        reason = f"error: {message.error.reason or message.error.code}"[:256]
        return _Reply(node, {**facts, "reason": reason}, None)
    try:
        declared = protocol.unpack_manifest(message.content)
        update = protocol.update_of(message.content)
    except Exception as error:
        reason = f"malformed reply: {error}"[:256]
        return _Reply(node, {**facts, "reason": reason}, None)
    facts |= {
        "update_sha256": declared["update-sha256"] or None,
        "consent_log_root": declared["consent-log-root"] or None,
        "model_in": declared["model-in"],
    }
    if update is None:
        facts |= {"status": "refused", "reason": declared["reason"] or "unstated"}
    else:
        facts |= {"status": "trained"}
    return _Reply(declared["store"], facts, update)


def _utc(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
