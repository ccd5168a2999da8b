"""Visits as they are opened at a screen, and everything that ends one."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from privemo_consent import (
    AgeBand,
    ConsentRegistry,
    Purpose,
)
from privemo_consent.kiosk import SessionBook
from privemo_consent.kiosk.codes import person_of
from privemo_consent.kiosk.demonstration import demo_notice
from tests.support.consent import PARTY
from tests.support.kiosk import Shopper, running, settings_for
from tests.unit.consent.kiosk.parts import RETAIL, keep_files


def test_a_visit_opens_only_when_asked_and_ends_with_a_withdrawal(
    kiosk: str, registry: ConsentRegistry, tmp_path: Path
) -> None:
    book = SessionBook(tmp_path / "visits")
    with Shopper(kiosk) as shopper:
        code = shopper.decide()
        assert book.current() == ()
        assert "Your visit is on" in shopper.post("visit").text
        [token] = book.current("kiosk")
        assert (token.person, token.attested_age_band) == (person_of(code), AgeBand.FROM_25)
        # What the camera's road asks with it:
        decision = registry.decide(
            token.person,
            Purpose.PERSONALISATION,
            RETAIL,
            attested_age_band=token.attested_age_band,
        )
        assert decision.permit
        shopper.post("withdraw", {"purpose": "training"})
        assert book.current() == (token,)
        shopper.post("withdraw", {"purpose": "personalisation"})
        assert book.current() == ()
        assert "No visit was begun" in shopper.post("visit").text
        assert book.current() == ()


@pytest.mark.parametrize("ending", ["visit/end", "erase"])
def test_a_visit_ends_when_it_is_ended_and_when_the_person_is_erased(
    kiosk: str, tmp_path: Path, ending: str
) -> None:
    with Shopper(kiosk) as shopper:
        shopper.decide()
        shopper.post("visit")
        assert len(SessionBook(tmp_path / "visits").current()) == 1
        assert shopper.post(ending).status_code == 200
    assert SessionBook(tmp_path / "visits").current() == ()


def test_a_visit_goes_on_when_the_screen_is_cleared(kiosk: str, tmp_path: Path) -> None:
    with Shopper(kiosk) as shopper:
        shopper.decide()
        shopper.post("visit")
        assert shopper.post("end").url.path == "/en/ended"
    assert len(SessionBook(tmp_path / "visits").current()) == 1


@pytest.mark.parametrize("ending", ["notice", "return", "nobody", "", "away", "record"])
def test_a_visit_ends_as_soon_as_somebody_else_stands_there(
    kiosk: str, tmp_path: Path, ending: str
) -> None:
    book = SessionBook(tmp_path / "visits")
    with Shopper(kiosk) as waiting, Shopper(kiosk) as other:
        code = other.decide()
        waiting.read_on()
        with Shopper(kiosk) as screen:
            screen.decide()
            if ending == "record":  # whose notice was read before
                screen.post("visit")
                waiting.post("choices", dict.fromkeys((p.value for p in Purpose), "no"))
            elif ending == "":
                screen.post("visit")
                screen.get("")
            elif ending == "away":
                waiting.get("about")
                screen.post("visit")
                waiting.post("about", {"age": "13_15", "role": "shopper"})
            else:
                screen.post("visit")
                screen.post("end")
                assert len(book.current()) == 1
                if ending == "notice":
                    screen.get("notice")
                else:
                    screen.come_back(code if ending == "return" else "no receipt")
    assert book.current() == ()


def test_a_visit_is_opened_at_a_screen_and_from_nowhere_else(
    registry: ConsentRegistry, tmp_path: Path
) -> None:
    book = SessionBook(tmp_path / "visits")
    screens = {"127.0.0.2": "by the door", "::ffff:127.0.0.3": "till"}
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(running(registry, settings_for(tmp_path, screens=screens)))
        with Shopper(url, address="127.0.0.9") as telephone:
            code = telephone.decide()
            assert "Begin my visit" not in telephone.get("receipt").text
            assert "No visit was begun" in telephone.post("visit").text
            assert book.current() == ()
            with (
                Shopper(url, address="127.0.0.2") as door,
                Shopper(url, address="127.0.0.3") as till,
            ):
                assert "Begin my visit" in door.come_back(code).text
                door.post("visit")
                till.get("notice")  # somebody at another screen, and somebody nowhere
                telephone.get("notice")
                assert [each.place for each in book.current()] == ["by the door"]
                till.decide()
                till.post("visit")
                assert {each.place for each in book.current()} == {"by the door", "till"}
            telephone.come_back(code)
            assert "Your visit is on" not in telephone.get("mine").text
            telephone.post("withdraw")  # that acts from everywhere
    assert [each.place for each in book.current()] == ["till"]


@pytest.mark.parametrize("ending", ["withdraw", "erase"])
def test_a_visit_that_cannot_be_ended_keeps_nobody_from_withdrawing(
    kiosk: str, registry: ConsentRegistry, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    with Shopper(kiosk) as shopper:
        person = person_of(shopper.decide())
        shopper.post("visit")
        keep_files(monkeypatch, "")
        assert shopper.post(ending).status_code == 200
    assert not registry.preview(person, Purpose.PERSONALISATION, RETAIL).permit


def test_a_visit_waits_until_people_were_told_that_expressions_are_read(tmp_path: Path) -> None:
    with ConsentRegistry.create(tmp_path / "c.sqlite", mode="production", controller=PARTY) as made:
        made.notice(demo_notice("en", PARTY))
        with running(made, settings_for(tmp_path)) as url, Shopper(url) as shopper:
            shopper.decide()
            assert "Begin my visit" in shopper.get("receipt").text
            assert "No visit was begun" in shopper.post("visit").text
    assert SessionBook(tmp_path / "visits").current() == ()
