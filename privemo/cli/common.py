"""What all commands share: where words go, and progress that can be watched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

__all__ = ["complain", "out", "print_json", "progress", "say"]

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
