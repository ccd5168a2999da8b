"""The server of a secure sum: it passes on what members say, and learns the sum of their vectors alone.

What it cannot do is a matter of `privemo.secagg.member`; here is what an honest server does, and how it
notices that a member lies. What it sees to be wrong leaves that member out (`UpdateRejected`); when too few
are left the sum fails as a whole (`SecureSumError`), and nothing was unmasked. Envelopes it cannot see into:
one that is no good stops those whom it was for, who name its sender. False shares at the end are left aside
and their giver is named (`privemo.secagg.shares`).
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial

import numpy as np
from cryptography.exceptions import UnsupportedAlgorithm
from numpy.typing import NDArray

from privemo import flower
from privemo.dp.stream import KeyStream
from privemo.errors import SecureSumError, UpdateRejected
from privemo.secagg.session import Session
from privemo.secagg.shares import KEY, LONGEST, SEED, put_together
from privemo.secagg.statements import (
    UNSIGNED,
    Advert,
    Reveal,
    Roster,
    apply_masks,
    commitment,
    confirmation,
    copied,
    fault_of,
    own_seed,
    verified,
)

__all__ = ["Collector"]


class Collector:
    """Collects one sum, step by step; of all vectors only their sum is kept.

    Args:
        session: what all agree on.
        roster: public keys of the stores.
        length: of a vector.

    Attributes:
        liars: members whose shares at the end were false, and of whom. The sum goes on without these shares;
            only as many are looked at as it takes.
    """

    def __init__(self, session: Session, roster: Roster, length: int) -> None:
        self.session, self.roster, self.length = session, roster, length
        self.adverts: dict[str, Advert] = {}
        self.signatures: dict[str, bytes] = {}
        self._faulty: dict[str, str] = {}
        self._envelopes: dict[str, Mapping[str, bytes]] = {}
        self._commitments: dict[str, bytes] = {}
        self._total = np.zeros(length, np.uint32)
        self._summed: set[str] = set()
        self._reveals: dict[str, Reveal] = {}
        self.liars: dict[str, list[str]] = {}

    # -- keeping it ----------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """All that steps 4 and 5 take, so that a server that was restarted can ask for them."""
        header = {
            "session": {**asdict(self.session), "members": list(self.session.members)},
            "adverts": {n: [a.mask_key.hex(), a.share_key.hex()] for n, a in self.adverts.items()},
            "commitments": {n: seal.hex() for n, seal in self._commitments.items()},
            "summed": self.summed,
        }
        out = io.BytesIO()
        text = np.frombuffer(json.dumps(header).encode(), np.uint8)
        np.savez(out, header=text, total=self._total)
        return out.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, roster: Roster) -> Collector:
        """What `to_bytes` wrote; of the members who shared secrets their keys alone come back.

        Raises:
            SecureSumError: it is something else.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                header, total = json.loads(file["header"].tobytes()), file["total"]
            raw = header["session"]
            session = Session(**{**raw, "members": tuple(raw["members"])})
            found = cls(session, roster, len(total))
            found._total = total.astype(np.uint32)
            found._summed = set(header["summed"])
            for name, seal in header["commitments"].items():
                mask_key, share_key = map(bytes.fromhex, header["adverts"][name])
                found.adverts[name] = Advert(mask_key, share_key, b"")
                found._commitments[name], found._envelopes[name] = bytes.fromhex(seal), {}
        except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise SecureSumError(f"What was kept of a secure sum is damaged ({error}).") from error
        return found

    # -- step by step ------------------------------------------------------------------------

    def take_advert(self, name: str, advert: Advert) -> None:
        """Keys of a member.

        Raises:
            UpdateRejected: they are not signed by the store of that name, are no two keys, or came before.
        """
        if name in self.adverts:
            raise UpdateRejected("this member sent keys before")
        fault = fault_of(name, advert, self.session, self.roster)
        if fault:
            if fault != UNSIGNED:  # else anybody could have said so
                self._faulty[name] = f"its keys are {fault}"
            raise UpdateRejected(f"its keys are {fault}")
        self.adverts[name] = advert

    def close_adverts(self) -> dict[str, str]:
        """The end of step 1: leave out whoever has a key of another: no member goes on with them (`copied`).

        Returns:
            which stores are left out for what they signed, and why.
        """
        found = {n: fault for n, fault in self._faulty.items() if n not in self.adverts}
        for name, others in copied(self.adverts).items():
            del self.adverts[name]
            found[name] = f"it has a key of {', '.join(others)}"
        return found

    def take_envelopes(self, name: str, envelopes: Mapping[str, bytes], seal: bytes) -> None:
        """Shares of a member's secrets, one envelope for each other member.

        Raises:
            UpdateRejected: some are missing or for strangers, or it sent them before.
        """
        if name not in self.adverts or name in self._envelopes:
            raise UpdateRejected("envelopes of a member without keys, or for the second time")
        if set(envelopes) != set(self.adverts) - {name} or len(seal) != 32:
            raise UpdateRejected("envelopes for others than the members of this sum")
        self._envelopes[name], self._commitments[name] = envelopes, seal

    def envelopes_for(self, name: str) -> dict[str, bytes]:
        """What the others who shared have for a member."""
        return {n: letters[name] for n, letters in self._envelopes.items() if n != name}

    @property
    def partners(self) -> list[str]:
        """Members who shared their secrets: only they can take part."""
        return sorted(self._envelopes)

    def take_masked(self, name: str, masked: NDArray[np.uint32]) -> None:
        """Add a masked vector up.

        Raises:
            UpdateRejected: of another length, from somebody who shared no secrets, or for the second time.
        """
        if name not in self._envelopes or name in self._summed:
            raise UpdateRejected(
                "a vector of somebody who shared no secrets, or for the second time"
            )
        if masked.shape != (self.length,) or masked.dtype != np.uint32:
            raise UpdateRejected(f"a masked vector holds {self.length} numbers of 32 bits")
        self._total += masked
        self._summed.add(name)

    @property
    def summed(self) -> list[str]:
        """Members whose vectors are in the sum."""
        return sorted(self._summed)

    def take_signature(self, name: str, signature: bytes) -> None:
        """A member's confirmation of who is in the sum.

        Raises:
            UpdateRejected: it does not hold.
        """
        statement = confirmation(self.session, self.adverts, self.summed)
        if name not in self._summed or not verified(self.roster, name, signature, statement):
            raise UpdateRejected("its signature under the members of the sum does not hold")
        self.signatures[name] = signature

    def take_reveal(self, name: str, reveal: Reveal) -> None:
        """Shares that a member gives away.

        Raises:
            UpdateRejected: shares of others than asked for, or some that are none.
        """
        dropped = set(self.partners) - self._summed
        if (
            name not in self._summed
            or set(reveal.seeds) != self._summed
            or set(reveal.keys) != dropped
        ):
            raise UpdateRejected("shares of others than it was asked for")
        if any(len(s) > LONGEST for s in (*reveal.seeds.values(), *reveal.keys.values())):
            raise UpdateRejected("its shares are none")
        self._reveals[name] = reveal

    # -- the end -----------------------------------------------------------------------------

    def require(self, names: Mapping[str, object] | list[str], what: str) -> None:
        """Go on with enough members alone.

        Raises:
            SecureSumError: they are too few.
        """
        if len(names) < self.session.enough:
            raise SecureSumError(
                f"Round {self.session.round}: {len(names)} of {len(self.session.members)} stores {what}, and "
                f"it takes {self.session.enough}. Nothing was unmasked; bring stores back and resume the run."
            )

    def total(self) -> NDArray[np.uint32]:
        """The sum (length,) modulo 2^32 of the vectors of `summed`.

        Raises:
            SecureSumError: too few true shares, or a member dealt false ones; it names who lied.
        """
        total, self.liars = self._total.copy(), {}
        for name in self.summed:
            shares = {n: r.seeds[name] for n, r in self._reveals.items()}
            seed = self._put_together(name, SEED, shares, partial(self._is_seed, name))
            total -= KeyStream(own_seed(self.session, name, seed)).uint32(self.length)
        for name in sorted(set(self.partners) - self._summed):
            shares = {n: r.keys[name] for n, r in self._reveals.items()}
            private = self._put_together(name, KEY, shares, partial(self._is_mask_key, name))
            left = {n: self.adverts[n].mask_key for n in self.summed}
            # Its own vector is missing: what the others added for it is the opposite of its masks.
            apply_masks(total, self.session, name, private, left)
        return total

    def _put_together(
        self, name: str, what: str, shares: Mapping[str, bytes], fits: Callable[[bytes], bool]
    ) -> bytes:
        # Known liars last: it takes signatures where one of the first lies, and one look at each will do.
        ordered = {n: shares[n] for n in sorted(shares, key=lambda n: (n in self.liars, n))}
        secret, liars = put_together(self.session, self.roster, name, what, ordered, fits)
        for liar in liars:
            self.liars.setdefault(liar, []).append(name)
        return secret

    def _is_seed(self, name: str, seed: bytes) -> bool:
        return commitment(self.session, name, seed) == self._commitments[name]

    def _is_mask_key(self, name: str, private: bytes) -> bool:
        try:
            public = flower.bytes_to_private_key(private).public_key()
            return bool(flower.public_key_to_bytes(public) == self.adverts[name].mask_key)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            return False
