"""The end of a run as Flower records: what the server shows, and what a store answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from privemo.closing import Closing, needed_of, sign_end, signed_by
from privemo.errors import RunError, UpdateRejected
from privemo.files import read_json
from privemo.flower import ConfigRecord, Grid, Message, MessageType, RecordDict
from privemo.protocol import CONFIG
from privemo.secure_protocol import CONTENT
from privemo.storeconfig import STORE_FILE, StoreConfig

__all__ = ["ask_to_sign", "closing_reply"]

_PATIENCE_S = 60.0
_LONGEST = 1 << 16  # characters of an answer


def ask_to_sign(
    grid: Grid, manifests: Sequence[Mapping[str, Any]], roster: Mapping[str, bytes]
) -> dict[str, Closing]:
    """Show every store that is there the end of a run; returns what was signed, by store.

    A store that is silent, refuses, or signs something else is not among them; the run is whole without it.

    Args:
        grid: to the stores.
        manifests: of all rounds.
        roster: public key of each store.
    """
    record = ConfigRecord({"manifests": needed_of(manifests)})
    messages = [
        Message(RecordDict({CONFIG: record}), node, f"{MessageType.QUERY}.close", group_id="close")
        for node in sorted(grid.get_node_ids())
    ]
    found: dict[str, Closing] = {}
    for reply in grid.send_and_receive(messages, timeout=_PATIENCE_S):
        if reply.has_error():
            continue
        try:
            found |= signed_by([_closing_from(reply.content)], roster, manifests[-1])
        except (RunError, UpdateRejected):
            continue
    return found


def _closing_from(content: RecordDict) -> dict[str, Any]:
    record = content.get(CONTENT)
    text = record.get("closing") if isinstance(record, ConfigRecord) else None
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise RunError("An answer without a signature.")
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RunError("An answer that is no JSON.") from error
    if not isinstance(said, dict):
        raise RunError("An answer that is no signature.")
    return said


def closing_reply(folder: Path, content: RecordDict) -> RecordDict:
    """What a store answers to the end of a run. Its registry is not opened: nothing of people is asked.

    Raises:
        RunError: something failed; only the kind of error leaves the store.
    """
    try:
        config = StoreConfig.of(**read_json(folder / STORE_FILE, schema="privemo.store/3"))
        record = content.get(CONFIG)
        shown = record.get("manifests") if isinstance(record, ConfigRecord) else None
        manifests = [m for m in shown if isinstance(m, bytes)] if isinstance(shown, list) else []
        signed = sign_end(folder, config.name, config.run_id, manifests)
    except UpdateRejected as refusal:
        return RecordDict({CONTENT: ConfigRecord({"reason": str(refusal)})})
    except Exception as error:
        # As in `privemo.client_app.replied`: whatever it is, its text may name paths, or more.
        raise RunError(type(error).__name__) from error
    return RecordDict({CONTENT: ConfigRecord({"closing": json.dumps(signed.content())})})
