"""Shares of a member's secret: dealt under its signature, and put together again at the end.

Whoever deals signs each share for the member that holds it, and no member takes an unsigned one. So a share
that does not hold at the end tells who lied, and nobody can be made to look like a liar by another:

| what came back | who lied |
|---|---|
| a share that its dealer did not sign | whoever gave it: it is left aside, and as many true ones will do |
| enough signed shares, which do not make the secret of its key or commitment | the dealer |

Signatures are looked at only where the first shares do not do: a sum in which nobody lies costs no more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privemo import flower
from privemo.errors import SecureSumError
from privemo.secagg.session import Session
from privemo.secagg.statements import Roster, verified

__all__ = ["KEY", "LONGEST", "SEED", "deal", "is_dealt", "put_together"]

SEED, KEY = "seed", "key"
"""What a share is of: the seed of a member's own mask, or its mask key."""

LONGEST = 1024
"""Bytes of a share: one of a key has fewer than 400 with its signature."""

_SIGNATURE = 64  # bytes of Ed25519, at the end of a share


def deal(
    session: Session,
    dealer: str,
    what: str,
    secret: bytes,
    holders: Collection[str],
    signing: Ed25519PrivateKey,
) -> dict[str, bytes]:
    """Shares of a secret by holder, each signed by the dealer for that holder in this session.

    Args:
        session: of the sum.
        dealer: whose secret it is.
        what: `SEED` or `KEY`.
        secret: to be shared.
        holders: names, the dealer among them.
        signing: the dealer's key, which the roster names.
    """
    names = sorted(holders)
    shares = flower.create_shares(secret, session.threshold, len(names))
    return {
        name: share + signing.sign(_statement(session, dealer, name, what, share))
        for name, share in zip(names, shares, strict=True)
    }


def is_dealt(
    session: Session, roster: Roster, dealer: str, holder: str, what: str, share: bytes
) -> bool:
    """Whether the dealer signed this share for this holder in this session."""
    bare, signature = share[:-_SIGNATURE], share[-_SIGNATURE:]
    return verified(roster, dealer, signature, _statement(session, dealer, holder, what, bare))


def put_together(
    session: Session,
    roster: Roster,
    dealer: str,
    what: str,
    shares: Mapping[str, bytes],
    fits: Callable[[bytes], bool],
) -> tuple[bytes, list[str]]:
    """A secret from the shares that came back, and who gave a false one as far as that was looked at.

    At most two attempts, and one signature for each share. Among shares that are all signed nothing is
    searched: a dealer whose shares contradict each other could have dealt so that none would do.

    Args:
        session: of the sum.
        roster: public keys of the stores.
        dealer: whose secret it is.
        what: `SEED` or `KEY`.
        shares: by holder; the first ones are tried first.
        fits: whether a secret is the one that the dealer's public key or commitment is of.

    Raises:
        SecureSumError: too few true shares, or the dealer lied; it names who did.
    """
    found = _combined(shares, session.threshold)
    if found is not None and fits(found):
        return found, []
    true = {
        n: share for n, share in shares.items() if is_dealt(session, roster, dealer, n, what, share)
    }
    liars = sorted(set(shares) - set(true))
    told = f" {', '.join(liars)} gave false ones." if liars else ""
    if len(true) < session.threshold:
        raise SecureSumError(
            f"Round {session.round}: {len(true)} stores gave true shares of the {what} of {dealer}, and it "
            f"takes {session.threshold}.{told} The round is lost; resume the run to try it again."
        )
    if liars:
        found = _combined(true, session.threshold)
        if found is not None and fits(found):
            return found, liars
    raise SecureSumError(
        f"Round {session.round}: {dealer} dealt false shares of its {what}, which it signed: they do not put "
        f"it together.{told} The round is lost; look at that store, then resume the run to try it again."
    )


def _combined(shares: Mapping[str, bytes], threshold: int) -> bytes | None:
    """What the first shares make, or none: they may be anything."""
    some = [share[:-_SIGNATURE] for share in list(shares.values())[:threshold]]
    if len(some) < threshold or len({len(share) for share in some}) != 1:
        return None
    try:
        return flower.combine_shares(some)
    except Exception:  # shares of a liar, at which combining fails in several ways
        return None


def _statement(session: Session, dealer: str, holder: str, what: str, share: bytes) -> bytes:
    said = {"dealer": dealer, "holder": holder, "of": what, "share": share.hex()}
    return session.bytes_of("dealt", said)
