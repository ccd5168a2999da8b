"""A server that keeps every message of every store, and takes each of them apart down to its last value."""

from __future__ import annotations

import binascii
import bz2
import gzip
import io
import json
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from privemo.client_app import app as client_app
from privemo.flower import Array, Context, Message
from privemo.grid import failed

# isort: split
from flwr.app.message.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

__all__ = ["Ear", "Heard", "inside", "leaves", "wire"]

App = Callable[[Message, Context], Message]

_DEEPEST = 4
"""Wrappings that are taken off one by one: JSON in base64 in a compressed field, and one more."""


@dataclass(frozen=True)
class Heard:
    """What a store was asked, as a message of which kind and round, and what it answered."""

    store: str
    kind: str
    group: str
    asked: Message
    message: Message


class Ear:
    """Stores whose every answer is kept, errors too, as the server would get them."""

    def __init__(self, app: App = client_app) -> None:
        self._app = app
        self.heard: list[Heard] = []

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer, and keep the answer."""
        try:
            reply = self._app(message, context)
        except Exception as error:
            self._keep(message, context, failed(message, str(error)))
            raise
        self._keep(message, context, reply)
        return reply

    def _keep(self, asked: Message, context: Context, reply: Message) -> None:
        store = Path(str(context.node_config["store-dir"])).name
        kind, group = asked.metadata.message_type, asked.metadata.group_id
        self.heard.append(Heard(store, kind, group, asked, reply))


def wire(message: Message) -> bytes:
    """All that Flower sends for a message: its envelope, and each object in it as it is pushed."""
    envelope = message if message.has_error() else remove_content_from_message(message)
    objects = get_all_nested_objects(message).values()
    return b"".join(
        [message_to_proto(envelope).SerializeToString(), *(each.deflate() for each in objects)]
    )


def leaves(message: Message) -> Iterator[tuple[str, Any]]:
    """Every value of a message with its path, taken out of JSON, base64 and what else it is wrapped in.

    A list of numbers comes as an array as well, for it may be a picture or labels, and one of texts as one.
    """
    if message.has_error():
        yield "error.code", message.error.code
        yield "error.reason", message.error.reason
        return
    for name, record in message.content.items():
        for field, value in record.items():
            yield from inside(f"{name}.{field}", value)


def inside(path: str, value: object, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every value in a value."""
    if isinstance(value, Array):
        value = value.numpy()
    if isinstance(value, dict):
        for key, part in value.items():
            yield from inside(f"{path}.{key}", part, depth)
    elif isinstance(value, list | tuple):
        yield from _in_list(path, value, depth)
    else:
        yield path, value
        if depth < _DEEPEST:
            for how, part in _unwrapped(value):
                yield from inside(f"{path}<{how}>", part, depth + 1)


def _in_list(path: str, values: Sequence[object], depth: int) -> Iterator[tuple[str, Any]]:
    flat = _flat(values)
    if flat and all(type(part) in (int, float) for part in flat):
        yield f"{path}[]", np.array(flat)
    elif flat and all(type(part) is str for part in flat):
        yield f"{path}[]", ",".join(flat)
    for part in values:
        yield from inside(f"{path}[]", part, depth)


def _flat(value: object) -> list[Any]:
    if isinstance(value, list | tuple):
        return [leaf for part in value for leaf in _flat(part)]
    return [value]


def _unwrapped(value: object) -> Iterator[tuple[str, Any]]:
    """What a whole value may be a wrapping of; an array of bytes is a file."""
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 1:
        data = value.tobytes()
    elif isinstance(value, bytes | str):
        data = value.encode() if isinstance(value, str) else value
    else:
        return
    try:
        found = json.loads(data)
    except ValueError:
        pass
    else:
        if isinstance(found, dict | list):
            yield "json", found
    for how, undo in _WRAPPINGS.items():
        try:
            inner = undo(data)
        except _IS_NONE:
            continue
        yield how, inner


def _of_base64(data: bytes) -> bytes:
    plain = data.translate(bytes.maketrans(b"-_", b"+/"))
    return binascii.a2b_base64(plain + b"=" * (-len(plain) % 4), strict_mode=True)


def _of_safetensors(data: bytes) -> dict[str, Any]:
    """Its header, which may hold more than names and shapes, and its arrays."""
    (length,) = struct.unpack_from("<Q", data)
    if length > len(data) - 8:
        raise ValueError("no safetensors")
    header = json.loads(data[8 : 8 + length])
    return {"header": header, **load(data)}


_IS_NONE = (
    ValueError,
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    SafetensorError,
)

_WRAPPINGS: dict[str, Callable[[bytes], Any]] = {
    "hex": binascii.unhexlify,
    "base64": _of_base64,
    "zlib": zlib.decompress,
    "gzip": gzip.decompress,
    "bz2": bz2.decompress,
    "xz": lzma.decompress,
    "safetensors": _of_safetensors,
    "npy": lambda data: np.load(io.BytesIO(data), allow_pickle=False),
}
