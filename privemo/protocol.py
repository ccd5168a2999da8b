"""What travels between server and stores, as Flower records: one place for both ends.

To a store: the model (`arrays`) and the order (`config`). From a store: the update (`update`, absent when
it did not take part), its public weight (`metrics`) and what it declares of the round (`manifest`).
No loss, no count of faces or people and no pseudonym is among them: each would be a release of
private data that nobody accounted for.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from privemo import weights as w
from privemo.errors import RunError
from privemo.flower import ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from privemo.store import RoundOrder, RoundResult
from privemo.training import PlainRecipe, PrivateRecipe

__all__ = ["order_from", "order_record", "pack_result", "unpack_manifest"]

ARRAYS, CONFIG, UPDATE, METRICS, MANIFEST = "arrays", "config", "update", "metrics", "manifest"


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
        RunError: a field is missing or of the wrong kind.
    """
    values: dict[str, Any] = dict(config)
    try:
        kind = {"private": PrivateRecipe, "plain": PlainRecipe}[values["kind"]]
        recipe = kind(**{f.name: values[f.name] for f in fields(kind)})
        return RoundOrder(
            run_id=values["run-id"],
            round=values["round"],
            model=values["model"],
            recipe=recipe,
            threads=values["threads"] or None,
        )
    except (KeyError, TypeError) as error:
        raise RunError(f"The server's order is incomplete ({error}).") from error


def pack_result(result: RoundResult, *, store: str, weight: int) -> RecordDict:
    """A store's answer as records."""
    content = RecordDict(
        {
            METRICS: MetricRecord({"weight": weight}),
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
    record = content[MANIFEST]
    if not isinstance(record, ConfigRecord):
        raise RunError("A reply carries no manifest.")
    return {key: str(value)[:256] for key, value in record.items()}


def update_of(content: RecordDict) -> w.Weights | None:
    """The update in a reply, if there is one."""
    record = content.get(UPDATE)
    return w.from_record(record) if isinstance(record, ArrayRecord) else None


def weight_of(content: RecordDict) -> float:
    """The public weight of a store's update."""
    record = content[METRICS]
    value = record["weight"] if isinstance(record, MetricRecord) else 0
    return float(value) if isinstance(value, int | float) else 0.0
