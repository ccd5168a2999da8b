"""Who a command is about, and as of when."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from privemo.cli.common import read_input
from privemo.errors import SettingsError

__all__ = ["PeopleOption", "PersonOption", "moment", "people_of", "person_of"]

PersonOption = Annotated[
    str | None,
    typer.Option(metavar="ID", help="A pseudonymous id; - reads it from standard input."),
]
PeopleOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Many people instead: one id a line.")
]


def person_of(given: str | None) -> str:
    """The person that is meant.

    Raises:
        SettingsError: nobody was named.

    """
    if given == "-":
        given = sys.stdin.readline().rstrip("\r\n")
    if not given:
        raise SettingsError("--person is missing")
    return given


def moment(text: str | None) -> datetime | None:
    """A moment with its zone; None for now.

    Raises:
        SettingsError: another form, or no zone.

    """
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise SettingsError("a time is written as 2026-01-31T09:30:00+00:00, with its zone")
    return found


def people_of(person: str | None, people: Path | None) -> list[str]:
    """The people that are meant: one, or those of a file.

    Raises:
        SettingsError: neither or both were named, or the file names nobody.

    """
    if (person is None) == (people is None):
        raise SettingsError("name one person with --person, or many with --people FILE")
    if people is None:
        return [person_of(person)]
    try:
        found = [line.strip() for line in read_input(people).decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise SettingsError(f"{people} is no text in UTF-8") from None
    found = [line for line in found if line]
    if not found:
        raise SettingsError(f"{people} names nobody")
    return found
