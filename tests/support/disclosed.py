"""What a store must not send, in every form in which it could: needles, and the search for them.

| what | forms |
|---|---|
| a picture | pixels as whole or real numbers: as they are, over 255, as the model reads them; mirrored too |
| labels | any 32 in a row, of all faces in admitted order or of a draw: numbers, one-hot rows, text |
| a count | the number, also in text, in whole and real numbers of 2 to 8 bytes, varint, MessagePack, CBOR |
| a person | the pseudonym in text, UTF-16, hex, base64, as the bytes that it spells, and plain hashes of it |
| a key, a sum that is not noised, numbers that are not masked | their bytes, hex and base64 |

Pictures are found by any of three pieces of 16 pixels: of whoever sends a face, or the middle of it.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from privemo.flower import Message
from privemo.labels import EMOTIONS
from privemo.models import to_input
from tests.support.eavesdrop import leaves, wire

__all__ = ["Found", "Needles", "Secrets", "forms_of_count", "labels_in", "pictures_in", "search"]

IN_A_ROW, APART = 24, 8
"""Labels in a needle, and from one needle to the next: so any 32 in a row hold one whole."""

LEAST_COUNT = 100
"""Smaller ones are too common for a search: `FIELDS` says of every number that is sent what it is."""


@dataclass(frozen=True)
class Found:
    """What was found, in which form, and where."""

    what: str
    form: str
    path: str


class Needles:
    """Byte strings of 8 or more, looked for at every place of some bytes at once."""

    def __init__(self) -> None:
        self._by_anchor: dict[int, list[tuple[int, bytes, str, str]]] = {}
        self._anchors: NDArray[np.uint64] | None = None

    def add(self, what: str, form: str, data: bytes) -> None:
        """Add one. Eight bytes of it are looked for first, at the end whose bytes differ more."""
        if len(data) < 8:
            raise ValueError(f"{form}: {len(data)} bytes may be there by chance")
        at = max(0, len(data) - 8, key=lambda i: len(set(data[i : i + 8])))
        (anchor,) = struct.unpack_from("<Q", data, at)
        self._by_anchor.setdefault(anchor, []).append((at, data, what, form))
        self._anchors = None

    def __len__(self) -> int:
        return sum(map(len, self._by_anchor.values()))

    def found_in(self, data: bytes) -> set[tuple[str, str]]:
        """(what, form) of those that are there."""
        if self._anchors is None:
            self._anchors = np.array(sorted(self._by_anchor), np.uint64)
        found = set()
        for place in self._places(data):
            (anchor,) = struct.unpack_from("<Q", data, place)
            for at, needle, what, form in self._by_anchor[anchor]:
                if place >= at and data.startswith(needle, place - at):
                    found.add((what, form))
        return found

    def _places(self, data: bytes) -> Iterator[int]:
        """Where any anchor stands."""
        assert self._anchors is not None
        if not len(self._anchors):
            return
        for shift in range(8):
            words = np.frombuffer(data[: len(data) - (len(data) - shift) % 8], np.uint8)[shift:]
            view = words.view("<u8") if len(words) else np.zeros(0, np.uint64)
            near = np.searchsorted(self._anchors, view).clip(max=len(self._anchors) - 1)
            for place in np.flatnonzero(self._anchors[near] == view):
                yield shift + 8 * int(place)


@dataclass
class Secrets:
    """Of one store: needles, and its counts by name."""

    needles: Needles = field(default_factory=Needles)
    counts: dict[str, int] = field(default_factory=dict)

    def add_pictures(self, images: NDArray[np.uint8]) -> None:
        """(n, 48, 48)."""
        for form, data in pictures_in(images):
            self.needles.add("picture", form, data)

    def add_labels(self, labels: NDArray[np.int64]) -> None:
        """In the order in which they could be sent; too few of them tell of nobody by themselves."""
        for start in range(0, len(labels) - IN_A_ROW + 1, APART):
            for form, data in labels_in(labels[start : start + IN_A_ROW]):
                self.needles.add("label", form, data)

    def add_people(self, pseudonyms: Iterable[str]) -> None:
        """By their pseudonyms, which end in hex digits that are all their own."""
        for name in pseudonyms:
            for form, data in _names_in(name):
                self.needles.add("person", form, data)

    def add_counts(self, counts: Mapping[str, int]) -> None:
        """Each by itself, and all of them that go together in one row."""
        self.counts |= {name: n for name, n in counts.items() if n >= LEAST_COUNT}
        for n in self.counts.values():
            for form, data in forms_of_count(n).items():
                if len(data) >= 8:
                    self.needles.add("count", form, data)

    def add_histogram(self, counts: Collection[int]) -> None:
        """Counts that only together are no chance."""
        row = np.array(list(counts))
        for form in ("<i2", ">i2", "<i4", ">i4", "<i8", ">i8", "<f4", ">f4", "<f8", ">f8"):
            self.needles.add("count", f"histogram {form}", row.astype(form).tobytes())
        for joint in (",", ", "):
            self.needles.add("count", "histogram text", joint.join(map(str, row)).encode())

    def add_bytes(self, what: str, data: bytes, *, every: int = 0) -> None:
        """Something secret that is bytes: the whole of it, or 16 bytes of it at every so many."""
        parts = [data[i : i + 16] for i in range(0, len(data) - 15, every)] if every else [data]
        for part in parts:
            if len(set(part)) > 4:
                for form, needle in _spelled(part):
                    self.needles.add(what, form, needle)


# -- forms -----------------------------------------------------------------------------------------


def pictures_in(images: NDArray[np.uint8]) -> Iterator[tuple[str, bytes]]:
    """Pieces of pictures (n, 48, 48) as they could stand in a message, and of their mirror images."""
    read = to_input(torch.from_numpy(images)).numpy()[:, 0]
    looks = {
        "pixels": (images, ("<u1", "<i2", ">i2", "<i4", "<i8", "<f4", "<f8")),
        "pixels over 255": (images.astype(np.float32) / np.float32(255), ("<f4",)),
        "pixels over 255.0": (images / 255, ("<f8",)),
        "as the model reads it": (read, ("<f2", "<f4", ">f4", "<f8")),
    }
    for look, (pixels, dtypes) in looks.items():
        for side, picture in (("", pixels), ("mirrored ", pixels[:, :, ::-1])):
            pieces = np.ascontiguousarray(picture[:, 12:37:12, 16:32]).reshape(-1, 16)
            for dtype in dtypes:
                for piece in pieces.astype(dtype):
                    yield f"{side}{look} {dtype}", piece.tobytes()


def labels_in(labels: NDArray[np.int64]) -> Iterator[tuple[str, bytes]]:
    """Labels as they could stand in a message."""
    for dtype in ("<i1", "<i2", ">i2", "<i4", ">i4", "<i8", ">i8", "<f2", "<f4", ">f4", "<f8"):
        yield f"numbers {dtype}", labels.astype(dtype).tobytes()
    one_hot = np.eye(len(EMOTIONS))[labels]
    for dtype in ("<u1", "<i4", "<i8", "<f4", "<f8"):
        yield f"one of four {dtype}", one_hot.astype(dtype).tobytes()
    for joint in ("", ",", ", ", "\n"):
        yield f"digits by {joint!r}", joint.join(map(str, labels)).encode()
        named = [EMOTIONS[i] for i in labels[:16]]
        if joint:
            yield f"names by {joint!r}", joint.join(named).encode()
            yield f"quoted names by {joint!r}", joint.join(f'"{n}"' for n in named).encode()


def forms_of_count(n: int) -> dict[str, bytes]:
    """A count as number formats write it, those of 2 bytes too."""
    forms = {f"{order}{kind}": struct.pack(order + kind, n) for order in "<>" for kind in "hiqefd"}
    zigzag = 2 * n
    return forms | {
        "varint": _varint(n),
        "zigzag varint": _varint(zigzag),
        "MessagePack": b"\xcd" + struct.pack(">H", n) if n > 255 else b"\xcc" + bytes([n]),
        "CBOR": b"\x19" + struct.pack(">H", n) if n > 255 else b"\x18" + bytes([n]),
    }


def _varint(n: int) -> bytes:
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


def _names_in(name: str) -> Iterator[tuple[str, bytes]]:
    text = name.encode()
    yield "text", text
    yield "upper case", text.upper()
    yield "UTF-16", name.encode("utf-16-le")
    yield from _spelled(text)
    digits = re.search(r"[0-9a-f]{16,}$", name)
    if digits:
        yield "its digits", digits[0].encode()
        yield "the bytes of its digits", bytes.fromhex(digits[0])
        yield from _spelled(bytes.fromhex(digits[0]))
    for algorithm in ("md5", "sha1", "sha256", "blake2b"):
        digest = hashlib.new(algorithm, text, usedforsecurity=False).digest()[:16]
        yield algorithm, digest
        yield f"{algorithm} in hex", digest.hex().encode()


def _spelled(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Bytes as they are, in hex, and in base64 wherever in it they begin."""
    yield "bytes", data
    yield "hex", data.hex().encode()
    yield "hex, upper case", data.hex().upper().encode()
    for before in range(3):
        # What stands for these bytes alone: no bit of it hangs on what is before or behind them.
        coded = base64.b64encode(bytes(before) + data)
        sure = coded[-(-8 * before // 6) : 8 * (before + len(data)) // 6]
        yield "base64", sure
        yield "base64 for URLs", sure.translate(bytes.maketrans(b"+/", b"-_"))


# -- search ----------------------------------------------------------------------------------------


def search(
    message: Message, secrets: Secrets, *, opaque: Callable[[str], bool] = lambda path: False
) -> set[Found]:
    """All of a store's secrets that its message holds.

    Args:
        message: of the store.
        secrets: of the store.
        opaque: of which paths it is known that a signature, a key, a share or a hash stands there: random, so
            that two bytes in it are any number. In these, and between the elements of an array, a count is
            found from 8 bytes on.
    """
    found: set[Found] = set()
    sent = wire(message)
    for what, form in secrets.needles.found_in(sent):
        found.add(Found(what, form, "wire"))
    for path, value in leaves(message):
        if isinstance(value, np.ndarray):
            found |= _in_array(path, value, secrets)
        elif isinstance(value, bytes | str):
            data = value.encode() if isinstance(value, str) else value
            named = set() if _as_sent(path) else secrets.needles.found_in(data)
            found |= {Found(what, form, path) for what, form in named}
            if isinstance(value, str) or not opaque(path):
                found |= _in_text(path, data.decode("utf-8", "replace"), secrets)
            if not opaque(path):
                found |= _short_in(path, data, secrets)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found |= {Found("count", "number", path) for n in secrets.counts.values() if n == value}
        found |= _in_text(path, path, secrets)
    return found


def _as_sent(path: str) -> bool:
    """Whether a value's bytes stand in the message as they are, and were searched there."""
    return set(re.findall("<(.*?)>", path)) <= {"safetensors", "npy"} and not path.endswith("[]")


def _in_array(path: str, array: NDArray[np.generic], secrets: Secrets) -> set[Found]:
    """Numbers of an array, each by itself and as bytes in a row."""
    found = set()
    if not _as_sent(path):
        named = secrets.needles.found_in(np.ascontiguousarray(array).tobytes())
        # Whole numbers one by one, below: the end of one and the beginning of the next are no third.
        found = {Found(what, form, path) for what, form in named if form not in ("<q", ">q")}
    numbers = array.dtype.kind in "iuf" and array.dtype.itemsize > 1  # one byte is any number
    if numbers and np.isin(array.astype(np.float64), list(secrets.counts.values())).any():
        found.add(Found("count", "element", path))
    return found


def _short_in(path: str, data: bytes, secrets: Secrets) -> set[Found]:
    found: set[Found] = set()
    if data.isascii() and data.decode().isprintable():
        return found  # as bytes, any two characters are some number
    for n in secrets.counts.values():
        for form, needle in forms_of_count(n).items():
            if needle in data:
                found.add(Found("count", form, path))
    return found


def _in_text(path: str, text: str, secrets: Secrets) -> set[Found]:
    """Counts that stand in a text as whole numbers."""
    numbers = set(re.findall(r"(?<![0-9A-Za-z.])\d+(?![0-9A-Za-z])", text))
    return {Found("count", "text", path) for n in secrets.counts.values() if str(n) in numbers}
