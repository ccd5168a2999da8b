"""Options that several commands share, declared once and lent to each.

Typer reads the options of a command out of its signature. A group of options is a signature, too: a
function that is never called, whose docstring is the heading in the help. `takes` lends the options of
groups to a command, which reads them where it makes its settings, in `ctx.params`; its own signature holds
the rest.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_args

__all__ = ["names_of", "takes"]

Command = Callable[..., None]


def names_of(group: Command) -> tuple[str, ...]:
    """The options of a group, as they stand in `ctx.params`."""
    return tuple(inspect.signature(group).parameters)


def takes(*groups: Command) -> Callable[[Command], Command]:
    """Lend the options of `groups` to a command that has a `ctx`; first its own, then theirs.

    Raises:
        ValueError: two of them have an option of the same name.
    """

    def lend(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True)
        lent = [option for group in groups for option in _under_heading(group)]
        signature = own.replace(parameters=[*own.parameters.values(), *lent])

        @functools.wraps(command)
        def run(**given: Any) -> None:
            command(**{name: given[name] for name in own.parameters})

        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        return run

    return lend


def _under_heading(group: Command) -> list[inspect.Parameter]:
    """The options of a group; its docstring is their heading in the help."""
    heading = (group.__doc__ or "").partition("\n")[0].rstrip(".")
    found = []
    for parameter in inspect.signature(group, eval_str=True).parameters.values():
        kind, option = get_args(parameter.annotation)
        headed = copy.copy(option)
        headed.rich_help_panel = heading
        found.append(parameter.replace(annotation=Annotated[kind, headed]))
    return found
