"""A key for each person out of one seed, and the means to destroy one of them for good.

The tree of Goldreich, Goldwasser and Micali ("How to construct random functions", J. ACM 33(4),
1986): the seed of a node gives those of its two children, the most significant bit of an index
chooses the first turn, and the leaf after 32 turns is the key. To *puncture* an index is to
replace the one seed above it by the seeds beside its path (Boneh and Waters, ASIACRYPT 2013;
Boyle, Goldwasser and Ivan, PKC 2014): every other key stays as it was, and nothing that is left
leads to this one.

The generator that doubles a seed is BLAKE2b (RFC 7693), keyed by the seed, over one fixed label,
with 64 bytes of output: the two children. Keyed BLAKE2b is a pseudorandom function; one call gives
both children in 0.5 us, where HMAC-SHA-256 needs two calls of 1.5 us, and a bulk import pays
for a derivation with every person. Depth is fixed, so no key is ever a seed.

Python cannot wipe memory that it has handed back: a seed may linger in a process's pages until they
are used again. No object of this module holds one after its puncture.
"""

from __future__ import annotations

import secrets
import struct
import threading
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import NoReturn

from ..errors import ErasedKeyError, MalformedError

__all__ = ["INDICES", "KEY_BYTES", "PuncturableKey"]

_LEVELS = 32
#: how many keys a tree holds: an index is from 0 up to, not including, this
INDICES = 1 << _LEVELS
KEY_BYTES = 32
_LABEL = b"privemo ggm 1"
_COUNT = struct.Struct(">I")
_NODE = struct.Struct(">BI32s")  # level, index of the leftmost leaf under it, seed


def _double(seed: bytes) -> bytes:
    return blake2b(_LABEL, digest_size=2 * KEY_BYTES, key=seed).digest()


def _check_index(index: int) -> None:
    if type(index) is not int or not 0 <= index < INDICES:
        raise MalformedError(f"an index is a whole number from 0 to {INDICES - 1}")


class PuncturableKey:
    """The seeds that are left of one tree. Safe for threads; neither copied nor sent.

    The stored nodes are disjoint subtrees in rising order, and never both children of one node:
    exactly the largest subtrees that hold no punctured index. So equal punctures of one tree give
    equal bytes, whatever their order.
    """

    __slots__ = ("_base", "_last", "_levels", "_lock", "_path", "_seeds", "_starts")

    def __init__(self, nodes: Iterable[tuple[int, int, bytes]]) -> None:
        """Take (level, first index, seed) nodes as `from_bytes` has checked them."""
        kept = list(nodes)
        self._levels = [level for level, _, _ in kept]
        self._starts = [start for _, start, _ in kept]
        self._seeds = [seed for _, _, seed in kept]
        # A wrong key would seal a person's data where nobody finds it again: threads take turns.
        self._lock = threading.Lock()
        self._last = -1  # the index whose path is kept, if any
        self._base = 0  # the level of the node under which it lies
        self._path = [b""] * _LEVELS  # what the nodes on it double to

    @classmethod
    def generate(cls) -> PuncturableKey:
        """Draw a new tree, whole."""
        return cls([(0, 0, secrets.token_bytes(KEY_BYTES))])

    def derive(self, index: int) -> bytes:
        """Return the 32-byte key of ``index``.

        About one hash for the next index, at most 32 for any.

        Raises:
            ErasedKeyError: it was punctured.
            MalformedError: no whole number in [0, 2**32).
        """
        _check_index(index)
        with self._lock:
            last = self._last
            # The doublings on the path to the last index hold for as many levels as both agree.
            level = _LEVELS - (index ^ last).bit_length() if last >= 0 else -1
            if last >= 0 and level >= self._base:
                level = min(level, _LEVELS - 1)
                pair = self._path[level]
                self._last = -1  # an interrupt must not leave a path of two halves
            else:
                node = self._cover(index)
                level, seed = self._levels[node], self._seeds[node]
                if level == _LEVELS:
                    return seed
                self._forget_path()
                self._base = level
                pair = self._path[level] = _double(seed)
            for below in range(level + 1, _LEVELS):
                half = pair[KEY_BYTES:] if index >> (_LEVELS - below) & 1 else pair[:KEY_BYTES]
                pair = self._path[below] = _double(half)
            self._last = index
            return pair[KEY_BYTES:] if index & 1 else pair[:KEY_BYTES]

    def puncture(self, index: int) -> None:
        """Destroy the key of ``index`` and all that leads to it; once more does nothing.

        Raises:
            MalformedError: no whole number in [0, 2**32).
        """
        _check_index(index)
        with self._lock:
            self._forget_path()
            node = self._find(index)
            if node is None:
                return
            level, start, seed = self._levels[node], self._starts[node], self._seeds[node]
            left: list[tuple[int, int, bytes]] = []
            right: list[tuple[int, int, bytes]] = []
            while level < _LEVELS:
                level += 1
                pair, half = _double(seed), 1 << (_LEVELS - level)
                if index & half:
                    left.append((level, start, pair[:KEY_BYTES]))
                    start, seed = start + half, pair[KEY_BYTES:]
                else:
                    right.append((level, start + half, pair[KEY_BYTES:]))
                    seed = pair[:KEY_BYTES]
            beside = left + right[::-1]
            self._levels[node : node + 1] = [level for level, _, _ in beside]
            self._starts[node : node + 1] = [start for _, start, _ in beside]
            self._seeds[node : node + 1] = [seed for _, _, seed in beside]

    def without(self, indices: Iterable[int]) -> PuncturableKey:
        """Return another key of the same tree, punctured at ``indices`` too; this one stays.

        Raises:
            MalformedError: an index is none.
        """
        with self._lock:
            other = PuncturableKey(zip(self._levels, self._starts, self._seeds, strict=True))
        for index in indices:
            other.puncture(index)
        return other

    def is_punctured(self, index: int) -> bool:
        """Tell whether the key of ``index`` is gone.

        Raises:
            MalformedError: no whole number in [0, 2**32).
        """
        _check_index(index)
        with self._lock:
            return self._find(index) is None

    @property
    def punctures(self) -> int:
        """How many keys were destroyed."""
        with self._lock:
            return INDICES - sum(1 << (_LEVELS - level) for level in self._levels)

    def indices_punctured(self) -> Iterator[int]:
        """Give the indices whose keys were destroyed, in rising order."""
        with self._lock:
            nodes = list(zip(self._starts, self._levels, strict=True))
        end = 0
        for start, level in (*nodes, (INDICES, _LEVELS)):
            yield from range(end, start)
            end = start + (1 << (_LEVELS - level))

    def to_bytes(self) -> bytes:
        """Return the seeds: secret bytes, 37 for each node and 4 more."""
        with self._lock:
            nodes = zip(self._levels, self._starts, self._seeds, strict=True)
            return _COUNT.pack(len(self._levels)) + b"".join(_NODE.pack(*node) for node in nodes)

    @classmethod
    def from_bytes(cls, data: bytes) -> PuncturableKey:
        """Read what `to_bytes` wrote, and nothing else.

        Raises:
            MalformedError: cut short or too long, no node, a node that is none, nodes out of order,
                one within another, or two that were never parted.
        """
        if not isinstance(data, bytes) or len(data) < _COUNT.size:
            raise MalformedError("a punctured key is cut short")
        (count,) = _COUNT.unpack_from(data)
        if len(data) != _COUNT.size + count * _NODE.size or not count:
            raise MalformedError(f"a punctured key of {count} nodes has another length")
        nodes = list(_NODE.iter_unpack(data[_COUNT.size :]))
        end, before = 0, (-1, -1)
        for level, start, _ in nodes:
            if level > _LEVELS or start & ((1 << (_LEVELS - level)) - 1):
                raise MalformedError("a node of a punctured key starts where none can")
            if start < end:
                raise MalformedError("the nodes of a punctured key overlap or are out of order")
            size = 1 << (_LEVELS - level)
            if before == (level, start ^ size):
                raise MalformedError("a punctured key holds both children of a node")
            end, before = start + size, (level, start)
        return cls(nodes)

    def _forget_path(self) -> None:
        self._last = -1
        self._base = 0
        self._path = [b""] * _LEVELS

    def _find(self, index: int) -> int | None:
        node = bisect_right(self._starts, index) - 1
        if node < 0 or index - self._starts[node] >> (_LEVELS - self._levels[node]):
            return None
        return node

    def _cover(self, index: int) -> int:
        node = self._find(index)
        if node is None:
            raise ErasedKeyError("the person's key was destroyed: what it sealed cannot be read")
        return node

    def __repr__(self) -> str:
        return f"PuncturableKey({len(self._levels)} nodes, {self.punctures} punctured)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a punctured key is neither copied nor sent: a copy would not be punctured")
