"""All that a store may send, field by field, and what may stand there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from privemo.statements import versions
from tests.support.eavesdrop import Heard, leaves

__all__ = ["FIELDS", "LOOKS", "SECURE_SUM", "STATEMENT", "kind_of", "known", "said_in"]

STATEMENT = {
    "manifest.signature": "signature",
    "manifest.statement": "made of",
    **{
        f"manifest.statement<json>.{name}": "public"
        for name in ("schema", "run_id", "round", "store", "order", "model_in", "history", "status")
    },
    "manifest.statement<json>.reason": "public",
    "manifest.statement<json>.update_sha256": "hash",
    "manifest.statement<json>.consent_log_root": "hash",
    "manifest.statement<json>.ledger.entries": "public",
    "manifest.statement<json>.ledger.hash": "hash",
    "manifest.statement<json>.epsilon": "public",
    "manifest.statement<json>.details": "hash",
    **{f"manifest.statement<json>.versions.{name}": "public" for name in versions()},
}

SECURE_SUM = {
    "advertise": {"content.store": "public", "content.advert[]": "key"},
    "share": {"content.store": "public", "content.seal": "hash", "keys.*": "sealed"},
    "confirm": {"content.store": "public", "content.signature": "signature"},
    "reveal": {"content.store": "public", "seeds.*": "share", "keys.*": "share"},
}

COUNTS = {
    "content.store": "public",
    "content.signature": "signature",
    "content.counts": "made of",
    **{
        f"content.counts<json>.{name}": "public"
        for name in (
            *("schema", "run_id", "stores[]", "label_names[]", "sensitive[]"),
            *(
                f"noise.{name}"
                for name in (
                    "mechanism",
                    "unit",
                    "clip",
                    "tables",
                    "resolution",
                    "scale",
                    "noise_stores",
                    "shares",
                    "epsilon",
                    "delta",
                )
            ),
            *("groups.age_band[]", "tables[].features[]"),
        )
    },
    "content.counts<json>.tables[].counts[][]": "noised",
}

FIELDS: dict[str, dict[str, str]] = {
    "train": {
        **STATEMENT,
        "update.safetensors": "noised",
        "update.safetensors<safetensors>.header": "public",
        "update.safetensors<safetensors>": "noised",
    },
    **{f"train.{step}": fields for step, fields in SECURE_SUM.items()},
    "train.mask": {**STATEMENT, "vector.vector": "masked"},
    "query.close": {
        "content.reason": "public",
        "content.from": "public",
        "content.closing": "made of",
        **{
            f"content.closing<json>.{name}": "public"
            for name in ("schema", "run_id", "store", "round", "manifest", "model")
        },
        "content.closing<json>.signature": "signature",
    },
    "query.measure": {"content.store": "public"},
    "query.count": COUNTS,
    **{f"query.{step}": fields for step, fields in SECURE_SUM.items()},
    "query.mask": {"content.store": "public", "vector.vector": "masked"},
}
"""All that a store may send, by kind of message and path; a star is the name of a store.

What may stand there is what `docs/explanation/secure-sums.md` says under "Every field that a store sends":
*public* (the server can say it beforehand), a *hash*, a *signature* or a public *key* of the store, a *share*
of a secret that it gives away, what is *sealed* for another store, *noised* or *masked* numbers.
"""


def said_in(one: Heard) -> Iterator[tuple[str, Any]]:
    """Values of a message, and not what a hash would be if it were base64."""
    for path, value in leaves(one.message):
        if path == _outside(path):
            yield _starred(path), value


def _starred(path: str) -> str:
    return re.sub(r"\bstore-\d\d\b", "*", path)


def _outside(path: str) -> str:
    """Where that stands which a value was unwrapped from."""
    return re.sub("<(?!json|safetensors).*", "", path)


def known(one: Heard) -> Callable[[str], bool]:
    """What `FIELDS` knows, and the tests hold against it value by value."""
    return lambda path: kind_of(one.kind, _starred(_outside(path))) is not None


def kind_of(message: str, path: str) -> str | None:
    fields = FIELDS[message]
    inner = path.removeprefix("update.safetensors<safetensors>.")
    if inner != path:
        return "header" if inner.startswith("header") else "noised"
    if any(known.startswith(f"{path}[]") for known in fields):  # a list of numbers, as a whole
        return "made of"
    return fields.get(path)


LOOKS: dict[str, Callable[[Any], bool]] = {
    "hash": lambda value: (
        len(value) == 32 if isinstance(value, bytes) else bool(re.fullmatch("[0-9a-f]{64}", value))
    ),
    "signature": lambda value: len(value) == (64 if isinstance(value, bytes) else 128),
    "key": lambda value: len(value) == 64 or value.startswith(b"-----BEGIN PUBLIC KEY-----"),
    "sealed": lambda value: value.startswith(b"gAAAAA"),
    "share": lambda value: isinstance(value, bytes),
    "noised": lambda value: isinstance(value, int | np.ndarray),
    "masked": lambda value: value.dtype == np.uint32,
}
