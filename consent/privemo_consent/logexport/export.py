"""A log as a folder of plain files, and its verification from that folder alone.

An export holds each leaf byte for byte as it was hashed, the notices by hash, the signed heads and
the public keys. A regulator verifies it offline: without the database, the key folder, or trust in
whoever handed it over, given that shop's key from somewhere else. It holds no name and no face.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from .. import merkle
from ..canonical import canonical_bytes, sha256_hex
from ..errors import MalformedError, RegistryExistsError, RegistryFullError
from .check import ExportVerified, verify_export

__all__ = ["EVENTS", "USES", "ExportVerified", "verify_export", "write_export"]

EVENTS, USES = "events", "uses"
_README = """A consent log of privemo, exported.

events.jsonl            every change of consent, one entry a line, as it was hashed
events.hashes           the hash of each line above: SHA-256 of a zero byte and the line (RFC 9162)
checkpoint.txt          the newest signed head of that log (C2SP signed note)
checkpoints.jsonl       earlier signed heads, oldest first
uses.jsonl, uses.hashes, uses-checkpoint.txt, uses-checkpoints.jsonl
                        the same for the log of uses
notices/                what people were shown; each file is named by its SHA-256
keys.txt                the public keys, as the exporting side states them

To verify it:           privemo log verify THIS-FOLDER --key KEY
KEY is the shop's public key from somewhere else than this folder. Without it the folder is only
shown to agree with itself. docs/reference/log-format.md says how to verify it with other tools.

No entry names a person: "subject" is a keyed hash whose key is not here.
"""


def write_export(
    folder: str | os.PathLike[str],
    *,
    leaves: Iterable[bytes],
    uses: Iterable[bytes],
    checkpoints: Mapping[str, Iterable[str]],
    notices: Iterable[bytes],
    keys: Iterable[str],
) -> None:
    """Write an export; the folder appears whole or not at all, readable by its owner alone.

    Everything is streamed. A crash can leave a folder ``.NAME.*.partial`` beside it, to delete.

    Args:
        folder: where; nothing may be there.
        leaves: the events log, in order.
        uses: the log of uses, in order.
        checkpoints: signed notes, oldest first and the newest of the exported size last: under
            ``"events"`` at least one, under ``"uses"`` at least one if there are uses.
        notices: the stored bytes of every notice that was ever in force.
        keys: public keys of the log, and of its witnesses, as C2SP writes them.

    Raises:
        RegistryExistsError: something is there; nothing was overwritten.
        RegistryFullError: no space, or not writable; nothing is left.
        MalformedError: a leaf that is no line, or no checkpoint of the events log.
    """
    final = Path(folder)
    if os.path.lexists(final):
        raise RegistryExistsError(f"{final} exists: an export goes into a folder of its own")
    partial: Path | None = None
    try:
        made = tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".partial", dir=final.parent)
        partial = Path(made)
        _write_log(partial, EVENTS, leaves, checkpoints.get(EVENTS, ()))
        _write_log(partial, USES, uses, checkpoints.get(USES, ()))
        if not (partial / "checkpoint.txt").exists():
            raise MalformedError("an export without a signed checkpoint shows nothing")
        (partial / "notices").mkdir(mode=0o700)
        for body in notices:
            _write(partial / "notices" / f"{sha256_hex(body)}.json", [body])
        _write(partial / "keys.txt", (f"{key}\n".encode() for key in keys))
        _write(partial / "README.txt", [_README.encode()])
        _sync(partial / "notices")
        _sync(partial)
        os.rename(partial, final)
        partial = None
        _sync(final.parent)
    except OSError as error:
        raise RegistryFullError(
            f"{final} could not be written ({error.strerror or error}): free some space or choose "
            "another place; nothing is left of it"
        ) from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def _write_log(folder: Path, log: str, leaves: Iterable[bytes], notes: Iterable[str]) -> None:
    with _file(folder / f"{log}.jsonl") as lines, _file(folder / f"{log}.hashes") as hashes:
        for leaf in leaves:
            if b"\n" in leaf:
                raise MalformedError(f"a leaf of the {log} log holds a newline")
            lines.write(leaf + b"\n")
            hashes.write(merkle.leaf_hash(leaf).hex().encode() + b"\n")
        _flush(lines)
        _flush(hashes)
    prefix = "" if log == EVENTS else f"{log}-"
    newest: str | None = None
    earlier = folder / f"{prefix}checkpoints.jsonl"
    with _file(earlier) as history:
        for note in notes:
            if newest is not None:
                history.write(canonical_bytes({"note": newest}) + b"\n")
            newest = note
        _flush(history)
    if newest is not None:
        _write(folder / f"{prefix}checkpoint.txt", [newest.encode()])


def _file(path: Path) -> BinaryIO:
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    return os.fdopen(fd, "wb", buffering=1 << 20)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _write(path: Path, parts: Iterable[bytes] | Iterator[bytes]) -> None:
    with _file(path) as file:
        for part in parts:
            file.write(part)
        _flush(file)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
