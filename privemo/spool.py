"""The updates of one round on disk, so that memory does not grow with the number of stores.

What is put together from them takes one update at a time (`read`), or all stores' values of some parameters
(`blocks`). The file has no name: it is gone when it is closed, also where the process dies.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from privemo import weights as w
from privemo.errors import RunError

__all__ = ["BLOCK_BYTES", "Spool"]

BLOCK_BYTES = 32 << 20
"""Most bytes of one block, of all stores together; what is computed of it takes a few times as much."""

_VALUE = np.dtype(np.float32).itemsize


class Spool:
    """Rows of float32 values, one for each update that was added.

    Args:
        like: names and shapes of an update's parameters.
        folder: on a disk with room for all updates of a round; the system's own for such files by default.

    Raises:
        RunError: no file can be made there.
    """

    def __init__(self, like: w.Weights, folder: Path | None = None) -> None:
        self._shapes = {name: array.shape for name, array in like.items()}
        self.size = sum(array.size for array in like.values())
        self.rows = 0
        try:
            self._file = tempfile.TemporaryFile(dir=folder, prefix=".updates-")  # noqa: SIM115 - `__exit__` does
        except OSError as error:
            raise RunError(f"Updates cannot be kept in {folder} ({error.strerror}).") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, update: w.Weights) -> int:
        """Write an update, checked before; returns its row.

        Raises:
            RunError: the disk is full.
        """
        try:
            self._file.seek(self.rows * self.size * _VALUE)
            for name in self._shapes:
                self._file.write(np.ascontiguousarray(update[name], np.float32).data)
            self._file.flush()
        except OSError as error:
            raise RunError(
                f"The updates of a round take {self.size * _VALUE / 1e6:.1f} MB for each store, and could "
                f"not be kept ({error.strerror}). Free some space where the run is, and resume it."
            ) from error
        self.rows += 1
        return self.rows - 1

    def read(self, row: int) -> w.Weights:
        """One update."""
        flat = self._values(row, 0, self.size)
        found, low = {}, 0
        for name, shape in self._shapes.items():
            high = low + int(np.prod(shape))
            found[name] = flat[low:high].reshape(shape)
            low = high
        return found

    def blocks(self, rows: list[int]) -> Iterator[NDArray[np.float32]]:
        """Blocks of values (len(rows), some parameters): all parameters, in order."""
        wide = max(1, BLOCK_BYTES // (_VALUE * max(1, len(rows))))
        for low in range(0, self.size, wide):
            high = min(low + wide, self.size)
            yield np.stack([self._values(row, low, high) for row in rows])

    def shaped(self, flat: NDArray[np.float32]) -> w.Weights:
        """An update of values in order."""
        ends = np.cumsum([int(np.prod(shape)) for shape in self._shapes.values()])[:-1]
        parts = zip(self._shapes.items(), np.split(flat, ends), strict=True)
        return {name: part.reshape(shape) for (name, shape), part in parts}

    def _values(self, row: int, low: int, high: int) -> NDArray[np.float32]:
        start = (row * self.size + low) * _VALUE
        data = os.pread(self._file.fileno(), (high - low) * _VALUE, start)
        return np.frombuffer(data, np.float32)
