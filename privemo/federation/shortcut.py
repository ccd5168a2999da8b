"""Requests that pass by what Flower would do to others only.

Nine layers lie around Flower's routes; four of them are for operators (`/v1/control/`), and one waits for a
switch that nobody here sets. A store's request goes through all of them, and each starts a task and two
streams in memory to hand it on untouched. Here a layer is left out where, by its own rule, it does nothing.
What asks for a store's key is never left out, nor is a layer that this module does not know.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.middleware import Middleware
    from starlette.types import Receive, Scope, Send

__all__ = ["ONLY_FOR", "Only", "with_shortcuts"]


_OPERATORS = "/v1/control/"
ONLY_FOR = {
    "ControlSensitiveResponseMiddleware": (_OPERATORS, None),
    "ControlAuthenticationMiddleware": (_OPERATORS, None),
    "ControlLicenseMiddleware": (_OPERATORS, None),
    "ControlEventLogMiddleware": (_OPERATORS, None),
    "RuntimeTracingMiddleware": ("/v1/runtime/", "FLWR_TRACING_ENABLED"),
    "FleetEventLogMiddleware": ("/v1/fleet/", None),
}
"""Layers of Flower's by name: how the paths begin that they are there for, and the variable, if any, without
which they do nothing (flwr 1.41)."""


class Only:
    """ASGI middleware: another one, around requests of some paths alone.

    Args:
        app: what lies behind.
        of: the other one.
        begins: how the paths begin.
        more: what the other one is given besides.
    """

    def __init__(self, app: Any, /, *, of: Callable[..., Any], begins: str, **more: Any) -> None:
        self._past, self._through, self._begins = app, of(app, **more), begins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Go through the layer, or past it."""
        passes = scope["type"] == "http" and not str(scope["path"]).startswith(self._begins)
        await (self._past if passes else self._through)(scope, receive, send)


def with_shortcuts(layers: Sequence[Middleware]) -> list[Middleware]:
    """The layers that do anything, each around its own requests."""
    from starlette.middleware import Middleware

    kept = []
    for layer in layers:
        begins, switch = ONLY_FOR.get(getattr(layer.cls, "__name__", ""), (None, None))
        if begins is None or layer.args:
            kept.append(layer)
        elif switch is None or os.environ.get(switch) == "1":
            kept.append(Middleware(Only, of=layer.cls, begins=begins, **layer.kwargs))
    return kept
