"""The server's part of rounds in which stores share the noise: it learns sums, and steps with them.

Each round is one secure sum (`privemo.secagg`): five messages to every store, of which the third carries the
model and brings the masked numbers. Stores that fall silent on the way are left out and named; with too few
the round fails as a whole, and so does the run, which may be resumed.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from privemo import weights as w
from privemo.errors import RunError, SecureSumError
from privemo.flower import (
    ArrayRecord,
    ConfigRecord,
    Grid,
    Message,
    MetricRecord,
)
from privemo.history import History
from privemo.orders import PrivateRecipe, RoundOrder, order_digest
from privemo.patience import IN_ALL_S, STEP_S
from privemo.protocol import order_record
from privemo.secagg import Collector, Lattice, Session, needed
from privemo.secagg.gradients import lattice_of, step_against, trained_names
from privemo.secure_sum import KeptSum, SecureSum
from privemo.serverstep import ServerStep
from privemo.statements import Signed, Statement
from privemo.strategy import OrderFor, Round, StoreAveraging, WholeRound

__all__ = ["SecureAveraging"]


class SecureAveraging(StoreAveraging):
    """Steps with the sum of the stores' clipped gradients and of their shares of the noise.

    All stores count by the people in them: the sum is divided by the public number that a step expects of
    all.

    Args:
        order_for, on_whole_round, sizes, roster, history, first_round, step: as of `StoreAveraging`.
        pending: where a sum is kept from when all numbers are there until the round is whole: a server that
            was restarted in between goes on with it, and no store pays twice.
        may_drop: share of the stores without whom a round counts.
        round_timeout: seconds that a store has for its training; for another step `STEP_S` at most.
    """

    def __init__(
        self,
        order_for: OrderFor,
        on_whole_round: WholeRound,
        sizes: Mapping[str, float],
        *,
        roster: Mapping[str, bytes],
        history: History | None = None,
        may_drop: float,
        pending: Path,
        first_round: int = 1,
        step: ServerStep | None = None,
        round_timeout: float = IN_ALL_S,
    ) -> None:
        super().__init__(
            order_for,
            on_whole_round,
            sizes,
            roster=roster,
            history=history,
            first_round=first_round,
            step=step,
            round_timeout=round_timeout,
        )
        self.may_drop = may_drop
        self.pending = pending
        self.timeout = min(STEP_S, round_timeout)
        """Seconds that a store has for a step that is not training."""
        self._sum: SecureSum | None = None

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Steps 1 and 2 of the sum, and the messages of step 3: model, order and envelopes.

        Raises:
            SecureSumError: too few stores are there.
        """
        now = self._begin(server_round, arrays)
        self._sum = self._resumed(now, grid)
        if self._sum is not None:
            return []
        members = tuple(sorted(self.roster))
        session = Session(
            now.order.run_id,
            now.number,
            secrets.token_hex(16),
            order_digest(now.order, now.model_in),
            members,
            *needed(len(members), self.may_drop),
        )
        lattice = _lattice(now.order, now.weights, len(members))
        collector = Collector(session, self.roster, lattice.parameters)
        self._sum = SecureSum(grid, collector, lattice, self.timeout)
        self._sum.gather_keys(order_record(now.order))
        self._sum.gather_envelopes()
        return self._sum.training_messages(arrays, now.order, self.round_timeout)

    def _resumed(self, now: Round, grid: Grid) -> SecureSum | None:
        """The sum that was under way when the server stopped, if it is of this very order and model."""
        if not self.pending.exists():
            return None
        kept = KeptSum.read(self.pending, self.roster)
        session = kept.collector.session
        if (session.run_id, session.order, kept.round, kept.model_in) != (
            now.order.run_id,
            order_digest(now.order, now.model_in),
            now.number,
            now.model_in,
        ):
            return None
        lattice = _lattice(now.order, now.weights, len(self.roster))
        return SecureSum(grid, kept.collector, lattice, self.timeout, stores=kept.stores)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Steps 4 and 5, and the server's step with the sum.

        Raises:
            SecureSumError: too few stores are left; nothing was unmasked.
            RunError: the model went to infinity.
        """
        now, one = self._round, self._sum
        if now is None or one is None:
            raise RunError("Replies arrived for a round that was never ordered.")
        if not one.resumed:
            heard: list[Statement] = []

            def check(signed: Signed) -> Statement:
                heard.append(self.check_statement(signed, now))
                self.history.hear(heard[-1:])  # at once: the server may die while it waits
                return heard[-1]

            try:
                one.take_vectors(replies, check)
            finally:  # they have paid: what could not be written down ends the round
                self.history.hear(heard)
            KeptSum(now.number, now.model_in, one.stores, one.collector).write(self.pending)
        try:
            one.confirm()
            total = one.lattice.decode(one.unmask())
        except (RunError, SecureSumError):
            if one.resumed:  # twice is enough: the next try begins anew
                self.pending.unlink(missing_ok=True)
            raise
        recipe, names = _private(now.order), _trained(now.order, now.weights)
        update = step_against(total, recipe, len(self.roster), now.weights, names)
        whole = self._step(now, update, one.manifest())
        self.pending.unlink(missing_ok=True)
        return whole


def _private(order: RoundOrder) -> PrivateRecipe:
    if not isinstance(order.recipe, PrivateRecipe):
        raise RunError("Stores that share the noise train privately.")
    return order.recipe


def _trained(order: RoundOrder, model: w.Weights) -> list[str]:
    return trained_names(w.model_for(order.model, model))


def _lattice(order: RoundOrder, model: w.Weights, stores: int) -> Lattice:
    arrays = {name: model[name] for name in _trained(order, model)}
    return lattice_of(_private(order), stores, arrays)
