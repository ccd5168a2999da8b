"""The file of a transfer: JSON lines, each vouched for by what stands before it, sealed or not.

Every line is one JSON object and ends with ``sum``: the first 16 hexadecimal digits of SHA-256
over all bytes before that member, so that the first line that is not as written is named. The last
line carries a signed note over the whole file.

With a passphrase the lines are cut into blocks, each AES-256-GCM under a key that scrypt
(RFC 7914) draws from the passphrase and a fresh salt; a block is one line, a JSON string of base64. The
nonce counts the blocks and marks the last one, so that none can be left out, doubled, swapped or cut off
(the STREAM construction; Hoang, Reyhanitabar, Rogaway, Vizar, CRYPTO 2015).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..errors import KeyFileError, MalformedError, TamperedError
from ..keyfolder.roots import PassphraseRoot

__all__ = ["LineReader", "LineWriter", "lines_of", "sealing_sink"]

_SEALED = "privemo.transfer-sealed/1"
_BLOCK = 1 << 16
_MAX_LINE = 1 << 27
_SUM = 16


class Sink(Protocol):
    """Where bytes go."""

    def write(self, data: bytes, /) -> int:
        """Take some."""

    def close(self) -> None:
        """Take the last of them."""


class _SealingSink:
    def __init__(self, file: BinaryIO, passphrase: bytes) -> None:
        root = PassphraseRoot(passphrase)
        parameters = root.new_parameters()
        head = json.dumps({"schema": _SEALED, **parameters}, sort_keys=True).encode() + b"\n"
        file.write(head)
        self._file, self._head = file, head
        self._cipher = AESGCM(root.key(parameters))
        self._held = bytearray()
        self._count = 0

    def write(self, data: bytes) -> int:
        self._held += data
        while len(self._held) > _BLOCK:  # what may be the last block is kept back
            self._put(bytes(self._held[:_BLOCK]), last=False)
            del self._held[:_BLOCK]
        return len(data)

    def close(self) -> None:
        self._put(bytes(self._held), last=True)

    def _put(self, block: bytes, *, last: bool) -> None:
        sealed = self._cipher.encrypt(_nonce(self._count, last), block, self._head)
        self._file.write(b'"' + base64.b64encode(sealed) + b'"\n')
        self._count += 1


class _PlainSink:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def close(self) -> None:
        """Nothing is held back."""


def sealing_sink(file: BinaryIO, passphrase: bytes | None) -> Sink:
    """Return where a transfer's bytes go on their way into ``file``."""
    return _PlainSink(file) if passphrase is None else _SealingSink(file, passphrase)


def _nonce(count: int, last: bool) -> bytes:
    return count.to_bytes(11, "big") + bytes([last])


class LineWriter:
    """Writes the lines of one transfer."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._sum = hashlib.sha256()
        self.count = 0

    @property
    def digest(self) -> str:
        """SHA-256 of everything written, in hexadecimal."""
        return self._sum.hexdigest()

    def put(self, kind: str, /, **fields: Any) -> None:
        """Write one line.

        Raises:
            MalformedError: longer than a line may be.

        """
        text = json.dumps(
            {"line": kind, **fields}, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )
        body = text[:-1].encode()
        if len(body) > _MAX_LINE - 64:
            raise MalformedError(f"one {kind} is longer than {_MAX_LINE >> 20} MiB")
        self._sum.update(body)
        tail = f',"sum":"{self._sum.hexdigest()[:_SUM]}"}}\n'.encode()
        self._sum.update(tail)
        self._sink.write(body + tail)
        self.count += 1


class LineReader:
    """Reads them back, each checked before it is believed."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self._sum = hashlib.sha256()
        self.count = 0

    @property
    def digest(self) -> str:
        """SHA-256 of everything read so far, in hexadecimal."""
        return self._sum.hexdigest()

    @property
    def entry(self) -> str:
        """The name of the line read last, from 1."""
        return f"line {self.count}"

    def next(self, kind: str, fields: frozenset[str]) -> dict[str, Any]:
        """Return the next line, which must be of this kind with exactly these fields.

        Raises:
            TamperedError: it is not, or is not as it was written.

        """
        self.count += 1
        line = next(self._lines, b"")
        if not line:
            raise TamperedError(self.entry, f"missing: want a {kind}; the file was cut short")
        tail = len(',"sum":""}\n') + _SUM
        body, end = line[:-tail], line[-tail:]
        self._sum.update(body)
        if end != f',"sum":"{self._sum.hexdigest()[:_SUM]}"}}\n'.encode():
            raise TamperedError(self.entry, "it, or a line before it, is not as it was written")
        self._sum.update(end)
        value = self._parsed(body + b"}")
        if value.pop("line", None) != kind or value.keys() != fields:
            raise TamperedError(self.entry, f"is no {kind} with the fields {sorted(fields)}")
        return value

    def finish(self) -> None:
        """Check that nothing follows.

        Raises:
            TamperedError: something does.

        """
        if next(self._lines, b""):
            raise TamperedError(f"line {self.count + 1}", "stands after the end")

    def _parsed(self, body: bytes) -> dict[str, Any]:
        try:
            value = json.loads(body.decode(), object_pairs_hook=_once, parse_constant=_refuse)
        except (ValueError, RecursionError):  # its text may hold a person's id
            raise TamperedError(self.entry, "is no JSON object") from None
        if not isinstance(value, dict):
            raise TamperedError(self.entry, "is no JSON object")
        return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _refuse(_name: str) -> float:
    raise ValueError


def lines_of(file: BinaryIO, path: Path, passphrase: bytes | None) -> Iterator[bytes]:
    """Yield the lines of a transfer, opened where they are sealed.

    Raises:
        KeyFileError: a passphrase for a file that is not sealed, none for one that is, or another.
        MalformedError: its first line is none that anybody writes.
        TamperedError: a block is not as it was written.

    """
    head = file.readline(_MAX_LINE)
    parameters = _sealed_head(head)
    if parameters is None:
        if passphrase is not None:
            raise KeyFileError(f"{path} is not sealed: anybody may have written it; pass none")
        yield head
        while line := file.readline(_MAX_LINE):
            yield line
        return
    if passphrase is None:
        raise KeyFileError(f"{path} is sealed: give its passphrase")
    try:
        cipher = AESGCM(PassphraseRoot(passphrase).key(parameters))
    except KeyFileError:
        raise TamperedError("line 1", "its parameters of scrypt are none of ours") from None
    yield from _split(_blocks(file, path, cipher, head))


def _sealed_head(head: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(head)
    except ValueError:
        return None
    except RecursionError:
        raise MalformedError(
            "the file's first line is nested too deep: it is no transfer"
        ) from None
    if not isinstance(value, dict) or value.pop("schema", None) != _SEALED:
        return None
    return value


def _blocks(file: BinaryIO, path: Path, cipher: AESGCM, head: bytes) -> Iterator[bytes]:
    count, line = 0, file.readline(_MAX_LINE)
    while line:
        after = file.readline(_MAX_LINE)
        entry = f"line {count + 2}"
        try:
            if line[:1] != b'"' or line[-2:] != b'"\n':
                raise TamperedError(entry, "is no sealed block")
            sealed = base64.b64decode(line[1:-2], validate=True)
            block = cipher.decrypt(_nonce(count, not after), sealed, head)
        except (InvalidTag, binascii.Error, ValueError):
            if count == 0:
                raise KeyFileError(
                    f"{path} does not open: another passphrase, or it was changed"
                ) from None
            raise TamperedError(entry, "does not open: changed, moved, or cut off after") from None
        yield block
        count, line = count + 1, after
    if count == 0:
        raise TamperedError("line 2", "missing: the file was cut short")


def _split(blocks: Iterator[bytes]) -> Iterator[bytes]:
    held = b""
    for block in blocks:
        held += block
        if len(held) > _MAX_LINE:
            raise TamperedError("line 1", "a line longer than any that is written")
        *whole, held = held.split(b"\n")
        for line in whole:
            yield line + b"\n"
    if held:
        yield held
