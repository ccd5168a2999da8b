"""From a request to what a page needs, and from what it found to an answer.

A page is a plain function that runs in a thread: it may ask the registry. Before it runs, the session
was found, and for whatever changes something the token against forged requests was compared. Whatever
it raises becomes a page in the person's language, and a word in the log that names no one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Literal

import anyio
import anyio.to_thread
import jinja2
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Scope

from ..errors import ConsentError, NoticeRefused, Refused, UnknownPersonError
from .desk import Desk
from .forms import is_own, quietly, read_form
from .guard import TooLarge, address_of
from .limits import RateLimit
from .sessions import Session, Sessions, same
from .settings import KioskSettings
from .staff import StaffDoor
from .texts import LANGUAGES, Texts, texts_in

__all__ = ["Asked", "Web", "go"]

_LOGGER = logging.getLogger("privemo.consent.kiosk")
#: Writes happen one after another anyway; more threads would only wait for connections.
_THREADS = 8
_FORM_S = 20.0

Needs = Literal["nothing", "session", "adult", "person", "staff"]


@dataclass(slots=True)
class Asked:
    """One request, as a page sees it.

    Attributes:
        web: the application.
        texts: of the language asked for.
        session: of this screen; None where there is none.
        form: what was sent, by name; the first of each.
        address: whose requests are counted together.
        path: below the language.
        ended: whether the session is over with this answer.

    """

    web: Web
    texts: Texts
    session: Session | None
    form: Mapping[str, str]
    address: str
    path: str
    ended: bool = field(default=False)

    @property
    def desk(self) -> Desk:
        """The registry."""
        return self.web.desk

    @property
    def place(self) -> str | None:
        """Which screen this is; None for a telephone, and whatever else may be anywhere."""
        return self.web.settings.place_at(self.address)

    @property
    def here(self) -> Session:
        """The session, where a page needs one."""
        assert self.session is not None  # noqa: S101 - `Web.page` saw to it
        return self.session

    @property
    def person(self) -> str:
        """Whose session it is, where a page needs somebody."""
        assert self.here.person is not None  # noqa: S101 - `Web.page` saw to it
        return self.here.person

    def end(self) -> None:
        """End the session with this answer."""
        if self.session is not None:
            self.web.sessions.end(self.session)
        self.session, self.ended = None, True

    def show(
        self, template: str, *, status: int = 200, problem: str = "", **values: Any
    ) -> Response:
        """Return a page."""
        told = self.texts(problem) if problem else ""
        return self.web.render(
            template,
            self.texts,
            self.session,
            path=self.path,
            status=status,
            problem=told,
            **values,
        )

    def message(self, title: str, text: str, *, status: int = 200) -> Response:
        """Return a page that only says something."""
        words = {"title": self.texts(title), "text": self.texts(text)}
        return self.show("message.html", status=status, **words)


Page = Callable[[Asked], Response]


def go(asked: Asked, path: str) -> Response:
    """Send the browser on with a GET, so that a page loaded anew sends nothing twice."""
    return RedirectResponse(f"/{asked.texts.language}/{path}", status_code=303)


class Web:
    """Everything the pages share."""

    def __init__(self, desk: Desk, settings: KioskSettings) -> None:
        self.desk = desk
        self.settings = settings
        self.sessions = Sessions(idle_s=settings.idle_s)
        self.staff_sessions = Sessions(idle_s=settings.idle_s, most=50)
        self.staff = None if settings.staff_file is None else StaffDoor(settings.staff_file)
        apart = tuple(settings.screens or ())
        self.receipts = RateLimit(settings.rates.receipts, apart=apart)
        self.answers = RateLimit(settings.rates.answers, apart=apart)
        self.logins = RateLimit(settings.rates.logins, apart=apart)
        self._threads = anyio.CapacityLimiter(_THREADS)
        mark = "__Host-" if settings.secure else ""
        self._cookies = {False: f"{mark}privemo_kiosk", True: f"{mark}privemo_staff"}
        self._env = jinja2.Environment(
            loader=jinja2.FunctionLoader(_template),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        # As the clock on the wall has it, and in the one form that is read alike everywhere (ISO 8601).
        self._env.filters["day"] = lambda at: at.astimezone().strftime("%Y-%m-%d")
        self._env.filters["clock"] = lambda at: at.astimezone().strftime("%H:%M")
        self._env.filters["moment"] = lambda at: at.astimezone().strftime("%Y-%m-%d %H:%M")

    # -- pages -------------------------------------------------------------------------------------

    def page(
        self,
        handler: Page,
        *,
        needs: Needs = "nothing",
        begins: bool = False,
        staff: bool = False,
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return the endpoint of a page.

        Args:
            handler: the page.
            needs: what has to be known of the session; without it the browser goes to the start.
            begins: open a session where there is none.
            staff: it is the staff's session that counts.

        """
        sessions = self.staff_sessions if staff else self.sessions
        start = "staff" if staff else "ended"

        async def endpoint(request: Request) -> Response:
            language = request.path_params["language"]
            if language not in self.desk.languages:
                raise HTTPException(404)
            session = sessions.find(request.cookies.get(self._cookies[staff]))
            path = request.url.path.removeprefix(f"/{language}/")
            asked = Asked(self, texts_in(language), session, {}, address_of(request.scope), path)
            if request.method == "POST":
                refused = await self._read(request, asked, start)
                if refused is not None:
                    return refused
            elif session is None and begins:
                asked.session = sessions.begin()
            if not _has(asked.session, needs):
                return go(asked, start)
            before = None if session is None else session.id
            response = await self._run(handler, asked)
            self._set_cookie(response, asked, before, staff)
            return response

        return endpoint

    async def _read(self, request: Request, asked: Asked, start: str) -> Response | None:
        """Read a form into ``asked``; return the refusal of one that is not from our own page."""
        if not is_own(request):
            return self._failed(asked, 403)
        try:
            async with asyncio.timeout(_FORM_S):
                asked.form = await read_form(request)
        except TimeoutError:
            return self._failed(asked, 408)
        except TooLarge:
            return self._failed(asked, 413)
        except ClientDisconnect:
            raise
        except Exception as error:  # whatever a parser says of what nobody's browser sends
            _LOGGER.info("a form could not be read: %s", quietly(error))
            return self._failed(asked, 400)
        if asked.session is None:
            return go(asked, start)  # it ran out while the form stood on the screen
        if not same(asked.form.get("csrf", ""), asked.session.csrf):
            return self._failed(asked, 403)
        return None

    async def _run(self, handler: Page, asked: Asked) -> Response:
        try:
            return await anyio.to_thread.run_sync(handler, asked, limiter=self._threads)
        except UnknownPersonError:
            # Erased from somewhere else while their page stood on this screen.
            asked.end()
            return asked.message("sorry", "return_nobody", status=404)
        except NoticeRefused as error:
            _LOGGER.warning("a notice is not in force any more: %s", quietly(error))
            return asked.message("sorry", "problem_notice_changed", status=409)
        except (ConsentError, OSError) as error:
            kind = "refused" if isinstance(error, Refused) else "failed"
            # No traceback, here and below: it could hold what somebody typed.
            _LOGGER.error("%s, nothing was recorded: %s", kind, quietly(error))  # noqa: TRY400
            return self._failed(asked, 503)
        except Exception as error:
            _LOGGER.error("a mistake of ours: %s", quietly(error))  # noqa: TRY400
            return self._failed(asked, 500)

    def _failed(self, asked: Asked, status: int) -> Response:
        return asked.message("sorry", _PROBLEM.get(status, "problem_404"), status=status)

    def _set_cookie(
        self, response: Response, asked: Asked, before: str | None, staff: bool
    ) -> None:
        name, session = self._cookies[staff], asked.session
        how: dict[str, Any] = {
            "path": "/",
            "secure": self.settings.secure,
            "httponly": True,
            "samesite": "strict",
        }
        if session is not None and session.id != before:
            response.set_cookie(name, session.id, **how)
        elif asked.ended:
            response.delete_cookie(name, **how)

    # -- rendering ---------------------------------------------------------------------------------

    def render(
        self,
        template: str,
        texts: Texts,
        session: Session | None,
        *,
        path: str = "",
        status: int = 200,
        **values: Any,
    ) -> Response:
        """Return a page; one of a session leaves the screen by itself when that has ended."""
        idle = self.settings.idle_s
        shown = {
            "t": texts,
            "shop": self.desk.shop,
            "simulated": self.desk.simulated,
            "session": session,
            "hidden": lambda: _hidden(session),
            "ends": session is not None,
            "minutes": texts.number(round(idle / 60, 1)),
            "here": path,
            "other_languages": (),
            "problem": "",
            "onward": "/",
            **values,
        }
        body = self._env.get_template(template).render(shown)
        response = HTMLResponse(body, status_code=status)
        if session is not None:
            # By header and without a script: the next person must not find this one's page.
            response.headers["refresh"] = f"{int(idle) + 2}; url=/{texts.language}/ended"
        return response

    def others(self, texts: Texts) -> list[Texts]:
        """Return the other languages of the kiosk."""
        return [texts_in(other) for other in self.desk.languages if other != texts.language]

    def refuse(self, scope: Scope, status: int) -> Response:
        """Return the page of a refusal that no page was reached for."""
        first = str(scope["path"]).split("/")[1:2]
        language = first[0] if first and first[0] in LANGUAGES else self.desk.languages[0]
        texts = texts_in(language)
        words = {
            "title": texts("sorry"),
            "text": texts(_PROBLEM.get(status, "problem_404")),
            "onward": f"/{language}/" if first and first[0] in LANGUAGES else "/",
        }
        return self.render("message.html", texts, None, status=status, **words)


_PROBLEM = {
    400: "problem_404",
    403: "problem_403",
    408: "problem_500",
    413: "problem_413",
    429: "problem_429",
    500: "problem_500",
    503: "problem_503",
}


def _template(name: str) -> str:
    return files(__package__).joinpath("templates", name).read_text(encoding="utf-8")


def _hidden(session: Session | None) -> Markup:
    token = "" if session is None else session.csrf
    return Markup('<input type="hidden" name="csrf" value="{}">').format(token)


def _has(session: Session | None, needs: Needs) -> bool:
    if needs == "nothing":
        return True
    if session is None:
        return False
    known = {
        "session": True,
        "adult": session.age_band is not None,
        "person": session.person is not None,
        "staff": session.staff,
    }
    return known[needs]
