"""The command line of a result, as it may be published."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
import typer
from click.core import ParameterSource

__all__ = ["command_line"]


def command_line(ctx: typer.Context) -> str:
    """The command as it was given, with files by their names: a path tells of the machine it is on."""
    words = ["privemo", *ctx.command_path.split()[1:]]
    for option in ctx.command.params:
        name = str(option.name)
        if ctx.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        value = ctx.params[name]
        if isinstance(value, bool):
            words.append((option.opts if value else option.secondary_opts)[0])
            continue
        for one in value if isinstance(value, list | tuple) else [value]:
            # A start may be a word or a file.
            is_path = isinstance(option.type, click.Path) or name == "init"
            words += [option.opts[0], Path(one).name if is_path else str(one)]
    return shlex.join(words)
