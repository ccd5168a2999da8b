"""What leaves a store, and what it costs the people of the store.

An update is written to the outbox, then to the ledger, and leaves after that. The outbox makes a resend free:
the same bytes are one release, however often they travel.

| edge case | what happens |
|---|---|
| in the outbox and in the ledger | the same bytes again, at no cost |
| in the outbox, not in the ledger | it never left: trained anew, with the consents of that day |
| the bytes in the outbox were changed | the ledger does not know them: trained anew |
| the ledger holds other runs | all of them count, and so does what was spent elsewhere before |
| a person could be in more stores then than now | releases of then count for as many stores as then |
| an order is refused, or fails, after people were drawn for it | only that leaves, and it is paid for |
| what was made cannot be written down | nothing leaves, and nobody pays: that hangs on the disk alone |
| counts of people measured in other runs were released | they count: these may be trained on now |
"""

from __future__ import annotations

import secrets
from hashlib import sha256
from pathlib import Path

from privemo.dp import composed, spent
from privemo.errors import BudgetExhausted, LedgerLost
from privemo.files import write_bytes
from privemo.heldoutledger import FILE as HELD_OUT
from privemo.heldoutledger import HeldOutLedger
from privemo.ledger import FILE, MECHANISMS, Ledger
from privemo.orders import PrivateRecipe, RoundOrder, order_digest
from privemo.storeconfig import StoreConfig

__all__ = ["Outbox"]


class Outbox:
    """The updates of one store, with its ledger.

    Args:
        folder: of the store; holds `ledger.jsonl` and `outbox/`.
        config: of the store: its budget, and what was spent before.
    """

    def __init__(self, folder: Path, config: StoreConfig) -> None:
        self.folder, self.config = folder, config

    @property
    def ledger(self) -> Ledger:
        """Read afresh and verified: what was read before may have been changed since.

        Raises:
            LedgerError: it is damaged.
        """
        return Ledger(self.folder / FILE)

    def check_budget(self, recipe: PrivateRecipe) -> None:
        """Let a round pass whose releases the budget still holds.

        Raises:
            BudgetExhausted: it does not.
        """
        budget = self.config.epsilon_budget
        if budget is None:
            raise BudgetExhausted(f"{self.config.name} has no privacy budget at all.")
        times, now = self.config.stores_in, self.config.run_id
        measured = HeldOutLedger(self.folder / HELD_OUT).entries
        # Whoever is trained on now may have been measured in an earlier run; in this one they are others.
        earlier = [(e.run_id, e.released) for e in measured if e.run_id != now]
        trained = [(e.run_id, e.released) for e in self.ledger.entries]
        released = [*earlier, *trained, (now, recipe.mechanism)]
        mine = [one.times(times(run_id)) for run_id, one in released]
        after = composed(
            [*self.config.spent_before, *mine],
            delta=self.config.delta,
            accountant=self.config.accountant,
        )
        if not after <= budget:
            raise BudgetExhausted(
                f"{self.config.name}: the next round would bring epsilon to {after:.3f}, over the "
                f"budget of {budget:g}. The people of this store give no more."
            )

    def check_ledger(self, order: RoundOrder) -> None:
        """Let an order pass whose server knows of nothing that this ledger lacks.

        Raises:
            LedgerLost: entries are gone.
        """
        known = order.ledgers.get(self.config.name)
        if known is not None and not self.ledger.goes_through(*known):
            raise LedgerLost(
                f"{self.config.name} had {known[0]} ledger entries when it last took part, and they are "
                "gone. Restore ledger.jsonl from a backup: what was spent stays spent."
            )

    def released(self, order: RoundOrder, model_in: str) -> bytes | None:
        """What was already released for this very order on this very model, if anything."""
        path = self._path(order, model_in)
        if not path.exists():
            return None
        data = path.read_bytes()
        digest = sha256(data).hexdigest()
        if isinstance(order.recipe, PrivateRecipe) and not self.ledger.find(
            run_id=order.run_id, round_=order.round, update_sha256=digest
        ):
            return None
        return data

    def left(self, number: int) -> frozenset[str]:
        """Hashes of what may have left in a round of this store's run, and of refusals that were paid for.

        The ledger says so. A run without privacy pays nothing: there it is what lies in the outbox.

        Raises:
            LedgerError: the ledger is damaged.
        """
        if self.config.epsilon_budget is None:
            files = (self.folder / "outbox").glob(f"{number:04d}-*.safetensors")
            return frozenset(sha256(path.read_bytes()).hexdigest() for path in files)
        return frozenset(
            entry.update_sha256
            for entry in self.ledger.entries
            if (entry.run_id, entry.round) == (self.config.run_id, number)
        )

    def release(self, order: RoundOrder, model_in: str, data: bytes) -> None:
        """Write down what is to leave, then what it costs; after that it may leave.

        Raises:
            LedgerError: the ledger is damaged or cannot be written; the data must not leave.
            RunError: the data cannot be written.
        """
        write_bytes(self._path(order, model_in), data)
        self.account(order, sha256(data).hexdigest())

    def _path(self, order: RoundOrder, model_in: str) -> Path:
        name = f"{order.round:04d}-{order_digest(order, model_in)[:32]}.safetensors"
        return self.folder / "outbox" / name

    def account_unsent(self, order: RoundOrder) -> None:
        """Write down what an order cost of which nothing leaves but that it was refused.

        Each time anew: two refusals are two draws, though all that they made may have been infinite alike.

        Raises:
            LedgerError: the ledger is damaged or cannot be written; the refusal must not leave.
        """
        self.account(order, secrets.token_hex(32))

    def account(self, order: RoundOrder, digest: str) -> None:
        """Write down what an order cost, for bytes of that hash; once for the same bytes.

        Raises:
            LedgerError: the ledger is damaged or cannot be written; they must not leave.
        """
        recipe = order.recipe
        if not isinstance(recipe, PrivateRecipe):
            return
        ledger = self.ledger
        if ledger.find(run_id=order.run_id, round_=order.round, update_sha256=digest):
            return
        # Of this ledger alone: the audit recomputes it from these lines.
        now = spent(
            [
                *ledger.releases(),
                recipe.mechanism,
            ],
            delta=self.config.delta,
        )
        ledger.append(
            store=self.config.name,
            run_id=order.run_id,
            round=order.round,
            mechanism=MECHANISMS[recipe.noise],
            noise_stores=recipe.noise_stores,
            noise_multiplier=recipe.noise_multiplier,
            sample_rate=recipe.sample_rate,
            steps=recipe.steps,
            max_grad_norm=recipe.max_grad_norm,
            normaliser=recipe.normaliser,
            delta=self.config.delta,
            epsilon_rdp=now.rdp,
            epsilon_prv=now.prv,
            update_sha256=digest,
        )
