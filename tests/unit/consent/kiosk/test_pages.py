"""The pages as somebody at a browser meets them: deciding, coming back, withdrawing, erasing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from privemo_consent import (
    AgeBand,
    ConsentRegistry,
    ConsentStatus,
    Purpose,
    verify_receipt,
)
from privemo_consent.kiosk import SessionBook
from privemo_consent.kiosk.codes import person_of
from privemo_consent.kiosk.demonstration import demo_notice, make_demo_registry
from privemo_consent.kiosk.staff import figures
from privemo_consent.kiosk.texts import LANGUAGES
from tests.support.consent import PARTY
from tests.support.kiosk import Shopper, kiosk_registry, running, settings_for
from tests.unit.consent.kiosk.parts import RETAIL


@pytest.mark.parametrize("language", LANGUAGES)
def test_somebody_decides_and_gets_a_receipt_that_verifies(tmp_path: Path, language: str) -> None:
    with kiosk_registry(tmp_path / "c.sqlite", sorted({"en", language})) as registry:
        with (
            running(registry, settings_for(tmp_path)) as kiosk,
            Shopper(kiosk, language) as shopper,
        ):
            code = shopper.decide()
            token = shopper.get("receipt.jws").text.strip()
            svg = shopper.get("receipt.svg")
        keys = [period.key for period in registry.ring.periods]
        permitted = registry.preview(person_of(code), Purpose.TRAINING, RETAIL).permit
    content = verify_receipt(token, keys)
    assert content.person == person_of(code)
    assert content.notice.language == language
    assert {event.purpose: event.status for event in content.events} == {
        Purpose.TRAINING: ConsentStatus.GIVEN,
        Purpose.PERSONALISATION: ConsentStatus.GIVEN,
        Purpose.FAIRNESS_AUDIT: ConsentStatus.REFUSED,
    }
    assert svg.headers["content-type"] == "image/svg+xml"
    assert permitted


def test_nothing_is_ticked_and_no_stands_beside_yes_in_the_same_form(kiosk: str) -> None:
    with Shopper(kiosk) as shopper:
        about = shopper.get("notice") and shopper.get("about")
        choices = shopper.read_on()
    for page in (about, choices):
        assert "checked" not in page.text
        assert "selected" not in page.text
    values = re.findall(r'type="radio" name="(\w+)" value="(yes|no)"', choices.text)
    assert sorted(values) == sorted((p.value, v) for p in Purpose for v in ("no", "yes"))


def test_a_question_left_out_records_nothing(kiosk: str, registry: ConsentRegistry) -> None:
    before = registry.head()
    with Shopper(kiosk) as shopper:
        shopper.read_on()
        page = shopper.post("choices", {"training": "yes", "personalisation": "maybe"})
        assert page.status_code == 422
        assert 'role="alert"' in page.text
    assert registry.head() == before


def test_a_no_to_everything_takes_the_same_steps_and_gives_a_receipt(
    kiosk: str, registry: ConsentRegistry
) -> None:
    with Shopper(kiosk) as shopper:
        code = shopper.decide("no", "no", "no")
    statuses = {event.status for event in registry.history(person_of(code))}
    assert statuses == {ConsentStatus.REFUSED}


@pytest.mark.parametrize(
    ("age", "role"),
    [(band.value, "shopper") for band in AgeBand if not band.is_adult]
    + [("under_13", "student"), ("25_34", "employee"), ("35_44", "student")],
)
def test_whoever_may_not_take_part_is_thanked_and_only_counted(
    kiosk: str, registry: ConsentRegistry, age: str, role: str
) -> None:
    with Shopper(kiosk) as shopper:
        page = shopper.read_on(age, role)
        assert page.status_code == 200
        assert "Thank you" in page.text
        assert list(shopper.http.cookies.jar) == []
    assert registry.persons() == ()
    found = figures(registry)
    adult = AgeBand(age).is_adult
    assert (found.minors, found.staff) == ((0, 1) if adult else (1, 0))
    registry.verify()


def test_somebody_comes_back_and_withdraws_in_one_step(
    kiosk: str, registry: ConsentRegistry
) -> None:
    with Shopper(kiosk) as shopper:
        code = shopper.decide()
    with Shopper(kiosk) as later:
        page = later.come_back(code.lower().replace("-", " "))
        assert page.url.path == "/en/mine"
        done = later.post("withdraw")
        assert "Taken back" in done.text
    person = person_of(code)
    assert not registry.preview(person, Purpose.TRAINING, RETAIL).permit
    assert not registry.preview(person, Purpose.PERSONALISATION, RETAIL).permit


def test_one_purpose_is_withdrawn_alone_and_twice_is_once(
    kiosk: str, registry: ConsentRegistry
) -> None:
    with Shopper(kiosk) as shopper:
        code = shopper.decide()
        for _ in range(2):
            shopper.get("mine")
            assert shopper.post("withdraw", {"purpose": "training"}).status_code == 200
        assert shopper.post("withdraw", {"purpose": "sleeping"}).status_code == 404
    person = person_of(code)
    assert not registry.preview(person, Purpose.TRAINING, RETAIL).permit
    assert registry.preview(person, Purpose.PERSONALISATION, RETAIL).permit


def test_a_receipt_comes_back_as_a_token_a_code_a_scan_and_a_file(
    kiosk: str, registry: ConsentRegistry
) -> None:
    from privemo_consent import qr_text

    with Shopper(kiosk) as shopper:
        code = shopper.decide()
        token = shopper.get("receipt.jws").text
    for presented in (code, token, qr_text(token.strip()), f"{token[:200]}\r\n {token[200:]}"):
        with Shopper(kiosk) as later:
            assert later.come_back(presented).url.path == "/en/mine", presented[:20]
    with Shopper(kiosk) as later:
        later.get("return")
        page = later.http.post(
            "/en/return",
            data={"csrf": later.token, "receipt": ""},
            files={"file": ("receipt.jws", token.encode())},
        )
        assert page.url.path == "/en/mine"


def test_everything_held_and_every_use_is_shown_and_handed_over(
    kiosk: str, registry: ConsentRegistry
) -> None:
    with Shopper(kiosk) as shopper:
        code = shopper.decide()
        person = person_of(code)
        registry.record_use(
            [person],
            Purpose.TRAINING,
            run="r",
            round=1,
            store="s",
            batch=1,
            log_seq=registry.log_seq,
        )
        registry.decide(person, Purpose.PERSONALISATION, RETAIL)
        page = shopper.get("held").text
        file = shopper.get("held.json")
    assert person in page
    assert "Used: Train a model" in page
    assert "Asked whether it may be used" in page
    assert "attachment" in file.headers["content-disposition"]
    assert file.json()["person"] == person
    assert len(file.json()["uses"]) == len(file.json()["decisions"]) == 1


def test_what_a_model_said_of_somebody_is_shown_to_them_alone_and_goes_with_them(
    kiosk: str, registry: ConsentRegistry
) -> None:
    table = registry.path.with_name("predictions.csv")
    with Shopper(kiosk) as other, Shopper(kiosk) as shopper:
        theirs, person = person_of(other.decide()), person_of(shopper.decide())
        head = "store,person,face,label,prediction,p_happy,p_sad\n"
        row = f"s,{theirs},f2,0,0,0.9,0.1\n"
        table.write_text(f"{head}s,{person},f1,0,1,0.25,0.75\n{row}")
        page = shopper.get("held").text
        [said] = shopper.get("held.json").json()["predictions"]
        assert "<dt>What a model said of a picture of you" in page
        assert (said["label"], said["prediction"], said["p_sad"]) == ("happy", "sad", "0.75")
        assert "Everything is erased" in shopper.post("erase").text
    assert table.read_text() == head + row


def test_erasing_asks_once_and_leaves_nobody(kiosk: str, registry: ConsentRegistry) -> None:
    with Shopper(kiosk) as shopper:
        code = shopper.decide()
        assert "cannot be undone" in shopper.get("erase").text
        assert len(registry.persons()) == 1
        assert "Everything is erased" in shopper.post("erase").text
        assert shopper.get("mine").url.path == "/en/ended"
    assert registry.persons() == ()
    with Shopper(kiosk) as later:
        assert later.come_back(code).status_code == 422


@pytest.mark.parametrize(
    ("age", "role"),
    [("under_13", "shopper"), ("unknown", "shopper"), ("25_34", "employee"), ("13_15", "student")],
)
def test_who_turns_out_not_to_be_asked_loses_what_was_agreed(
    kiosk: str, registry: ConsentRegistry, tmp_path: Path, age: str, role: str
) -> None:
    with Shopper(kiosk) as shopper:
        person = person_of(shopper.decide())
        shopper.post("visit")
        assert registry.preview(person, Purpose.PERSONALISATION, RETAIL).permit
        shopper.get("about")  # the browser's Back
        page = shopper.post("about", {"age": age, "role": role})
        assert "Nothing about you was kept" in page.text
        assert shopper.get("mine").url.path == "/en/ended"
    for purpose in Purpose:
        assert not registry.preview(person, purpose, RETAIL).permit
    assert registry.persons() == ()
    assert SessionBook(tmp_path / "visits").current() == ()
    found = figures(registry)
    assert (found.minors, found.staff) == ((0, 1) if AgeBand(age).is_adult else (1, 0))
    registry.verify()


def test_a_notice_that_changed_meanwhile_is_read_first(
    kiosk: str, registry: ConsentRegistry
) -> None:
    with Shopper(kiosk) as shopper:
        shopper.read_on()
        registry.notice(demo_notice("en", PARTY).model_copy(update={"version": 2}))
        before = registry.head()
        page = shopper.post("choices", dict.fromkeys((p.value for p in Purpose), "yes"))
        assert page.status_code == 409
        assert registry.head() == before
        shopper.decide()


def test_a_simulated_registry_says_so_on_every_page(tmp_path: Path) -> None:
    with make_demo_registry(tmp_path) as registry:
        settings = settings_for(tmp_path, notice_id="kiosk-demonstration")
        with running(registry, settings) as url, Shopper(url) as shopper:
            pages = [shopper.http.get("/")]
            pages += [shopper.get(path) for path in ("", "notice", "about", "return", "nowhere")]
            pages.append(shopper.read_on())
            shopper.decide()
            pages += [shopper.get(path) for path in ("mine", "held", "erase", "ended", "staff")]
    assert len(pages) == 12
    assert all('class="demo"' in page.text for page in pages)


def test_a_real_registry_does_not_say_it_is_simulated(kiosk: str) -> None:
    with Shopper(kiosk) as shopper:
        assert 'class="demo"' not in shopper.get("").text
