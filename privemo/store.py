"""One store: the vault of faces, the consent registry, the ledger and the outbox on its own machine.

A store has no face table. Faces stand in the vault of its registry, each sealed under the key of its
person, and come out through the gate alone (`privemo.capture`).

Nothing here runs on the server. What leaves is an update (a difference of weights, noised), the
root of the consent log, and a reason when the store does not take part.

A round goes: lock the store -> is the order sane? -> already released? send the same bytes again -> would
the budget hold? -> gate -> enough people? -> train, asking the gate before every batch -> outbox -> ledger
-> reply (`privemo.outbox` for what leaves and what it costs).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from privemo import heldout
from privemo import weights as w
from privemo.agreement import check_agreed
from privemo.capture import PURPOSE_OF, Admission, Part, asked, demographics, faces_of
from privemo.dp import GaussianNoise
from privemo.errors import (
    BudgetExhausted,
    LedgerLost,
    NoFacesAdmitted,
    RunError,
    SettingsError,
    TooFewPeople,
)
from privemo.faces import Faces
from privemo.files import append_line, read_json
from privemo.ledger import Ledger
from privemo.machine import tuned
from privemo.orders import PlainRecipe, PrivateRecipe, RoundOrder, check_order, order_digest
from privemo.outbox import Outbox
from privemo.personal import Personal
from privemo.records import state
from privemo.statements import Signed
from privemo.storeconfig import StoreConfig
from privemo.training import PermittedNow, Randomness, predict, train_plain, train_private
from privemo.unlocking import open_registry
from privemo_consent import (
    ConsentGate,
    Context,
    Erased,
    ItemKind,
    Purpose,
    RegistryBusyError,
    Setting,
    UnknownPersonError,
    Vault,
)

__all__ = ["REASONS", "Released", "RoundResult", "Store", "threads_of"]

TRIES = 5  # reads of a vault from which somebody is erased meanwhile

FLOOR_OF_PEOPLE = 2
"""Without privacy a store still needs this many people: one person's model is that person's data."""


REASONS: dict[type[Exception], str] = {
    BudgetExhausted: "budget_exhausted",
    LedgerLost: "ledger_lost",
    NoFacesAdmitted: "no_faces",
    TooFewPeople: "too_few_people",
    SettingsError: "recipe_refused",
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


class Store:
    """The private side of one store.

    Args:
        folder: holds `store.json`, `consent.sqlite` and its keys; everything else is written there.

    Raises:
        RunError: the folder is incomplete, or was made by another version.
        SettingsError: its keys need a passphrase, and nobody gave one (`privemo.unlocking`).
        privemo_consent.ConsentError: the registry or its key folder cannot be opened.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        content = read_json(self.folder / "store.json", schema="privemo.store/3")
        self.config = StoreConfig.of(**content)
        self.registry = open_registry(self.folder / "consent.sqlite", self.config.registry_mode)
        self.vault = Vault(self.registry)
        self.outbox = Outbox(self.folder, self.config)
        self.personal = Personal(self.folder)
        self.gate = ConsentGate(self.registry, challenge_age=self.config.challenge_age)
        self.context = Context(setting=Setting.RETAIL, jurisdiction=self.config.jurisdiction)
        self.forget_erased()  # a kiosk or a command may have erased somebody meanwhile

    def close(self) -> None:
        """Close the registry."""
        self.registry.close()

    @property
    def ledger(self) -> Ledger:
        """The store's ledger, read afresh and verified: what was read before may have been changed since."""
        return self.outbox.ledger

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

        Raises:
            LedgerError: the ledger is damaged or cannot be written; nothing was released.
        """
        try:
            self.check_order(order)
            self.outbox.check_ledger(order)
            data = self.outbox.released(order, model_in) if again else None
            if data is not None:
                return Released(None, data)
            self.check_budget(order)
            data = make()
        except tuple(REASONS) as refusal:
            self._note(order, type(refusal).__name__, str(refusal))
            return Released(REASONS[type(refusal)], None)
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
        start = self.personal.onto(weights, before=order.round)
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
            raise SettingsError(f"{self.config.name}: this order drives the weights to infinity.")
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

    # -- held-out faces ----------------------------------------------------------------------

    def write_predictions(
        self, weights: w.Weights, *, model: str, run_id: str, flip: bool = True
    ) -> int:
        """Read the held-out faces of those who agreed to a fairness audit; returns how many.

        By the model as this store has it, with its own layers (`privemo.personal`), if any. With `flip`
        each face and its mirror image are averaged. Of whom the model says no number it says nothing
        (`heldout.numbers_of`).

        Writes `predictions.csv` in the store's folder (AI Act 10(5): labels of groups have their own
        purpose and never leave with an update). Once `forget_demographics` was called, what was
        written before stays: it could not be written again.

        Raises:
            RunError: the file cannot be written.
        """
        path = self.folder / "predictions.csv"
        if self._demographics_are_gone() and path.exists():
            return heldout.count_rows(path)
        faces, columns = self._held_out(run_id)
        network = w.model_for(model, self.personal.onto(weights))
        probabilities = heldout.numbers_of(predict(network, faces.images, flip=flip))
        heldout.write_table(path, self.config.name, faces, columns, probabilities)
        # Whoever was erased since the gate let them through was looked for in the file of before.
        return len(faces) - self.forget_erased()

    def held_out_faces(self, run_id: str) -> Faces:
        """Held-out faces of whoever may be measured now, without anything sensitive; the use is logged.

        Raises:
            RunError: the decision cannot be written down.
        """
        try:
            admitted = self._admit("test", run_id, 0)
        except NoFacesAdmitted:
            return faces_of([])
        self._use_held_out(admitted.faces, admitted, run_id)
        return admitted.faces

    def _held_out(self, run_id: str) -> tuple[Faces, heldout.Columns]:
        """Faces that may be measured, and their sensitive columns; the use is logged."""
        try:
            admitted = self._admit("test", run_id, 0)
        except NoFacesAdmitted:
            return heldout.joined(faces_of([]), {}, self.config.sensitive)
        found = {}
        if self.config.sensitive:
            found = demographics(self.vault, self.gate, self.context)
        faces, columns = heldout.joined(admitted.faces, found, self.config.sensitive)
        self._use_held_out(faces, admitted, run_id)
        return faces, columns

    def _use_held_out(self, faces: Faces, admitted: Admission, run_id: str) -> None:
        if len(faces):
            self.registry.record_use(
                np.unique(faces.person),
                Purpose.FAIRNESS_AUDIT,
                run=run_id,
                round=0,
                store=self.config.name,
                batch=0,
                log_seq=admitted.log_seq,
            )

    def forget_demographics(self) -> int:
        """Delete the sensitive columns from the vault; returns how many items (AI Act 10(5)).

        For after the audit has what it needs: `predictions.csv` is read by it and no more.
        """
        return self.vault.delete(kind=ItemKind.DEMOGRAPHIC)

    def destroy_overdue(self) -> int:
        """Destroy what is due, faces of whoever withdrew above all; returns how many items (GDPR 5(1)(e)).

        Raises:
            privemo_consent.RegistryError, KeyFileError: what was not destroyed is due as before.
        """
        return self.registry.destroy_overdue().items

    def _demographics_are_gone(self) -> bool:
        return bool(self.config.sensitive) and not self.vault.counts()[ItemKind.DEMOGRAPHIC]

    # -- erasure -----------------------------------------------------------------------------

    def erase(self, persons: Sequence[str], *, cause: str = "request") -> Erased:
        """Erase people from registry and vault, backups included, and from this store's files.

        What a model learned of them before stays in it; its bound is epsilon.

        Raises:
            privemo_consent.UnknownPersonError: someone has no record; nothing changed.
            privemo_consent.RegistryError, KeyFileError: nothing was acknowledged; ask again.
            RunError: erased, but `predictions.csv` could not be written: call `forget_erased`.
        """
        done = self.registry.erase_many(persons, cause=cause)
        self.forget_erased()
        return done

    def forget_erased(self) -> int:
        """Take people without a record out of `predictions.csv`; returns how many rows went.

        The registry does so itself when it erases somebody; this is for what it could not reach then.

        Raises:
            RunError: the file cannot be written.
        """
        path = self.folder / "predictions.csv"
        if not path.exists():
            return 0
        return heldout.keep_persons(path, self.registry.persons())

    # -- the gate ----------------------------------------------------------------------------

    def _admit(self, part: Part, run_id: str, round_: int) -> Admission:
        purpose = PURPOSE_OF[part]
        admitted = self._ask(part, purpose)
        self._log_admission(admitted, purpose, run_id, round_)
        if not len(admitted.faces):
            raise NoFacesAdmitted(
                f"{self.config.name}: of {admitted.counts['asked']['faces']} faces the gate admitted "
                f"none for {purpose.value}; reasons: {admitted.reasons}."
            )
        return admitted

    def _ask(self, part: Part, purpose: Purpose) -> Admission:
        """Ask the gate about everyone; again when a kiosk erased somebody in between."""
        for attempt in range(1, TRIES + 1):
            sealed = asked(self.vault, part, self.config.turned_away.get(part, {}))
            try:
                return Admission.of(sealed, self.gate.admit(sealed, purpose, self.context))
            except RegistryBusyError:
                if attempt == TRIES:
                    raise
        raise AssertionError("unreachable")

    def _log_admission(
        self, admitted: Admission, purpose: Purpose, run_id: str, round_: int
    ) -> None:
        line = {
            "schema": "privemo.admission/1",
            "at": _utc(admitted.at),
            "run_id": run_id,
            "round": round_,
            "purpose": purpose.value,
            "log_seq": admitted.log_seq,
            **admitted.counts,
        }
        append_line(self.folder / "admissions.jsonl", line)

    def _note(self, order: RoundOrder, kind: str, text: str) -> None:
        append_line(
            self.folder / "refusals.jsonl",
            {"at": _utc(datetime.now(UTC)), "round": order.round, "kind": kind, "text": text},
        )

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

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Only one process trains a store: the budget is checked and spent under one lock.

        Raises:
            RunError: another one does.
        """
        with (self.folder / ".lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise RunError(
                    f"{self.config.name} is being trained by another process; wait for it to end."
                ) from error
            yield


class _Threaded(Protocol):
    @property
    def threads(self) -> int | None: ...


def threads_of(order: _Threaded) -> int | None:
    """As many threads as an order asks for, and no more than there are cores."""
    return min(order.threads, os.cpu_count() or 1) if order.threads else None


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
