"""The vault: faces at rest, each sealed under the key of its person.

Whoever has the database without the key folder sees how many items there are and how long they are
(`items.py` says how one is sealed, `vaultdoor.py` what may be brought in).

Nothing leaves but through the gate: `Vault.sealed` gives a `SealedFaces`, which only a `ConsentGate` opens.
The one exception is the person themselves (`Vault.of_person`; GDPR 15).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from . import schema
from .errors import MalformedError, RegistryBusyError, TamperedError
from .gate import SealedFaces
from .items import KINDS, Head, ItemKind, open_body, open_head, seal_item
from .policy import CHALLENGE_AGE, check_challenge_age
from .records import Context
from .storage import insert_rows, pairs
from .terms import Purpose, Reason
from .vaultdoor import NewItem, Stored, age_columns, check_item, entry_reasons

if TYPE_CHECKING:
    from .reader import RegistryReader

__all__ = ["Asked", "Item", "ItemKind", "NewItem", "Stored", "Vault"]

_CHUNK = 500  # SQLite allows 999 parameters in older builds
#: Given an item's facts, whether it belongs to a table.
Where = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An opened item."""

    person: str = field(repr=False)
    item_id: str = field(repr=False)
    facts: Mapping[str, Any] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A face that is not here, about which the gate is asked all the same, so that it counts.

    Attributes:
        person: an id; one with a character that is not printable can have no record.
        facts: the two that the gate asks about (`NewItem`).

    """

    person: str = field(repr=False)
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)


class Vault:
    """The items of one registry.

    Args:
        registry: a `ConsentRegistry` opened with its key folder.

    """

    def __init__(self, registry: RegistryReader) -> None:
        self._registry = registry
        self._journal = registry._journal

    def __repr__(self) -> str:
        return f"Vault({self._registry!r})"

    # -- putting ---------------------------------------------------------------------------------

    def put(
        self,
        items: Sequence[NewItem],
        context: Context,
        *,
        kind: ItemKind = ItemKind.FACE,
        purposes: Sequence[Purpose] | None = None,
        challenge_age: float = CHALLENGE_AGE,
    ) -> Stored:
        """Keep items of people who agreed, durably and all together; the others are refused.

        Args:
            items: what to keep; a few thousand at a time.
            context: where it was captured.
            kind: of all of them.
            purposes: what they are captured for: one live consent among these lets an item in.
                By default every purpose that the kind allows.
            challenge_age: years under which an age estimate refuses; at least 18.

        Raises:
            MalformedError: an id or a fact that cannot be kept, an id that stands twice, or a purpose
                that the kind does not allow; nothing was kept.
            RegistryError, KeyFileError: nothing was kept.

        """
        kind, journal = ItemKind(kind), self._journal
        check_challenge_age(challenge_age)
        for item in items:
            check_item(item)
        with journal.lock, journal.store.write() as connection:
            journal.catch_up(connection)
            reasons = entry_reasons(self._registry, items, context, kind, purposes, challenge_age)
            taken = [item for item, r in zip(items, reasons, strict=True) if r is Reason.PERMITTED]
            rows = self._seal(connection, taken, kind)
            rows.sort(key=lambda row: int(row["iid"]))  # a B-tree takes rising numbers quicker
            _check_new(connection, [row["iid"] for row in rows])
            insert_rows(connection, schema.items, rows)
        return Stored(reasons=reasons)

    def _seal(
        self, connection: sa.Connection, items: Sequence[NewItem], kind: ItemKind
    ) -> list[dict[str, Any]]:
        people = self._journal.state.people
        pids = people.rows([item.person for item in items])
        secrets = people.secrets(connection, pids)
        return [
            seal_item(
                self._journal.registry_id,
                pid,
                secrets[pid],
                kind,
                item_id=item.item_id,
                facts=item.facts,
                body=item.body,
            )
            for item, pid in zip(items, pids, strict=True)
        ]

    # -- reading ---------------------------------------------------------------------------------

    def sealed(
        self,
        *,
        kind: ItemKind = ItemKind.FACE,
        where: Where | None = None,
        also: Sequence[Asked] = (),
    ) -> SealedFaces[list[Item]]:
        """Return what is kept, for a gate to decide on and open.

        The order is that of the items' ids, shorter ids first, so that numbers count up; it does not
        tell who came when, and is the same in every copy. Each row's ``face_id`` is a number of its
        own; what an item is called stands in the opened `Item`.

        Args:
            kind: of the items.
            where: which items belong to the table; all by default.
            also: faces that are not here, to be asked about and counted with the others. They
                come after the items; for a row of theirs that the gate admits, nothing is opened.

        Raises:
            TamperedError: an item was changed or moved.
            KeyFileError: the registry was opened without its key folder.

        Opening raises RegistryBusyError when an item was deleted since: ask again.

        """
        found = self._find(ItemKind(kind), where)
        rows: list[Head | Asked] = [*found, *also]
        ages, bands = age_columns([row.facts for row in rows])
        return SealedFaces(
            person=[row.person for row in rows],
            face_id=[
                *(str(head.iid) for head in found),
                *(f"not here: {number}" for number in range(len(also))),
            ],
            open_=lambda admitted: self._open(
                [found[row] for row in admitted.tolist() if row < len(found)]
            ),
            estimated_age=ages,
            attested_age_band=bands,
        )

    def turned_away(self, where: Where | None = None) -> list[Asked]:
        """Return the faces that were noted as not taken, for `sealed` to ask about."""
        found = self._find(ItemKind.REFUSAL, where)
        return [Asked(person=head.person, facts=head.facts) for head in found]

    def _find(self, kind: ItemKind, where: Where | None) -> list[Head]:
        with self._journal.lock:
            self._journal.refresh().people.keys  # noqa: B018 - without keys: an error, not "nothing"
        with self._journal.store.read() as connection:
            heads = self._heads(connection, kind, None)
            found = [head for head in heads if where is None or where(head.facts)]
        return sorted(found, key=lambda head: (len(head.item_id), head.item_id, head.person))

    def _heads(self, connection: sa.Connection, kind: ItemKind, pid: int | None) -> Iterator[Head]:
        """Yield the opened heads of a kind, of one person or of all."""
        table = schema.items
        query = sa.select(table.c.iid, table.c.pid, table.c.head).where(
            table.c.kind == KINDS.index(kind)
        )
        if pid is not None:
            query = query.where(table.c.pid == pid)
        rows = connection.execute(query).all()
        for iid, of, _head in rows:
            if not isinstance(of, int):  # a column of SQLite takes any type
                raise TamperedError(f"item {iid}", "belongs to nobody")
        secrets = self._journal.state.people.secrets(connection, [row[1] for row in rows])
        registry_id = self._journal.registry_id
        for iid, of, head in rows:
            if of in secrets:  # else erased since
                yield open_head(registry_id, iid, of, kind, head, secrets[of])

    def _open(self, heads: Sequence[Head]) -> list[Item]:
        table = schema.items
        bodies: dict[int, bytes] = {}
        with self._journal.store.read() as connection:
            # Not the keys of before: whoever was erased meanwhile stays erased.
            secrets = self._journal.state.people.secrets(connection, [head.pid for head in heads])
            for part in _parts([head.iid for head in heads]):
                query = sa.select(table.c.iid, table.c.body).where(table.c.iid.in_(part))
                bodies.update(pairs(connection.execute(query)))
        if any(head.iid not in bodies or head.pid not in secrets for head in heads):
            raise RegistryBusyError("an item was deleted since the table was read: read it again")
        registry_id = self._journal.registry_id
        return [
            Item(
                person=head.person,
                item_id=head.item_id,
                facts=head.facts,
                body=open_body(registry_id, head, bodies[head.iid], secrets[head.pid]),
            )
            for head in heads
        ]

    def of_person(self, person: str, *, kind: ItemKind = ItemKind.FACE) -> list[Item]:
        """Return what is kept of one person, for that person (GDPR 15, 20). No other use."""
        with self._journal.lock:
            pid = self._journal.refresh().people.pid(person)
        if pid is None:
            return []
        with self._journal.store.read() as connection:
            heads = list(self._heads(connection, ItemKind(kind), pid))
        return self._open(sorted(heads, key=lambda head: (len(head.item_id), head.item_id)))

    # -- deleting --------------------------------------------------------------------------------

    def delete(self, *, kind: ItemKind, persons: Sequence[str] | None = None) -> int:
        """Delete every item of a kind, of some people or of all; return how many.

        What is deleted is overwritten in the file (``secure_delete``) and taken out of the WAL. Copies made
        before hold it still, under the person's key: erase the person to end that.

        Raises:
            RegistryBusyError: deleted, but a reader held the WAL: what was deleted stands there
                until the next `delete` or erasure.
            RegistryError: nothing was deleted.

        """
        table, journal = schema.items, self._journal
        query = sa.delete(table).where(table.c.kind == KINDS.index(ItemKind(kind)))
        with journal.lock, journal.store.write() as connection:
            journal.catch_up(connection)
            if persons is None:
                count = connection.execute(query).rowcount
            else:
                pids = sorted({pid for pid in journal.state.people.rows(persons) if pid >= 0})
                count = sum(
                    connection.execute(query.where(table.c.pid.in_(part))).rowcount
                    for part in _parts(pids)
                )
        journal.store.scrub()
        return int(count)

    def counts(self) -> dict[ItemKind, int]:
        """Return how many items of each kind there are; needs no key."""
        table = schema.items
        query = sa.select(table.c.kind, sa.func.count()).group_by(table.c.kind)
        with self._journal.store.read() as connection:
            found = pairs(connection.execute(query))
        return {kind: int(found.get(code, 0)) for code, kind in enumerate(KINDS)}


def _parts(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    for at in range(0, len(numbers), _CHUNK):
        yield numbers[at : at + _CHUNK]


def _check_new(connection: sa.Connection, iids: Sequence[int]) -> None:
    """Refuse an item that is kept already; its row's number says so without opening anything."""
    column = schema.items.c.iid
    twice = len(set(iids)) != len(iids)
    for part in _parts(iids):
        twice |= connection.execute(sa.select(column).where(column.in_(part))).first() is not None
    if twice:
        raise MalformedError("an item of this id is kept already, or stands twice")
