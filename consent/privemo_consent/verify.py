"""Recompute everything from the stored bytes, and name the first entry that is not as written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from . import merkle, schema
from .canonical import parse_canonical, sha256_hex
from .errors import TamperedError
from .journal import Journal
from .log import TILE_HEIGHT, MerkleLog
from .records import Notice
from .store import pairs
from .times import parse_iso
from .uses import UsesLog, parse_use, persons_mac
from .verify_events import EventsCheck, checked_leaf_hash, naming, rows_of

__all__ = ["Verified", "verify_registry"]


@dataclass(frozen=True, slots=True)
class Verified:
    """What `verify_registry` found whole: sizes, and roots in hexadecimal."""

    events: int
    root: str
    uses: int
    uses_root: str


def verify_registry(journal: Journal, uses: UsesLog) -> Verified:
    """Check file, schema, notices, both logs and their trees.

    Raises:
        TamperedError: names the first bad entry.
        RegistryUnreadableError: the file cannot be read at all.

    """
    with journal.store.read() as connection:
        _check_file(connection)
        _check_schema(connection)
        notices = _check_notices(connection)
        events_log, uses_log = journal.log, uses.log
        hashes = EventsCheck(journal, connection, notices).check()
        _check_nodes(connection, events_log, hashes)
        use_hashes = _check_uses(connection, journal, uses_log, len(hashes))
        _check_nodes(connection, uses_log, use_hashes)
    return Verified(
        events=len(hashes),
        root=merkle.root(hashes).hex(),
        uses=len(use_hashes),
        uses_root=merkle.root(use_hashes).hex(),
    )


def _check_file(connection: sa.Connection) -> None:
    try:
        found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
    except sa_exc.DBAPIError as error:
        raise TamperedError("database file", str(error.orig)) from error
    if found != "ok":
        raise TamperedError("database file", str(found))


def _check_schema(connection: sa.Connection) -> None:
    have = _schema(connection)
    engine = sa.create_engine("sqlite://")
    with engine.connect() as fresh:
        schema.make(fresh)
        want = _schema(fresh)
    engine.dispose()
    for name, sql in want.items():
        if have.pop(name, None) != sql:
            raise TamperedError(name, "missing or altered: rows may be overwritten unseen")
    if have:
        raise TamperedError(min(have), "is none of this registry's")


def _schema(connection: sa.Connection) -> dict[str, str | None]:
    query = "SELECT type || ' ' || name, tbl_name || ': ' || coalesce(sql, '') FROM sqlite_master"
    return pairs(connection.exec_driver_sql(query))


def _check_notices(connection: sa.Connection) -> list[tuple[str, str, int]]:
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


def _check_nodes(connection: sa.Connection, log: MerkleLog, hashes: list[bytes]) -> None:
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


def _check_uses(
    connection: sa.Connection, journal: Journal, log: MerkleLog, events: int
) -> list[bytes]:
    hashes: list[bytes] = []
    query = sa.select(log.table).order_by(log.table.c.seq)
    for row in rows_of(connection, query, "use"):
        entry = f"use {len(hashes)}"
        with naming(entry):
            hashes.append(checked_leaf_hash(entry, row, len(hashes)))
            leaf = parse_use(row["leaf"])
            if persons_mac(journal.key, row["persons"]) != leaf["persons_mac"]:
                raise TamperedError(entry, "its persons are not those recorded")
            if parse_iso(leaf["recorded_at"]) != row["recorded"]:
                raise TamperedError(entry, "column recorded differs from its leaf")
            if leaf["log_seq"] > events:
                told = f"relies on {leaf['log_seq']} events, the log has {events}"
                raise TamperedError(entry, told)
    return hashes
