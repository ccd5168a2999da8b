"""One try at summing up one round: who takes part, and how many are needed.

Everything that is signed, encrypted or derived in a session is bound to it, so nothing of one session means
anything in another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import rfc8785

from privemo.config import FEWEST_TO_SHARE, MOST_TO_SHARE
from privemo.errors import SecureSumError

__all__ = ["Session", "needed", "threshold_of"]


@dataclass(frozen=True)
class Session:
    """What all members and the server agree on beforehand.

    Attributes:
        run_id, round: of the run.
        attempt: 32 hex digits of the server's choice: another try of the same round is another session.
        order: hash of the order and of the model it is for: all members do the very same.
        members: names of the stores, sorted.
        enough: fewest members whose vectors have to be in the sum: less is never unmasked.
        threshold: shares that put a secret together again.

    Raises:
        SecureSumError: too few or too many members, not sorted, or so few shares that a server could unmask
            one of them.
    """

    run_id: str
    round: int
    attempt: str
    order: str
    members: tuple[str, ...]
    enough: int
    threshold: int

    def __post_init__(self) -> None:
        n = len(self.members)
        if not FEWEST_TO_SHARE <= n <= MOST_TO_SHARE:
            raise SecureSumError(
                f"A secure sum has {FEWEST_TO_SHARE} to {MOST_TO_SHARE} members, not {n}."
            )
        if list(self.members) != sorted(set(self.members)):
            raise SecureSumError("Members of a secure sum are named once each, in order.")
        # Over half: a server that tells two groups two stories never gets enough shares from each.
        if not n // 2 < self.enough <= n:
            raise SecureSumError(
                f"Of {n} members {self.enough} are to be enough: it takes {n // 2 + 1} to {n}."
            )
        if self.threshold != threshold_of(n, self.enough):
            raise SecureSumError(f"Of {n} members it takes {threshold_of(n, self.enough)} shares.")
        if len(self.attempt) != 32 or not set(self.attempt) <= set("0123456789abcdef"):
            raise SecureSumError("An attempt is named by 32 hex digits.")

    def bytes_of(self, kind: str, content: Mapping[str, object]) -> bytes:
        """Canonical bytes of a statement in this session, to be signed or derived from."""
        said = {
            "schema": f"privemo.secure-sum.{kind}/1",
            "run_id": self.run_id,
            "round": self.round,
            "attempt": self.attempt,
            "order": self.order,
            "members": list(self.members),
            "enough": self.enough,
            "threshold": self.threshold,
            **content,
        }
        return rfc8785.dumps(said)  # type: ignore[arg-type]

    def seed_of(self, kind: str, secret: bytes, content: Mapping[str, object]) -> bytes:
        """32 bytes that follow from a secret for one use in this session."""
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        info = hashlib.sha256(self.bytes_of(kind, content)).digest()
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(secret)


def needed(members: int, may_drop: float) -> tuple[int, int]:
    """(enough, threshold) for so many members of whom a share may drop out.

    Args:
        members: how many there are.
        may_drop: share of them without whom a sum still counts, at least 0 and below one half.

    Raises:
        SecureSumError: another share.
    """
    if not 0 <= may_drop < 0.5:
        raise SecureSumError(f"Below half of the stores may drop out, not {may_drop:g} of them.")
    enough = members - int(may_drop * members)
    return enough, threshold_of(members, enough)


def threshold_of(members: int, enough: int) -> int:
    """Shares that put a secret together, of so many members of whom `enough` are summed up."""
    return min(enough, 2 * members // 3 + 1)
