"""Aggregation on the server: validates, bounds and averages the stores' updates.

An update is data from outside. Before it counts it must carry the names, shapes and type of the
model, be finite, and stay within a norm that follows from public numbers alone. One bad store is left
out of the round and named; the federation goes on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from privemo import protocol
from privemo import weights as w
from privemo.aggregation import aggregator
from privemo.config import RunSettings
from privemo.errors import RunError, UpdateMadeUp, UpdateRejected
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
from privemo.history import History
from privemo.orders import PrivateRecipe, RoundOrder, order_digest
from privemo.patience import IN_ALL_S
from privemo.personal import own_of
from privemo.replies import (
    Heard,
    Reply,
    exposed,
    failed_entry,
    named_and_others,
    read_reply,
    told_entry,
    too_few,
)
from privemo.serverstep import ServerStep
from privemo.spool import Spool
from privemo.statements import Signed, Statement
from privemo.updates import check_update, norm_bound

__all__ = ["Round", "StoreAveraging"]

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
    own: frozenset[str] = frozenset()


class StoreAveraging(Strategy):
    """The server's step with what the updates are together: their mean, or what poisoned stores cannot move.

    The weights of the mean are the public sizes that the server itself knows, not the number of faces used
    (Flower's own `FedAvg` weighs by `num-examples`, which tells the server how many people agreed), and not
    what a reply says of itself: one store could claim all the weight. All stores of a run declare one size
    (`Run.sizes`), so they weigh the same; docs/adr/0005 says why people count alike all the same.

    Args:
        order_for: the order of a round; rounds count from 1 over the whole run, resumed or not.
        sizes: for each store of the run its public size.
        roster: for each store of the run its public key (Ed25519, 32 bytes).
        history: of the run so far; it goes on with every round.
        on_whole_round: called with the round's manifest and the new weights once a round is whole.
        first_round: where to go on after an interruption.
        step: from the model and the average update to the next model; adds the update by default.
        settings: of the run: how updates are put together, how many stores are asked, how many it takes.
        spool_in: where a round's updates are kept meanwhile (`privemo.spool`).
        round_timeout: seconds that a store has for its training. A message that is older is not delivered any
            more, nor is its answer.
    """

    def __init__(
        self,
        order_for: OrderFor,
        on_whole_round: WholeRound,
        sizes: Mapping[str, float],
        *,
        roster: Mapping[str, bytes],
        history: History | None = None,
        first_round: int = 1,
        step: ServerStep | None = None,
        settings: RunSettings | None = None,
        spool_in: Path | None = None,
        round_timeout: float = IN_ALL_S,
    ) -> None:
        self.round_timeout = round_timeout
        self.spool_in = spool_in
        self.settings = settings or RunSettings()
        self.order_for = order_for
        self.on_whole_round = on_whole_round
        self.sizes = dict(sizes)
        self.roster = dict(roster)
        self.history = history or History()
        self.first_round = first_round
        self.step = step or ServerStep(RunSettings())
        self._round: Round | None = None

    def summary(self) -> None:
        """Nothing to print: progress is shown by whoever listens."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The same model and the same order for every store that is asked."""
        now = self._begin(server_round, arrays)
        record = protocol.order_record(now.order)
        return [
            Message(
                RecordDict({protocol.ARRAYS: arrays, protocol.CONFIG: record}),
                dst_node_id=node,
                message_type=MessageType.TRAIN,
                group_id=str(now.number),
                ttl=self.round_timeout,
            )
            for node in self._asked(sorted(grid.get_node_ids()), now)
        ]

    def _asked(self, nodes: list[int], now: Round) -> list[int]:
        """All nodes, or as many as take part in a round, drawn by chance."""
        most, seed = self.settings.stores_a_round, self.settings.seed
        if self.settings.participation == 1 or most >= len(nodes):
            return nodes
        if seed is None:
            return sorted(random.SystemRandom().sample(nodes, most))
        return sorted(random.Random(f"{seed}/{now.number}").sample(nodes, most))  # noqa: S311 - repeatable

    def _begin(self, server_round: int, arrays: ArrayRecord) -> Round:
        number = self.first_round + server_round - 1
        weights = w.from_record(arrays)
        order = replace(
            self.order_for(number),
            history=self.history.head,
            ledgers={n: (k.entries, k.hash) for n, k in self.history.known().items()},
        )
        self._round = Round(
            number, datetime.now(UTC), order, weights, w.sha256(weights), own_of(order, weights)
        )
        return self._round

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Put together what passes; raise when too few do.

        Raises:
            RunError: fewer stores than the quorum delivered a usable update, or too few to tell which
                are poisoned.
        """
        if self._round is None:
            raise RunError("Replies arrived for a round that was never ordered.")
        now = self._round
        bound = norm_bound(now.order, sum(a.size for a in now.weights.values()))
        stores: dict[str, dict[str, Any]] = {}
        with Spool(now.weights, self.spool_in) as spool:
            together, counted = aggregator(self.settings, self.sizes, spool), set[str]()
            # Sorted by store, so that the floating-point sum does not depend on who answered first; and what
            # does not count comes last, so that nobody takes a store's place in its name.
            heard = self._hear(replies, now, bound, spool)
            for one in sorted(heard, key=lambda h: (h.statement is None, h.reply.name)):
                row = self._judge(one, stores)
                if row is not None:
                    counted.add(one.reply.name)
                    together.take(one.reply.name, row)
            if len(counted) < self.settings.quorum:
                self._name_silent(stores)
                raise RunError(too_few(now.number, len(counted), self.settings.quorum, stores))
            update = together.result(exposed(heard, counted))
        return self._step(now, update, named_and_others(stores, self.sizes))

    def _hear(
        self, replies: Iterable[Message], now: Round, bound: float, spool: Spool
    ) -> list[Heard]:
        """Read replies one after the other; updates that pass go to the disk, and none stays in memory.

        Raises:
            RunError: the disk is full.
        """
        heard: list[Heard] = []
        for reply in map(read_reply, replies):
            statement, row, fault, made_up = None, None, "", False
            try:
                if reply.signed is None:
                    fault = reply.failure or "unstated"
                else:
                    statement = self.check_statement(reply.signed, now)
                    # At once: it has paid, whatever becomes of its update, of the round, and of the server.
                    self.history.hear([statement])
                    update = _update_of(reply, statement, now, bound)
                    row = None if update is None else spool.add(update)
            except UpdateRejected as rejected:
                fault, made_up = f"update rejected: {rejected}", isinstance(rejected, UpdateMadeUp)
            heard.append(Heard(replace(reply, update=None), statement, fault, row, made_up))
        return heard

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
            "schema": "privemo.round/2",
            "run_id": now.order.run_id,
            "round": now.number,
            "prev": self.history.head,
            "started": _utc(now.started),
            "finished": _utc(datetime.now(UTC)),
            "model_in": now.model_in,
            "model_out": w.sha256(after),
            **self._memory(),
            **told,
        }
        self.history.take(
            manifest
        )  # before anything is written: what cannot be hashed is no manifest
        self.on_whole_round(now.number, manifest, after)
        return w.to_record(after), None

    def _memory(self) -> dict[str, str]:
        """Names of what the server keeps besides the model, if anything."""
        state, average = self.step.state(), self.step.average
        return {
            **({"model_average": w.sha256(average)} if average else {}),
            **({"server_state": w.sha256(state)} if state else {}),
        }

    def _judge(self, one: Heard, stores: dict[str, dict[str, Any]]) -> int | None:
        """Enter a reply into the manifest's `stores`; the row of its update, if it counts."""
        name, row = one.reply.name, None
        entry = failed_entry(one.fault)
        if one.statement is not None and one.reply.signed is not None:
            if name in stores:
                entry = failed_entry("update rejected: this store answered before")
            elif not one.fault:
                entry, row = told_entry(one.statement, one.reply.signed), one.row
        # Someone who takes another store's name does not overwrite what that store said.
        mine = name in self.sizes and name not in stores
        stores[name if mine else f"{name} ({one.reply.node})"] = entry
        return row

    def _name_silent(self, stores: dict[str, dict[str, Any]]) -> None:
        """Name who did not answer in time; where not all were asked, nobody knows which store that is."""
        if self.settings.participation == 1:
            stores |= {n: failed_entry("no answer") for n in self.sizes if n not in stores}

    def check_statement(self, signed: Signed, now: Round) -> Statement:
        """Let a statement pass that its store signed, of this very round.

        Raises:
            UpdateRejected: it does not.
        """
        statement = signed.verified(self.roster)
        if statement.model_in != now.model_in:
            raise UpdateMadeUp("it starts from another model")
        if (statement.run_id, statement.round, statement.history) != (
            now.order.run_id,
            now.number,
            now.order.history,
        ):
            raise UpdateMadeUp("it is of another round")
        if statement.order != order_digest(now.order, now.model_in):
            # An honest store of another version may have read the order otherwise.
            raise UpdateRejected("it is of another order")
        if statement.status == "trained":
            private = isinstance(now.order.recipe, PrivateRecipe)
            self.history.check(statement, private=private)
        return statement

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


def _update_of(reply: Reply, statement: Statement, now: Round, bound: float) -> w.Weights | None:
    """The update that a statement names; none where there is none."""
    if reply.update is None:
        if statement.update_sha256 is not None:
            raise UpdateMadeUp("it names an update that did not come with it")
        return None
    check_update(reply.update, now.weights, bound=bound, own=now.own)
    if w.sha256(reply.update) != statement.update_sha256:
        raise UpdateMadeUp("it is not the update that its manifest names")
    return reply.update


def _utc(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
