"""What the lines of a transfer are, kind by kind in their order, and what was read in them."""

from __future__ import annotations

from dataclasses import dataclass

from .. import schema

__all__ = ["COUNTED", "FIELDS", "SCHEMA", "TransferRead", "end_text"]

SCHEMA = "privemo.transfer/1"
#: The tables that travel, in the order of their lines.
COUNTED = (
    schema.notices,
    schema.persons,
    schema.events,
    schema.uses,
    schema.checkpoints,
    schema.items,
)
FIELDS: dict[str, frozenset[str]] = {
    "registry": frozenset(
        {"schema", "mode", "registry_id", "controller", "registry_key", "epoch", "counts"}
    ),
    "notice": frozenset({"body"}),
    "person": frozenset({"person", "subject_key"}),
    "event": frozenset({"pid", "leaf"}),
    "use": frozenset({"persons", "leaf"}),
    "checkpoint": frozenset({"log", "size", "note"}),
    "item": frozenset({"pid", "kind", "id", "facts", "body"}),
    "end": frozenset({"note"}),
}


@dataclass(frozen=True, slots=True)
class TransferRead:
    """What was read.

    Attributes:
        events: entries of the log as it came; more tell of the new signing key, and of who was
            suspended.
        root: of the tree of those entries, in hexadecimal: the same as where it came from.
        uses: entries of the log of uses.
        persons: rows of people, erased ones among them.
        items: faces and other items.
        origin: the name under which the log goes on.
        closed: whether the registry it came from is closed; consents are live then.
        suspended: how many consents have to be asked for again, since it is not.
        pinned: whether a key that the caller knew signed the file; else its own word stands alone.

    """

    events: int
    root: str
    uses: int
    persons: int
    items: int
    origin: str
    closed: bool
    suspended: int
    pinned: bool


def end_text(registry_id: str, lines: int, digest: str) -> str:
    """Return what the last line signs: everything before it."""
    return f"{SCHEMA}\n{registry_id}\n{lines}\n{digest}\n"
