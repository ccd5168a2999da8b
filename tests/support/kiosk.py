"""A real kiosk on loopback, and somebody in front of it who only has a browser's means."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from privemo_consent import ConsentRegistry
from privemo_consent.kiosk import KioskSettings, Listening, Rates, create_app
from privemo_consent.kiosk.demonstration import demo_notice
from privemo_consent.kiosk.limits import Rate
from privemo_consent.kiosk.serving import make_server
from privemo_consent.kiosk.staff import write_password
from privemo_consent.kiosk.texts import LANGUAGES
from tests.support.consent import PARTY

__all__ = ["PASSWORD", "Shopper", "kiosk_registry", "running", "settings_for"]

PASSWORD = "a phrase that only staff know"  # noqa: S105 - of kiosks that live for one test
_NEVER = Rate(1_000_000, 0.001)
#: For tests that are about something else than rates.
UNLIMITED = Rates(pages=_NEVER, receipts=_NEVER, logins=_NEVER, answers=_NEVER)
_TOKEN = re.compile(r'name="csrf" value="([^"]*)"')
_ASKED = re.compile(r'/change/record">.*?name="purpose" value="([^"]*)"', re.DOTALL)


def kiosk_registry(
    path: Path, languages: Sequence[str] = LANGUAGES, **changes: Any
) -> ConsentRegistry:
    """A production registry with a whole notice in each language, English among them, and people told."""
    registry = ConsentRegistry.create(path, mode="production", controller=PARTY, **changes)
    for language in languages:
        registry.notice(demo_notice(language, PARTY))
    registry.announce_reading(demo_notice("en", PARTY), place="the entrance")
    return registry


@cache
def _password_file() -> bytes:
    """One slow hash for all tests."""
    with TemporaryDirectory() as folder:
        write_password(Path(folder) / "staff.json", PASSWORD.encode())
        return (Path(folder) / "staff.json").read_bytes()


def settings_for(folder: Path, **changes: Any) -> KioskSettings:
    """Settings with visits and a staff page."""
    staff = folder / "staff.json"
    if not staff.exists():
        staff.touch(mode=0o600)
        staff.write_bytes(_password_file())
    made = KioskSettings(
        jurisdiction="IE", staff_file=staff, sessions=folder / "visits", rates=UNLIMITED
    )
    return replace(made, **changes)


@contextmanager
def running(registry: ConsentRegistry, settings: KioskSettings, **listening: Any) -> Iterator[str]:
    """Serve a kiosk from a thread; yield its address."""
    how = Listening(port=0, **listening)
    server, door = make_server(create_app(registry, settings), how)
    port = door.getsockname()[1]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


class Shopper:
    """One person at one screen: follows redirects, keeps cookies, sends back the forms' tokens."""

    def __init__(
        self, url: str, language: str = "en", *, address: str | None = None, timeout: float = 60
    ) -> None:
        self.language = language
        self.http = httpx.Client(
            base_url=url,
            follow_redirects=True,
            timeout=timeout,
            transport=httpx.HTTPTransport(local_address=address),
        )
        self.token = ""
        self.asked = ""  # for which purpose the page on the screen wants an answer

    def __enter__(self) -> Shopper:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def _seen(self, response: httpx.Response) -> httpx.Response:
        found = _TOKEN.search(response.text)
        if found:
            self.token = found[1]
        if asked := _ASKED.search(response.text):
            self.asked = asked[1]
        return response

    def get(self, path: str, **how: Any) -> httpx.Response:
        return self._seen(self.http.get(f"/{self.language}/{path}", **how))

    def post(self, path: str, form: dict[str, str] | None = None, **how: Any) -> httpx.Response:
        data = {"csrf": self.token} | (form or {})
        if path == "change/record":
            data = {"purpose": self.asked} | data
        return self._seen(self.http.post(f"/{self.language}/{path}", data=data, **how))

    def read_on(self, age: str = "25_34", role: str = "shopper") -> httpx.Response:
        """Read the notice and say age and role."""
        self.get("notice")
        self.get("about")
        return self.post("about", {"age": age, "role": role})

    def decide(
        self, training: str = "yes", personalisation: str = "yes", fairness_audit: str = "no"
    ) -> str:
        """Go all the way; return the code."""
        self.read_on()
        page = self.post(
            "choices",
            {
                "training": training,
                "personalisation": personalisation,
                "fairness_audit": fairness_audit,
            },
        )
        assert page.status_code == 200, page.text
        assert page.url.path.endswith("/receipt"), page.text
        found = re.search(r'class="code" dir="ltr">([^<]+)<', page.text)
        assert found
        return found[1]

    def come_back(self, receipt: str) -> httpx.Response:
        """Present a receipt or a code."""
        self.get("return")
        return self.post("return", {"receipt": receipt})
