"""What travels between server and stores, as Flower records: one place for both ends.

Where stores share the noise, `privemo.secure_protocol` has the rest.

To a store: the model (`arrays`) and the order (`config`). From a store: the update (`update`, absent
when it did not take part) and what it states of the round (`manifest`), signed. No loss, no count of faces or
people and no pseudonym is among them: each would be a release of private data that nobody accounted for.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from privemo import weights as w
from privemo.errors import RunError
from privemo.flower import ArrayRecord, ConfigRecord, RecordDict
from privemo.orders import PlainRecipe, PrivateRecipe, RoundOrder, check_order
from privemo.statements import Signed
from privemo.store import RoundResult

__all__ = [
    "order_from",
    "order_record",
    "pack_result",
    "signed_from",
    "signed_record",
    "update_of",
]

ARRAYS, CONFIG, UPDATE, MANIFEST = "arrays", "config", "update", "manifest"

_LONGEST = 1 << 16  # bytes of a statement


def order_record(order: RoundOrder) -> ConfigRecord:
    """The order as a flat record."""
    kind = "private" if isinstance(order.recipe, PrivateRecipe) else "plain"
    return ConfigRecord(
        {
            "run-id": order.run_id,
            "round": order.round,
            "model": order.model,
            "threads": order.threads or 0,
            "history": order.history,
            "ledger-stores": list(order.ledgers),
            "ledger-entries": [entries for entries, _ in order.ledgers.values()],
            "ledger-hashes": [digest for _, digest in order.ledgers.values()],
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
            history=values["history"],
            ledgers=_ledgers(values),
        )
        check_order(order)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"The server's order is incomplete or out of range ({error}).") from error
    return order


def _ledgers(values: dict[str, Any]) -> dict[str, tuple[int, str]]:
    columns = (values["ledger-entries"], values["ledger-hashes"])
    return dict(zip(values["ledger-stores"], zip(*columns, strict=True), strict=True))


def signed_record(signed: Signed) -> ConfigRecord:
    """A store's statement, signed."""
    return ConfigRecord({"statement": signed.text, "signature": signed.signature})


def signed_from(content: RecordDict) -> Signed:
    """Read a signed statement; whether the signature holds is for the reader to ask.

    Raises:
        RunError: there is none.
    """
    record = content.get(MANIFEST)
    if isinstance(record, ConfigRecord):
        text, signature = record.get("statement"), record.get("signature")
        if isinstance(text, bytes) and isinstance(signature, bytes) and len(text) <= _LONGEST:
            return Signed(text, signature)
    raise RunError("a reply without a signed statement")


def pack_result(result: RoundResult) -> RecordDict:
    """A store's answer as records."""
    content = RecordDict({MANIFEST: signed_record(result.signed)})
    if result.update is not None:
        content[UPDATE] = w.to_record(result.update)
    return content


def update_of(content: RecordDict) -> w.Weights | None:
    """The update in a reply, if there is one."""
    record = content.get(UPDATE)
    return w.from_record(record) if isinstance(record, ArrayRecord) else None
