"""A real browser, where there is one: Chromium, as the system has it, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

__all__ = ["A4", "KIOSK", "PHONE", "accessibility_faults", "browser", "follow"]

PHONE, A4, KIOSK = (
    {"width": 390, "height": 844},
    {"width": 794, "height": 1123},
    {"width": 1080, "height": 1920},
)

_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@contextmanager
def browser() -> Iterator[Browser]:
    """Chromium; without one the test is skipped, or fails where one is required."""
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        if os.environ.get("PRIVEMO_REQUIRE_CHROMIUM"):
            pytest.fail("there is no Chromium here: apt-get install chromium")
        pytest.skip("there is no Chromium here")
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        try:
            yield made
        finally:
            made.close()


def accessibility_faults(page: Page) -> list[str]:
    """What axe finds wrong with a page by WCAG 2.2 AA and its own best practice."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, options={"runOnly": _RULES}).response
    assert len(found["passes"]) > 15, "axe looked at nothing"
    return [
        f"{fault['id']}: {fault['help']}: {fault['nodes'][0]['html'][:200]}"
        for fault in found["violations"]
    ]


def follow(page: Page, to: str | Locator) -> None:
    """Click on a link or a button, the first that a selector finds, and wait for the page that it leads to.

    Playwright's click returns before that: what is then asked of the page is asked of the old one,
    of the new one, or of no document at all, as the machine's load has it.
    """
    with page.expect_navigation():
        (page.locator(to).first if isinstance(to, str) else to).click()
