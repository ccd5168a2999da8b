"""Which keys of stores a server lets in: files of its folder `nodes`, and nothing else.

`NAME.pub` lets a store in. Renamed to `NAME.revoked`, it shuts the store out, at once and for good.
"""

from __future__ import annotations

import time
from pathlib import Path

from privemo.errors import RunError

__all__ = ["Keys", "revoke", "revoked"]

LET_IN, REVOKED = ".pub", ".revoked"
"""What a key's file ends with: whoever may connect, and whoever may no more."""

_TICK_NS = 2_000_000_000  # no file system's clock is coarser


def revoke(chain: Path, name: str) -> None:
    """Let a store's node in no more. What it sent before, counts.

    Args:
        chain: the server's folder, served or not.
        name: of the store.

    Raises:
        RunError: there is no such store, it was revoked before, or the folder cannot be written.
    """
    nodes = chain / "nodes"
    path = nodes / f"{name}{LET_IN}"
    known = {each.stem for each in nodes.glob(f"*{LET_IN}")}
    if name in revoked(chain):
        raise RunError(f"{name} was revoked before.")
    if name not in known:  # and a name is no path
        there = ", ".join(sorted(known)) or "nobody"
        raise RunError(f"{chain} lets no store {name!r} in. There are: {there}.")
    try:
        path.rename(path.with_suffix(REVOKED))
    except OSError as error:
        raise RunError(
            f"{path} cannot be renamed ({error.strerror}): {name} is still let in."
        ) from error


def revoked(chain: Path) -> list[str]:
    """Names of the stores that are let in no more."""
    return sorted(path.name.removesuffix(REVOKED) for path in (chain / "nodes").glob(f"*{REVOKED}"))


class Keys:
    """The keys of a folder `nodes`: a file that is renamed counts with the next request.

    Args:
        folder: holds `NAME.pub` and `NAME.revoked`, OpenSSH texts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read_at = -1
        self._names: dict[str, dict[bytes, str]] = {LET_IN: {}, REVOKED: {}}

    def is_known(self, key: bytes) -> bool:
        """Whether a key is one of a store of the federation, revoked or not.

        Args:
            key: as a node sends it: PEM, SubjectPublicKeyInfo.
        """
        return key in self._now()[LET_IN] or self.revoked(key) is not None

    def let_in(self) -> dict[bytes, str]:
        """Keys of stores that may come in, and whose they are."""
        now = self._now()
        return {key: name for key, name in now[LET_IN].items() if key not in now[REVOKED]}

    def revoked(self, key: bytes) -> str | None:
        """Name of the store whose key this was; also where another file would let it in."""
        return self._now()[REVOKED].get(key)

    def _now(self) -> dict[str, dict[bytes, str]]:
        """By ending: keys, and whose they are."""
        try:
            changed = self.folder.stat().st_mtime_ns
        except OSError:
            return {LET_IN: {}, REVOKED: {}}
        if changed != self._read_at:
            self._names = {
                ending: {
                    key: path.name.removesuffix(ending)
                    for path in self.folder.glob(f"*{ending}")
                    if (key := _pem(path)) is not None
                }
                for ending in (LET_IN, REVOKED)
            }
            # A folder that changed just now may change again without a later time: look once more.
            self._read_at = changed if time.time_ns() - changed > _TICK_NS else -1
        return self._names


def _pem(path: Path) -> bytes | None:
    """The key of a file as nodes send it; None where it cannot be read: it lets nobody in."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_ssh_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm):
        return None
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
