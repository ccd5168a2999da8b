"""How far stores' ledgers went, as a server heard it, in a file: a line for each signed statement.

A round may fail, or the server die while it waits for the last store; whoever answered has paid by then. A
line is durable before the next answer is looked at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from privemo.errors import LedgerError, RunError
from privemo.files import append_line, read_json, write_json
from privemo.statements import LedgerHead

__all__ = ["EARLIER_FILE", "read_earlier", "read_heard", "write_earlier", "write_heard"]

EARLIER_FILE = "earlier.json"
"""What a federation knows of ledgers from those before it (`privemo.federation.earlier`)."""

_SCHEMA, _EARLIER_SCHEMA = "privemo.ledger-head/1", "privemo.earlier/1"


def write_earlier(folder: Path, stores: Sequence[Mapping[str, Any]]) -> None:
    """Write down what earlier federations knew: for each store its `name`, its `key`, and its `ledger`."""
    write_json(folder / EARLIER_FILE, {"schema": _EARLIER_SCHEMA, "stores": list(stores)})


def read_earlier(folder: Path) -> list[tuple[str, str, LedgerHead]]:
    """Name, signing key in hex digits, and ledger of the stores of federations before one; often nothing.

    Raises:
        RunError: the file is damaged.
    """
    path = folder / EARLIER_FILE
    if not path.exists():
        return []
    try:
        return [
            (str(line["name"]), str(line["key"]), LedgerHead(**line["ledger"]))
            for line in read_json(path, schema=_EARLIER_SCHEMA)["stores"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error}); restore it.") from error


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
