"""Consents out of a file: CSV or JSON lines, one person's answer a row, all of them or none.

Columns: ``person``, ``purposes`` (``training;fairness_audit``; in JSON also a list), ``age_band``,
``jurisdiction``, ``notice`` (hash or id), ``valid_days``, and where wanted ``role`` and ``at`` (ISO
8601 with a zone). An error names line and column and never the value: in a file with its columns
mixed up, any of them may be a person's id.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..bulk import BulkOutcome
from ..errors import BackdatedRefused, MalformedError, NoticeRefused, TransitionRefused
from ..leaves import PURPOSES, STATUSES
from ..records import Grant, Notice
from ..registry import ConsentRegistry
from ..state import NO_STATUS, State
from ..terms import Purpose
from ..times import to_us
from .rows import COLUMNS, OPTIONAL, NoticeOf, Row, RowParser

__all__ = ["COLUMNS", "OPTIONAL", "import_grants", "read_grants"]

_HASH = re.compile(r"[0-9a-f]{64}")
_LONGEST_LINE = 1 << 20
Numbered = tuple[int, Grant]


def read_grants(path: str | os.PathLike[str]) -> Iterator[Grant]:
    """Yield the rows of a file; ``notice`` stays as it stands there, a hash or an id.

    Args:
        path: UTF-8, ending in ``.csv`` (with a line of names), ``.jsonl`` or ``.ndjson``.

    Raises:
        MalformedError: names line and column of the first value that is wrong.

    """
    for _, grant in _numbered(Path(path)):
        yield grant


def import_grants(registry: ConsentRegistry, path: str | os.PathLike[str]) -> BulkOutcome:
    """Record a file's answers in one durable transaction, as `ConsentRegistry.grant_many` does.

    An id of a notice stands for its version in force.

    Raises:
        MalformedError, NoticeRefused, TransitionRefused, BackdatedRefused: names line and column
            where one row is at fault; nothing was written.
        As `ConsentRegistry.grant_many`.

    """
    place = Path(path)
    notices = _Notices(registry.notices(), place.name)
    rows = list(_numbered(place, notices.hash_of))
    try:
        return registry.grant_many(row for _, row in rows)
    except (TransitionRefused, BackdatedRefused) as error:
        line, column = _culprit(registry, rows, error)
        raise type(error)(f"{place.name} line {line}, column {column}: {error}") from None


class _Notices:
    """Which notice a file means."""

    def __init__(self, notices: Sequence[Notice], name: str) -> None:
        self._name = name
        self._purposes = {notice.hash: frozenset(notice.purposes) for notice in notices}
        newest: dict[str, int] = {}
        for notice in notices:
            newest[notice.notice_id] = max(notice.version, newest.get(notice.notice_id, 0))
        self._in_force: dict[str, list[str]] = {}
        for notice in notices:
            if notice.version == newest[notice.notice_id]:
                self._in_force.setdefault(notice.notice_id, []).append(notice.hash)
        self._fit: dict[tuple[str, tuple[Purpose, ...]], str] = {}
        self._live = {digest for hashes in self._in_force.values() for digest in hashes}

    def hash_of(self, line: int, named: str, purposes: tuple[Purpose, ...]) -> str:
        """Return the hash of the notice that a row names, once it fits the row's purposes."""
        known = self._fit.get((named, purposes))
        if known is None:
            known = self._fit[named, purposes] = self._find(line, named, purposes)
        return known

    def _find(self, line: int, named: str, purposes: tuple[Purpose, ...]) -> str:
        where = f"{self._name} line {line}, column notice"
        if not _HASH.fullmatch(named):
            found = self._in_force.get(named, [])
            if len(found) != 1:
                told = (
                    "several languages of this notice are in force: give the hash of the one shown"
                )
                raise NoticeRefused(f"{where}: {told if found else 'no such notice is registered'}")
            named = found[0]
        if named not in self._live:
            told = "is superseded" if named in self._purposes else "is not registered"
            raise NoticeRefused(f"{where}: the notice {told}: show the version in force")
        if not self._purposes[named].issuperset(purposes):
            raise NoticeRefused(f"{where}: the notice does not name every purpose of the row")
        return named


def _culprit(
    registry: ConsentRegistry, rows: Sequence[Numbered], error: Exception
) -> tuple[int, str]:
    """Return line and column of the row that was refused: as near as can be told afterwards."""
    journal = registry._journal
    with journal.lock:
        state = journal.refresh()
        now = to_us(journal.clock())
    if isinstance(error, BackdatedRefused):
        for line, row in rows:
            moment = None if row.at is None else to_us(row.at)
            if moment is not None and (moment > now or moment < state.recorded):
                return line, "at"
    seen: set[tuple[str, Purpose]] = set()
    for line, row in rows:
        pid = state.people.pid(row.person)
        for purpose in row.purposes:
            if (row.person, purpose) in seen or (
                pid is not None and _live(state, pid, purpose, now)
            ):
                return line, "purposes"
            seen.add((row.person, purpose))
    return rows[-1][0], "purposes"


def _live(state: State, pid: int, purpose: Purpose, now: int) -> bool:
    status, expires, _, _ = state.last(pid, PURPOSES.index(purpose))
    return status != NO_STATUS and STATUSES[status].permits and expires > now


# -- reading -------------------------------------------------------------------------------------


def _numbered(
    path: Path, notice_of: NoticeOf = lambda _line, named, _for: named
) -> Iterator[Numbered]:
    readers = {".csv": _csv_rows, ".jsonl": _json_rows, ".ndjson": _json_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise MalformedError(f"{path.name}: want a file that ends in .csv, .jsonl or .ndjson")
    parser = RowParser(path.name, notice_of)
    try:
        # utf-8-sig: spreadsheets put a mark before the first name
        with path.open(encoding="utf-8-sig", newline="") as file:
            for line, row in reader(file, path.name):
                yield line, parser.grant(line, row)
    except UnicodeDecodeError as error:
        raise MalformedError(f"{path.name}: is not UTF-8 after byte {error.start}") from None
    except OSError as error:
        raise MalformedError(f"{path.name} cannot be read: {error.strerror}") from error


def _csv_rows(file: Any, name: str) -> Iterator[tuple[int, Row]]:
    reader = csv.reader(file, strict=True)
    try:
        header = next(reader, [])
        _check_columns(header, f"{name} line 1")
        width = len(header)
        for values in reader:
            if len(values) != width:
                told = f"got {len(values)} columns, want {width}"
                raise MalformedError(f"{name} line {reader.line_num}: {told}")
            yield reader.line_num, dict(zip(header, values, strict=True))
    except csv.Error as error:
        raise MalformedError(f"{name} line {reader.line_num}: {error}") from None


def _json_rows(file: Any, name: str) -> Iterator[tuple[int, Row]]:
    number = 0
    while text := file.readline(_LONGEST_LINE):
        number += 1
        try:
            row = json.loads(text, object_pairs_hook=_once)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise MalformedError(f"{name} line {number}: is no JSON object with each name once")
        _check_columns(list(row), f"{name} line {number}")
        yield number, row


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _check_columns(names: Sequence[str], where: str) -> None:
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise MalformedError(f"{where}, column {missing[0]}: missing; want {', '.join(COLUMNS)}")
    known = {*COLUMNS, *OPTIONAL}
    for at, name in enumerate(names, 1):
        if name not in known or names.index(name) != at - 1:
            told = f"is none of {', '.join((*COLUMNS, *OPTIONAL))}, or stands twice"
            raise MalformedError(f"{where}, column number {at}: {told}")
