"""What all commands share: where words go, files in and out, and progress that can be watched."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from privemo.errors import SettingsError

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = [
    "complain",
    "counted",
    "fact_lines",
    "no_passwords",
    "out",
    "print_json",
    "print_lines",
    "progress",
    "read_input",
    "read_record",
    "say",
    "sure",
    "write_new",
]

out = Console(highlight=False, emoji=False)
"""Results: standard output."""

_err = Console(stderr=True, highlight=False, emoji=False)

_LOGIN = re.compile(r"[^\s'\"(]*:\S*@")
_SECRET = re.compile(r"(password=)[^\s&']+", re.IGNORECASE)


def complain(sentence: str) -> None:
    """One sentence on standard error."""
    told = Text.assemble(("privemo:", "bold red"), " ", no_passwords(sentence))
    _err.print(told, soft_wrap=True)


def say(sentence: str) -> None:
    """A remark on standard error, so that standard output stays machine-readable."""
    _err.print(Text(no_passwords(sentence)), soft_wrap=True)


def no_passwords(text: str) -> str:
    """Text without the logins of URLs: a parser quotes what it did not understand."""
    return _SECRET.sub(r"\1...", _LOGIN.sub("...@", text))


def counted(count: int, what: str) -> str:
    """A number and its noun: "1 person", "2,000 people"."""
    one, _, rest = what.partition(" ")
    if count != 1:
        one = "people" if one == "person" else f"{one}s"
    return f"{count:,} {one} {rest}".rstrip()


def fact_lines(facts: dict[str, Any]) -> list[str]:
    """One line for each fact; for each of several, one of their own."""
    found = []
    for name, value in facts.items():
        label = name.replace("_", " ")
        several = value if isinstance(value, list | tuple) else [value]
        found += [f"{label}: {_in_words(one)}" for one in several] or [f"{label}: none"]
    return found


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def print_json(content: Any) -> None:
    """JSON on standard output, one document."""
    print(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))  # noqa: T201


def print_lines(*lines: str) -> None:
    """Lines of text on standard output, as they are: never wrapped, no markup."""
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)


def sure(question: str, yes: bool) -> None:
    """Ask before what cannot be undone.

    Raises:
        SettingsError: nobody is at a terminal to be asked, and ``--yes`` was not given.
        typer.Abort: the answer was no.

    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise SettingsError(f"{question} Nobody is there to answer: say --yes.")
    typer.confirm(question, abort=True, err=True)


def read_input(path: Path) -> bytes:
    """A file that the user named.

    Raises:
        SettingsError: it cannot be read.

    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error


Record = TypeVar("Record", bound="BaseModel")


def read_record(path: Path, kind: type[Record]) -> Record:
    """A record out of a JSON file.

    Raises:
        SettingsError: unreadable, no JSON, or not such a record; names what is wrong with it.

    """
    from pydantic import ValidationError

    try:
        return kind.model_validate_json(read_input(path))
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        told = "; ".join(
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}".removeprefix(": ")
            for each in found[:3]
        )
        more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
        raise SettingsError(f"{path} is no {kind.__name__.lower()}: {told}{more}") from None


def write_new(path: Path, data: bytes) -> None:
    """Write a file that its owner alone can read; nothing is overwritten.

    Raises:
        SettingsError: something stands there, or it cannot be written.

    """
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
    except FileExistsError:
        raise SettingsError(f"{path} exists: choose another place") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}") from error


@contextmanager
def progress() -> Iterator[Progress]:
    """A live progress display on standard error."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=_err,
    ) as bar:
        yield bar
