"""What a key folder knows that a backup does not: who was erased, which keys ended, since then.

The folder outlives the database, so it is asked first. These functions look into `KeyFolder` from
outside, as its own methods do from within.
"""

from __future__ import annotations

from collections.abc import Callable

from ..handle import new_signing_key
from ..keyfolder.folder import KeyFolder
from ..keys import KeyRing, SigningKey, VerifyingKey

__all__ = ["ended_since", "erased_beyond", "next_key"]


def ended_since(folder: KeyFolder, ring: KeyRing) -> list[VerifyingKey]:
    """Return the keys that were revoked after the log's last entry: they stay revoked."""
    return [
        period.key
        for period in ring.periods
        if period.revoked is None and period.key.public in folder.dropped
    ]


def erased_beyond(folder: KeyFolder, rows: int) -> bool:
    """Return whether someone was erased whose row comes after the first ``rows``."""
    trees = [keys.tree for keys in folder._persons.values()]
    return any(pid >= rows for tree in trees for pid in tree.indices_punctured())


def next_key(
    folder: KeyFolder | None, registry_id: str, ring: KeyRing, taken: Callable[[str], bool]
) -> SigningKey:
    """Draw a signing key under an origin that no log of this registry had yet.

    Args:
        folder: its keys are asked for their names; None where it is new.
        registry_id: of the registry.
        ring: the keys that the log names.
        taken: whether somebody else knows a log of this origin.

    """
    names = [period.key.name for period in ring.periods]
    if folder is not None:
        names += [folder.signer(key_id).name for key_id in folder.signers]
    generation = 1 + max((_generation(name, registry_id) for name in names), default=0)
    while taken(new_signing_key(registry_id, generation).name):
        generation += 1
    return new_signing_key(registry_id, generation)


def _generation(name: str, registry_id: str) -> int:
    tail = name.removeprefix(f"privemo.consent/{registry_id}").removeprefix("/")
    return int(tail) if tail.isascii() and tail.isdecimal() else 1
