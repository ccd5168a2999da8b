"""What the lines of a transfer are: their kinds, in their order, and the fields of each."""

from __future__ import annotations

from .. import schema

__all__ = ["COUNTED", "FIELDS", "SCHEMA", "end_text"]

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


def end_text(registry_id: str, lines: int, digest: str) -> str:
    """Return what the last line signs: everything before it."""
    return f"{SCHEMA}\n{registry_id}\n{lines}\n{digest}\n"
