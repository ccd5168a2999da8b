"""How far stores' ledgers went, as a server heard it, in a file: a line for each signed statement.

A round may fail, or the server die while it waits for the last store; whoever answered has paid by then. A
line is durable before the next answer is looked at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from privemo.errors import LedgerError, RunError
from privemo.files import append_line
from privemo.statements import LedgerHead

__all__ = ["read_heard", "write_heard"]

_SCHEMA = "privemo.ledger-head/1"


def read_heard(path: Path) -> dict[str, LedgerHead]:
    """By store, the furthest that its ledger was heard to go; nothing where there is no file.

    The line that a server was writing when it died is left out: nothing had been made of it.

    Raises:
        RunError: the file is damaged.
    """
    if not path.exists():
        return {}
    heard: dict[str, LedgerHead] = {}
    try:
        for line in path.read_bytes().split(b"\n")[:-1]:
            said = json.loads(line)
            if said["schema"] != _SCHEMA:
                raise ValueError(f"a line of schema {said['schema']}")
            name, head = str(said["store"]), LedgerHead(**said["ledger"])
            if name not in heard or head.entries > heard[name].entries:
                heard[name] = head
    except (KeyError, TypeError, AttributeError, ValueError, OSError) as error:
        raise RunError(f"{path} is damaged ({error}); restore it.") from error
    return heard


def write_heard(path: Path, further: Mapping[str, LedgerHead]) -> None:
    """Add how far ledgers go now.

    Raises:
        RunError: the disk is full, or the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for name, head in sorted(further.items()):
            append_line(path, {"schema": _SCHEMA, "store": name, "ledger": head.model_dump()})
    except (LedgerError, OSError) as error:
        raise RunError(f"What stores signed cannot be written down: {error}") from error
