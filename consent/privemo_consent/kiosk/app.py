"""The kiosk as an application: which page stands where."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ..registry import ConsentRegistry
from . import changing, pages, receiptpages, returning, staffpages
from .desk import Desk
from .guard import Guard
from .settings import KioskSettings
from .texts import texts_in
from .web import Web

__all__ = ["create_app"]

_STATIC = {"kiosk.css": "text/css", "icon.svg": "image/svg+xml"}


def create_app(registry: ConsentRegistry, settings: KioskSettings) -> ASGIApp:
    """Return the kiosk of a registry, for any ASGI server with a single process.

    Sessions are in this process's memory: several processes would not know each other's. The
    registry stays the caller's, who closes it when the server has stopped.

    Args:
        registry: open and writable.
        settings: see there.

    Raises:
        NoticeRefused: no notice is in force that can be shown here.
        KeyFileError: the staff's file is not there, or open to others.
        ConsentError: the registry cannot be read.

    """
    web = Web(Desk(registry, settings), settings)
    app = Starlette(
        routes=_routes(web),
        exception_handlers={HTTPException: _http_error(web)},
    )
    app.router.redirect_slashes = False
    app.state.web = web
    return Guard(app, settings, web.refuse)


def _http_error(web: Web) -> Callable[[Request, Exception], Response]:
    def handle(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return web.refuse(request.scope, status)

    return handle


def _routes(web: Web) -> list[Route]:
    def languages(request: Request) -> Response:
        texts = texts_in(web.desk.languages[0])
        every = [texts_in(language) for language in web.desk.languages]
        return web.render("languages.html", texts, None, every_language=every)

    def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _STATIC:
            raise HTTPException(404)
        body = files(__package__).joinpath("static", name).read_bytes()
        return Response(body, media_type=_STATIC[name])

    def at(path: str, get: object = None, post: object = None) -> list[Route]:
        return [
            Route(f"/{{language}}/{path}", endpoint, methods=[method])  # type: ignore[arg-type]
            for method, endpoint in (("GET", get), ("POST", post))
            if endpoint is not None
        ]

    page = web.page
    return [
        Route("/", languages),
        Route("/static/{name}", static),
        *at("", page(pages.home)),
        *at("notice", page(pages.notice, begins=True)),
        *at(
            "about",
            page(pages.about, needs="session"),
            page(pages.tell_about, needs="session"),
        ),
        *at("choices", page(pages.choices, needs="adult"), page(pages.choose, needs="adult")),
        *at("receipt", page(receiptpages.receipt, needs="person")),
        *at("receipt.svg", page(receiptpages.receipt_svg, needs="person")),
        *at("receipt.jws", page(receiptpages.receipt_file, needs="person")),
        *at(
            "return",
            page(returning.return_, begins=True),
            page(returning.identify, needs="session"),
        ),
        *at("mine", page(returning.mine, needs="person")),
        *at("held", page(returning.held, needs="person")),
        *at("held.json", page(returning.held_file, needs="person")),
        *at(
            "change",
            page(changing.change, needs="person"),
            page(changing.begin, needs="person"),
        ),
        *at("change/record", post=page(changing.record, needs="person")),
        *at("withdraw", post=page(returning.withdraw, needs="person")),
        *at(
            "erase",
            page(returning.erase_ask, needs="person"),
            page(returning.erase, needs="person"),
        ),
        *at("visit", post=page(returning.begin_visit, needs="person")),
        *at("visit/end", post=page(returning.end_visit, needs="person")),
        *at("end", post=page(pages.end, needs="session")),
        *at("ended", page(pages.ended)),
        *at(
            "staff",
            page(staffpages.staff, begins=True, staff=True),
            page(staffpages.enter, needs="session", staff=True),
        ),
        *at("staff/verify", post=page(staffpages.verify, needs="staff", staff=True)),
        *at("staff/leave", post=page(staffpages.leave, needs="session", staff=True)),
    ]
