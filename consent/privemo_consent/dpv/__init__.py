"""Consent records in the terms of the W3C Data Privacy Vocabulary."""

from __future__ import annotations

from .records import (
    CONTEXT,
    ConsentRecord,
    event_to_jsonld,
    record_from_jsonld,
    record_schema,
    record_to_jsonld,
)

__all__ = [
    "CONTEXT",
    "ConsentRecord",
    "event_to_jsonld",
    "record_from_jsonld",
    "record_schema",
    "record_to_jsonld",
]
