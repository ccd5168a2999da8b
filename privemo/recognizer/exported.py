"""An exported model: one ONNX file that carries its card and its signature.

The file is two parts, one behind the other. The *body* is a whole ONNX model; its metadata holds the card
(`privemo.card`, RFC 8785). The *seal* is one more entry of the metadata, `privemo.seal`: a C2SP signed note
of what the body is. Protocol buffers that stand behind each other read as one, so any ONNX tool opens the
file and shows both entries.

| what is wrong | what is said |
|---|---|
| there is no seal at the end of the file | nobody signed it |
| a byte of the body was changed, or something stands before it | it is not what was signed |
| something stands behind the seal | likewise |
| nobody whose key is known has signed | who has |
| a known key's signature does not hold | likewise |
| it is signed, and its card is none | it was made by something else |

Nothing of the body is parsed before its signature was verified.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from privemo.errors import ModelChanged, ModelError
from privemo.recognizer.card import ModelCard
from privemo_consent.canonical import parse_canonical
from privemo_consent.errors import MalformedError, SignatureError
from privemo_consent.keys import SigningKey
from privemo_consent.note import Note, NoteKey, open_note, sign_note

__all__ = ["CARD", "MOST_BYTES", "SEAL", "Exported", "open_exported", "seal", "verify_exported"]

CARD, SEAL = "privemo.card", "privemo.seal"
MOST_BYTES = 256 << 20
"""Of a model's file: beyond that nothing is read."""

MOST_SEAL_BYTES = 64 << 10

_METADATA = (
    14 << 3 | 2
)  # onnx.proto, ModelProto: repeated StringStringEntryProto metadata_props = 14
_KEY, _VALUE = 1 << 3 | 2, 2 << 3 | 2  # StringStringEntryProto: key = 1, value = 2
_AGAIN = "Ask whoever exported the model for it again."


@dataclass(frozen=True)
class Exported:
    """A model whose signature holds.

    Attributes:
        raw: the file.
        card: what it says of itself.
        signed_by: names of the known keys that signed.
    """

    raw: bytes
    card: ModelCard
    signed_by: tuple[str, ...]


def seal(body: bytes, run_id: str, key: SigningKey) -> bytes:
    """The file of a body: with the signature behind it."""
    return body + _entry(SEAL, sign_note(_text(body, run_id), key).encode())


def open_exported(path: Path | str, keys: Iterable[NoteKey]) -> Exported:
    """Read an exported model and check that it is as somebody who is known signed it.

    Raises:
        ModelChanged: it is not what was signed, or nobody who is known signed it.
        ModelError: it cannot be read, or is none of ours.
    """
    file = Path(path)
    try:
        if file.stat().st_size > MOST_BYTES:
            raise ModelError(f"{file} is larger than {MOST_BYTES >> 20} MiB: no model of ours.")
        raw = file.read_bytes()
    except OSError as error:
        raise ModelError(f"{file} cannot be read ({error.strerror}).") from error
    try:
        return verify_exported(raw, keys)
    except ModelError as error:
        raise type(error)(f"{file}: {error}") from error


def verify_exported(raw: bytes, keys: Iterable[NoteKey]) -> Exported:
    """As `open_exported`, of the bytes of a file."""
    known = tuple(keys)
    if not known:
        raise ModelError("name whose signature you trust: give the public key that export printed.")
    body, written = _parts(raw)
    try:
        note = open_note(written, known)
    except (MalformedError, SignatureError) as error:
        raise ModelChanged(f"its signature does not hold: {error}. {_AGAIN}") from error
    # Only a signed text is looked at, and it names the very bytes of the body.
    run_id = _run_id_of(note)
    if note.text != _text(body, run_id):
        raise ModelChanged(f"it is not the model that was signed: it was changed since. {_AGAIN}")
    card = _card(body)
    if card.run_id != run_id:
        raise ModelError(f"its card is of run {card.run_id}, its signature of {run_id}. {_AGAIN}")
    return Exported(raw, card, note.verified)


def _text(body: bytes, run_id: str) -> str:
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    return f"privemo.model/{run_id}\n{digest}\n"


def _run_id_of(note: Note) -> str:
    first = note.text.partition("\n")[0]
    if not first.startswith("privemo.model/"):
        raise ModelChanged(f"its signature is of something else ({first!r}), not of a model.")
    return first.removeprefix("privemo.model/")


def _parts(raw: bytes) -> tuple[bytes, bytes]:
    """Body and note, without a parser: the seal has one form, and ends with the file."""
    key = bytes((_KEY, len(SEAL))) + SEAL.encode() + bytes((_VALUE,))
    at = raw.rfind(key, max(0, len(raw) - MOST_SEAL_BYTES))
    if at < 0:
        raise ModelChanged(f"nobody signed it: no seal stands at the end of the file. {_AGAIN}")
    size, start = _varint(raw, at + len(key))
    note = raw[start : start + size]
    whole = _entry(SEAL, note)
    if not raw.endswith(whole) or start + size != len(raw):
        raise ModelChanged(f"its seal is damaged, or something stands behind it. {_AGAIN}")
    return raw[: len(raw) - len(whole)], note


def _card(body: bytes) -> ModelCard:
    key = bytes((_KEY, len(CARD))) + CARD.encode() + bytes((_VALUE,))
    at = body.rfind(key)
    try:
        if at < 0:
            raise ModelError(f"it has no card: something else than privemo made it. {_AGAIN}")
        size, start = _varint(body, at + len(key))
        return ModelCard.model_validate(parse_canonical(body[start : start + size]))
    except (ValidationError, MalformedError) as error:
        first = str(error).splitlines()[0]
        raise ModelError(f"its card is none of schema privemo.model/1 ({first}).") from error


def _entry(key: str, value: bytes) -> bytes:
    """A `metadata_props` entry of an ONNX model, as protocol buffers write it."""
    inner = _field(_KEY, key.encode()) + _field(_VALUE, value)
    return _field(_METADATA, inner)


def _field(tag: int, value: bytes) -> bytes:
    size, length = bytearray(), len(value)
    while length > 0x7F:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    size.append(length)
    return bytes((tag,)) + bytes(size) + value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A length, and where what it is of begins."""
    value = 0
    for shift in range(0, 35, 7):
        if at >= len(data):
            break
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
    raise ModelChanged(f"an entry at its end has no length. {_AGAIN}")
