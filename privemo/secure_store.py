"""A store's part of a round in which stores share the noise.

The steps are those of `privemo.secagg.member`, one message each; what a store has to remember in between
stands in its own folder (`secure-sum.json`, readable by its owner alone), so a store that was restarted goes
on. Beside it stands which attempts began in this run (`secure-sum-RUN.attempts`).

| what happens | what the store does |
|---|---|
| the server names other members than agreed, or fewer as enough | refuses: `store.json` says with whom |
| the order in step 3 is another than in step 1, or than the others were asked | refuses |
| a try broke off after this store trained | a new step with new noise, and it pays for it: numbers leave once
|
| an old session goes on while a newer one began, or begins anew, however many began since | refuses |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from privemo import weights as w
from privemo.dp import DiscreteGaussian
from privemo.errors import Diverged, SecureSumError, SettingsError
from privemo.files import write_bytes
from privemo.machine import tuned
from privemo.orders import PrivateRecipe, RoundOrder, order_digest
from privemo.secagg import Advert, Member, Reveal, Session
from privemo.secagg.gradients import flat, lattice_of
from privemo.statements import Signed, read_signing_key
from privemo.store import Store, threads_of
from privemo.storeconfig import KEY_FILE
from privemo.training import clipped_sum

__all__ = ["Masked", "SecureStore"]

_MOST_ATTEMPTS = 100_000
"""Of one run: a round takes one unless it breaks off, and the list is read and written for each."""


@dataclass(frozen=True)
class Masked:
    """What a store sends in the third step: a masked vector or none, and what it states.

    Attributes:
        vector: uint32 (n,), masked; chance to whoever sees it alone.
        signed: the statement, which names the noised numbers beneath as the ledger does, or the reason why
            there are none.
    """

    vector: NDArray[np.uint32] | None
    signed: Signed


class SecureStore:
    """The secure side of one store.

    Args:
        store: the store.

    Raises:
        SecureSumError: the store is in no roster, or its key is not the one there.
        RunError: it has no key.
    """

    state_file = "secure-sum.json"

    def __init__(self, store: Store) -> None:
        self.store = store
        self._path = store.folder / self.state_file
        config = store.config
        if config.name not in config.roster:
            raise SecureSumError(
                f"{config.name} shares its noise with nobody: its roster is empty."
            )
        self.roster = {name: bytes.fromhex(key) for name, key in config.roster.items()}
        self._signing = read_signing_key(store.folder)
        if self._signing.public_key().public_bytes_raw() != self.roster[config.name]:
            raise SecureSumError(f"{config.name}: {KEY_FILE} is not the key that the roster names.")

    # -- the steps ---------------------------------------------------------------------------

    def advertise(self, order: RoundOrder, session: Session) -> Advert:
        """Step 1: agree to an order and a session; fresh keys.

        Raises:
            SettingsError, LedgerLost: the order is refused. Whether the budget holds is asked when numbers
                are made.
            SecureSumError: the session is not the one agreed on.
        """
        with self.store.alone():
            self.store.check_order(order)
            self.store.outbox.check_ledger(order)
            self._check_session(order, session)
            self._begin(session)
            member = Member(session, self.store.config.name)
            advert = member.advert(self._signing)
            self._keep(member)
            return advert

    def share(
        self, session: Session, adverts: Mapping[str, Advert]
    ) -> tuple[dict[str, bytes], bytes]:
        """Step 2: envelopes for the others, and a commitment.

        Raises:
            SecureSumError: see `Member.share`.
        """
        with self.store.alone():
            member = self._member(session)
            sent = member.share(adverts, self.roster, self._signing)
            self._keep(member)
            return sent

    def mask(
        self,
        session: Session,
        weights: w.Weights,
        order: RoundOrder,
        envelopes: Mapping[str, bytes],
    ) -> Masked:
        """Step 3: train, noise, write down, pay, mask.

        Raises:
            SecureSumError: see `Member.mask`.
            LedgerError: the ledger is damaged or cannot be written; nothing was released.
        """
        model_in = w.sha256(weights)
        with self.store.alone():
            member = self._member(session)
            self._check_session(order, session)
            if session.order != order_digest(order, model_in):
                raise SecureSumError("The order is another than the session is for.")
            try:
                member.open(
                    envelopes, self.roster
                )  # first, so that nobody pays for what cannot be summed up
            except SecureSumError as error:
                reason = str(error)[:256]
                return Masked(None, self.store.stated(order, model_in, reason=reason))
            found = self.store.release_of(
                order, model_in, lambda: self._numbers(weights, order, model_in), again=False
            )
            if found.data is None:
                return Masked(None, self.store.stated(order, model_in, reason=found.reason))
            masked = member.mask(np.frombuffer(found.data, "<u4").astype(np.int64))
            self._keep(member)
            digest = sha256(found.data).hexdigest()
            return Masked(masked, self.store.stated(order, model_in, update_sha256=digest))

    def confirm(self, session: Session, summed: Iterable[str]) -> bytes:
        """Step 4: sign who is in the sum.

        Raises:
            SecureSumError: see `Member.confirm`.
            RunError: the disk failed; nothing was signed.
        """
        with self.store.alone():
            member = self._member(session)
            signature = member.confirm(summed, self._signing)
            self._keep(member)
            return signature

    def reveal(self, session: Session, signatures: Mapping[str, bytes]) -> Reveal:
        """Step 5: the shares that unmask the sum.

        Raises:
            SecureSumError: see `Member.reveal`.
        """
        with self.store.alone():
            member = self._member(session)
            reveal = member.reveal(signatures, self.roster)
            self._keep(member)
            return reveal

    # -- underneath --------------------------------------------------------------------------

    def _check_session(self, order: RoundOrder, session: Session) -> None:
        if (session.run_id, session.round) != (order.run_id, order.round):
            raise SecureSumError("The session is of another round than the order.")
        self._check_members(session)

    def _check_members(self, session: Session) -> None:
        config = self.store.config
        # The threshold follows from the two (`Session`).
        if list(session.members) != sorted(self.roster) or session.enough != config.noise_stores:
            raise SecureSumError(
                f"{config.name} agreed to sums over {len(self.roster)} stores, of whom {config.noise_stores} "
                "are enough; the server asked for another."
            )

    def _numbers(self, weights: w.Weights, order: RoundOrder, model_in: str) -> bytes:
        """The noised whole numbers of this store, modulo 2^32, as little-endian bytes."""
        recipe = order.recipe
        if not isinstance(recipe, PrivateRecipe):
            raise SettingsError("Stores that share the noise train privately.")
        faces, model, chance, permitted_now = self.store.ready(weights, order, model_in)
        with tuned(threads_of(order)):
            sums = clipped_sum(model, faces, recipe, chance, permitted_now)
        lattice = lattice_of(recipe, len(self.roster), sums)
        total = flat(sums)
        if not np.isfinite(total).all():
            raise Diverged(f"{self.store.config.name}: this order drives its sums to infinity.")
        noise = DiscreteGaussian(lattice.share, chance.noise.key()).draw(lattice.parameters)
        numbers = lattice.encode(total) + noise
        return (numbers & 0xFFFFFFFF).astype("<u4").tobytes()

    def _begin(self, session: Session) -> None:
        """Let each attempt begin once: one that began anew with other keys could be told two stories.

        Raises:
            SecureSumError: it began before, or so many did that something is wrong, or the list is damaged.
            RunError: the disk failed.
        """
        run = self.store.config.run_id
        path = self._path.with_name(f"{self._path.stem}-{run}.attempts")
        try:
            began = path.read_text().split()
        except FileNotFoundError:
            began = []
        except (OSError, ValueError) as error:
            raise SecureSumError(
                f"{path} cannot be read ({error}): without it an attempt could begin twice."
            ) from error
        if session.attempt in began:
            raise SecureSumError("This attempt began before: another one has another name.")
        if len(began) >= _MOST_ATTEMPTS:
            raise SecureSumError(
                f"{self.store.config.name} began {len(began)} attempts in this run, and begins no more."
            )
        # Before its keys leave: an attempt that breaks off here is used up.
        write_bytes(path, "".join(f"{name}\n" for name in [*began, session.attempt]).encode())

    def _member(self, session: Session) -> Member:
        try:
            member = Member.from_json(self._path.read_text())
        except (OSError, SecureSumError) as error:
            raise SecureSumError(
                f"{self.store.config.name} knows of no secure sum in progress."
            ) from error
        if member.session != session:
            raise SecureSumError("Another session of a secure sum has begun meanwhile.")
        return member

    def _keep(self, member: Member) -> None:
        write_bytes(self._path, member.to_json().encode())
