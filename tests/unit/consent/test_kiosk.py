"""The kiosk's parts: codes, texts, sessions, visits, limits, settings, the staff's door, and the pages."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from privemo_consent import (
    AgeBand,
    ConsentRegistry,
    ConsentStatus,
    Context,
    KeyFileError,
    MalformedError,
    MinorRefused,
    NoticeRefused,
    Purpose,
    RegistryError,
    RegistryExistsError,
    Role,
    Setting,
    StaffRefused,
    check_notice,
    verify_receipt,
)
from privemo_consent.kiosk import KioskSettings, Listening, SessionBook, create_app
from privemo_consent.kiosk.codes import draw_code, person_of, read_code
from privemo_consent.kiosk.demonstration import demo_notice, make_demo_registry
from privemo_consent.kiosk.desk import Desk
from privemo_consent.kiosk.limits import Rate, RateLimit
from privemo_consent.kiosk.sessions import Sessions
from privemo_consent.kiosk.staff import StaffDoor, figures, write_password
from privemo_consent.kiosk.texts import LANGUAGES, texts_in
from privemo_consent.records import Notice
from tests.support.consent import PARTY
from tests.support.kiosk import PASSWORD, Shopper, kiosk_registry, running, settings_for

RETAIL = Context(setting=Setting.RETAIL, jurisdiction="IE")


@pytest.fixture
def registry(tmp_path: Path) -> Any:
    with kiosk_registry(tmp_path / "consent.sqlite", ["en"]) as made:
        yield made


@pytest.fixture
def kiosk(registry: ConsentRegistry, tmp_path: Path) -> Any:
    with running(registry, settings_for(tmp_path)) as url:
        yield url


# -- texts -----------------------------------------------------------------------------------------


def test_every_text_is_there_in_every_language_with_the_same_places() -> None:
    english = texts_in("en")
    assert len(LANGUAGES) >= 6
    assert {texts_in(language).direction for language in LANGUAGES} == {"ltr", "rtl"}
    for language in LANGUAGES:
        words = texts_in(language).words
        assert list(words) == list(english.words), language
        for key, text in words.items():
            assert text.strip(), f"{language} {key}"
            places = sorted(re.findall(r"{\w*}", text))
            assert places == sorted(re.findall(r"{\w*}", english.words[key])), f"{language} {key}"


def test_no_text_was_forgotten_in_translation() -> None:
    english = texts_in("en").words
    for language in LANGUAGES:
        if language != "en":
            alike = [key for key, text in texts_in(language).words.items() if text == english[key]]
            words_of_one_form = {"no", "state_off", "status_ConsentRefused", "error_prefix"}
            assert set(alike) <= words_of_one_form, language


def test_every_text_that_a_template_asks_for_is_there_and_no_other() -> None:
    folder = files("privemo_consent.kiosk").joinpath("templates")
    sources = [path.read_text(encoding="utf-8") for path in folder.iterdir()]
    package = Path(str(files("privemo_consent.kiosk")))
    sources += [path.read_text(encoding="utf-8") for path in package.glob("*.py")]
    asked = set(re.findall(r"""["']([a-z][a-z0-9_]+)["']""", "\n".join(sources)))
    built = ("age_", "role_", "purpose_", "status_", "item_", "overdue_", "staff_witness_")
    words = set(texts_in("en").words)
    unused = {key for key in words - asked if not key.startswith(built)}
    assert not unused
    in_templates = set(re.findall(r"""\bt\(['"]([a-z0-9_]+)['"][,)]""", "\n".join(sources)))
    assert in_templates <= words
    for band in AgeBand:
        assert f"age_{band.value}" in words
    for status in ConsentStatus:
        assert f"status_{status.value}" in words


def test_a_date_is_not_turned_round_where_one_writes_from_the_right() -> None:
    assert "\u20682027-11-29\u2069" in texts_in("ar")("until", day="2027-11-29")
    assert texts_in("en")("until", day="2027-11-29") == "until 2027-11-29"


def test_a_language_that_nobody_wrote_is_refused() -> None:
    with pytest.raises(MalformedError, match="speaks"):
        texts_in("nl")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_notices_of_the_demonstration_are_fit_to_be_shown(language: str) -> None:
    report = check_notice(demo_notice(language))
    assert report.findings == ()
    assert report.detected in (language, None)


# -- codes -----------------------------------------------------------------------------------------


def test_codes_are_all_different_and_have_a_hundred_bits() -> None:
    drawn = {draw_code() for _ in range(1000)}
    assert len(drawn) == 1000
    letters = "".join(drawn).replace("-", "")
    assert len(set(letters)) == 32
    assert all(len(code.replace("-", "")) == 20 for code in drawn)


@pytest.mark.parametrize(
    "change", [str, str.lower, lambda c: c.replace("-", " "), lambda c: f" {c}\n"]
)
def test_a_code_is_read_as_people_type_it(change: Any) -> None:
    code = draw_code()
    assert read_code(change(code)) == code


def test_letters_that_look_like_digits_are_read_as_digits() -> None:
    assert read_code("OIL00-00000-00000-00000") == "01100-00000-00000-00000"


@pytest.mark.parametrize("typed", ["", "7", "7" * 19, "7" * 21, "U" * 20, "ä" * 20, "\x00" * 20])
def test_what_is_no_code_is_none(typed: str) -> None:
    assert read_code(typed) is None


def test_a_person_id_does_not_tell_its_code() -> None:
    code = draw_code()
    person = person_of(code)
    assert person.startswith("kiosk-")
    assert not any(part in person.upper() for part in code.split("-"))
    assert person != person_of(draw_code())


# -- sessions and limits ---------------------------------------------------------------------------


class Seconds:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_session_ends_after_a_quiet_while_and_after_a_long_one() -> None:
    clock = Seconds()
    sessions = Sessions(idle_s=60, longest_s=200, clock=clock)
    session = sessions.begin()
    for _ in range(3):
        clock.now += 59
        assert sessions.find(session.id) is session
    clock.now += 59  # never quiet for a minute, and over all the same
    assert sessions.find(session.id) is None
    quiet = sessions.begin()
    clock.now += 61
    assert sessions.find(quiet.id) is None
    assert len(sessions) == 0


def test_a_session_that_was_ended_gets_no_new_id() -> None:
    sessions = Sessions(idle_s=60)
    session = sessions.begin()
    sessions.end(session)  # cleared, while an answer of it was being recorded
    sessions.renew_id(session)
    assert sessions.find(session.id) is None
    assert len(sessions) == 0


def test_a_machine_that_slept_finds_no_session_open(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = [0.0]
    monkeypatch.setattr("time.clock_gettime", lambda _: 1000.0 + slept[0])
    sessions = Sessions(idle_s=60)
    session = sessions.begin()
    slept[0] = 3600
    assert sessions.find(session.id) is None


def test_a_flood_of_screens_does_not_end_the_session_of_somebody_known() -> None:
    sessions = Sessions(idle_s=60, most=10)
    known, staff = sessions.begin(), sessions.begin()
    known.person, staff.staff = "p", True
    for _ in range(100):
        sessions.begin()
    assert len(sessions) == 10
    assert sessions.find(known.id) is known
    assert sessions.find(staff.id) is staff


def test_a_session_does_not_show_itself() -> None:
    session = Sessions(idle_s=60).begin()
    session.person, session.code = "kiosk-somebody", draw_code()
    assert "somebody" not in repr(session)
    assert session.code not in repr(session)


def test_a_limit_lets_a_burst_through_and_then_one_at_a_time() -> None:
    clock = Seconds()
    limit = RateLimit(Rate(3, 10.0), clock)
    assert [limit.take("a") for _ in range(3)] == [0, 0, 0]
    assert limit.take("a") == pytest.approx(10)
    assert limit.take("b") == 0
    clock.now += 10
    assert limit.take("a") == 0
    assert limit.take("a") > 0


def test_a_limit_remembers_a_bounded_number_of_addresses() -> None:
    limit = RateLimit(Rate(1, 10.0))
    for number in range(10_000):
        limit.take(str(number))
    assert len(limit._spent) <= 4096


# -- settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"jurisdiction": "Ireland"}, "jurisdiction"),
        ({"place": " "}, "place"),
        ({"place": "a\nb"}, "place"),
        ({"screens": {"192.0.2.7": ""}}, "place"),
        ({"idle_s": 5}, "idle"),
        ({"idle_s": float("nan")}, "idle"),
        ({"hosts": ("kiosk.example:80",)}, "host"),
        ({"hosts": ("*",)}, "host"),
        ({"hosts": ()}, "hosts"),
    ],
)
def test_impossible_settings_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        KioskSettings(**({"jurisdiction": "IE"} | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"host": "0.0.0.0"}, "reached from elsewhere"),  # noqa: S104 - what is refused
        ({"host": "::"}, "reached from elsewhere"),
        ({"host": "192.0.2.1"}, "reached from elsewhere"),
        ({"host": "kiosk"}, "address"),
        ({"port": 70000}, "port"),
        ({"certificate": Path("c")}, "both"),
        ({"certificate": Path("c"), "key": Path("k"), "proxy": "127.0.0.1"}, "either"),
        ({"proxy": "*"}, "address"),
    ],
)
def test_it_listens_elsewhere_only_over_tls(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        Listening(**changes)


def test_behind_tls_or_a_proxy_it_may_listen_elsewhere() -> None:
    assert Listening(host="0.0.0.0", proxy="192.0.2.1").secure  # noqa: S104 - with a proxy in front
    assert Listening(host="::", certificate=Path("c"), key=Path("k")).secure
    assert not Listening().secure


# -- visits ----------------------------------------------------------------------------------------


class Now:
    def __init__(self) -> None:
        self.now = datetime(2026, 5, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def test_a_visit_is_found_by_its_token_until_its_time_is_over(tmp_path: Path) -> None:
    clock = Now()
    book = SessionBook(tmp_path / "visits", lasts=timedelta(minutes=30), clock=clock)
    opened = book.open("p-1", AgeBand.FROM_25, "kiosk 2")
    assert SessionBook(tmp_path / "visits", clock=clock).find(opened.token) == opened
    assert book.current() == book.current("kiosk 2") == (opened,)
    assert book.current("kiosk 1") == ()
    clock.now += timedelta(minutes=30)
    assert book.find(opened.token) is None
    assert book.current() == ()
    assert list((tmp_path / "visits").iterdir()) == []


def test_whoever_stands_at_a_screen_now_ends_the_visits_there(tmp_path: Path) -> None:
    clock = Now()
    book = SessionBook(tmp_path / "visits", clock=clock)
    book.open("p-1", None, "door")
    other = book.open("p-2", None, "till")
    clock.now -= timedelta(hours=1)  # not open by this clock, and it may be by the next
    book.end_at("door")
    clock.now += timedelta(hours=1)
    assert book.current() == (other,)


def test_a_visit_that_cannot_be_read_just_now_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_handle(*_: Any) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    book = SessionBook(tmp_path / "visits")
    opened = book.open("p-1", None, "kiosk")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", no_handle)
        assert book.current() == ()
        assert book.find(opened.token) is None
    assert book.current() == (opened,)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", no_handle)
        book.end_of("p-1")  # whose it is cannot be told: it is over
    assert book.current() == ()


def keep_files(patch: pytest.MonkeyPatch, name: str) -> None:
    """Let the file of one name, or all, stay where they are."""
    real = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.name == name or (not name and path.suffix == ".json"):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        real(path, missing_ok=missing_ok)

    patch.setattr(Path, "unlink", refuse)


def test_a_file_that_cannot_be_removed_keeps_nobody_from_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Now()
    book = SessionBook(tmp_path / "visits", clock=clock)
    stale = book.name_of(book.open("p-1", None, "kiosk").token)
    clock.now += timedelta(hours=2)
    ann, bob = (book.open(who, None, "kiosk") for who in ("p-2", "p-3"))
    (tmp_path / "visits" / stale).write_text("{")
    keep_files(monkeypatch, stale)
    assert set(book.current()) == {ann, bob}
    with pytest.raises(PermissionError):
        book.end_at("kiosk")  # said, after all that could be ended was
    assert book.current() == ()


def test_what_a_process_left_that_died_while_it_wrote_is_removed(tmp_path: Path) -> None:
    book = SessionBook(tmp_path / "visits")
    left, written = tmp_path / "visits" / "a.draft", tmp_path / "visits" / "b.draft"
    left.write_text("p-1")
    written.write_text("p-2")
    os.utime(left, (0, 0))
    assert book.current() == ()
    assert not left.exists()
    assert written.exists()


@pytest.mark.parametrize("body", ["[" * 100_000, '{"person": ""}'], ids=["deep", "nobody"])
def test_a_visit_of_nobody_is_none(tmp_path: Path, body: str) -> None:
    book = SessionBook(tmp_path / "visits")
    opened = book.open("p-1", None, "kiosk")
    path = tmp_path / "visits" / book.name_of(opened.token)
    value = json.loads(path.read_text())
    path.write_text(json.dumps(value | json.loads(body)) if body[0] == "{" else body)
    assert book.current() == ()


def test_a_clock_gone_backwards_closes_a_visit(tmp_path: Path) -> None:
    clock = Now()
    book = SessionBook(tmp_path / "visits", clock=clock)
    opened = book.open("p-1", None, "kiosk")
    clock.now -= timedelta(seconds=1)
    assert book.find(opened.token) is None
    assert book.current() == ()


def test_somebody_has_one_visit_at_a_time(tmp_path: Path) -> None:
    book = SessionBook(tmp_path / "visits")
    first = book.open("p-1", None, "kiosk")
    second = book.open("p-1", None, "kiosk")
    assert book.find(first.token) is None
    book.end(second.token)
    book.end(second.token)
    assert book.current() == ()


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"\xff", b'{"schema":"privemo.session-token/1"}']
)
def test_a_file_that_is_no_token_lets_nobody_in(tmp_path: Path, body: bytes) -> None:
    book = SessionBook(tmp_path / "visits")
    opened = book.open("p-1", None, "kiosk")
    path = next((tmp_path / "visits").glob("*.json"))
    path.write_bytes(body)
    assert book.find(opened.token) is None
    assert book.current() == ()


def test_a_token_moved_to_another_name_lets_nobody_in(tmp_path: Path) -> None:
    book = SessionBook(tmp_path / "visits")
    book.open("p-1", None, "kiosk")
    path = next((tmp_path / "visits").glob("*.json"))
    path.rename(path.with_name("0" * 64 + ".json"))
    assert book.current() == ()


def test_the_folder_of_visits_is_its_owners_alone(tmp_path: Path) -> None:
    book = SessionBook(tmp_path / "visits")
    opened = book.open("p-1", None, "kiosk")
    assert stat.S_IMODE((tmp_path / "visits").stat().st_mode) == 0o700
    file = next((tmp_path / "visits").iterdir())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert opened.token not in file.name
    assert "p-1" not in repr(opened)
    (tmp_path / "visits").chmod(0o755)
    with pytest.raises(RegistryError, match="chmod 700"):
        SessionBook(tmp_path / "visits")


@pytest.mark.parametrize("lasts", [timedelta(0), timedelta(hours=5), timedelta(-1)])
def test_a_visit_without_an_end_is_refused(tmp_path: Path, lasts: timedelta) -> None:
    with pytest.raises(MalformedError):
        SessionBook(tmp_path / "visits", lasts=lasts)


# -- the staff's door ------------------------------------------------------------------------------


def test_the_password_opens_and_nothing_else_does(tmp_path: Path) -> None:
    path = tmp_path / "staff.json"
    write_password(path, PASSWORD.encode())
    door = StaffDoor(path)
    assert door.is_right(PASSWORD)
    for wrong in ("", PASSWORD + " ", "x" * 2000):
        assert not door.is_right(wrong)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert PASSWORD not in path.read_text()


def test_a_password_is_long_and_not_written_over_by_accident(tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match="12"):
        write_password(tmp_path / "a", b"short")
    write_password(tmp_path / "a", PASSWORD.encode())
    with pytest.raises(RegistryExistsError):
        write_password(tmp_path / "a", b"another phrase of theirs")
    write_password(tmp_path / "a", b"another phrase of theirs", replace=True)
    assert StaffDoor(tmp_path / "a").is_right("another phrase of theirs")
    write_password(
        tmp_path / "b", b"another phrase of theirs"
    )  # salted: the same one looks another
    assert json.loads((tmp_path / "b").read_text())["hash"] not in (tmp_path / "a").read_text()


@pytest.mark.parametrize(
    "body", ["", "{}", "[]", '{"schema":"privemo.kiosk-staff/1","salt":"","hash":""}']
)
def test_a_damaged_password_file_lets_nobody_in(tmp_path: Path, body: str) -> None:
    path = tmp_path / "staff.json"
    path.write_text(body)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="kiosk-password"):
        StaffDoor(path)


def test_a_password_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "staff.json"
    write_password(path, PASSWORD.encode())
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        StaffDoor(path)
    with pytest.raises(KeyFileError):
        StaffDoor(tmp_path / "missing")


# -- one answer, whole or not at all ----------------------------------------------------------------


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


# -- which notice ----------------------------------------------------------------------------------


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


# -- the pages -------------------------------------------------------------------------------------


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


def test_by_default_the_screen_of_this_machine_is_the_only_one() -> None:
    settings = KioskSettings(jurisdiction="IE", place="by the door")
    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        assert settings.place_at(address) == "by the door"
    for address in ("127.0.0.2", "192.0.2.1", "unknown", ""):
        assert settings.place_at(address) is None
    assert KioskSettings(jurisdiction="IE", screens={}).place_at("127.0.0.1") is None


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


def test_the_staff_see_figures_and_the_health_of_the_log(
    kiosk: str, registry: ConsentRegistry
) -> None:
    with Shopper(kiosk) as shopper:
        code = shopper.decide()
    with Shopper(kiosk) as staff:
        staff.get("staff")
        page = staff.post("staff", {"password": PASSWORD})
        assert "People with a record" in page.text
        assert "not since the kiosk was started" in page.text
        page = staff.post("staff/verify")
        assert "All as written" in page.text
        assert registry.head().root in page.text
        assert person_of(code) not in page.text
        assert "Password" in staff.post("staff/leave").text


def test_without_a_password_file_there_is_no_staff_page(
    registry: ConsentRegistry, tmp_path: Path
) -> None:
    with running(registry, settings_for(tmp_path, staff_file=None)) as url, Shopper(url) as shopper:
        assert shopper.get("staff").status_code == 404
        assert shopper.post("staff", {"password": ""}).status_code in (403, 404)


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
