"""One answer is whole or not at all, to the notice that is in force for this place."""

from __future__ import annotations

from pathlib import Path

import pytest

from privemo_consent import (
    AgeBand,
    ConsentRegistry,
    ConsentStatus,
    MinorRefused,
    NoticeRefused,
    Purpose,
    Role,
    StaffRefused,
)
from privemo_consent.kiosk import KioskSettings, create_app
from privemo_consent.kiosk.demonstration import demo_notice
from privemo_consent.kiosk.desk import Desk
from privemo_consent.records import Notice
from tests.support.consent import PARTY
from tests.support.kiosk import Shopper, kiosk_registry, running, settings_for
from tests.unit.consent.kiosk.parts import RETAIL


def test_an_answer_is_one_transaction_of_every_yes_and_every_no(registry: ConsentRegistry) -> None:
    before = registry.head().seq
    answers = {Purpose.TRAINING: True, Purpose.PERSONALISATION: False, Purpose.FAIRNESS_AUDIT: True}
    notice = demo_notice("en", PARTY)
    events = registry.answer(
        "p-1", answers, age_band=AgeBand.FROM_25, jurisdiction="IE", notice=notice
    )
    assert {event.purpose: event.status for event in events} == {
        Purpose.TRAINING: ConsentStatus.GIVEN,
        Purpose.PERSONALISATION: ConsentStatus.REFUSED,
        Purpose.FAIRNESS_AUDIT: ConsentStatus.GIVEN,
    }
    # One head is signed for each transaction.
    assert registry.checkpoint().split("\n")[1] == str(before + 3)
    assert registry.preview("p-1", Purpose.TRAINING, RETAIL).permit
    assert not registry.preview("p-1", Purpose.PERSONALISATION, RETAIL).permit


def test_an_answer_with_a_purpose_too_many_leaves_nothing(registry: ConsentRegistry) -> None:
    silent = Notice.model_validate(
        demo_notice("en", PARTY).model_dump()
        | {
            "notice_id": "two",
            "purposes": ("training",),
            "told": [
                t
                for t in demo_notice("en", PARTY).model_dump()["told"]
                if t["item"] not in ("personalisation", "fairness_audit")
            ],
        }
    )
    registry.notice(silent)
    before = registry.head()
    with pytest.raises(NoticeRefused):
        registry.answer(
            "p-1",
            {Purpose.TRAINING: True, Purpose.PERSONALISATION: False},
            age_band=AgeBand.FROM_25,
            jurisdiction="IE",
            notice=silent,
        )
    assert registry.head() == before
    assert registry.history("p-1") == ()


@pytest.mark.parametrize("yes", [True, False])
def test_a_minors_answer_leaves_a_count_whatever_it_was(
    registry: ConsentRegistry, yes: bool
) -> None:
    with pytest.raises(MinorRefused):
        registry.answer(
            "p-1",
            {Purpose.TRAINING: yes},
            age_band=AgeBand.FROM_13,
            jurisdiction="IE",
            notice=demo_notice("en", PARTY),
        )
    assert registry.persons() == ()
    assert sum(registry.age_refusals().values()) == 1


@pytest.mark.parametrize("yes", [True, False])
def test_staffs_answer_is_invalid_whatever_it_was(registry: ConsentRegistry, yes: bool) -> None:
    with pytest.raises(StaffRefused):
        registry.answer(
            "p-1",
            {Purpose.TRAINING: yes},
            age_band=AgeBand.FROM_25,
            jurisdiction="IE",
            notice=demo_notice("en", PARTY),
            role=Role.EMPLOYEE,
        )
    assert [event.status for event in registry.history("p-1")] == [ConsentStatus.INVALIDATED]


def test_a_kiosk_without_a_notice_for_its_place_does_not_start(tmp_path: Path) -> None:
    with (
        ConsentRegistry.create(tmp_path / "c.sqlite", mode="production", controller=PARTY) as empty,
        pytest.raises(NoticeRefused, match="privemo notice register"),
    ):
        Desk(empty, KioskSettings(jurisdiction="IE"))
    with (
        kiosk_registry(tmp_path / "d.sqlite") as registry,
        pytest.raises(NoticeRefused, match="US-IL"),
    ):
        create_app(registry, KioskSettings(jurisdiction="US-IL"))


def test_of_several_notices_one_has_to_be_named(registry: ConsentRegistry) -> None:
    other = demo_notice("en", PARTY).model_copy(update={"notice_id": "other"})
    registry.notice(other)
    with pytest.raises(NoticeRefused, match="kiosk-demonstration, other"):
        Desk(registry, KioskSettings(jurisdiction="IE"))
    desk = Desk(registry, KioskSettings(jurisdiction="IE", notice_id="other"))
    assert desk.languages == ("en",)


def test_only_languages_in_which_a_notice_is_in_force_are_offered(tmp_path: Path) -> None:
    with ConsentRegistry.create(tmp_path / "c.sqlite", mode="production", controller=PARTY) as made:
        made.notice(demo_notice("fr", PARTY))
        with running(made, settings_for(tmp_path)) as url, Shopper(url, "fr") as shopper:
            assert shopper.get("notice").status_code == 200
            assert shopper.http.get("/").text.count('class="tile"') == 1
            assert shopper.http.get("/en/notice").status_code == 404
