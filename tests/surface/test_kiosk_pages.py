"""The kiosk as people meet it: Chromium without a script, by keyboard alone, in two languages; and axe."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privemo_consent import ConsentRegistry, ConsentStatus, Purpose, from_qr_text
from privemo_consent.kiosk.codes import person_of
from privemo_consent.kiosk.demonstration import make_demo_registry
from privemo_consent.kiosk.texts import texts_in
from tests.support.browser import KIOSK, PHONE, accessibility_faults, browser, follow
from tests.support.kiosk import PASSWORD, kiosk_registry, running, settings_for

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsentRegistry]:
    path = tmp_path_factory.mktemp("kiosk") / "consent.sqlite"
    with kiosk_registry(path, ["en", "ar"]) as made:
        yield made


@pytest.fixture(scope="module")
def kiosk(registry: ConsentRegistry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(registry, settings_for(tmp_path_factory.mktemp("settings"))) as url:
        yield url


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as made:
        yield made


class Keyboard:
    """Somebody who has a keyboard and nothing else, at a browser that runs no script."""

    def __init__(self, page: Any, language: str) -> None:
        self.page = page
        self.t = texts_in(language)

    def tab_to(self, selector: str) -> None:
        """Press Tab until the focus is there; what cannot be reached so does not exist."""
        wanted = self.page.locator(selector).first.element_handle()
        for _ in range(60):
            self.page.keyboard.press("Tab")
            if wanted.evaluate("element => element === document.activeElement"):
                shown = wanted.evaluate(
                    "element => getComputedStyle(element.closest('.option') || element).outlineStyle"
                )
                assert shown == "solid", f"{selector}: nobody sees the focus"
                return
        raise AssertionError(f"{selector}: not reached by keyboard")

    def press(self, key: str, to: str) -> None:
        """Press what has the focus, and wait for the page that follows."""
        with self.page.expect_navigation(url=re.compile(rf"/{to}$")):
            self.page.keyboard.press(key)

    def button(self, text: str, to: str) -> None:
        self.tab_to(f"main :is(a, button):text-is({json.dumps(text, ensure_ascii=False)})")
        self.press("Enter", to)

    def choose(self, name: str, value: str) -> None:
        """Move inside a group of radio buttons with the arrows, as browsers have it."""
        self.tab_to(f"input[name={name}]")
        chosen = self.page.locator(f"input[name={name}][value='{value}']")
        self.page.keyboard.press("Space")
        for _ in range(12):
            if chosen.is_checked():
                return
            self.page.keyboard.press("ArrowDown")
        raise AssertionError(f"{name}: {value} not reached")

    def download(self, text: str) -> str:
        self.tab_to(f"main a:text-is({json.dumps(text, ensure_ascii=False)})")
        with self.page.expect_download() as found:
            self.page.keyboard.press("Enter")
        return Path(found.value.path()).read_text()


@pytest.mark.parametrize("language", ["en", "ar"])
def test_by_keyboard_alone_without_a_script_somebody_grants_withdraws_exports_and_erases(
    chromium: Any, kiosk: str, registry: ConsentRegistry, language: str
) -> None:
    context = chromium.new_context(java_script_enabled=False, viewport=KIOSK, accept_downloads=True)
    page = context.new_page()
    page.goto(f"{kiosk}/")
    me = Keyboard(page, language)
    t = me.t
    me.tab_to(f"a.tile[lang={language}]")
    me.press("Enter", f"{language}/")
    assert page.locator("html").get_attribute("dir") == t.direction

    me.button(t("home_decide"), "notice")
    me.button(t("go_on"), "about")
    me.choose("age", "35_44")
    me.choose("role", "shopper")
    me.button(t("go_on"), "choices")
    assert page.locator("input:checked").count() == 0
    me.choose("training", "yes")
    me.choose("personalisation", "yes")
    me.choose("fairness_audit", "no")
    me.button(t("record"), "receipt")
    code = page.locator(".code").inner_text()
    person = person_of(code)
    assert scanned(page) == me.download(t("receipt_file")).strip()
    me.button(t("done"), "ended")
    assert page.goto(f"{kiosk}/{language}/mine")
    assert page.url.endswith("/ended")

    page.goto(f"{kiosk}/{language}/")
    me.button(t("home_return"), "return")
    me.tab_to("#receipt")
    page.keyboard.type(code)
    me.button(t("return_open"), "mine")
    me.button(t("withdraw_all"), "mine")
    assert page.locator("[role=status]").inner_text() == t("withdrawn")
    last = {event.purpose: event.status for event in registry.history(person)}
    assert last[Purpose.TRAINING] is last[Purpose.PERSONALISATION] is ConsentStatus.WITHDRAWN

    me.button(t("change_one", what=t("purpose_fairness_audit")), "change")
    me.choose("age", "35_44")
    me.choose("role", "shopper")
    assert page.locator("input[name=answer]:checked").count() == 0
    me.choose("answer", "yes")
    me.button(t("record_one"), "receipt")
    assert registry.history(person)[-1].status is ConsentStatus.GIVEN
    assert scanned(page) == me.download(t("receipt_file")).strip()
    me.button(t("to_mine"), "mine")

    me.button(t("held_see"), "held")
    assert page.locator(".id").inner_text() == person
    everything = json.loads(me.download(t("held_download")))
    assert everything["person"] == person
    me.button(t("back"), "mine")
    me.button(t("erase_go"), "erase")
    me.button(t("erase_yes"), "erase")
    assert page.locator("h1").inner_text() == t("erased_title")
    assert registry.history(person) == ()
    context.close()


def scanned(page: Any) -> str:
    """What a real scanner reads off the screen."""
    zxing = pytest.importorskip("zxingcpp", reason="no QR scanner: pip install zxing-cpp")
    from PIL import Image

    picture = page.locator("img.qr").screenshot(scale="css")
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("L"))
    (found,) = zxing.read_barcodes(np.kron(pixels, np.ones((2, 2), dtype=np.uint8)))
    return from_qr_text(found.text)


def fill_in(page: Any, url: str, language: str, *, personalisation: str = "yes") -> None:
    """Decide by touch."""
    page.goto(f"{url}/{language}/notice")
    follow(page, "main a.button")
    page.check("input[value='25_34']")
    page.check("input[value=shopper]")
    follow(page, "main .pair button:last-child")
    for purpose in ("training", "fairness_audit"):
        page.check(f"input[name={purpose}][value=yes]")
    page.check(f"input[name=personalisation][value={personalisation}]")
    follow(page, "main form > .pair button:last-child")
    page.wait_for_url("**/receipt")


@pytest.mark.parametrize(
    ("language", "size"),
    [
        pytest.param("en", PHONE, id="en-phone"),
        pytest.param("ar", KIOSK, id="ar-kiosk"),
        pytest.param("ar", PHONE, id="ar-phone", marks=pytest.mark.slow),
        pytest.param("en", KIOSK, id="en-kiosk", marks=pytest.mark.slow),
    ],
)
def test_axe_finds_nothing_on_any_page_and_nothing_runs_over_the_edge(
    chromium: Any, kiosk: str, language: str, size: dict[str, int]
) -> None:
    # axe is a script, which the page's own policy would not let run.
    context = chromium.new_context(viewport=size, bypass_csp=True)
    page = context.new_page()
    seen = []

    def look(what: str) -> None:
        seen.append(what)
        assert accessibility_faults(page) == [], what
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], what
        small = page.evaluate(
            "[...document.querySelectorAll('main :is(a, button, label.option), footer :is(a, button)')]"
            ".map(e => [e.getBoundingClientRect(), e.textContent.trim()])"
            ".filter(([box, _]) => box.height < 24 || box.width < 24).map(([_, text]) => text)"
        )
        assert small == [], f"{what}: too small for a finger"

    page.goto(f"{kiosk}/")
    look("languages")
    for path in ("", "notice", "about", "return", "ended", "nowhere", "staff"):
        page.goto(f"{kiosk}/{language}/{path}")
        look(path)
    page.fill("#password", "not the one")
    follow(page, "main button")
    look("wrong password")
    page.fill("#password", PASSWORD)
    follow(page, "main button")
    look("staff")
    follow(page, "main .pair form:first-child button")
    look("verified")
    page.goto(f"{kiosk}/{language}/return")
    page.fill("#receipt", "no receipt")
    follow(page, "main button")
    look("nobody")
    fill_in(page, kiosk, language)
    look("receipt")
    follow(page, "form[action$=visit] button")
    look("visit")
    for path in ("held", "erase", "receipt"):
        page.goto(f"{kiosk}/{language}/{path}")
        look(path)
    page.goto(f"{kiosk}/{language}/mine")
    follow(page, "main > form button")
    look("withdrawn")
    follow(page, "form[action$=change] button")
    look("change")
    page.check("input[name=answer][value=yes]")
    follow(page, "main form .pair button")
    look("changed")
    page.goto(f"{kiosk}/{language}/erase")
    follow(page, "main form button")
    look("erased")
    page.goto(f"{kiosk}/{language}/notice")
    follow(page, "main a.button")
    page.check("input[value='13_15']")
    page.check("input[value=shopper]")
    follow(page, "main .pair button:last-child")
    look("away")
    assert len(seen) == 22
    context.close()


def test_axe_finds_nothing_on_the_demonstrations_page(chromium: Any, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, notice_id="kiosk-demonstration")
    with make_demo_registry(tmp_path) as registry, running(registry, settings) as url:
        page = chromium.new_page(viewport=PHONE, bypass_csp=True)
        page.goto(f"{url}/")
        assert accessibility_faults(page) == []
        assert page.locator(".tile").count() == 6
        page.close()


@pytest.mark.parametrize(
    ("language", "size"), [("en", KIOSK), ("ar", PHONE)], ids=["en-kiosk", "ar-phone"]
)
def test_no_is_as_large_as_yes_and_leaving_as_large_as_going_on(
    chromium: Any, kiosk: str, language: str, size: dict[str, int]
) -> None:
    context = chromium.new_context(java_script_enabled=False, viewport=size)
    page = context.new_page()
    pairs = 0

    def compare(selector: str) -> None:
        nonlocal pairs
        for pair in page.locator(selector).all():
            choices = pair.locator(":scope :is(button, a.button, label.option)").all()
            assert len(choices) == 2
            boxes = [each.bounding_box() for each in choices]
            looks = [
                each.evaluate(
                    "e => { const s = getComputedStyle(e); return [s.color, s.backgroundColor, "
                    "s.fontSize, s.fontWeight, s.borderTopWidth, s.borderTopColor] }"
                )
                for each in choices
            ]
            assert looks[0] == looks[1]
            for side in ("width", "height"):
                assert boxes[0][side] == pytest.approx(boxes[1][side], abs=1)
            pairs += 1

    page.goto(f"{kiosk}/{language}/notice")
    compare(".pair")
    follow(page, "main a.button")
    compare(".pair")
    page.check("input[value='25_34']")
    page.check("input[value=shopper]")
    follow(page, "main .pair button:last-child")
    compare(".pair")
    assert pairs == 1 + 1 + 4
    for purpose, answer in {
        "training": "yes",
        "personalisation": "no",
        "fairness_audit": "no",
    }.items():
        page.check(f"input[name={purpose}][value={answer}]")
    follow(page, "main form > .pair button:last-child")
    page.goto(f"{kiosk}/{language}/mine")
    # To take an answer back and to give one: one kind of button for both, and taking back is first.
    looks = {
        form.get_attribute("action"): form.locator("button").evaluate(
            "e => { const s = getComputedStyle(e); return [s.color, s.backgroundColor, s.fontSize, "
            "s.fontWeight, s.borderTopWidth, s.borderTopColor, s.minHeight] }"
        )
        for form in page.locator(".answers form").all()
    }
    assert looks[f"/{language}/withdraw"] == looks[f"/{language}/change"]
    follow(page, "form[action$=change] button")
    compare(".pair")
    assert pairs == 6 + 2
    context.close()


def test_text_twice_as_large_still_fits(chromium: Any, kiosk: str) -> None:
    # WCAG 1.4.4 and 1.4.10: a screen of 1280 pixels at 400% is one of 320.
    context = chromium.new_context(viewport={"width": 320, "height": 640})
    page = context.new_page()
    for language in ("en", "ar"):
        fill_in(page, kiosk, language)
        for path in ("", "notice", "receipt", "mine", "held", "return", "staff"):
            page.goto(f"{kiosk}/{language}/{path}")
            assert page.evaluate("document.documentElement.scrollWidth") <= 320, path
    context.close()


def test_the_browser_runs_nothing_and_asks_nobody_else(chromium: Any, kiosk: str) -> None:
    context = chromium.new_context()
    page = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    fill_in(page, kiosk, "en")
    page.goto(f"{kiosk}/en/mine")
    assert asked
    assert [url for url in asked if not url.startswith(f"{kiosk}/")] == []
    assert not any("?" in url for url in asked)
    assert said == []  # a policy that is broken somewhere would be told here
    page.evaluate(
        "const s = document.createElement('script'); s.textContent = 'window.ran = true';"
        "document.body.append(s)"
    )
    assert page.evaluate("window.ran") is None
    context.close()


def test_the_back_button_shows_nobody_elses_page(chromium: Any, kiosk: str) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    fill_in(page, kiosk, "en")
    code = page.locator(".code").inner_text()
    follow(page, "main .pair form button")
    page.wait_for_url("**/ended")
    page.go_back()
    assert code not in page.content()
    assert page.url.endswith("/ended") or page.locator(".code").count() == 0
    context.close()
