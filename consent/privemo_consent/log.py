"""A Merkle log in tables: appending costs O(log n) reads, and so does every proof.

The hashes of the leaves stand beside the leaves. Above them `schema.nodes` keeps every fourth level
of the tree (RFC 9162 2.1): the hashes of perfect subtrees of 16, 256, 4096 leaves and so on. A node
between two kept levels is folded from at most 8 stored hashes; a proof reads each level once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from . import merkle
from .errors import MalformedError, TamperedError
from .schema import nodes
from .storage import insert_row, insert_rows

__all__ = ["TILE_HEIGHT", "MerkleLog"]

#: Every how many levels hashes are kept.
TILE_HEIGHT = 4
_WIDTH = 1 << TILE_HEIGHT


class MerkleLog:
    """One log: a table with ``seq``, ``leaf`` and ``leaf_hash``, and its share of ``nodes``."""

    def __init__(self, number: int, table: sa.Table) -> None:
        self.number = number
        self.table = table
        self._size_query = sa.select(sa.func.max(table.c.seq))

    def size(self, connection: sa.Connection) -> int:
        """Return the number of leaves."""
        last = connection.execute(self._size_query).scalar()
        return 0 if last is None else int(last) + 1

    def append(self, connection: sa.Connection, size: int, rows: Sequence[dict[str, Any]]) -> None:
        """Insert ``rows`` as leaves ``size .. size + len(rows) - 1`` with the nodes they complete.

        Args:
            connection: holds the write lock.
            size: the number of leaves now.
            rows: column values; each has ``leaf``; ``seq`` and ``leaf_hash`` are set here.

        """
        if not rows:
            return
        hashes = [merkle.leaf_hash(row["leaf"]) for row in rows]
        for offset, (row, value) in enumerate(zip(rows, hashes, strict=True)):
            row["seq"] = size + offset
            row["leaf_hash"] = value
        if len(rows) == 1:
            insert_row(connection, self.table, rows[0])
        else:
            insert_rows(connection, self.table, rows)
        grown = self._grow(connection, size, hashes)
        insert_rows(connection, nodes, grown)

    def _grow(
        self, connection: sa.Connection, start: int, hashes: list[bytes]
    ) -> list[dict[str, Any]]:
        """Return the rows of every tile that the new leaves complete."""
        found: list[dict[str, Any]] = []
        level = 0
        while start % _WIDTH + len(hashes) >= _WIDTH:
            left = start % _WIDTH
            if left:
                hashes = [*self._hashes(connection, level, start - left, start), *hashes]
            start = (start - left) // _WIDTH
            level += TILE_HEIGHT
            tiles = range(0, len(hashes) - _WIDTH + 1, _WIDTH)
            hashes = [merkle.root(hashes[at : at + _WIDTH]) for at in tiles]
            found.extend(
                {"log": self.number, "level": level, "idx": start + i, "hash": value}
                for i, value in enumerate(hashes)
            )
        return found

    def _hashes(self, connection: sa.Connection, level: int, lo: int, hi: int) -> list[bytes]:
        """Return the stored hashes ``lo .. hi - 1`` of a level that is a multiple of the height."""
        if level == 0:
            key, value = self.table.c.seq, self.table.c.leaf_hash
            query = sa.select(value).where(key >= lo, key < hi).order_by(key)
        else:
            key = nodes.c.idx
            query = (
                sa.select(nodes.c.hash)
                .where(nodes.c.log == self.number, nodes.c.level == level, key >= lo, key < hi)
                .order_by(key)
            )
        found = list(connection.execute(query).scalars())
        sound = all(isinstance(h, bytes) and len(h) == merkle.HASH_SIZE for h in found)
        if len(found) != hi - lo or not sound:
            raise TamperedError(f"{self.table.name} node {level}/{lo}", "missing or no hash")
        return found

    def root(self, connection: sa.Connection, size: int) -> bytes:
        """Return the root of the first ``size`` leaves, out of stored nodes."""
        if size == 0:
            return merkle.EMPTY_ROOT
        return self._subtrees(connection, [(0, size)])[0]

    def inclusion_proof(self, connection: sa.Connection, index: int, size: int) -> list[bytes]:
        """Return the proof that leaf ``index`` is in the tree of the first ``size`` leaves."""
        self._check_size(connection, size)
        return self._subtrees(connection, merkle.inclusion_ranges(index, size))

    def consistency_proof(self, connection: sa.Connection, size1: int, size2: int) -> list[bytes]:
        """Return the proof that the tree of ``size2`` leaves extends that of ``size1``."""
        self._check_size(connection, size2)
        return self._subtrees(connection, merkle.consistency_ranges(size1, size2))

    def _subtrees(self, connection: sa.Connection, ranges: Sequence[merkle.Range]) -> list[bytes]:
        """Return the hash of each subtree; what they are folded from is read at one go."""
        wanted: set[tuple[int, int]] = set()

        def note(level: int, index: int) -> bytes:
            inside = level % TILE_HEIGHT
            first = index << inside
            wanted.update((level - inside, first + i) for i in range(1 << inside))
            return b""

        for lo, hi in ranges:
            merkle.subtree_root(lo, hi, note)
        have = self._stored(connection, wanted) if wanted else {}

        def full(level: int, index: int) -> bytes:
            inside = level % TILE_HEIGHT
            first = index << inside
            return merkle.root([have[level - inside, first + i] for i in range(1 << inside)])

        return [merkle.subtree_root(lo, hi, full) for lo, hi in ranges]

    def _stored(
        self, connection: sa.Connection, wanted: set[tuple[int, int]]
    ) -> dict[tuple[int, int], bytes]:
        """Read hashes by level and index, all with one query: on a server each is a journey.

        Raises:
            TamperedError: one is not there, though the log is long enough.
        """
        by_level: dict[int, list[int]] = {}
        for level, index in sorted(wanted):
            by_level.setdefault(level, []).append(index)
        parts: list[sa.Select[Any]] = []
        if leaf_indices := by_level.get(0):
            key = self.table.c.seq
            columns = (sa.literal(0).label("level"), key.label("idx"), self.table.c.leaf_hash)
            parts.append(sa.select(*columns).where(key.in_(leaf_indices)))
        for level, indices in by_level.items():
            if level:  # a part for each level: SQLite would walk the whole table for an OR of them
                query = sa.select(nodes.c.level, nodes.c.idx, nodes.c.hash).where(
                    nodes.c.log == self.number, nodes.c.level == level, nodes.c.idx.in_(indices)
                )
                parts.append(query)
        found = {
            (level, index): value
            for level, index, value in connection.execute(sa.union_all(*parts))
            if isinstance(value, bytes) and len(value) == merkle.HASH_SIZE
        }
        for level, index in sorted(wanted):
            if (level, index) not in found:
                raise TamperedError(f"{self.table.name} node {level}/{index}", "missing or no hash")
        return found

    def _check_size(self, connection: sa.Connection, size: int) -> None:
        have = self.size(connection)
        if size > have:
            raise MalformedError(f"got size {size}, the log has {have} entries")
