"""Command lines: with a command left out, and as they may be published beside a result."""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path

import click
import typer
from click.core import ParameterSource
from typer.core import TyperGroup

__all__ = ["command_line", "with_default"]


def with_default(command: str) -> type[TyperGroup]:
    """A group whose arguments are those of `command` where none is named: `audit RUN` for `audit new RUN`."""

    class RunOrCommand(TyperGroup):
        def named(self, args: list[str]) -> list[str]:
            """The arguments with a command in front, also where none is named."""
            named = not args or args[0] in self.commands or args[0] == "--help"
            return args if named else [command, *args]

        def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
            return super().parse_args(ctx, self.named(args))

        def resolve_command(
            self, ctx: click.Context, args: list[str]
        ) -> tuple[str | None, click.Command | None, list[str]]:
            """A folder may be called as the command that takes it is: `explain run --out looks`."""
            name, found, rest = super().resolve_command(ctx, args)
            if name == command and found is not None and Path(command).is_dir():
                with suppress(click.UsageError):  # which is told when the command itself is called
                    try:
                        found.make_context(name, list(rest), parent=ctx).close()
                    except click.MissingParameter as missing:
                        if isinstance(missing.param, click.Argument):
                            return name, found, [command, *rest]
            return name, found, rest

    return RunOrCommand


def command_line(ctx: typer.Context) -> str:
    """The command as it was given, with files by their names: a path tells of the machine it is on."""
    root = ctx.find_root().command_path  # `privemo`, or `python -m privemo`
    words = ["privemo", *ctx.command_path.removeprefix(root).split()]
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
