"""Signed notes: the text format and the rules of C2SP signed-note, over keys of `keys.py`.

https://github.com/C2SP/C2SP/blob/main/signed-note.md. A note is a text that ends in a newline, an
empty line, and one line for each signature: an em dash, the key's name, and base64 of four bytes
of key id and the signature.

| input                                      | outcome                                        |
|--------------------------------------------|------------------------------------------------|
| a signature by a key that is not known     | kept, not trusted                              |
| one by a known key that does not hold      | the whole note is refused                      |
| one name or one id shared with a known key | another key: kept, not trusted                 |
| the same line twice                        | both kept, the key counts once                 |
| two known keys of one name and id          | refused: nobody could say which is meant       |
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from .errors import MalformedError, SignatureError
from .keys import SigningKey

__all__ = [
    "MAX_NOTE_BYTES",
    "MAX_SIGNATURES",
    "Note",
    "NoteKey",
    "SignatureLine",
    "add_signature",
    "open_note",
    "sign_note",
    "split_note",
]

MAX_NOTE_BYTES = 1_000_000
MAX_SIGNATURES = 100
_DASH = "\u2014 "
# C2SP signed-note: no ASCII control characters (those below U+0020) other than newline.
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


class NoteKey(Protocol):
    """What can check a signature line: `keys.VerifyingKey`, `cosign.CosignerKey`."""

    @property
    def name(self) -> str:
        """The name it signs under."""

    @property
    def key_id(self) -> bytes:
        """Four bytes: see `keys.VerifyingKey.key_id`."""

    def verify(self, signature: bytes, message: bytes) -> None:
        """Check a signature of the note's text, or raise SignatureError."""


@dataclass(frozen=True, slots=True)
class SignatureLine:
    """One signature as it stands in a note: who, and the bytes after the key id."""

    name: str
    key_id: bytes
    signature: bytes

    def __str__(self) -> str:
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.signature).decode()}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A note that was opened.

    Attributes:
        text: what was signed, with its last newline.
        verified: names of the known keys whose signatures hold, each once.
        signatures: every line, those of unknown keys too: witnesses' cosignatures are kept.
        keys: the known keys whose signatures hold, each once; one name may stand for several.
    """

    text: str
    verified: tuple[str, ...]
    signatures: tuple[SignatureLine, ...]
    keys: tuple[NoteKey, ...] = ()

    def __str__(self) -> str:
        """Return the note, byte for byte as it was opened."""
        return self.text + "\n" + "".join(map(str, self.signatures))


def sign_note(text: str, *keys: SigningKey) -> str:
    """Return the note of ``text`` signed by each key.

    Raises:
        MalformedError: a text that no note can hold, or no key.
    """
    _check_text(text)
    if not keys:
        raise MalformedError("a note without a signature is none: give a key")
    lines = (SignatureLine(k.name, k.key_id, k.sign(text.encode())) for k in keys)
    return text + "\n" + "".join(map(str, lines))


def add_signature(note: str, line: SignatureLine) -> str:
    """Return ``note`` with one more signature line, after those it has; a line it has is no news.

    Raises:
        MalformedError: not a note, or one that holds as many signatures as it may.
    """
    text, lines = split_note(note)
    if line in lines:
        return note
    if len(lines) >= MAX_SIGNATURES:
        raise MalformedError(f"a note holds at most {MAX_SIGNATURES} signatures")
    return text + "\n" + "".join(map(str, (*lines, line)))


def open_note(note: str | bytes, known: Iterable[NoteKey]) -> Note:
    """Check a note against the keys one trusts.

    A signature by an unknown key is ignored; a bad one by a known key rejects the note
    (REQUIREMENTS 31; C2SP signed-note).

    Raises:
        MalformedError: not a note, or two known keys of one name and id.
        SignatureError: a known key's signature does not hold, or no known key has signed.
    """
    text, lines = split_note(note)
    keys = _by_name_and_id(known)
    verified: dict[tuple[str, bytes], NoteKey] = {}
    for line in lines:
        key = keys.get((line.name, line.key_id))
        if key is not None:
            key.verify(line.signature, text.encode())
            verified[line.name, line.key_id] = key
    if not verified:
        signers = ", ".join(f"{line.name}+{line.key_id.hex()}" for line in lines)
        raise SignatureError(f"no key that is known has signed; signed by {signers}")
    names = dict.fromkeys(key.name for key in verified.values())
    return Note(text, tuple(names), lines, tuple(verified.values()))


def _by_name_and_id(known: Iterable[NoteKey]) -> dict[tuple[str, bytes], NoteKey]:
    keys: dict[tuple[str, bytes], NoteKey] = {}
    for key in known:
        if keys.setdefault((key.name, key.key_id), key) != key:
            raise MalformedError(f"two keys are known as {key.name}+{key.key_id.hex()}")
    return keys


def _check_text(text: str) -> None:
    if not text.endswith("\n"):
        raise MalformedError("the text of a note ends in a newline")
    if _CONTROL.search(text):
        raise MalformedError("a note holds no control characters but newlines")
    if len(text.encode()) > MAX_NOTE_BYTES:
        raise MalformedError(f"the text of a note is at most {MAX_NOTE_BYTES} bytes")


def split_note(note: str | bytes) -> tuple[str, tuple[SignatureLine, ...]]:
    """Take a note apart and trust nothing in it.

    Raises:
        MalformedError: not a note.
    """
    try:
        whole = note.decode("utf-8") if isinstance(note, bytes) else note
        size = len(whole.encode("utf-8"))
    except UnicodeError as error:
        raise MalformedError(f"a note is UTF-8: {error}") from error
    if size > MAX_NOTE_BYTES + MAX_SIGNATURES * 500:
        raise MalformedError(f"got a note of {size} bytes, want at most {MAX_NOTE_BYTES}")
    text, gap, tail = whole.rpartition("\n\n")
    if not gap or not tail.endswith("\n"):
        raise MalformedError("a note has a text, an empty line, and signature lines")
    text += "\n"
    _check_text(text)
    lines = tail[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise MalformedError(f"got {len(lines)} signatures, want at most {MAX_SIGNATURES}")
    return text, tuple(_line(line) for line in lines)


def _line(line: str) -> SignatureLine:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    if "+" in name or any(ch.isspace() for ch in name) or _CONTROL.search(name):
        raise MalformedError(
            "a key's name holds neither blanks, nor a plus, nor control characters"
        )
    try:
        data = base64.b64decode(encoded.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeError) as error:
        raise MalformedError(f"a signature line is no base64: {error}") from error
    canonical = base64.b64encode(data).decode() == encoded
    if not line.startswith(_DASH) or not name or len(data) < 5 or not canonical:
        raise MalformedError("a signature line is an em dash, a name and base64 of id and bytes")
    return SignatureLine(name, data[:4], data[4:])
