"""Reading what stores answer, and what a round's manifest says of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from privemo import protocol
from privemo import weights as w
from privemo.flower import Message
from privemo.statements import Signed, Statement

__all__ = [
    "Heard",
    "Reply",
    "exposed",
    "failed_entry",
    "named_and_others",
    "printable",
    "read_reply",
    "told_entry",
    "too_few",
]


def named_and_others(
    told: Mapping[str, dict[str, Any]], names: Collection[str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """What a manifest says of the stores of the run, and apart from them of whoever else answered."""
    others = {name: told[name] for name in sorted(told) if name not in names}
    stores = {name: told[name] for name in sorted(told) if name in names}
    return {"stores": stores, **({"others": others} if others else {})}


def told_entry(statement: Statement, signed: Signed) -> dict[str, Any]:
    """What a manifest says of a store that stated something."""
    return {
        "status": statement.status,
        "reason": statement.reason,
        "update_sha256": statement.update_sha256,
        "consent_log_root": statement.consent_log_root,
        **signed.facts(),
    }


def printable(text: object, most: int = 256) -> str:
    """Text from outside as far as it can be written down: a manifest with half a surrogate has no hash.

    Also of errors, whose words may be a store's. What steers a terminal stands there as its escape.
    """
    cut = str(text)[:most]
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)[:most]


def failed_entry(reason: str, status: str = "failed") -> dict[str, Any]:
    """What a manifest says of a store that stated nothing that counts."""
    return {
        "status": status,
        "reason": printable(reason, 300),
        "update_sha256": None,
        "consent_log_root": None,
        "statement": None,
        "signature": None,
    }


@dataclass(frozen=True)
class Reply:
    """A reply, read: the store it names, what it states, and its update if there is one."""

    node: str
    name: str
    failure: str | None = None
    signed: Signed | None = None
    update: w.Weights | None = None


def exposed(heard: Collection[Heard], counted: Collection[str]) -> int:
    """How many stores are known to be poisoned, of whom nothing counts.

    Whoever repeats what another store signed long ago exposes one store and no more: itself. So nodes are
    counted, and only those that speak for a store which did not answer otherwise.
    """
    return len({one.reply.node for one in heard if one.made_up and one.reply.name not in counted})


@dataclass(frozen=True)
class Heard:
    """A reply that was held against its round: what it states, what is wrong, and where its update lies.

    Attributes:
        made_up: its store signed what no honest store sends.
    """

    reply: Reply
    statement: Statement | None
    fault: str
    row: int | None
    made_up: bool = False


def read_reply(message: Message) -> Reply:
    """Read a reply. Whatever is malformed becomes a failure of that node, never of the round."""
    node = f"node-{message.metadata.src_node_id}"
    if message.has_error():
        return Reply(node, node, printable(f"error: {message.error.reason or message.error.code}"))
    try:
        signed = protocol.signed_from(message.content)
        name = signed.unverified().store
        return Reply(node, name, None, signed, protocol.update_of(message.content))
    except Exception as error:
        return Reply(node, node, printable(f"malformed reply: {error}"))


def too_few(number: int, counted: int, quorum: int, stores: Mapping[str, dict[str, Any]]) -> str:
    """Why a round did not come about: what its manifest would have said of the stores."""
    why = [f"{name}: {s['reason']}" for name, s in stores.items() if s["reason"]]
    reasons = "; ".join(why) or "silence"
    if not counted:
        return f"No store could train in round {number} ({reasons})."
    return f"Only {counted} of the {quorum} stores that a round takes trained in round {number} ({reasons})."
