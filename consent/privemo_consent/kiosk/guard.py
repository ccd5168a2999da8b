"""What every request passes before a page is reached, and what every answer carries.

Host header, method, size, rate, and the headers that let a browser run nothing, ask nobody else and keep
nothing. Written for ASGI itself, so that it holds for each answer, those of errors too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .limits import RateLimit
from .settings import KioskSettings

__all__ = ["MAX_BODY", "Guard", "TooLarge", "address_of"]

#: A receipt as a file, and the form around it.
MAX_BODY = 96 * 1024
_CSP = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _CSP,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not no-referrer: a browser then sends forms with "Origin: null", which could be anyone's.
    "referrer-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), browsing-topics=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_STATIC = "/static/"

#: Makes the page of a refusal: scope, status, key of the text.
Refuse = Callable[[Scope, int], Response]


class TooLarge(Exception):
    """A body that goes on beyond `MAX_BODY`; whoever reads it answers with 413."""


def address_of(scope: Scope) -> str:
    """Return whose requests are counted together; a proxy's own word for it is the server's to check."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


class Guard:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, settings: KioskSettings, refuse: Refuse) -> None:
        self._app = app
        self._settings = settings
        self._refuse = refuse
        self._pages = RateLimit(settings.rates.pages, apart=tuple(settings.screens or ()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no websocket is spoken here
            await send({"type": "websocket.close", "code": 1008})
            return
        answer = self._answering(scope, send)
        status, wait = self._judge(scope)
        if status:
            response = self._refuse(scope, status)
            if wait:
                response.headers["retry-after"] = str(int(wait) + 1)
            await response(scope, receive, answer)
            return
        with suppress(ClientDisconnect):
            await self._app(scope, _counted(receive), answer)

    def _judge(self, scope: Scope) -> tuple[int, float]:
        """Return the status of a refusal and how long to wait, or zeros."""
        headers = [(name.lower(), value) for name, value in scope["headers"]]
        hosts = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
        if len(hosts) != 1 or _name(hosts[0]) not in self._settings.hosts:
            return 400, 0
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, 0
        if scope["query_string"]:  # nothing here has one: a receipt must never stand in an address
            return 404, 0
        lengths = [value for name, value in headers if name == b"content-length"]
        if any(not value.isdigit() or int(value) > MAX_BODY for value in lengths):
            return 413, 0
        wait = self._pages.take(address_of(scope))
        return (429, wait) if wait else (0, 0)

    def _answering(self, scope: Scope, send: Send) -> Send:
        headers = dict(_HEADERS)
        if self._settings.secure:
            headers["strict-transport-security"] = "max-age=31536000"
        cached = scope["path"].startswith(_STATIC)
        headers["cache-control"] = "public, max-age=3600" if cached else "no-store"

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add(message, headers)
            await send(message)

        return answer


def _add(message: MutableMapping[str, Any], headers: dict[str, str]) -> None:
    ours = {name.encode() for name in headers}
    kept = [(name, value) for name, value in message["headers"] if name.lower() not in ours]
    message["headers"] = [*kept, *((n.encode(), v.encode()) for n, v in headers.items())]


def _name(host: str) -> str:
    """Return a Host header without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _counted(receive: Receive) -> Callable[[], Awaitable[Message]]:
    """Count the bytes of a body as they come: a length may be left out, or a lie."""
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MAX_BODY:
            raise TooLarge
        return message

    return counted
