"""What members of a secure sum say to each other and sign, and the masks that follow from their keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from numpy.typing import NDArray

from privemo import flower
from privemo.dp.stream import KeyStream
from privemo.errors import SecureSumError
from privemo.secagg.session import Session

__all__ = [
    "UNSIGNED",
    "Advert",
    "Reveal",
    "Roster",
    "apply_masks",
    "checked",
    "commitment",
    "confirmation",
    "copied",
    "fault_of",
    "own_seed",
    "verified",
]

Roster = Mapping[str, bytes]
"""The public Ed25519 key (32 bytes) of each store, agreed on before a run: it is what makes members real."""

UNSIGNED = "not signed by the store of that name"


@dataclass(frozen=True)
class Advert:
    """Public keys of one member for one session, signed by its store."""

    mask_key: bytes
    share_key: bytes
    signature: bytes

    def statement(self, session: Session, name: str) -> bytes:
        """What the signature is over."""
        keys = {"mask_key": self.mask_key.hex(), "share_key": self.share_key.hex()}
        return session.bytes_of("advert", {"name": name, **keys})


@dataclass(frozen=True)
class Reveal:
    """Shares that one member gives away at the end: of seeds of those in the sum, of keys of those not."""

    seeds: Mapping[str, bytes]
    keys: Mapping[str, bytes]


def checked(adverts: Mapping[str, Advert], session: Session, roster: Roster) -> None:
    """Let keys pass that the stores of the roster signed for this session.

    Raises:
        SecureSumError: too few, a stranger, a wrong signature, or one key twice.
    """
    if len(adverts) < session.enough:
        raise SecureSumError(f"{len(adverts)} members are there of {session.enough} that it takes.")
    for name, advert in adverts.items():
        fault = fault_of(name, advert, session, roster)
        if fault:
            raise SecureSumError(f"The keys of {name} are {fault}.")
    twice = copied(adverts)
    if twice:
        raise SecureSumError(f"Two keys of this sum are the same: {', '.join(sorted(twice))}.")


def fault_of(name: str, advert: Advert, session: Session, roster: Roster) -> str:
    """What is wrong with a member's keys by themselves, or nothing: server and members ask the same."""
    statement = advert.statement(session, name)
    if name not in session.members or not verified(roster, name, advert.signature, statement):
        return UNSIGNED
    if not (_is_key(advert.mask_key) and _is_key(advert.share_key)):
        return "no keys"
    return "one and the same" if advert.mask_key == advert.share_key else ""


def copied(adverts: Mapping[str, Advert]) -> dict[str, list[str]]:
    """Members with a key that others have as well, and who these are.

    All of them are at fault. Keys are fresh for each sum, and no member sees another's before everybody's
    are in: whoever has a key of another got it from its owner, or both from one broken source of chance.
    """
    owners: dict[bytes, set[str]] = {}
    for name, advert in adverts.items():
        for key in (advert.mask_key, advert.share_key):
            owners.setdefault(key, set()).add(name)
    found: dict[str, set[str]] = {}
    for names in owners.values():
        for name in names if len(names) > 1 else ():
            found.setdefault(name, set()).update(names - {name})
    return {name: sorted(others) for name, others in sorted(found.items())}


def _is_key(public: bytes) -> bool:
    """Whether bytes are a public key to agree with (ECDH over P-384), in its one spelling."""
    try:
        key = flower.bytes_to_public_key(public)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False
    fine = isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP384R1)
    # Written in another way a copy of somebody's key would pass for another key.
    return fine and flower.public_key_to_bytes(key) == public


def verified(roster: Roster, name: str, signature: bytes, statement: bytes) -> bool:
    """Whether the store of that name in the roster signed the statement."""
    if name not in roster:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(roster[name]).verify(signature, statement)
    except (InvalidSignature, ValueError):
        return False
    return True


def confirmation(session: Session, adverts: Mapping[str, Advert], summed: Iterable[str]) -> bytes:
    """What members sign about who is in the sum, under the very keys that all of them were shown."""
    keys = {name: [a.mask_key.hex(), a.share_key.hex()] for name, a in adverts.items()}
    return session.bytes_of("confirmation", {"keys": keys, "summed": sorted(summed)})


def commitment(session: Session, name: str, seed: bytes) -> bytes:
    """32 bytes that bind a member to its seed and do not show it."""
    return session.seed_of("commitment", seed, {"name": name})


def own_seed(session: Session, name: str, seed: bytes) -> bytes:
    """Key of a member's own mask."""
    return session.seed_of("own mask", seed, {"name": name})


def apply_masks(
    vector: NDArray[np.uint32],
    session: Session,
    name: str,
    private: bytes,
    others: Mapping[str, bytes],
) -> None:
    """Add to a vector, in place, the masks that a member has with others: theirs are the opposite.

    Args:
        vector: whole numbers modulo 2^32, shape (n,).
        session: of the sum.
        name: of the member.
        private: its mask key.
        others: public mask keys by name.
    """
    own = flower.bytes_to_private_key(private)
    for other, public in others.items():
        secret = flower.generate_shared_key(own, flower.bytes_to_public_key(public))
        pair = {"pair": sorted([name, other])}
        mask = KeyStream(session.seed_of("pair mask", secret, pair)).uint32(len(vector))
        if name < other:
            vector += mask
        else:
            vector -= mask
