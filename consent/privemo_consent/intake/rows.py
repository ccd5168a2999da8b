"""One row of a file of consents: its columns, and what each may hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from ..bulk import check_person
from ..errors import MalformedError
from ..policy import MAX_VALIDITY
from ..records import JURISDICTION, Grant
from ..terms import AgeBand, Purpose, Role
from ..times import to_us

__all__ = ["COLUMNS", "OPTIONAL", "NoticeOf", "Row", "RowParser"]

#: The columns that a file needs, and those it may have besides.
COLUMNS = ("person", "purposes", "age_band", "jurisdiction", "notice", "valid_days")
OPTIONAL = ("role", "at")

_JURISDICTION = re.compile(JURISDICTION, re.ASCII)
_DAYS = re.compile(r"[1-9][0-9]{0,3}", re.ASCII)

Row = Mapping[str, Any]
#: Given line, name and purposes, the notice meant.
NoticeOf = Callable[[int, str, tuple[Purpose, ...]], str]


class RowParser:
    """Turns rows into grants; what was read once (a purpose, a moment) is not read again.

    Args:
        name: of the file, for messages.
        notice_of: what a name of a notice stands for.

    """

    def __init__(self, name: str, notice_of: NoticeOf) -> None:
        self._name = name
        self._notice_of = notice_of
        self._known: dict[str, dict[str, Any]] = {name: {} for name in (*COLUMNS, *OPTIONAL)}

    def grant(self, line: int, row: Row) -> Grant:
        """Return the grant of a row."""
        person = row["person"]
        try:
            check_person(person)
        except MalformedError as error:
            raise MalformedError(f"{self._name} line {line}, column person: {error}") from None
        read = self._read
        purposes = read(line, row, "purposes", _purposes)
        return Grant(
            person=person,
            purposes=purposes,
            age_band=read(line, row, "age_band", AgeBand),
            jurisdiction=read(line, row, "jurisdiction", _jurisdiction),
            notice=self._notice_of(line, read(line, row, "notice", _notice), purposes),
            valid_for=read(line, row, "valid_days", _term),
            role=read(line, row, "role", _role),
            at=read(line, row, "at", _moment),
        )

    def _read(self, line: int, row: Row, column: str, parse: Callable[[Any], Any]) -> Any:
        value = row.get(column, "")
        known = self._known[column]
        if type(value) is str and value in known:
            return known[value]
        try:
            found = parse(value)
        except (ValueError, TypeError):
            want = _WANTED[column]
            raise MalformedError(
                f"{self._name} line {line}, column {column}: want {want}"
            ) from None
        if type(value) is str:
            known[value] = found
        return found


_WANTED = {
    "purposes": f"some of {', '.join(Purpose)}, each once, with ; between",
    "age_band": f"one of {', '.join(AgeBand)}",
    "jurisdiction": "ISO 3166 as IE or US-IL",
    "notice": "the hash or the id of a notice",
    "valid_days": f"a whole number from 1 to {MAX_VALIDITY.days}",
    "role": f"one of {', '.join(Role)}, or nothing for a shopper",
    "at": "a time with its zone, as 2026-01-31T09:30:00Z, or nothing for now",
}


def _purposes(value: Any) -> tuple[Purpose, ...]:
    names = value.split(";") if isinstance(value, str) else value
    if not isinstance(names, list):
        raise TypeError
    found = tuple(Purpose(name.strip()) for name in names)
    if not found or len(set(found)) != len(found):
        raise ValueError
    return found


def _jurisdiction(value: Any) -> str:
    if not isinstance(value, str) or not _JURISDICTION.fullmatch(value):
        raise ValueError
    return value


def _notice(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value


def _term(value: Any) -> timedelta:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError
    text = str(value)
    found = timedelta(days=int(text)) if _DAYS.fullmatch(text) else timedelta(0)
    if not timedelta(0) < found <= MAX_VALIDITY:
        raise ValueError
    return found


def _role(value: Any) -> Role:
    return Role.SHOPPER if value in ("", None) else Role(value)


def _moment(value: Any) -> datetime | None:
    if value in ("", None):
        return None
    found = datetime.fromisoformat(value)
    to_us(found)  # refuses a time without a zone
    return found
