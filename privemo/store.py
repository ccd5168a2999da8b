"""One store: the vault of faces, the consent registry, the ledger and the outbox on its own machine.

A store has no face table. Faces stand in the vault of its registry, each sealed under the key of its
person, and come out through the gate alone (`privemo.capture`).

Nothing here runs on the server. What leaves is an update (a difference of weights, noised), the
root of the consent log, and a reason when the store does not take part.

A round goes: lock the store -> is the order sane? -> already released? send the same bytes again -> would
the budget hold? -> has the network the layers that stay? -> gate -> enough people? -> train, asking the gate
before every batch -> outbox -> ledger -> reply (`privemo.outbox` for what leaves and what it costs).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from privemo import weights as w
from privemo.agreement import check_agreed
from privemo.dp import GaussianNoise
from privemo.errors import (
    BudgetExhausted,
    Diverged,
    LedgerLost,
    NoFacesAdmitted,
    RunError,
    SettingsError,
    TooFewPeople,
)
from privemo.faces import Faces
from privemo.machine import tuned
from privemo.orders import PlainRecipe, PrivateRecipe, RoundOrder, check_order, order_digest
from privemo.personal import own_of
from privemo.records import state
from privemo.statements import Signed
from privemo.storeheldout import StoreHeldOut
from privemo.training import PermittedNow, Randomness, train_plain, train_private
from privemo_consent import Purpose, UnknownPersonError

__all__ = ["REASONS", "Released", "RoundResult", "Store", "threads_of"]

FLOOR_OF_PEOPLE = 2
"""Without privacy a store still needs this many people: one person's model is that person's data."""


REASONS: dict[type[Exception], str] = {
    BudgetExhausted: "budget_exhausted",
    LedgerLost: "ledger_lost",
    NoFacesAdmitted: "no_faces",
    TooFewPeople: "too_few_people",
    SettingsError: "recipe_refused",
    Diverged: "recipe_refused",
}
"""What a store answers, and no more, where it does not take part."""


@dataclass(frozen=True)
class Released:
    """What leaves for an order, or the reason why nothing does."""

    reason: str | None
    data: bytes | None


@dataclass(frozen=True)
class RoundResult:
    """What a store answers: an update or none, and what it states, with the reason if there is none."""

    update: w.Weights | None
    signed: Signed

    @property
    def reason(self) -> str | None:
        """Why there is no update."""
        return self.signed.unverified().reason

    @property
    def update_sha256(self) -> str | None:
        """Hash of the update, as the ledger has it."""
        return self.signed.unverified().update_sha256


class Store(StoreHeldOut):
    """The private side of one store.

    Args:
        folder: holds `store.json`, `consent.sqlite` and its keys; everything else is written there.

    Raises:
        RunError: the folder is incomplete, or was made by another version.
        SettingsError: its keys need a passphrase, and nobody gave one (`privemo.unlocking`).
        privemo_consent.ConsentError: the registry or its key folder cannot be opened.
    """

    _drew = False
    """Whether people were drawn for the order at hand: from then on also a refusal tells of them."""

    # -- one round ---------------------------------------------------------------------------

    def train_round(self, weights: w.Weights, order: RoundOrder) -> RoundResult:
        """Take part in a round, or say why not. Refusals are answers, not errors, and signed.

        Raises:
            SettingsError: the order makes no sense; nobody signs an answer to that.
            LedgerError: the ledger is damaged or cannot be written; nothing was released.
            RunError: the store has no key, or another process trains it.
        """
        self.check_sense(order)
        model_in = w.sha256(weights)
        with self.alone():
            if isinstance(order.recipe, PrivateRecipe) and order.recipe.noise == "distributed":
                self._note(order, "SettingsError", "shared noise is asked for by secure sums alone")
                return RoundResult(None, self.stated(order, model_in, reason="recipe_refused"))
            released = self.release_of(
                order, model_in, lambda: w.to_bytes(self._train(weights, order, model_in))
            )
            if released.data is None:
                return RoundResult(None, self.stated(order, model_in, reason=released.reason))
            self.personal.settle()
            update = w.from_bytes(released.data)
            return RoundResult(update, self.stated(order, model_in, update_sha256=w.sha256(update)))

    def check_sense(self, order: RoundOrder) -> None:
        """Let an order pass whose values are of the right kind and within limits.

        Raises:
            SettingsError: they are not; noted.
        """
        try:
            check_order(order)
        except SettingsError as error:
            self._note(order, "SettingsError", str(error))
            raise

    def stated(
        self,
        order: RoundOrder,
        model_in: str,
        *,
        reason: str | None = None,
        update_sha256: str | None = None,
    ) -> Signed:
        """Write down what this store did in a round, and sign it.

        Args:
            order: of the round.
            model_in: hash of the model it was for.
            reason: why nothing was released.
            update_sha256: of what was.

        Raises:
            LedgerError: it cannot be written down.
            RunError: the store has no key.
        """
        return state(
            self.folder,
            self.config.name,
            order,
            model_in,
            consent_log_root=self.registry.log_root(),
            ledger=self.ledger,
            reason=reason,
            update_sha256=update_sha256,
        )

    def release_of(
        self, order: RoundOrder, model_in: str, make: Callable[[], bytes], *, again: bool = True
    ) -> Released:
        """What leaves for an order: once made, written down and paid for, the same bytes again.

        Args:
            order: of the round.
            model_in: hash of the model it is for.
            make: makes the bytes, private as they are or by what happens to them next.
            again: send the same bytes for the same order; otherwise they are made and paid for each time, and
                nothing of them stays.

        Whatever else fails once people were drawn is paid for too: the server is told that it failed.

        Raises:
            LedgerError: the ledger is damaged or cannot be written; nothing was released.
        """
        self._drew = False
        try:
            self.check_order(order)
            self.outbox.check_ledger(order)
            data = self.outbox.released(order, model_in) if again else None
            if data is not None:
                return Released(None, data)
            self.check_budget(order)
            data = make()
        except tuple(REASONS) as refusal:
            if self._drew or isinstance(refusal, Diverged):  # which says it itself
                self.outbox.account_unsent(order)
            self._note(order, type(refusal).__name__, str(refusal))
            return Released(REASONS[type(refusal)], None)
        except RunError:
            raise  # what was made could not be written down: that hangs on the disk alone
        except Exception:
            if self._drew:  # its kind is told (memory, disk), and may have hung on who was drawn
                self.outbox.account_unsent(order)
            raise
        if again:
            self.outbox.release(order, model_in, data)
        else:
            self.outbox.account(order, sha256(data).hexdigest())
        return Released(None, data)

    def check_budget(self, order: RoundOrder) -> None:
        """Let an order pass that the budget still holds.

        Raises:
            BudgetExhausted: it does not.
        """
        if isinstance(order.recipe, PrivateRecipe):
            self.outbox.check_budget(order.recipe)

    def check_order(self, order: RoundOrder) -> None:
        """Hold an order against what this store agreed to, before anything is read or written.

        Raises:
            SettingsError: it is another than agreed.
        """
        check_agreed(self.config, order)

    def _train(self, weights: w.Weights, order: RoundOrder, model_in: str) -> w.Weights:
        own_of(order, weights)  # layers that the network lacks are refused before anyone is drawn
        self.personal.settle()
        start = self.personal.onto(
            weights, model=order.model, run_id=order.run_id, before=order.round
        )
        faces, model, chance, permitted_now = self.ready(start, order, model_in)
        with tuned(threads_of(order)):
            if not isinstance(order.recipe, PrivateRecipe):
                train_plain(model, faces, order.recipe, chance, permitted_now)
            elif order.recipe.noise == "local":
                train_private(model, faces, order.recipe, chance, permitted_now)
            else:
                raise SettingsError(
                    f"{self.config.name} shares its noise: it is asked by secure sums."
                )
        after = w.from_model(model)
        update = {name: after[name] - start[name] for name in after}
        if not all(np.isfinite(array).all() for array in update.values()):
            raise Diverged(
                f"{self.config.name}: this order drives the weights to infinity, and is paid for. "
                "Lower the learning rate, or the pull towards the model before."
            )
        return self.personal.split(model, update, order)

    def ready(
        self, weights: w.Weights, order: RoundOrder, model_in: str
    ) -> tuple[Faces, nn.Module, Randomness, PermittedNow]:
        """What training takes: faces that the gate let through, the model, chance, and whom to ask again.

        Raises:
            NoFacesAdmitted, TooFewPeople: there is nobody, or there are too few, to train on.
        """
        admitted = self._admit("train", order.run_id, order.round)
        self._check_people(len(np.unique(admitted.faces.person)), order.recipe)

        def permitted_now(batch: int, drawn: NDArray[np.str_]) -> NDArray[np.bool_]:
            return self._permitted_now(order, batch, drawn)

        chance = self._randomness(order_digest(order, model_in))
        return admitted.faces, w.model_for(order.model, weights), chance, permitted_now

    def _check_people(self, people: int, recipe: PrivateRecipe | PlainRecipe) -> None:
        needed = FLOOR_OF_PEOPLE
        if isinstance(recipe, PrivateRecipe):
            needed = max(needed, self.config.largest_step)
        if people < needed:
            raise TooFewPeople(
                f"{self.config.name} may train on {people} people, and its largest step expects "
                f"{needed}. Join stores, ask more people, or declare fewer people."
            )

    def _permitted_now(
        self, order: RoundOrder, batch: int, drawn: NDArray[np.str_]
    ) -> NDArray[np.bool_]:
        """Who of `drawn` may be used in this very batch (GDPR 7(3)); the use is logged, also of nobody.

        A draw that was empty, or of whom all have withdrawn, is a batch all the same: the audit asks for the
        uses of every round that was trained.
        """
        self._drew = True
        for person, round_, at_batch in self.config.withdrawals:
            if (round_, at_batch) == (order.round, batch):
                self._withdraw(person)
        while True:
            ok, seq = self._consistent_decision(drawn)
            try:
                self.registry.record_use(
                    drawn[ok],
                    Purpose.TRAINING,
                    run=order.run_id,
                    round=order.round,
                    store=self.config.name,
                    batch=batch,
                    log_seq=seq,
                )
            except UnknownPersonError:  # erased since the decision: ask again, without them
                continue
            return ok

    def _consistent_decision(self, drawn: NDArray[np.str_]) -> tuple[NDArray[np.bool_], int]:
        """Who may be used, and the length of the log that said so.

        A kiosk may append between the two reads; then the question is asked again, so that the use
        is logged against the very state that permitted it.
        """
        while True:
            seq = self.registry.log_seq
            ok = self.gate.still_permitted(drawn, Purpose.TRAINING, self.context)
            if self.registry.log_seq == seq:
                return ok, seq

    def _withdraw(self, person: str) -> None:
        """A simulated shopper changes their mind; once, also when a round is trained again."""
        if self.registry.preview(person, Purpose.TRAINING, self.context).permit:
            self.registry.withdraw(person)

    # -- chance ------------------------------------------------------------------------------

    def _randomness(self, order: str) -> Randomness:
        """Seeded only where the run asked for it; else from the operating system.

        The draw of people must stay secret as well: the amplification by sampling that the
        accountants count on holds only against someone who does not know who was drawn. Seeded noise
        hangs on the whole order and the model: equal noise under two orders would cancel out.
        """
        if self.config.seed is None:
            keys = [os.urandom(32), os.urandom(32)]
        else:
            named = f"{self.config.seed}/{self.config.name}/{order}"
            keys = [sha256(f"{part}/{named}".encode()).digest() for part in ("sampling", "noise")]
        return Randomness(np.random.default_rng(int.from_bytes(keys[0])), GaussianNoise(keys[1]))


class _Threaded(Protocol):
    @property
    def threads(self) -> int | None: ...


def threads_of(order: _Threaded) -> int | None:
    """As many threads as an order asks for, and no more than there are cores."""
    return min(order.threads, os.cpu_count() or 1) if order.threads else None
