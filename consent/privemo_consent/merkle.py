"""Merkle trees after RFC 9162 section 2.1: pure functions over bytes and integers.

Verification raises and never returns False; lengths and bounds are proved before anything is
hashed. All hashes are SHA-256, 32 bytes. A *range* ``(lo, hi)`` names the subtree over leaves
``lo .. hi-1``; the functions ending in ``_ranges`` say which subtrees a proof consists of, so that
storage can fetch them in O(log n) reads (`log.py`), while ``inclusion_proof`` and
``consistency_proof`` compute them from a list of leaf hashes.

| input                                            | outcome                                  |
|--------------------------------------------------|------------------------------------------|
| size 0                                           | root is SHA-256 of nothing; no inclusion |
| index >= size, negative, or not an int           | MalformedError                           |
| proof longer or shorter than the tree asks       | ProofError, before hashing               |
| a hash that is not 32 bytes                      | MalformedError                           |
| consistency from size 0                          | empty proof, root1 the empty root        |
| consistency of equal sizes                       | empty proof, equal roots                 |
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from hmac import compare_digest

from .errors import MalformedError, ProofError

__all__ = [
    "EMPTY_ROOT",
    "HASH_SIZE",
    "consistency_proof",
    "consistency_ranges",
    "inclusion_proof",
    "inclusion_ranges",
    "leaf_hash",
    "node_hash",
    "root",
    "subtree_root",
    "verify_consistency",
    "verify_inclusion",
]

HASH_SIZE = 32
#: RFC 9162 section 2.1.1: the hash of an empty list is the hash of an empty string.
EMPTY_ROOT = hashlib.sha256(b"").digest()
_LIMIT = 2**63  # sizes are signed 64-bit integers in every store we use
Range = tuple[int, int]


def leaf_hash(data: bytes) -> bytes:
    """``SHA-256(0x00 || data)``: the prefix keeps leaves from passing as nodes (RFC 9162 2.1.1)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """``SHA-256(0x01 || left || right)`` (RFC 9162 2.1.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def _split(size: int) -> int:
    """Return the largest power of two smaller than ``size`` (RFC 9162 2.1.1: k < n <= 2k)."""
    return 1 << ((size - 1).bit_length() - 1)


def subtree_root(lo: int, hi: int, full: Callable[[int, int], bytes]) -> bytes:
    """Hash leaves ``lo .. hi-1`` out of perfect subtrees.

    Args:
        lo: first leaf; a multiple of the largest power of two not above ``hi - lo``.
        hi: one past the last leaf, > lo.
        full: ``full(level, index)`` gives the hash of the perfect subtree of ``2**level`` leaves
            that starts at leaf ``index * 2**level``.

    """
    size = hi - lo
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return full(level, lo >> level)
    middle = lo + _split(size)
    return node_hash(subtree_root(lo, middle, full), subtree_root(middle, hi, full))


def _from_leaves(leaf_hashes: Sequence[bytes]) -> Callable[[int, int], bytes]:
    def full(level: int, index: int) -> bytes:
        if level == 0:
            return leaf_hashes[index]
        return node_hash(full(level - 1, 2 * index), full(level - 1, 2 * index + 1))

    return full


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """Return the Merkle tree hash of a list of leaf hashes (RFC 9162 2.1.1)."""
    if not leaf_hashes:
        return EMPTY_ROOT
    return subtree_root(0, len(leaf_hashes), _from_leaves(leaf_hashes))


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """Return the subtrees of a leaf's inclusion proof, lowest first (RFC 9162 2.1.3.1).

    Raises:
        MalformedError: ``index`` is not a leaf of a tree of ``size``.

    """
    _check_index(index, size)
    lo, hi = 0, size
    ranges: list[Range] = []
    while hi - lo > 1:
        middle = lo + _split(hi - lo)
        if index < middle:
            ranges.append((middle, hi))
            hi = middle
        else:
            ranges.append((lo, middle))
            lo = middle
    ranges.reverse()
    return ranges


def consistency_ranges(size1: int, size2: int) -> list[Range]:
    """Return the subtrees of the proof that ``size2`` extends ``size1`` (RFC 9162 2.1.4.1).

    Raises:
        MalformedError: a size is negative, no integer, or ``size1 > size2``.

    """
    _check_sizes(size1, size2)
    if size1 in (0, size2):
        return []
    lo, hi = 0, size2
    ranges: list[Range] = []
    while size1 != hi:
        middle = lo + _split(hi - lo)
        if size1 <= middle:
            ranges.append((middle, hi))
            hi = middle
        else:
            ranges.append((lo, middle))
            lo = middle
    if lo > 0:  # the old root itself is known to the verifier and is left out
        ranges.append((lo, hi))
    ranges.reverse()
    return ranges


def inclusion_proof(leaf_hashes: Sequence[bytes], index: int) -> list[bytes]:
    """Return the audit path of leaf ``index``, lowest sibling first."""
    full = _from_leaves(leaf_hashes)
    return [subtree_root(lo, hi, full) for lo, hi in inclusion_ranges(index, len(leaf_hashes))]


def consistency_proof(leaf_hashes: Sequence[bytes], size1: int) -> list[bytes]:
    """Return the proof that the tree over ``leaf_hashes`` extends its first ``size1`` leaves."""
    full = _from_leaves(leaf_hashes)
    return [subtree_root(lo, hi, full) for lo, hi in consistency_ranges(size1, len(leaf_hashes))]


def verify_inclusion(
    leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Check that the leaf stands at ``index`` of the tree of ``size`` with this root.

    RFC 9162 section 2.1.3.2. Trees of nearby sizes give a leaf paths of one shape, so a proof does
    not bind ``size`` alone: take size and root together from one signed checkpoint.

    Raises:
        MalformedError: an argument has the wrong type, length or range.
        ProofError: the proof has the wrong length, or leads to another root.

    """
    _check_index(index, size)
    _check_hash(leaf_hash, "leaf hash")
    _check_hash(root, "root")
    _check_proof(proof, want=len(inclusion_ranges(index, size)))
    node, last, current = index, size - 1, leaf_hash
    for sibling in proof:
        if node & 1 or node == last:
            current = node_hash(sibling, current)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            current = node_hash(current, sibling)
        node >>= 1
        last >>= 1
    _match(current, root, f"inclusion of leaf {index} in a tree of {size}")


def verify_consistency(
    size1: int, size2: int, proof: Sequence[bytes], root1: bytes, root2: bytes
) -> None:
    """Check that the tree of ``size2`` only appended to the tree of ``size1``.

    RFC 9162 section 2.1.4.2.

    Raises:
        MalformedError: an argument has the wrong type, length or range.
        ProofError: the proof has the wrong length, or leads to another root.

    """
    _check_sizes(size1, size2)
    _check_hash(root1, "first root")
    _check_hash(root2, "second root")
    _check_proof(proof, want=len(consistency_ranges(size1, size2)))
    # An empty tree has one root only; without this any claimed first root would pass.
    for size, got in ((size1, root1), (size2, root2)):
        if size == 0:
            _match(got, EMPTY_ROOT, "root of an empty tree")
    if size1 == size2:
        _match(root1, root2, f"two roots of one size {size1}")
        return
    if size1 == 0:
        return
    first, second = _walk_consistency(size1, size2, proof, root1)
    _match(first, root1, f"first root, size {size1}")
    _match(second, root2, f"second root, size {size2}")


def _walk_consistency(
    size1: int, size2: int, proof: Sequence[bytes], root1: bytes
) -> tuple[bytes, bytes]:
    """Return both roots as the proof has them (RFC 9162 2.1.4.2, steps 2 to 6)."""
    path = list(proof)
    if size1 & (size1 - 1) == 0:  # a perfect old tree is its own first node
        path.insert(0, root1)
    node, last = size1 - 1, size2 - 1
    while node & 1:
        node >>= 1
        last >>= 1
    first = second = path[0]
    for sibling in path[1:]:
        if node & 1 or node == last:
            first = node_hash(sibling, first)
            second = node_hash(sibling, second)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            second = node_hash(second, sibling)
        node >>= 1
        last >>= 1
    return first, second


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_index(index: int, size: int) -> None:
    if not (_is_int(index) and _is_int(size)):
        raise MalformedError(
            f"got index {type(index).__name__} and size {type(size).__name__}, want integers"
        )
    if not 0 <= index < size < _LIMIT:
        raise MalformedError(f"got index {index} in a tree of {size}, want 0 <= index < size")


def _check_sizes(size1: int, size2: int) -> None:
    if not (_is_int(size1) and _is_int(size2)):
        raise MalformedError(
            f"got sizes {type(size1).__name__} and {type(size2).__name__}, want integers"
        )
    if not 0 <= size1 <= size2 < _LIMIT:
        raise MalformedError(f"got sizes {size1} and {size2}, want 0 <= first <= second")


def _check_hash(value: bytes, what: str) -> None:
    if not isinstance(value, bytes):
        raise MalformedError(f"{what}: got {type(value).__name__}, want bytes")
    if len(value) != HASH_SIZE:
        raise MalformedError(f"{what}: got {len(value)} bytes, want {HASH_SIZE}")


def _check_proof(proof: Sequence[bytes], *, want: int) -> None:
    if isinstance(proof, (bytes, bytearray, str)) or not isinstance(proof, Sequence):
        raise MalformedError(f"proof: got {type(proof).__name__}, want a sequence of hashes")
    if len(proof) != want:
        raise ProofError(f"proof: got {len(proof)} hashes, want {want}")
    for position, value in enumerate(proof):
        _check_hash(value, f"proof hash {position}")


def _match(got: bytes, want: bytes, what: str) -> None:
    if not compare_digest(got, want):
        raise ProofError(f"{what}: got root {got.hex()}, want {want.hex()}")
