"""Rows for the tables of a store, that mean nothing."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from privemo_consent import schema
from privemo_consent.storage import insert_rows


def person(pid: int, **changes: Any) -> dict[str, Any]:
    row = {
        "pid": pid,
        "handle": pid.to_bytes(16),
        "sealed": b"sealed-secret-of-%d" % pid,
        "wrapped": b"wrapped-key-of-%d" % pid,
        "epoch": 1,
    }
    return row | changes


def event(seq: int, pid: int | None = 0, **changes: Any) -> dict[str, Any]:
    row = {
        "seq": seq,
        "kind": 1,
        "pid": pid,
        "purpose": 2,
        "status": 4,
        "role": None,
        "at": 1_700_000_000_000_000 + seq,
        "recorded": 1_700_000_000_000_000 + seq,
        "expires": None,
        "nid": 0,
        "simulated": seq % 2 == 0,
        "leaf": b"\x00\\x\xff\n\t leaf %d" % seq,
        "leaf_hash": bytes(32),
    }
    return row | changes


def use(seq: int, name: str = "") -> dict[str, Any]:
    leaf = name.encode()
    return {"seq": seq, "recorded": seq, "persons": b"", "leaf": leaf, "leaf_hash": bytes(32)}


def notice(nid: int) -> dict[str, Any]:
    body = b'{"text": "\xc3\xa9"}'
    return {"nid": nid, "hash": f"h{nid}", "notice_id": "n", "version": nid, "body": body}


def item(iid: int, pid: int = 0) -> dict[str, Any]:
    body = b"picture-of-%d " % pid * 4000
    return {"iid": iid, "pid": pid, "kind": 0, "head": b"head", "body": body}


def fill(connection: sa.Connection) -> None:
    """Put something into every table."""
    rows: dict[sa.Table, list[dict[str, Any]]] = {
        schema.meta: [{"key": "mode", "value": "production"}, {"key": "name", "value": "été"}],
        schema.persons: [person(i) for i in range(5)],
        schema.notices: [notice(0)],
        schema.events: [event(i, i % 5) for i in range(20)],
        schema.uses: [use(i) for i in range(3)],
        schema.nodes: [{"log": 0, "level": 4, "idx": 0, "hash": bytes(32)}],
        schema.checkpoints: [{"log": 0, "size": i, "note": f"note {i} —\n"} for i in (1, 20)],
        schema.items: [item(2**53 + 7), item(-5, 1), item(9, 3)],
    }
    for table, values in rows.items():
        insert_rows(connection, table, values)


def everything(connection: sa.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table, in the order of the keys."""
    return {
        table.name: [
            tuple(row)
            for row in connection.execute(sa.select(table).order_by(*table.primary_key.columns))
        ]
        for table in schema.metadata.sorted_tables
    }


def size_of(connection: sa.Connection) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(schema.uses)).scalar_one())


def add_use(connection: sa.Connection, seq: int, name: str = "") -> None:
    insert_rows(connection, schema.uses, [use(seq, name)])
