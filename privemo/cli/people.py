"""Who a command is about, and as of when."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from privemo.cli.common import read_input
from privemo.errors import SettingsError

if TYPE_CHECKING:
    from privemo_consent import ConsentRegistry

__all__ = ["PeopleOption", "PersonOption", "lines_named", "moment", "people_of", "person_of"]

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
    found = [line for line in _lines(people) if line]
    if not found:
        raise SettingsError(f"{people} names nobody")
    return found


@contextmanager
def lines_named(registry: ConsentRegistry, people: Path | None) -> Iterator[None]:
    """Say of an unknown person in a file of many which line it is; never the id.

    Raises:
        SettingsError: a person of the file has no record.

    """
    from privemo_consent import UnknownPersonError

    try:
        yield
    except UnknownPersonError:
        for number, person in enumerate(_lines(people) if people else (), start=1):
            if person and not registry.history(person):
                raise SettingsError(
                    f"{people}, line {number}: no record under this person id, so nothing was "
                    "changed for anyone: check the id"
                ) from None
        raise


def _lines(people: Path) -> list[str]:
    try:
        return [line.strip() for line in read_input(people).decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise SettingsError(f"{people} is no text in UTF-8") from None
