"""A store's part of a secure sum of group counts: the joiner learns the sum, and nothing of any one store.

The steps are those of `privemo.secagg.member`. A store answers to one request alone: the one that whoever
runs the store put into its folder (`agree`), and once. The sum of all stores, less the sum of all but one,
would be the counts of that one; so for another sum somebody at each store has to agree anew.

| what happens | what the store does |
|---|---|
| nobody here agreed, or to another request (cells, epsilon) | refuses |
| other members than in `store.json`, or fewer as enough | refuses |
| the budget of the people measured would be exceeded | refuses, and nothing was charged |
| the sum broke off after this store sent its numbers | they are paid for; to try again is to agree anew |
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from privemo.counting import count_vector
from privemo.countrequest import CountRequest
from privemo.errors import SecureSumError
from privemo.files import write_json
from privemo.heldoutaccount import HeldOutAccount, budget_of
from privemo.secagg import Advert, Session
from privemo.secure_store import SecureStore

__all__ = ["AGREED", "COUNTS_ROUND", "SecureCounts", "agree"]

AGREED = "counts-agreed.json"
COUNTS_ROUND = 0
"""Rounds of training begin at 1: no session of these can be mistaken for one of counts."""


def agree(folder: Path, request: CountRequest, *, budget: Path | None = None) -> None:
    """Let a store take part in one sum of this very request.

    Args:
        folder: of the store.
        request: what is counted, and what it may cost.
        budget: lasting account of its people, charged as well; see `privemo.heldoutaccount`.

    Raises:
        RunError: it cannot be written.
    """
    held = None if budget is None else str(budget.resolve())
    write_json(folder / AGREED, {**request.content(), "budget": held})


class SecureCounts(SecureStore):
    """The secure side of one store, for counts."""

    state_file = "secure-counts.json"

    def advertise_counts(self, request: CountRequest, session: Session) -> Advert:
        """Step 1: hold request and session against what was agreed; fresh keys.

        Raises:
            SecureSumError: nobody agreed to this.
        """
        with self.store.alone():
            self._agreed(request, session)
            self._check_new(session)
            from privemo.secagg import Member

            member = Member(session, self.store.config.name)
            advert = member.advert(self._signing)
            self._keep(member)
            return advert

    def mask_counts(
        self, session: Session, request: CountRequest, envelopes: Mapping[str, bytes]
    ) -> NDArray[np.uint32]:
        """Step 3: count, noise, write down, pay, mask. The agreement is used up.

        Raises:
            SecureSumError: see `Member.mask`, or nobody agreed.
            BudgetExhausted: the people measured cannot give so much.
            LedgerError: the ledger is damaged or cannot be written; nothing was released.
        """
        config = self.store.config
        with self.store.alone():
            member = self._member(session)
            budget = self._agreed(request, session)
            member.open(envelopes)  # first, so that nobody pays for what cannot be summed up
            noise = request.noise(session.enough, config.accountant)
            account = HeldOutAccount(self.store, budget)
            numbers = count_vector(self.store, request.plan)
            if noise is not None:
                account.check(noise.mechanism, request.delta)
                numbers = noise.noised(numbers, stores=len(session.members))
                digest = sha256(numbers.astype("<i8").tobytes()).hexdigest()
                account.charge(noise, request.run_id, digest)
            write_json(
                self.store.folder / AGREED, {"used": request.digest()}
            )  # before anything leaves
            masked = member.mask(numbers)
            self._keep(member)
            return masked

    def _agreed(self, request: CountRequest, session: Session) -> Path | None:
        """The lasting account that goes with the agreement.

        Raises:
            SecureSumError: nobody here agreed to this request, or with these members.
        """
        config = self.store.config
        try:
            content = json.loads((self.store.folder / AGREED).read_bytes())
            budget = content.pop("budget")
            agreed = CountRequest.of(content)
        except (OSError, ValueError, KeyError) as error:
            raise SecureSumError(f"Nobody at {config.name} agreed to a sum of counts.") from error
        said = (request.digest(), session.order, session.run_id, session.round)
        if said != (agreed.digest(), agreed.digest(), config.run_id, COUNTS_ROUND):
            raise SecureSumError(
                f"{config.name} agreed to another sum of counts than it was asked for."
            )
        self._check_members(session)
        return budget_of(self.store) if budget is None else Path(budget)
