"""One answer given anew by whoever came back: recorded, informed, and no easier to grant than to refuse."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from privemo_consent import (
    ConsentRegistry,
    ConsentStatus,
    Context,
    Purpose,
    Setting,
    verify_receipt,
)
from privemo_consent.kiosk import SessionBook
from privemo_consent.kiosk.codes import person_of
from privemo_consent.kiosk.demonstration import demo_notice
from privemo_consent.kiosk.texts import LANGUAGES, texts_in
from privemo_consent.times import utcnow
from tests.support.consent import PARTY
from tests.support.kiosk import Shopper, kiosk_registry, running, settings_for

RETAIL = Context(setting=Setting.RETAIL, jurisdiction="IE")
GROWN = {"age": "35_44", "role": "shopper"}


class Later:
    def __init__(self) -> None:
        self.by = timedelta(0)

    def __call__(self) -> Any:
        return utcnow() + self.by


@pytest.fixture
def clock() -> Later:
    return Later()


@pytest.fixture
def registry(tmp_path: Path, clock: Later) -> Any:
    with kiosk_registry(tmp_path / "consent.sqlite", ["en", "fr"], clock=clock) as made:
        yield made


@pytest.fixture
def kiosk(registry: ConsentRegistry, tmp_path: Path) -> Any:
    with running(registry, settings_for(tmp_path)) as url:
        yield url


def came_back(url: str, code: str, language: str = "en") -> Shopper:
    shopper = Shopper(url, language)
    assert shopper.come_back(code).url.path.endswith("/mine")
    return shopper


def permits(registry: ConsentRegistry, code: str, purpose: Purpose) -> bool:
    return registry.preview(person_of(code), purpose, RETAIL).permit


def test_one_more_yes_is_given_with_age_role_and_the_notice_and_makes_a_new_receipt(
    kiosk: str, registry: ConsentRegistry
) -> None:
    with Shopper(kiosk) as shopper:
        code = shopper.decide(training="no", personalisation="yes", fairness_audit="no")
        before = registry.history(person_of(code))
        old = shopper.get("receipt.jws").text.strip()
    with came_back(kiosk, code) as shopper:
        page = shopper.post("change", {"purpose": "training"})
        assert page.url.path == "/en/change"  # the purpose stands in no address
        assert demo_notice("en", PARTY).text[:60] in page.text
        assert "How old are you?" in page.text
        assert "checked" not in page.text
        page = shopper.post("change/record", GROWN | {"answer": "yes"})
        assert page.url.path == "/en/receipt"
        assert code not in page.text  # kept nowhere
        assert "Your code stays the same" in page.text
        new = shopper.get("receipt.jws").text.strip()
        assert shopper.get("receipt.svg").headers["content-type"] == "image/svg+xml"
    history = registry.history(person_of(code))
    assert history[: len(before)] == before
    [event] = history[len(before) :]
    assert (event.purpose, event.status) == (Purpose.TRAINING, ConsentStatus.GIVEN)
    assert permits(registry, code, Purpose.TRAINING)
    keys = [period.key for period in registry.ring.periods]
    said = {e.purpose: e.status for e in verify_receipt(new, keys).events}
    assert said == {
        Purpose.TRAINING: ConsentStatus.GIVEN,
        Purpose.PERSONALISATION: ConsentStatus.GIVEN,
        Purpose.FAIRNESS_AUDIT: ConsentStatus.REFUSED,
    }
    for receipt in (old, new, code):
        with came_back(kiosk, receipt):
            pass


def test_what_was_taken_back_can_be_given_again_and_the_other_answers_stay(
    kiosk: str, registry: ConsentRegistry
) -> None:
    with Shopper(kiosk) as shopper:
        code = shopper.decide()
    with came_back(kiosk, code) as shopper:
        shopper.post("withdraw", {"purpose": "training"})
        assert not permits(registry, code, Purpose.TRAINING)
        shopper.post("change", {"purpose": "training"})
        shopper.post("change/record", GROWN | {"answer": "yes"})
        # Said once in a session, age and role are not asked for again.
        page = shopper.post("change", {"purpose": "fairness_audit"})
        assert "How old are you?" not in page.text
        shopper.post("change/record", {"answer": "yes"})
    assert all(permits(registry, code, purpose) for purpose in Purpose)
    registry.verify()


def test_a_no_is_an_answer_too(kiosk: str, registry: ConsentRegistry) -> None:
    with Shopper(kiosk) as shopper:
        code = shopper.decide(fairness_audit="no")
    with came_back(kiosk, code) as shopper:
        shopper.post("change", {"purpose": "fairness_audit"})
        shopper.post("change/record", GROWN | {"answer": "no"})
    last = registry.history(person_of(code))[-1]
    assert (last.purpose, last.status) == (Purpose.FAIRNESS_AUDIT, ConsentStatus.REFUSED)


@pytest.mark.parametrize("answer", ["yes", "no"])
@pytest.mark.parametrize("why", ["run out", "another text"])
def test_a_yes_that_counts_no_more_says_so_and_can_be_given_anew(
    kiosk: str, registry: ConsentRegistry, clock: Later, why: str, answer: str
) -> None:
    with Shopper(kiosk) as shopper:
        code = shopper.decide(training="yes", personalisation="no")
    if why == "run out":
        clock.by = timedelta(days=366)
    else:
        registry.notice(demo_notice("en", PARTY).model_copy(update={"version": 2}))
    assert not permits(registry, code, Purpose.TRAINING)
    with came_back(kiosk, code) as shopper:
        assert "Not any more" in shopper.get("mine").text
        shopper.post("change", {"purpose": "training"})
        shopper.post("change/record", GROWN | {"answer": answer})
    last = registry.history(person_of(code))[-1].status
    assert last is (ConsentStatus.RENEWED if answer == "yes" else ConsentStatus.WITHDRAWN)
    assert permits(registry, code, Purpose.TRAINING) is (answer == "yes")
    registry.verify()


@pytest.mark.parametrize(
    "form",
    [{}, {"answer": "yes"}, GROWN, GROWN | {"answer": "maybe"}, {"answer": "yes", "age": "35_44"}],
    ids=str,
)
def test_an_answer_that_is_not_whole_records_nothing(
    kiosk: str, registry: ConsentRegistry, form: dict[str, str]
) -> None:
    with Shopper(kiosk) as shopper:
        code = shopper.decide(training="no")
    before = registry.head()
    with came_back(kiosk, code) as shopper:
        shopper.post("change", {"purpose": "training"})
        page = shopper.post("change/record", form)
        assert page.status_code == 422
        assert 'role="alert"' in page.text
    assert registry.head() == before


@pytest.mark.parametrize(
    ("age", "role"), [("16_17", "shopper"), ("unknown", "shopper"), ("25_34", "employee")]
)
def test_who_turns_out_not_to_be_asked_loses_the_whole_record(
    kiosk: str, registry: ConsentRegistry, tmp_path: Path, age: str, role: str
) -> None:
    with Shopper(kiosk) as shopper:
        code = shopper.decide(training="no")
        shopper.post("visit")
    with came_back(kiosk, code) as shopper:
        shopper.post("change", {"purpose": "training"})
        page = shopper.post("change/record", {"age": age, "role": role, "answer": "yes"})
        assert "Nothing about you was kept" in page.text
        assert shopper.get("mine").url.path == "/en/ended"
    assert registry.persons() == ()
    assert SessionBook(tmp_path / "visits").current() == ()


def test_a_notice_that_changed_while_it_was_read_is_read_again(
    kiosk: str, registry: ConsentRegistry
) -> None:
    with Shopper(kiosk) as shopper:
        code = shopper.decide(training="no")
    with came_back(kiosk, code) as shopper:
        shopper.post("change", {"purpose": "training"})
        registry.notice(demo_notice("en", PARTY).model_copy(update={"version": 2}))
        before = registry.head()
        page = shopper.post("change/record", GROWN | {"answer": "yes"})
        assert page.status_code == 409
    assert registry.head() == before


def test_a_form_sent_twice_is_recorded_once(kiosk: str, registry: ConsentRegistry) -> None:
    with Shopper(kiosk) as shopper:
        code = shopper.decide(training="no")
    with came_back(kiosk, code) as shopper:
        shopper.post("change", {"purpose": "training"})
        for _ in range(2):
            shopper.post("change/record", GROWN | {"answer": "yes"})
    assert len(registry.history(person_of(code))) == 4


def test_somebody_erased_meanwhile_gets_no_new_record(
    kiosk: str, registry: ConsentRegistry
) -> None:
    with Shopper(kiosk) as shopper:
        code = shopper.decide(training="no")
    with came_back(kiosk, code) as shopper:
        shopper.post("change", {"purpose": "training"})
        registry.erase(person_of(code))
        page = shopper.post("change/record", GROWN | {"answer": "yes"})
        assert page.status_code == 404
    assert registry.persons() == ()


@pytest.mark.parametrize("named", ["", "sleeping", "TRAINING"])
def test_another_purpose_is_none(kiosk: str, registry: ConsentRegistry, named: str) -> None:
    with Shopper(kiosk) as shopper:
        shopper.decide()
        before = registry.head()
        assert shopper.post("change", {"purpose": named}).status_code == 404
        assert shopper.get("change").url.path == "/en/mine"
        page = shopper.post("change/record", GROWN | {"answer": "yes", "purpose": "training"})
        assert page.url.path == "/en/mine"
    assert registry.head() == before


def test_a_yes_counts_for_the_purpose_on_its_page_and_for_no_other(
    kiosk: str, registry: ConsentRegistry
) -> None:
    """Two tabs of one telephone: the first shows one purpose, and the second began another meanwhile."""
    with Shopper(kiosk) as shopper:
        code = shopper.decide(training="no", personalisation="no", fairness_audit="no")
        shopper.post("change", {"purpose": "fairness_audit"})
        shopper.post("change", {"purpose": "training"})
        before = registry.head()
        for shown in ("fairness_audit", ""):
            page = shopper.post("change/record", {"answer": "yes", "purpose": shown})
            assert page.url.path == "/en/change"
            assert 'name="purpose" value="training"' in page.text
        assert registry.head() == before
        assert shopper.post("change/record", {"answer": "yes"}).url.path == "/en/receipt"
    assert permits(registry, code, Purpose.TRAINING)
    assert not permits(registry, code, Purpose.FAIRNESS_AUDIT)


def test_taking_back_takes_fewer_steps_than_giving(kiosk: str) -> None:
    with Shopper(kiosk) as shopper:
        code = shopper.decide(fairness_audit="no")
    with came_back(kiosk, code) as shopper:
        forms = re.findall(
            r'<form method="post" action="/en/(withdraw|change)">', shopper.get("mine").text
        )
        assert sorted(forms) == ["change", "withdraw", "withdraw", "withdraw"]
        assert shopper.post("withdraw", {"purpose": "training"}).url.path == "/en/mine"
        assert shopper.post("change", {"purpose": "fairness_audit"}).url.path == "/en/change"


def test_in_another_language_the_new_receipt_holds_the_new_answer_and_the_old_one_stays(
    kiosk: str, registry: ConsentRegistry
) -> None:
    with Shopper(kiosk) as shopper:
        code = shopper.decide(training="no", personalisation="yes", fairness_audit="no")
    with came_back(kiosk, code, "fr") as shopper:
        shopper.post("change", {"purpose": "training"})
        shopper.post("change/record", GROWN | {"answer": "yes"})
        content = verify_receipt(
            shopper.get("receipt.jws").text.strip(),
            [period.key for period in registry.ring.periods],
        )
    assert content.notice.language == "fr"
    assert [event.purpose for event in content.events] == [Purpose.TRAINING]
    assert permits(registry, code, Purpose.PERSONALISATION)
    assert permits(registry, code, Purpose.TRAINING)


# -- numbers and dates in the texts ----------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_counts_in_a_form_that_fits_one_number_alone(language: str) -> None:
    """A noun right after a number changes with it, in Polish and Arabic in several ways."""
    for key, text in texts_in(language).words.items():
        for place in ("{minutes}", "{entries}", "{count}"):
            after = text.partition(place)[2].lstrip()
            allowed = ("", ".", ",", ")", "min", "Min")
            assert place not in text or after.startswith(allowed[1:]) or not after, (key, text)


def test_a_number_is_written_as_the_language_writes_it() -> None:
    assert texts_in("de").number(1.5) == "1,5"
    assert texts_in("en").number(1.5) == "1.5"
    assert texts_in("pl").number(5.0) == "5"


def test_french_signs_do_not_begin_a_line() -> None:
    for key, text in texts_in("fr").words.items():
        assert not re.search(r" [:;?!»]|« ", text), key
