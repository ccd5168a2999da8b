"""A member of a secure sum: what a store sends, what it refuses, and what it keeps in between.

The protocol of Bonawitz et al. (2017, eprint 2017/281, figure 4) in its version against a server that lies,
on Flower's primitives for keys, shares and envelopes. The steps, in order, each once:

1. `advert`: two fresh public keys, signed by the store.
2. `share`: the keys of the others, checked against the roster; a signed share of both own secrets for each of
   them.
3. `mask`: the vector, hidden under a mask for each other member and one more of its own.
4. `confirm`: the set of members whose vectors arrived, signed. A member signs one set, ever; asked for the
   same one again, it gives the same answer, as it does in the last step.
5. `reveal`: given the signatures of enough members under *one* set: of each member in it the share of its own
   mask's seed; of each that dropped out the share of its mask key. Never both of one member.

Masks come from AES-256 in counter mode. Flower's own generator of masks folds a seed to 32 bits, so that
whoever sees a masked vector could try them all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from privemo import flower
from privemo.dp.stream import KeyStream
from privemo.errors import SecureSumError
from privemo.secagg.session import Session
from privemo.secagg.shares import KEY, SEED, deal, is_dealt
from privemo.secagg.statements import (
    Advert,
    Reveal,
    Roster,
    apply_masks,
    checked,
    commitment,
    confirmation,
    own_seed,
    verified,
)

__all__ = ["Member"]


@dataclass
class Member:
    """One store in one session. Everything here but `session` and `name` is secret.

    Attributes:
        session: what all agree on.
        name: of the store.
        step: how far it has come; see the module.
    """

    session: Session
    name: str
    step: str = "start"
    mask_private: bytes = b""
    share_private: bytes = b""
    seed: bytes = b""
    adverts: dict[str, Advert] = field(default_factory=dict)
    seeds: dict[str, bytes] = field(default_factory=dict)
    keys: dict[str, bytes] = field(default_factory=dict)
    partners: tuple[str, ...] = ()
    summed: tuple[str, ...] = ()

    def advert(self, signing: Ed25519PrivateKey) -> Advert:
        """Step 1: fresh keys.

        Raises:
            SecureSumError: out of order, or this store is no member.
        """
        self._go("start", "advertised")
        if self.name not in self.session.members:
            raise SecureSumError(f"{self.name} is no member of this sum.")
        mask_private, mask_public = flower.generate_key_pairs()
        share_private, share_public = flower.generate_key_pairs()
        self.mask_private = flower.private_key_to_bytes(mask_private)
        self.share_private = flower.private_key_to_bytes(share_private)
        mask_key = flower.public_key_to_bytes(mask_public)
        unsigned = Advert(mask_key, flower.public_key_to_bytes(share_public), b"")
        signature = signing.sign(unsigned.statement(self.session, self.name))
        return Advert(unsigned.mask_key, unsigned.share_key, signature)

    def share(
        self, adverts: Mapping[str, Advert], roster: Roster, signing: Ed25519PrivateKey
    ) -> tuple[dict[str, bytes], bytes]:
        """Step 2: envelopes with signed shares, by receiver, and a commitment to the own seed.

        Raises:
            SecureSumError: out of order, too few members, a key that its store did not sign, or own keys
            changed.
        """
        self._go("advertised", "shared")
        checked(adverts, self.session, roster)
        mine = flower.bytes_to_private_key(self.mask_private).public_key()
        if self.name not in adverts or (
            adverts[self.name].mask_key != flower.public_key_to_bytes(mine)
        ):
            raise SecureSumError(f"The server hands out other keys of {self.name} than it sent.")
        self.adverts = dict(adverts)
        self.seed = os.urandom(32)
        of_seed = deal(self.session, self.name, SEED, self.seed, adverts, signing)
        of_key = deal(self.session, self.name, KEY, self.mask_private, adverts, signing)
        envelopes = {}
        for name in sorted(adverts):
            seed, key = of_seed[name], of_key[name]
            if name == self.name:
                self.seeds[name], self.keys[name] = seed, key
                continue
            said = {"from": self.name, "to": name, "seed": seed.hex(), "key": key.hex()}
            letter = self.session.bytes_of("share", said)
            envelopes[name] = flower.encrypt(self._envelope_key(name), letter)
        return envelopes, commitment(self.session, self.name, self.seed)

    def open(self, envelopes: Mapping[str, bytes], roster: Roster) -> None:
        """Before step 3: take the shares that others dealt.

        Raises:
            SecureSumError: out of order, an envelope from a stranger or not meant for this member, shares
                that their dealer did not sign, or too few.
        """
        self._go("shared", "opened")
        for name, sealed in envelopes.items():
            seed, key = self._opened(name, sealed)
            for what, share in ((SEED, seed), (KEY, key)):
                if not is_dealt(self.session, roster, name, self.name, what, share):
                    # Else this member could be taken for a liar at the end, when it gives the share away.
                    raise SecureSumError(f"Shares of {name} are not signed by it.")
            self.seeds[name], self.keys[name] = seed, key
        self.partners = tuple(sorted(self.seeds))
        self._enough(self.partners)

    def mask(self, vector: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Step 3: the vector (n,) of whole numbers modulo 2^32, masked.

        The caller sees to it that no vector is ever masked in two sessions.

        Raises:
            SecureSumError: out of order.
        """
        self._go("opened", "masked")
        masked = (vector & 0xFFFFFFFF).astype(np.uint32)
        masked += KeyStream(own_seed(self.session, self.name, self.seed)).uint32(len(masked))
        others = {n: self.adverts[n].mask_key for n in self.partners if n != self.name}
        apply_masks(masked, self.session, self.name, self.mask_private, others)
        return masked

    def confirm(self, summed: Iterable[str], signing: Ed25519PrivateKey) -> bytes:
        """Step 4: sign who is in the sum; once.

        Raises:
            SecureSumError: out of order, too few, or somebody with whom no secrets were shared.
        """
        these = tuple(sorted(set(summed)))
        if self.step in ("confirmed", "revealed") and these == self.summed:
            return signing.sign(self._statement(these))  # the answer was lost on its way
        self._go("masked", "confirmed")
        self.summed = these
        self._enough(self.summed)
        if self.name not in self.summed or not set(self.summed) <= set(self.partners):
            raise SecureSumError("The sum is of others than the secrets were shared with.")
        return signing.sign(self._statement(self.summed))

    def reveal(self, signatures: Mapping[str, bytes], roster: Roster) -> Reveal:
        """Step 5: the shares that unmask the sum, if enough members signed the very same set.

        Raises:
            SecureSumError: out of order, or too few signatures hold.
        """
        if self.step != "revealed":  # else the answer was lost on its way, and is the same again
            self._go("confirmed", "revealed")
        statement = self._statement(self.summed)
        good = [n for n in self.summed if verified(roster, n, signatures.get(n, b""), statement)]
        self._enough(good)
        # Whatever a repeated answer does not need is gone from here on.
        self.seeds = {n: self.seeds[n] for n in self.summed}
        self.keys = {n: self.keys[n] for n in self.partners if n not in self.summed}
        self.mask_private = self.share_private = self.seed = b""
        return Reveal(dict(self.seeds), dict(self.keys))

    # -- keeping it between two messages -----------------------------------------------------

    def to_json(self) -> str:
        """Everything, as text to be kept in a place that only the store can read."""
        content = asdict(self)
        content["adverts"] = {n: asdict(a) for n, a in self.adverts.items()}
        return json.dumps(_texts(content))

    @classmethod
    def from_json(cls, text: str) -> Member:
        """What `to_json` wrote.

        Raises:
            SecureSumError: it is something else.
        """
        try:
            raw = json.loads(text)
            session = Session(**{**raw["session"], "members": tuple(raw["session"]["members"])})
            return cls(
                session=session,
                name=raw["name"],
                step=raw["step"],
                **{k: bytes.fromhex(raw[k]) for k in ("mask_private", "share_private", "seed")},
                adverts={
                    n: Advert(**{k: bytes.fromhex(v) for k, v in advert.items()})
                    for n, advert in raw["adverts"].items()
                },
                seeds={n: bytes.fromhex(v) for n, v in raw["seeds"].items()},
                keys={n: bytes.fromhex(v) for n, v in raw["keys"].items()},
                partners=tuple(raw["partners"]),
                summed=tuple(raw["summed"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SecureSumError(f"What was kept of a secure sum is damaged ({error}).") from error

    # -- steps -------------------------------------------------------------------------------

    def _go(self, before: str, after: str) -> None:
        if self.step != before:
            raise SecureSumError(
                f"{self.name} is at step {self.step!r} of this sum, and was asked for one that follows "
                f"{before!r}: each is taken once, in order."
            )
        self.step = after

    def _statement(self, summed: Iterable[str]) -> bytes:
        return confirmation(self.session, self.adverts, summed)

    def _enough(self, names: Collection[str]) -> None:
        if len(names) < self.session.enough:
            raise SecureSumError(
                f"{len(names)} members are left of {self.session.enough} that it takes: a sum of fewer would "
                "not hide each of them."
            )

    def _envelope_key(self, name: str) -> bytes:
        return flower.generate_shared_key(
            flower.bytes_to_private_key(self.share_private),
            flower.bytes_to_public_key(self.adverts[name].share_key),
        )

    def _opened(self, name: str, sealed: bytes) -> tuple[bytes, bytes]:
        """Shares of seed and key in an envelope, which says from whom to whom it goes."""
        try:
            letter = json.loads(flower.decrypt(self._envelope_key(name), sealed))
            seed, key = bytes.fromhex(letter["seed"]), bytes.fromhex(letter["key"])
        except Exception as error:
            raise SecureSumError(
                f"{self.name} cannot open the envelope of {name}: nothing from it counts."
            ) from error
        said = {"from": name, "to": self.name, "seed": seed.hex(), "key": key.hex()}
        if letter != json.loads(self.session.bytes_of("share", said)):
            raise SecureSumError(f"An envelope of {name} was written for somebody else.")
        return seed, key


def _texts(value: object) -> object:
    """Bytes as hex, at any depth."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: _texts(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_texts(part) for part in value]
    return value
