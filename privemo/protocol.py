"""What travels between server and stores, as Flower records: one place for both ends.

Where stores share the noise, `privemo.secure_protocol` has the rest.

To a store: the model (`arrays`) and the order (`config`). From a store: the update (`update`, absent
when it did not take part) and what it declares of the round (`manifest`). No loss, no count of faces or
people and no pseudonym is among them: each would be a release of private data that nobody accounted for.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from privemo import weights as w
from privemo.errors import RunError, SettingsError
from privemo.flower import ArrayRecord, ConfigRecord, RecordDict
from privemo.orders import PlainRecipe, PrivateRecipe, RoundOrder, check_order
from privemo.store import RoundResult

__all__ = ["order_from", "order_record", "pack_result", "unpack_manifest"]

ARRAYS, CONFIG, UPDATE, MANIFEST = "arrays", "config", "update", "manifest"


def order_record(order: RoundOrder) -> ConfigRecord:
    """The order as a flat record."""
    kind = "private" if isinstance(order.recipe, PrivateRecipe) else "plain"
    return ConfigRecord(
        {
            "run-id": order.run_id,
            "round": order.round,
            "model": order.model,
            "threads": order.threads or 0,
            "kind": kind,
            **asdict(order.recipe),
        }
    )


def order_from(config: ConfigRecord) -> RoundOrder:
    """Read an order.

    Raises:
        RunError: a field is missing, of the wrong kind, or out of range.
    """
    values: dict[str, Any] = dict(config)
    try:
        kind = {"private": PrivateRecipe, "plain": PlainRecipe}[values["kind"]]
        recipe = kind(**{f.name: values[f.name] for f in fields(kind)})
        order = RoundOrder(
            run_id=values["run-id"],
            round=values["round"],
            model=values["model"],
            recipe=recipe,
            threads=values["threads"] or None,
        )
        check_order(order)
    except (KeyError, TypeError, SettingsError) as error:
        raise RunError(f"The server's order is incomplete or out of range ({error}).") from error
    return order


def pack_result(result: RoundResult, *, store: str) -> RecordDict:
    """A store's answer as records."""
    content = RecordDict(
        {
            MANIFEST: ConfigRecord(
                {
                    "store": store,
                    "reason": result.reason or "",
                    "update-sha256": result.update_sha256 or "",
                    "model-in": result.model_in,
                    "consent-log-root": result.consent_log_root or "",
                }
            ),
        }
    )
    if result.update is not None:
        content[UPDATE] = w.to_record(result.update)
    return content


def unpack_manifest(content: RecordDict) -> dict[str, str]:
    """What a store declares of a round; every value is text from outside."""
    record = content.get(MANIFEST)
    keys = ("store", "reason", "update-sha256", "model-in", "consent-log-root")
    if not isinstance(record, ConfigRecord) or any(key not in record for key in keys):
        raise RunError("a reply without a whole manifest")
    return {key: str(record[key])[:256] for key in keys}


def update_of(content: RecordDict) -> w.Weights | None:
    """The update in a reply, if there is one."""
    record = content.get(UPDATE)
    return w.from_record(record) if isinstance(record, ArrayRecord) else None
