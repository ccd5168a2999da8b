"""Whether a copy holds the whole log: what a witness and the operator remember of its end."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from .. import schema
from ..checkpoint import uses_origin
from ..errors import ForkedError, MalformedError
from ..keyfolder.folder import KeyFolder
from ..log import MerkleLog
from ..reader import LogHead
from ..signing import latest_checkpoint
from ..state import KeyState
from ..witness import Witness

__all__ = ["Remembered", "Whole", "look_back", "remember"]

_ROOT_HEX = 64


class Remembered(NamedTuple):
    """A head that somebody remembers of a log."""

    size: int
    root: bytes
    #: False where more may have been acknowledged since: then it only shows what is missing
    proves: bool = True


class Whole(NamedTuple):
    """Which logs of a copy are shown to be whole: by evidence, never by the lack of it."""

    events: bool
    uses: bool


def remember(head: LogHead | None) -> Remembered | None:
    """Read a head that an operator gives.

    Raises:
        MalformedError: no size, or no root in hexadecimal.

    """
    if head is None:
        return None
    size, root = head
    if type(size) is not int or size < 0 or not isinstance(root, str) or len(root) != _ROOT_HEX:
        raise MalformedError("a head is a number of entries and a root of 64 hexadecimal digits")
    try:
        return Remembered(size, bytes.fromhex(root))
    except ValueError:
        raise MalformedError("the root of a head is no hexadecimal text") from None


def look_back(
    connection: sa.Connection,
    folder: KeyFolder,
    keys: KeyState,
    newest: Remembered | None,
    newest_uses: Remembered | None,
) -> Whole:
    """Hold a copy's logs against what is remembered of them.

    A log is whole when somebody remembers its very end, and nobody remembers more. A witness that
    could not be told of a change is not somebody who remembers the end.

    Raises:
        ForkedError: the copy holds other entries than those remembered.
        WitnessMissingError: the folder names a witness that cannot be asked.
        TamperedError: the witness's own file was changed.

    """
    seen, seen_uses, asked = _ask_witness(folder, keys)
    events = MerkleLog(schema.EVENTS_LOG, schema.events)
    size = events.size(connection)
    whole = _ends(connection, events, "event", [seen, newest], size)
    uses = MerkleLog(schema.USES_LOG, schema.uses)
    signed = latest_checkpoint(connection, schema.USES_LOG)
    # Decisions after the last signed head were promised to nobody outside: losing them forks nothing.
    floor = 0 if signed is None else signed[0]
    nothing = [Remembered(0, uses.root(connection, 0))] if asked and seen_uses is None else []
    uses_whole = _ends(connection, uses, "use", [*nothing, seen_uses, newest_uses], floor)
    return Whole(whole, uses_whole)


def _ends(
    connection: sa.Connection,
    log: MerkleLog,
    kind: str,
    heads: list[Remembered | None],
    floor: int,
) -> bool:
    """Return whether a head that proves reaches ``floor``, and none lies beyond the copy."""
    size, found = log.size(connection), False
    for head in heads:
        if head is None:
            continue
        if head.size > size:
            return False
        if log.root(connection, head.size) != head.root:
            raise ForkedError(
                f"{kind} {max(0, head.size - 1)}",
                f"of the first {head.size} entries of this copy at least one is not what is "
                "remembered of the log: it is no copy of this registry, or the past was rewritten",
            )
        found = found or (head.proves and head.size >= floor)
    return found


def _ask_witness(
    folder: KeyFolder, keys: KeyState
) -> tuple[Remembered | None, Remembered | None, bool]:
    if folder.witness is None:
        return None, None, False
    witness = Witness.open(folder.witness, known=[period.key for period in keys.ring.periods])
    heads = [witness.latest(origin) for origin in (keys.origin, uses_origin(keys.origin))]
    told = folder.witness_behind is None
    events, uses = (
        None if head is None else Remembered(head.size, head.root, told) for head in heads
    )
    return events, uses, told and events is not None
