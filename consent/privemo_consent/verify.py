"""Recompute everything from the stored bytes, and name the first entry that is not as written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from . import merkle, schema
from .canonical import parse_canonical, sha256_hex
from .errors import TamperedError
from .items import check_items
from .journal import Journal
from .log import TILE_HEIGHT, MerkleLog
from .records import Notice
from .storage import pairs
from .times import parse_iso
from .uses import UsesLog, parse_use, persons_mac
from .verify_checkpoints import check_checkpoints
from .verify_events import EventsCheck, checked_leaf_hash, naming, rows_of

__all__ = ["Verified", "check_nodes", "check_notices", "check_uses", "verify_registry"]


@dataclass(frozen=True, slots=True)
class Verified:
    """What `verify_registry` found whole: sizes, and roots in hexadecimal.

    Attributes:
        events: entries of the log.
        root: of its tree.
        uses: entries of the log of uses.
        uses_root: of its tree.
        signed: how many entries the last signed head covers; all of them in a registry at rest.
        named: whether the key folder was at hand. Without it, that entries are about the persons
            whose rows they name, and what the vault holds, stays unchecked.
    """

    events: int
    root: str
    uses: int
    uses_root: str
    signed: int
    named: bool


def verify_registry(journal: Journal, uses: UsesLog) -> Verified:
    """Check file, schema, notices, people, both logs, their trees and signed heads, and the vault.

    Raises:
        TamperedError: names the first bad entry.
        RegistryUnreadableError: the file cannot be read at all.

    """
    try:
        return _verify(journal, uses)
    except TamperedError:
        # Keys as they were before another process rotated them, or erased somebody, blame whole rows.
        if journal.keys is None or not journal.keys.refresh():
            raise
    return _verify(journal, uses)


def _verify(journal: Journal, uses: UsesLog) -> Verified:
    with journal.store.read() as connection:
        journal.store.check(connection)
        notices = check_notices(connection)
        events_log, uses_log = journal.log, uses.log
        events = EventsCheck(journal, connection, notices)
        hashes = events.check()
        check_nodes(connection, events_log, hashes)
        use_hashes = check_uses(connection, journal, uses_log, len(hashes))
        check_nodes(connection, uses_log, use_hashes)
        signed = check_checkpoints(connection, (events_log, uses_log), events.keys)
        if events.named:
            check_items(journal.registry_id, connection, events.people)
    return Verified(
        events=len(hashes),
        root=merkle.root(hashes).hex(),
        uses=len(use_hashes),
        uses_root=merkle.root(use_hashes).hex(),
        signed=signed,
        named=events.named,
    )


def check_notices(connection: sa.Connection) -> list[tuple[str, str, int]]:
    """Return hash, id and version of every notice, once each is found to be the text it was."""
    found: list[tuple[str, str, int]] = []
    query = sa.select(schema.notices).order_by(schema.notices.c.nid)
    for row in rows_of(connection, query, "notice"):
        entry = f"notice {len(found)}"
        with naming(entry):
            digest, body = row["hash"], row["body"]
            if row["nid"] != len(found):
                raise TamperedError(entry, "missing")
            if sha256_hex(body) != digest:
                raise TamperedError(entry, f"got text of hash {sha256_hex(body)}, want {digest}")
            notice = Notice.model_validate(parse_canonical(body))
            if (notice.notice_id, notice.version) != (row["notice_id"], row["version"]):
                raise TamperedError(entry, "columns differ from the text")
            found.append((digest, notice.notice_id, notice.version))
    return found


def _levels(hashes: list[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    width, level = 1 << TILE_HEIGHT, 0
    while len(hashes) >= width:
        level += TILE_HEIGHT
        tiles = range(0, len(hashes) - width + 1, width)
        hashes = [merkle.root(hashes[at : at + width]) for at in tiles]
        yield level, hashes


def check_nodes(connection: sa.Connection, log: MerkleLog, hashes: list[bytes]) -> None:
    """Hold every stored node of a tree against those computed from its leaf hashes."""
    table = schema.nodes
    total = 0
    for level, wanted in _levels(hashes):
        query = (
            sa.select(table.c.idx, table.c.hash)
            .where(table.c.log == log.number, table.c.level == level)
            .order_by(table.c.idx)
        )
        stored: dict[int, bytes] = pairs(connection.execute(query))
        for index, value in enumerate(wanted):
            got = stored.get(index)
            if got != value:
                shown = got.hex() if isinstance(got, bytes) else repr(got)
                entry = f"{log.table.name} node {level}/{index}"
                raise TamperedError(entry, f"got {shown}, want {value.hex()}")
        total += len(wanted)
    counting = sa.select(sa.func.count()).select_from(table).where(table.c.log == log.number)
    if connection.execute(counting).scalar() != total:
        raise TamperedError(f"{log.table.name} nodes", "more hashes than the tree has")


def check_uses(
    connection: sa.Connection, journal: Journal, log: MerkleLog, events: int
) -> list[bytes]:
    """Return the leaf hashes of a log of uses in which every entry is as written."""
    hashes: list[bytes] = []
    key = None if journal.keys is None else journal.keys.registry_key
    query = sa.select(log.table).order_by(log.table.c.seq)
    for row in rows_of(connection, query, "use"):
        entry = f"use {len(hashes)}"
        with naming(entry):
            hashes.append(checked_leaf_hash(entry, row, len(hashes)))
            leaf = parse_use(row["leaf"])
            if key is not None and persons_mac(key, row["persons"]) != leaf["persons_mac"]:
                raise TamperedError(entry, "its persons are not those recorded")
            if parse_iso(leaf["recorded_at"]) != row["recorded"]:
                raise TamperedError(entry, "column recorded differs from its leaf")
            if leaf["log_seq"] > events:
                told = f"relies on {leaf['log_seq']} events, the log has {events}"
                raise TamperedError(entry, told)
    return hashes
