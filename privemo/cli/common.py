"""What all commands share: where words go, files in and out, and progress that can be watched."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from privemo.errors import SettingsError

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = [
    "complain",
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

out = Console(highlight=False)
"""Results: standard output."""

_err = Console(stderr=True, highlight=False)


def complain(sentence: str) -> None:
    """One sentence on standard error."""
    _err.print(f"[bold red]privemo:[/] {_plain(sentence)}", soft_wrap=True)


def say(sentence: str) -> None:
    """A remark on standard error, so that standard output stays machine-readable."""
    _err.print(_plain(sentence), soft_wrap=True)


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


def _plain(text: str) -> str:
    """Text whose brackets are not markup."""
    return text.replace("[", r"\[")
