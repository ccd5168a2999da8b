"""Which orders were answered: the SuperLink writes it down, and the server's app reads it.

Two processes and one file, of the server's own folder. It says where to look, and nothing that counts: what
a store answered is read from the SuperLink, whole and checked, and an order that is not in here is asked for
all the same, only later. A line may be missing, made up by a store, or said twice.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

__all__ = ["Answered", "Ear", "answered_file"]

_LOOK_S = 0.02
_LONGEST = 1 << 20
"""Bytes: a store can answer as often as it likes. What was not read by then is found by asking."""
_ID = re.compile(r"[0-9a-f]{1,64}")
"""What Flower calls an order: its SHA-256."""


def answered_file(folder: Path) -> Path:
    """Where it lies in a server's folder."""
    return folder / "flower" / "answered"


class Answered:
    """The end that writes; what was written by a server of before is forgotten.

    Args:
        path: of the file. Where it cannot be written nothing is, and whoever reads waits longer.
    """

    def __init__(self, path: Path) -> None:
        try:
            how = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
            self._file: int | None = os.open(path, how, 0o600)
        except OSError:
            self._file = None

    def tell(self, orders: Iterable[str]) -> None:
        """Write down that these were answered, as a store says; what is no order's id is left out."""
        lines = "".join(f"{one}\n" for one in orders if _ID.fullmatch(one))
        if not lines or self._file is None:
            return
        try:
            if os.fstat(self._file).st_size > _LONGEST:
                os.ftruncate(self._file, 0)
            os.write(self._file, lines.encode())
        except OSError:  # the disk is full
            return


class Ear:
    """The end that reads, from what is written after it began.

    Args:
        path: of the file; where there is none, nothing is ever heard.

    Attributes:
        connected: whether somebody writes, or did.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.connected = path is not None and path.exists()
        self._at, self._rest = self._size(), b""

    def heard(self) -> set[str]:
        """Orders that were answered since the last look."""
        size = self._size()
        if self._path is None or size == self._at:
            return set()
        if size < self._at:
            self._at, self._rest = 0, b""  # a server that started anew
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                text = file.read(size - self._at)
        except OSError:
            return set()
        self._at += len(text)
        *whole, self._rest = (self._rest + text).split(b"\n")
        return {line.decode("ascii", "replace") for line in whole}

    def wait(self, seconds: float) -> set[str]:
        """The same, as soon as there is one, or none after so long."""
        if not self.connected:
            time.sleep(seconds)
            return set()
        ends = time.monotonic() + seconds
        while not (found := self.heard()):
            left = ends - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(_LOOK_S, left))
        return found

    def _size(self) -> int:
        try:
            return self._path.stat().st_size if self._path else 0
        except OSError:
            return 0
