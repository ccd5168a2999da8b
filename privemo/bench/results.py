"""A file that keeps measured cells, so that a long benchmark can be cut into pieces."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from privemo.bench.cells import Cell, measure
from privemo.bench.variants import start_of
from privemo.errors import RunError
from privemo.faces import FaceTable
from privemo.files import read_json, write_json

__all__ = ["Results", "fill", "one_recipe"]


class Results:
    """A JSON file of cells. It is read anew before each write, so that several commands may fill one file.

    Args:
        path: of the file; made with the first cell.
        schema: what kind of cells.

    Raises:
        RunError: the file is of another kind, or cannot be read or written.
    """

    def __init__(self, path: Path, schema: str) -> None:
        self._path, self._schema = path, schema
        self.cells()
        try:  # now, and not after the first training
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as error:
            raise RunError(
                f"{path} cannot be written ({error.strerror or error}); name another file for results."
            ) from error

    def cells(self) -> list[dict[str, Any]]:
        """All cells, in the order in which they were finished.

        Raises:
            RunError: as for the class.
        """
        if not self._path.exists():
            return []
        cells = read_json(self._path, schema=self._schema).get("cells")
        if not isinstance(cells, list) or not all(
            isinstance(c, dict) and "key" in c for c in cells
        ):
            raise RunError(
                f"{self._path} holds no list of cells; it was changed. Start a new file."
            )
        return cells

    def find(self, key: str) -> dict[str, Any] | None:
        """The cell of that name, if it is there."""
        return next((cell for cell in self.cells() if cell["key"] == key), None)

    def add(self, cell: dict[str, Any]) -> None:
        """Write a cell to the file, whole or not at all; one of the same name is replaced.

        Raises:
            RunError: as for the class, or it cannot be written.
        """
        with _alone_in(self._path.parent):
            others = [old for old in self.cells() if old["key"] != cell["key"]]
            write_json(self._path, {"schema": self._schema, "cells": [*others, cell]})


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def fill(
    table: FaceTable,
    cells: Sequence[Cell],
    results: Results,
    *,
    command: str,
    listener: Callable[[Cell, int], None] = lambda *_: None,
) -> Iterator[dict[str, Any]]:
    """The record of each cell: from the file where it is there, else measured and written to it.

    Args:
        table: the faces.
        cells: what to measure.
        results: where records are kept.
        command: written into new records.
        listener: called with the cell and the number of rounds done, after each of them.
    """
    for cell in cells:
        start, _ = start_of(cell.settings, cell.variant, table.channels)
        found = results.find(cell.key(table, start))
        if found is None:

            def on_round(number: int, cell: Cell = cell) -> None:
                listener(cell, number)

            found = measure(table, cell, command=command, on_round=on_round)
            results.add(found)
        yield {**found, "row": cell.row, "words": cell.words}


def one_recipe(what: str, records: Sequence[Mapping[str, Any]]) -> None:
    """Let records pass that may be averaged over their seeds.

    Raises:
        RunError: they differ in more: in faces, settings or start. `what` names them.
    """
    recipes = [
        (
            {k: v for k, v in record["settings"].items() if k != "seed"},
            record["data"]["digest"],
            record["start"]["words"],
        )
        for record in records
    ]
    if any(recipe != recipes[0] for recipe in recipes):
        raise RunError(
            f"The results of {what} come from several recipes, faces or starts: keep a file for each."
        )
