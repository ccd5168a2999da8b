"""A graph, its card and a signature, put into one file."""

from __future__ import annotations

from privemo.recognizer.card import ModelCard
from privemo.recognizer.exported import CARD, seal
from privemo_consent.canonical import canonical_bytes
from privemo_consent.keys import SigningKey

__all__ = ["packed"]


def packed(body: bytes, card: ModelCard, key: SigningKey) -> bytes:
    """The signed file of a graph; other metadata of the graph goes."""
    import onnx

    model = onnx.load_from_string(body)
    model.producer_name, model.producer_version = "privemo", card.versions["privemo"]
    model.doc_string = "Names an expression as a labeller would, which is no feeling."
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = CARD, canonical_bytes(card.content()).decode()
    return seal(model.SerializeToString(deterministic=True), card.run_id, key)
