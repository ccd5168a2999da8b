"""The root of a log that is read once, leaf by leaf, in memory of O(log n).

What is kept are the hashes of the perfect subtrees along the right edge (RFC 9162 2.1.1), largest
first: a leaf costs about two hashes, a root as many as the size has binary ones.
"""

from __future__ import annotations

from ..merkle import EMPTY_ROOT, node_hash

__all__ = ["Frontier"]


class Frontier:
    """The right edge of a growing tree."""

    __slots__ = ("_stack", "size")

    def __init__(self) -> None:
        self._stack: list[bytes] = []
        #: how many leaves were appended
        self.size = 0

    def append(self, leaf_hash: bytes) -> None:
        """Add the next leaf by its hash, 32 bytes."""
        stack, size = self._stack, self.size
        self.size = size + 1
        while size & 1:  # two perfect subtrees of one size make the next larger one
            leaf_hash = node_hash(stack.pop(), leaf_hash)
            size >>= 1
        stack.append(leaf_hash)

    def root(self) -> bytes:
        """Return the Merkle tree hash of all leaves so far."""
        if not self._stack:
            return EMPTY_ROOT
        *rest, root = self._stack
        for left in reversed(rest):
            root = node_hash(left, root)
        return root
