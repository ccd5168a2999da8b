"""The end of a run as Flower records: what the server shows, and what a store answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rfc8785

from privemo.closing import Closing, EndNotShown, needed_of, sign_end, signed_by
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
    One that took part in a round of which nothing of it arrived (it was killed) is shown more, once.

    Args:
        grid: to the stores.
        manifests: of all rounds.
        roster: public key of each store.
    """
    last, end = manifests[-1], needed_of(manifests)
    found, more = _asked(grid, dict.fromkeys(grid.get_node_ids(), end), roster, last)
    if more:
        encoded = {m["round"]: rfc8785.dumps(dict(m)) for m in manifests}
        shown = {
            node: [text for number, text in encoded.items() if number >= start]
            for node, start in more.items()
        }
        found |= _asked(grid, shown, roster, last)[0]
    return found


def _asked(
    grid: Grid,
    shown: Mapping[int, list[bytes]],
    roster: Mapping[str, bytes],
    last: Mapping[str, Any],
) -> tuple[dict[str, Closing], dict[int, int]]:
    """What stores signed of what their nodes were shown; and by node, from which round on one needs more."""
    messages = [
        Message(
            RecordDict({CONFIG: ConfigRecord({"manifests": manifests})}),
            node,
            f"{MessageType.QUERY}.close",
            group_id="close",
        )
        for node, manifests in sorted(shown.items())
    ]
    found: dict[str, Closing] = {}
    more: dict[int, int] = {}
    for reply in grid.send_and_receive(messages, timeout=_PATIENCE_S):
        if reply.has_error():
            continue
        try:
            content = _content(reply.content)
            if isinstance(start := content.get("from"), int):
                more[reply.metadata.src_node_id] = start
            else:
                found |= signed_by([_closing_from(content)], roster, last)
        except (RunError, UpdateRejected):
            continue
    return found, more


def _content(reply: RecordDict) -> ConfigRecord:
    record = reply.get(CONTENT)
    if not isinstance(record, ConfigRecord):
        raise RunError("An answer without content.")
    return record


def _closing_from(content: ConfigRecord) -> dict[str, Any]:
    text = content.get("closing")
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
    except EndNotShown as refusal:
        return RecordDict({CONTENT: ConfigRecord({"reason": str(refusal), "from": refusal.round})})
    except UpdateRejected as refusal:
        return RecordDict({CONTENT: ConfigRecord({"reason": str(refusal)})})
    except Exception as error:
        # As in `privemo.client_app.replied`: whatever it is, its text may name paths, or more.
        raise RunError(type(error).__name__) from error
    return RecordDict({CONTENT: ConfigRecord({"closing": json.dumps(signed.content())})})
