"""What a store wrote of people beside its registry: shown to whoever asks, and taken out where it has to go.

A store's folder holds its registry and, once the store has measured, `predictions.csv`: what the finished
model said of each held-out face of whoever agreed to be measured. That is held of a person as much as what
lies in the vault (GDPR 15), and it has to go as faces do (GDPR 17, 5(1)(e)). Columns are privemo's business;
here it is known how they begin, and that `p_NAME` stand in the order of the classes.

| beside the registry there is | what is held there of a person |
|---|---|
| no such file; a registry on a server, which has no folder | nothing |
| a registry of another name than a store's, ``consent.sqlite`` | nothing: the table is not of its people |
| a table that does not begin as a store's (`HEAD`), or an empty file | nothing: it is somebody else's |
| a store's table | the rows that name them |
| what is no text, or no table | an error: nobody can say what it holds |
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import stat
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import RegistryFullError, RegistryUnreadableError
from .locks import take

if TYPE_CHECKING:
    from .journal import Journal

__all__ = [
    "FILE",
    "HEAD",
    "REGISTRY",
    "alone",
    "forget",
    "forget_unknown",
    "make_way",
    "people_of",
    "rows_of",
    "sweep",
    "table_of",
]

FILE = "predictions.csv"
#: A store's registry. Whoever is unknown to another one in its folder would be taken for erased.
REGISTRY = "consent.sqlite"
#: How the table begins: what has a column `person` and begins otherwise is not a store's.
HEAD = ("store", "person", "face", "label", "prediction")
_PERSON = "person"
_CLASSES = ("label", "prediction")
#: Of one value, in characters: an id or an answer is short, and the limit is one of memory.
_LONGEST = 1 << 20
#: Nobody reads and writes a table for as long as that.
_LOCK_SECONDS = 60


def table_of(journal: Journal) -> Path | None:
    """Return where the table of a registry's people would be; None where there can be none."""
    path = journal.store.path
    return path.with_name(FILE) if path is not None and path.name == REGISTRY else None


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Be the only one who reads a file in order to replace it: nobody puts back what was replaced.

    The lock is a file of its own, which stays: a file that is replaced holds no lock. Only its owner
    may open it: whoever can open a file can lock it, and for good.

    Raises:
        OSError: its folder cannot be written.
        RegistryBusyError: another process held it for a minute.

    """
    place = path.with_name(f".{path.name}.lock")
    lock = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if stat.S_IMODE(os.fstat(lock).st_mode) & 0o077:  # of an earlier version
            os.fchmod(lock, 0o600)
        take(lock, path, _LOCK_SECONDS)
        yield
    finally:
        os.close(lock)


def sweep(path: Path) -> int:
    """Delete what a writer left who was killed before the file was whole; returns how many files.

    Such a file holds everybody's rows, and nobody reads it. The caller is `alone`: no writer is at work.
    """
    left = _left(path)
    for each in left:
        each.unlink(missing_ok=True)
    return len(left)


def _left(path: Path) -> list[Path]:
    return list(
        path.parent.glob(f".{path.name}.????????")
    )  # as `tempfile` names them; the lock is shorter


def rows_of(path: Path | None, person: str) -> list[dict[str, str]]:
    """Return every row about a person, classes by their names and the person left out.

    Raises:
        RegistryUnreadableError: nobody can say what the file holds.

    """
    found = []
    for header, row, _ in _read(path):
        values = dict(zip(header, row, strict=False))
        if values.pop(_PERSON, None) == person:
            names = [name[2:] for name in header if name.startswith("p_")]
            for column in _CLASSES:
                code = values.get(column, "")
                if code.isascii() and code.isdecimal() and int(code) < len(names):
                    values[column] = names[int(code)]
            found.append(values)
    return found


def people_of(path: Path | None) -> list[str]:
    """Return whom the table is about, each once.

    Raises:
        RegistryUnreadableError: nobody can say what the file holds.

    """
    return list(dict.fromkeys(_named(header, row) for header, row, _ in _read(path)))


def forget(path: Path | None, people: Collection[str]) -> int:
    """Take people out of the table; every other row stays byte for byte. Returns how many rows went.

    Raises:
        RegistryUnreadableError: nobody can say what the file holds.
        RegistryFullError: it cannot be written; what was there before stays.
        RegistryBusyError: another process holds it.

    """
    if path is None or not people or not path.exists():
        return 0
    with _written(path), alone(path):
        sweep(path)
        rows = list(_read(path))
        kept = [raw for header, row, raw in rows if _named(header, row) not in people]
        if len(kept) < len(rows):
            _replace(path, _heading(path) + "".join(kept))
    return len(rows) - len(kept)


def forget_unknown(journal: Journal, also: Collection[int] = ()) -> int:
    """Take whoever has no record out of the table, however they went; returns how many rows did.

    Args:
        journal: of the registry.
        also: rows of the registry whose people go too: erased a moment ago, and their keys still there.

    Raises:
        As `forget`.

    """
    path = table_of(journal)
    if path is None:
        return 0
    people = people_of(path)
    _sweep_alone(path)
    if not people:
        return 0
    with journal.lock:  # never inside the table's own: whoever erases may hold this one already
        journal.refresh()
        rows = journal.state.people.rows(people)
    gone = {name for name, row in zip(people, rows, strict=True) if row < 0 or row in also}
    return forget(path, gone)


def make_way(path: Path | None, people: Collection[str]) -> None:
    """Take whoever is about to get a record out of the table: its rows are of somebody erased before.

    An id may be given to another person once its first one is gone, and an erasure that could not
    reach the table left their rows there.

    Raises:
        As `forget`: they would be shown what was said of another.

    """
    forget(path, set(people_of(path)).intersection(people) if people else ())


def _sweep_alone(path: Path) -> None:
    if _left(path):
        with _written(path), alone(path):
            sweep(path)


@contextlib.contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RegistryFullError(
            f"{path} cannot be written ({error.strerror}): free some space, or let it be written"
        ) from error


def _read(path: Path | None) -> Iterator[tuple[list[str], list[str], str]]:
    """Yield the header, a row, and the row as it stands in the file; nothing of a table of nobody."""
    if path is None:
        return
    try:
        # Held by the one descriptor: whoever replaces the file meanwhile makes another.
        with path.open(encoding="utf-8", newline="") as file:
            lines = _Lines(file)
            reader = csv.reader(lines, strict=True)
            header = next(reader, [])
            lines.taken()
            if tuple(header[: len(HEAD)]) != HEAD:
                return
            for row in reader:
                raw = lines.taken()
                if row:
                    yield header, row, raw
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RegistryUnreadableError(
            f"{path} cannot be read, and may hold what a model said of people: restore it, or delete it"
        ) from error


class _Lines:
    """The lines of a file, which remembers those that a reader took for its last row."""

    def __init__(self, file: io.TextIOBase) -> None:
        self._file = file
        self._since: list[str] = []

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            if len(line) > _LONGEST:
                raise csv.Error("a line without an end")
            self._since.append(line)
            yield line

    def taken(self) -> str:
        taken, self._since = "".join(self._since), []
        return taken


def _named(header: Sequence[str], row: Sequence[str]) -> str:
    """Return whom a row is of; a row that was cut before it says so is of nobody, and goes."""
    at = header.index(_PERSON)
    return row[at] if at < len(row) else ""


def _heading(path: Path) -> str:
    with path.open(encoding="utf-8", newline="") as file:
        lines = _Lines(file)
        next(csv.reader(lines), None)
        return lines.taken()


def _replace(path: Path, text: str) -> None:
    """Put a new file in the place of the old one, durably."""
    descriptor, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(made, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(made)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
