"""One item of the vault: how it is sealed, bound and opened. Pure, but for `check_items`.

An item has a head (its id and facts such as an estimated age: what the gate asks about) and a body
(the pixels). Both are AES-256-GCM ciphertexts under the person's own key. Associated data bind them to the
registry, the row, the kind, the person's id and, for the body, the item's id, so that no ciphertext
can pass for another.

The number of a row is a hash of kind and item id, keyed with the person's key: one item of a person
cannot stand there twice, and to whoever has no key the number says nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from . import schema
from .errors import MalformedError, TamperedError
from .sealing import PersonSecrets, seal, unseal

__all__ = [
    "KINDS",
    "Head",
    "ItemKind",
    "check_items",
    "item_number",
    "open_body",
    "open_head",
    "seal_item",
]

#: Heads are written by this encoder alone; nothing is hashed, so the quick one will do.
_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


class ItemKind(StrEnum):
    """What an item is. The order is its code in the database: append, never reorder."""

    FACE = "face"
    #: labels of demographic groups, kept for FAIRNESS_AUDIT alone (EU AI Act 10(5))
    DEMOGRAPHIC = "demographic"
    #: a face that was not taken: facts and no body, so that who was left out can be counted
    REFUSAL = "refusal"


KINDS = tuple(ItemKind)


@dataclass(frozen=True, slots=True)
class Head:
    """The opened head of an item: all but its body."""

    iid: int
    pid: int
    kind: ItemKind
    item_id: str = field(repr=False)
    facts: Mapping[str, Any] = field(repr=False)
    person: str = field(repr=False)


def _bound(registry_id: str, iid: int, kind: ItemKind, person: str) -> bytes:
    return f"privemo.item/2\0{registry_id}\0{iid}\0{kind.value}\0{person}".encode()


def _bound_body(bound: bytes, item_id: str) -> bytes:
    return bound + b"\0body\0" + item_id.encode()


def item_number(secrets: PersonSecrets, kind: ItemKind, item_id: str) -> int:
    """Return the number of an item's row, 62 bits."""
    named = f"{kind.value}\0{item_id}".encode()
    found = hashlib.blake2b(named, key=secrets.key, person=b"privemo.item/2", digest_size=8)
    return int.from_bytes(found.digest()) >> 2


def seal_item(
    registry_id: str,
    pid: int,
    secrets: PersonSecrets,
    kind: ItemKind,
    *,
    item_id: str,
    facts: Mapping[str, Any],
    body: bytes,
) -> dict[str, Any]:
    """Return a new row of ``items``.

    Raises:
        MalformedError: facts that JSON cannot say.

    """
    iid = item_number(secrets, kind, item_id)
    bound = _bound(registry_id, iid, kind, secrets.person)
    try:
        head = _ENCODER.encode({"id": item_id, "facts": dict(facts)}).encode()
    except (ValueError, TypeError):
        raise MalformedError(
            "a fact is a JSON value: texts, finite numbers, lists of them"
        ) from None
    return {
        "iid": iid,
        "pid": pid,
        "kind": KINDS.index(kind),
        "head": seal(secrets.key, head, bound),
        "body": seal(secrets.key, body, _bound_body(bound, item_id)),
    }


def open_head(
    registry_id: str, iid: int, pid: int, kind: ItemKind, sealed: bytes, secrets: PersonSecrets
) -> Head:
    """Open the head of a row.

    Raises:
        TamperedError: it was changed or moved.

    """
    bound = _bound(registry_id, iid, kind, secrets.person)
    value = json.loads(_unsealed(secrets, sealed, bound, iid))
    return Head(iid, pid, kind, value["id"], value["facts"], secrets.person)


def open_body(registry_id: str, head: Head, sealed: bytes, secrets: PersonSecrets) -> bytes:
    """Open the body that belongs to a head.

    Raises:
        TamperedError: it was changed or moved.

    """
    bound = _bound(registry_id, head.iid, head.kind, secrets.person)
    return _unsealed(secrets, sealed, _bound_body(bound, head.item_id), head.iid)


def _unsealed(secrets: PersonSecrets, sealed: bytes, bound: bytes, iid: int) -> bytes:
    if not isinstance(sealed, bytes):  # a column of SQLite takes any type
        raise TamperedError(f"item {iid}", "holds no bytes")
    return unseal(secrets.key, sealed, bound, f"item {iid}")


def check_items(
    registry_id: str, connection: sa.Connection, people: Sequence[PersonSecrets | None]
) -> None:
    """Open every item with the key of its person.

    Args:
        registry_id: of the registry.
        connection: to read on.
        people: by row number; None for a person erased.

    Raises:
        TamperedError: an item was changed, moved, or outlived its person.

    """
    table = schema.items
    rows = connection.execute(
        sa.select(table).order_by(table.c.iid), execution_options={"yield_per": 200}
    )
    for row in rows.mappings():
        iid, pid, code = row["iid"], row["pid"], row["kind"]
        secrets = people[pid] if isinstance(pid, int) and 0 <= pid < len(people) else None
        if secrets is None or not isinstance(code, int) or not 0 <= code < len(KINDS):
            raise TamperedError(f"item {iid}", "belongs to nobody, or is of no kind")
        try:
            head = open_head(registry_id, iid, pid, KINDS[code], row["head"], secrets)
            open_body(registry_id, head, row["body"], secrets)
        except (ValueError, TypeError, KeyError) as error:
            raise TamperedError(f"item {iid}", "cannot be read") from error
