"""The kiosk: the web pages where people consent, withdraw, and see what is held of them.

A program of its own (``privemo kiosk``), or part of a store's: `create_app` returns an ASGI application,
and `SessionBook` is how a camera's program learns who opened a visit. No page needs a script. Needs the
extra ``kiosk``; `SessionBook` needs nothing beyond the registry.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .app import create_app
    from .limits import Patience
    from .serving import Listening, serve
    from .settings import KioskSettings, Rates
    from .staff import write_password
    from .visits import SessionBook, SessionToken

__all__ = [
    "KioskSettings",
    "Listening",
    "Patience",
    "Rates",
    "SessionBook",
    "SessionToken",
    "create_app",
    "serve",
    "write_password",
]

_HOME = {
    "KioskSettings": "settings",
    "Listening": "serving",
    "Patience": "limits",
    "Rates": "settings",
    "SessionBook": "visits",
    "SessionToken": "visits",
    "create_app": "app",
    "serve": "serving",
    "write_password": "staff",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
