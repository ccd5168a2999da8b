"""A store's part of a secure sum of group counts: the joiner learns the sum, and nothing of any one store.

The steps are those of `privemo.secagg.member`. A store answers to a request that whoever runs the store
agreed to: to one very request, which was put into its folder (`agree`), and once; or to any within the terms
of its federation (`privemo.countterms`). The sum of all stores, less the sum of all but one, would be the
counts of that one. So exact counts leave once, and noised ones have new noise for each sum, which is paid for
again.

| what happens | what the store does |
|---|---|
| nobody here agreed, or to another request (cells, epsilon), or it is in another run's name | refuses |
| other members than in `store.json`, or fewer as enough | refuses |
| the model was not finished here, or exact counts would be of fewer than 10 people | refuses |
| exact counts of what another model said than the one whose end it signed | refuses |
| the budget of the people measured would be exceeded | refuses, and nothing was charged |
| its masked numbers are asked for again in the same sum | the same again, at no cost |
| the sum broke off after this store sent its numbers | they are paid for; another sum takes another release |
| it dies after paying, before it answers | paid; the sum goes on without it |
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privemo.counting import count_vector
from privemo.countrequest import CountRequest
from privemo.errors import SecureSumError, SettingsError, TooFewPeople
from privemo.files import write_bytes, write_json
from privemo.heldoutaccount import HeldOutAccount, budget_of
from privemo.measured import check_measured
from privemo.secagg import Advert, Session
from privemo.secure_store import SecureStore
from privemo_audits.groups import MIN_PERSONS

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


@dataclass(frozen=True)
class _Agreed:
    """To what sum: paid from which lasting account, once or not, in how many releases, of how many people."""

    budget: Path | None
    once: bool
    releases: int | None = None
    fewest: int = 0


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
            self._begin(session)
            from privemo.secagg import Member

            member = Member(session, self.store.config.name)
            advert = member.advert(self._signing)
            self._keep(member)
            return advert

    def mask_counts(
        self, session: Session, request: CountRequest, envelopes: Mapping[str, bytes]
    ) -> NDArray[np.uint32]:
        """Step 3: count, noise, write down, pay, mask. An agreement to one sum is used up.

        Raises:
            SecureSumError: see `Member.mask`, or nobody agreed.
            SettingsError, TooFewPeople: it is not within the terms agreed on.
            BudgetExhausted: the people measured cannot give so much.
            LedgerError: the ledger is damaged or cannot be written; nothing was released.
        """
        config = self.store.config
        with self.store.alone():
            member = self._member(session)
            if member.step == "masked" and self._sent.exists():
                return self._sent_before(session)  # the answer was lost on its way
            agreed = self._agreed(request, session)
            member.open(
                envelopes, self.roster
            )  # first, so that nobody pays for what cannot be summed up
            noise = request.noise(session.enough, config.accountant)
            account = HeldOutAccount(self.store, agreed.budget, releases=agreed.releases)
            numbers = count_vector(self.store, request.plan)
            self._check_people(numbers, request, agreed)
            if noise is not None:
                account.check(noise.mechanism, request.delta)
                numbers = noise.noised(numbers, stores=len(session.members))
                digest = sha256(numbers.astype("<i8").tobytes()).hexdigest()
                account.charge(noise, request.run_id, digest)
            if agreed.once:  # before anything leaves
                write_json(
                    self.store.folder / AGREED,
                    {"used": request.digest(), "run_id": config.run_id},
                )
            masked = member.mask(numbers)
            write_bytes(self._sent, bytes.fromhex(session.attempt) + masked.tobytes())
            self._keep(member)  # last: until then nothing was sent
            return masked

    @property
    def _sent(self) -> Path:
        return self.store.folder / "outbox" / "masked-counts.bin"

    def _sent_before(self, session: Session) -> NDArray[np.uint32]:
        data = self._sent.read_bytes()
        if data[:16] != bytes.fromhex(session.attempt):
            raise SecureSumError("What was sent in this sum is gone: numbers leave once.")
        return np.frombuffer(data[16:], np.uint32)

    def _check_people(
        self, numbers: NDArray[np.int64], request: CountRequest, agreed: _Agreed
    ) -> None:
        """Few people among others' are hidden by the noise, and by the others only if they have people."""
        people = int(numbers.sum()) // len(request.plan.tables)
        if people < agreed.fewest:
            raise TooFewPeople(
                f"{self.store.config.name} may count {people} people, and exact counts take {agreed.fewest}."
            )

    def _agreed(self, request: CountRequest, session: Session) -> _Agreed:
        """What was agreed on for a sum of this request.

        Raises:
            SecureSumError: nobody here agreed to this sum, or with these members.
            SettingsError: it asks for more than the terms say.
            NotMeasured: there is nothing to count yet.
        """
        config = self.store.config
        said = (session.order, session.run_id, session.round)
        mine = (request.digest(), config.run_id, COUNTS_ROUND)
        # Under another run's name a release would not be one of those that were agreed on for this run.
        if said != mine or request.run_id != config.run_id:
            raise SecureSumError(
                f"{config.name} agreed to another sum of counts than it was asked for."
            )
        self._check_members(session)
        kept = self._kept_agreement()
        return (
            self._within_terms(request, kept) if "budget" not in kept else self._very(request, kept)
        )

    def _kept_agreement(self) -> dict[str, Any]:
        try:
            content = json.loads((self.store.folder / AGREED).read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise SecureSumError(f"{AGREED} of {self.store.config.name} is damaged.") from error
        if not isinstance(content, dict):
            raise SecureSumError(f"{AGREED} of {self.store.config.name} is damaged.")
        return content

    def _very(self, request: CountRequest, kept: dict[str, Any]) -> _Agreed:
        """What `agree` wrote is good for one very request."""
        name, budget = self.store.config.name, kept.pop("budget")
        try:
            agreed = CountRequest.of(kept)
        except SettingsError as error:
            raise SecureSumError(f"Nobody at {name} agreed to a sum of counts.") from error
        if agreed.digest() != request.digest():
            raise SecureSumError(f"{name} agreed to another sum of counts than it was asked for.")
        return _Agreed(budget_of(self.store) if budget is None else Path(budget), once=True)

    def _within_terms(self, request: CountRequest, kept: dict[str, Any]) -> _Agreed:
        """What a federation agreed on is good for any request that asks for no more."""
        config = self.store.config
        if config.counts is None:
            raise SecureSumError(f"Nobody at {config.name} agreed to a sum of counts.")
        config.counts.check(request)
        check_measured(self.store, signed=request.epsilon is None)
        if request.epsilon is not None:
            return _Agreed(budget_of(self.store), once=False, releases=config.counts.releases)
        if kept.get("run_id") == config.run_id:
            raise SecureSumError(
                f"Exact counts of {config.name} left once: two sums may differ in one store. To agree to "
                f"another, delete {AGREED} there."
            )
        return _Agreed(budget_of(self.store), once=True, fewest=MIN_PERSONS)
