"""Checkpoints: signed heads of a log, after C2SP tlog-checkpoint, and the promise they make.

https://github.com/C2SP/C2SP/blob/main/tlog-checkpoint.md. The text has three lines: origin, size,
base64 of the root; further lines are extensions, which are kept. A head that does not extend the
head signed before is never signed (REQUIREMENTS 30).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from . import merkle
from .errors import MalformedError, ProofError
from .keys import SigningKey
from .note import Note, NoteKey, open_note, sign_note

__all__ = ["Checkpoint", "check_extends", "open_checkpoint", "sign_checkpoint", "uses_origin"]

_USES = re.compile(r"uses ([1-9][0-9]{0,18}) ([A-Za-z0-9+/]{43}=)", re.ASCII)
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A head: which log, how long, which root; further lines as they stood."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        lines = (self.origin, *self.extensions)
        if not all(line and "\n" not in line for line in lines):
            raise MalformedError("origin and extensions are lines that are not empty")
        if isinstance(self.size, bool) or not 0 <= self.size < 2**63:
            raise MalformedError(f"got size {self.size!r}, want 0 to 2**63 - 1")
        if not isinstance(self.root, bytes) or len(self.root) != merkle.HASH_SIZE:
            raise MalformedError(f"a root is {merkle.HASH_SIZE} bytes")
        if self.size == 0 and self.root != merkle.EMPTY_ROOT:
            raise MalformedError("the root of an empty log is SHA-256 of nothing")

    @property
    def text(self) -> str:
        """What is signed."""
        lines = (self.origin, str(self.size), base64.b64encode(self.root).decode())
        return "".join(f"{line}\n" for line in (*lines, *self.extensions))

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read the text of a checkpoint.

        Raises:
            MalformedError: too few lines, a size with zeros before it, or no base64 of 32 bytes.
        """
        lines = text.split("\n")
        if len(lines) < 4 or lines.pop() != "":
            raise MalformedError("a checkpoint has lines for origin, size and root")
        origin, size, encoded, *extensions = lines
        if not _SIZE.fullmatch(size):
            raise MalformedError(f"got size {size[:30]!r}, want a decimal number")
        try:
            root = base64.b64decode(encoded.encode("ascii"), validate=True)
        except (binascii.Error, UnicodeError) as error:
            raise MalformedError(f"the root is no base64: {error}") from error
        found = cls(origin, int(size), root, tuple(extensions))
        if found.text != text:
            raise MalformedError("the checkpoint is not written as it would be signed")
        return found


def uses_origin(origin: str) -> str:
    """Return the origin of the log of uses that belongs to the events log ``origin``.

    Two logs under one key must not share an origin: a head of one would pass for the other's.
    """
    return f"{origin}/uses"


def check_extends(previous: Checkpoint, head: Checkpoint, proof: Sequence[bytes]) -> None:
    """Check that ``head`` only appended to ``previous``.

    Raises:
        ProofError: another origin, a shorter log, or another history (C2SP tlog-checkpoint).
        MalformedError: a proof that is none.
    """
    if previous.origin != head.origin:
        raise ProofError(f"got origin {head.origin!r}, want {previous.origin!r}")
    if head.size < previous.size:
        raise ProofError(f"got size {head.size}, want at least {previous.size}: rolled back")
    merkle.verify_consistency(previous.size, head.size, proof, previous.root, head.root)


def sign_checkpoint(
    head: Checkpoint,
    *keys: SigningKey,
    previous: Checkpoint | None,
    proof: Sequence[bytes],
) -> str:
    """Return the signed note of ``head``, once it is shown to extend ``previous``.

    Args:
        head: what to sign.
        keys: who signs.
        previous: the last head signed for this log; None for the first.
        proof: the consistency proof from ``previous`` to ``head``; empty for the first.

    Raises:
        ProofError: ``head`` is shorter than, or inconsistent with, ``previous``; or of another
            origin. Nothing was signed (REQUIREMENTS 30; C2SP tlog-checkpoint).
        MalformedError: a proof that is none.
    """
    if previous is not None:
        check_extends(previous, head, proof)
    elif len(proof):
        raise ProofError("a first checkpoint has nothing to be consistent with")
    return sign_note(head.text, *keys)


def open_checkpoint(
    note: str | bytes, known: Iterable[NoteKey], *, origin: str
) -> tuple[Checkpoint, Note]:
    """Check a signed checkpoint of the log ``origin``; return it with its note.

    Raises:
        MalformedError: not a checkpoint, or of another log.
        SignatureError: a known key's signature does not hold, or no known key has signed.
    """
    opened = open_note(note, known)
    found = Checkpoint.parse(opened.text)
    if found.origin != origin:
        raise MalformedError(f"got a checkpoint of {found.origin!r}, want {origin!r}")
    return found, opened


def uses_line(size: int, root: bytes) -> str:
    """Return the extension line by which a head of events vouches for the log of uses as well."""
    return f"uses {size} {base64.b64encode(root).decode()}"


def uses_of(head: Checkpoint) -> tuple[int, bytes] | None:
    """Return size and root of the log of uses that a head of events vouches for, or None.

    Raises:
        MalformedError: a line that says so and is none.
    """
    lines = [line for line in head.extensions if line.startswith("uses ")]
    if not lines:
        return None
    match = _USES.fullmatch(lines[0]) if len(lines) == 1 else None
    if match is None:
        raise MalformedError("the line about the log of uses is none")
    return int(match[1]), base64.b64decode(match[2])
