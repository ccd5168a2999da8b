"""The kiosk attacked: forged and planted requests, other people's data, guesses, floods, headers."""

from __future__ import annotations

import logging
import re
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from privemo_consent import ConsentRegistry, Purpose, qr_text
from privemo_consent.kiosk import Rates
from privemo_consent.kiosk.codes import draw_code, person_of
from privemo_consent.kiosk.guard import MAX_BODY
from privemo_consent.kiosk.limits import Rate
from tests.support.kiosk import PASSWORD, UNLIMITED, Shopper, kiosk_registry, running, settings_for

COOKIE = "privemo_kiosk"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with kiosk_registry(tmp_path_factory.mktemp("r") / "consent.sqlite", ["en"]) as made:
        yield made


@pytest.fixture(scope="module")
def kiosk(registry: ConsentRegistry, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running(registry, settings_for(tmp_path_factory.mktemp("k"))) as url:
        yield url


# -- forged requests -------------------------------------------------------------------------------

CHANGES = [
    "about",
    "choices",
    "return",
    "change",
    "change/record",
    "withdraw",
    "erase",
    "visit",
    "visit/end",
    "end",
]


@pytest.mark.parametrize("path", CHANGES)
def test_a_form_without_the_token_does_nothing(
    kiosk: str, registry: ConsentRegistry, path: str
) -> None:
    with Shopper(kiosk) as shopper:
        shopper.decide()
        before = registry.head()
        for token in ("", "x", "\u00e9", "A" * 43):
            assert shopper.post(path, {"csrf": token}).status_code == 403
        assert registry.head() == before
        assert shopper.get("mine").url.path == "/en/mine"  # and the session goes on


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
    ids=str,
)
def test_a_form_from_another_page_does_nothing_even_with_the_token(
    kiosk: str, registry: ConsentRegistry, headers: dict[str, str]
) -> None:
    with Shopper(kiosk) as shopper:
        code = shopper.decide()
        assert shopper.post("withdraw", headers=headers).status_code == 403
        assert shopper.post("withdraw", headers={"origin": kiosk}).status_code == 200
    assert len(registry.history(person_of(code))) == 5


def test_the_token_of_one_session_is_nothing_in_another(kiosk: str) -> None:
    with Shopper(kiosk) as one, Shopper(kiosk) as other:
        one.decide()
        other.decide()
        other.token = one.token
        assert other.post("erase").status_code == 403


@pytest.mark.parametrize("path", ["withdraw", "visit", "visit/end", "end", "staff/verify"])
def test_nothing_changes_by_following_a_link(kiosk: str, path: str) -> None:
    with Shopper(kiosk) as shopper:
        shopper.decide()
        assert shopper.get(path).status_code == 405


# -- planted sessions ------------------------------------------------------------------------------


def test_a_planted_cookie_is_not_taken_up(kiosk: str) -> None:
    planted = "A" * 43
    with Shopper(kiosk) as shopper:
        shopper.http.cookies.set(COOKIE, planted, domain="127.0.0.1")
        shopper.get("notice")
        assert shopper.http.cookies.get(COOKIE, domain="127.0.0.1", path="/") != planted


@pytest.mark.parametrize("how", ["deciding", "coming back"])
def test_a_session_that_was_planted_before_knows_nobody_after(kiosk: str, how: str) -> None:
    with Shopper(kiosk) as somebody:
        code = somebody.decide()
    with Shopper(kiosk) as victim:
        victim.get("notice")
        planted = victim.http.cookies[COOKIE]
        if how == "deciding":
            victim.decide()
        else:
            victim.come_back(code)
        assert victim.http.cookies[COOKIE] != planted
    with Shopper(kiosk) as attacker:
        attacker.http.cookies.set(COOKIE, planted)
        assert attacker.get("mine").url.path == "/en/ended"


def test_the_staffs_session_changes_its_id_when_it_is_let_in(kiosk: str) -> None:
    with Shopper(kiosk) as staff:
        staff.get("staff")
        planted = staff.http.cookies["privemo_staff"]
        assert "People with a record" in staff.post("staff", {"password": PASSWORD}).text
        assert staff.http.cookies["privemo_staff"] != planted
    with Shopper(kiosk) as attacker:
        attacker.http.cookies.set("privemo_staff", planted)
        assert "People with a record" not in attacker.get("staff").text


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(
    kiosk: str, registry: ConsentRegistry, tmp_path: Path
) -> None:
    plain = httpx.get(f"{kiosk}/en/notice").headers["set-cookie"]
    assert plain.startswith(f"{COOKIE}=")
    for part in ("HttpOnly", "SameSite=strict", "Path=/"):
        assert part in plain
    assert "Domain" not in plain
    assert "expires" not in plain.lower()
    assert "max-age" not in plain.lower()
    with running(registry, settings_for(tmp_path, secure=True)) as url:
        over_tls = httpx.get(f"{url}/en/notice")
    assert over_tls.headers["set-cookie"].startswith(f"__Host-{COOKIE}=")
    assert "Secure" in over_tls.headers["set-cookie"]
    assert "max-age" in over_tls.headers["strict-transport-security"]


def test_a_quiet_session_ends_and_its_page_leaves_the_screen(
    registry: ConsentRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import privemo_consent.kiosk.sessions as module

    late, real = [0.0], module.elapsed
    monkeypatch.setattr(
        module.Sessions.__init__,
        "__kwdefaults__",
        {**module.Sessions.__init__.__kwdefaults__, "clock": lambda: real() + late[0]},
    )
    with running(registry, settings_for(tmp_path, idle_s=60)) as url, Shopper(url) as shopper:
        shopper.decide()
        page = shopper.get("mine")
        assert page.headers["refresh"] == "62; url=/en/ended"
        late[0] = 61
        assert shopper.get("mine").url.path == "/en/ended"
        assert shopper.post("erase").url.path == "/en/ended"


# -- other people's data ---------------------------------------------------------------------------

PRIVATE = [
    "mine",
    "change",
    "held",
    "held.json",
    "receipt",
    "receipt.svg",
    "receipt.jws",
    "erase",
]


@pytest.mark.parametrize("path", PRIVATE)
def test_without_a_receipt_no_page_about_anyone_opens(kiosk: str, path: str) -> None:
    with Shopper(kiosk) as stranger:
        assert stranger.get(path).url.path == "/en/ended"
        stranger.read_on()  # a session that knows nobody yet
        assert stranger.get(path).url.path == "/en/ended"


@pytest.mark.parametrize(
    "path",
    ["change", "change/record", "withdraw", "erase", "visit", "visit/end", "staff/verify"],
)
def test_without_a_receipt_nothing_about_anyone_changes(
    kiosk: str, registry: ConsentRegistry, path: str
) -> None:
    before = registry.head()
    with Shopper(kiosk) as stranger:
        stranger.read_on()
        shown = stranger.post(path).url.path
    assert shown in ("/en/ended", "/en/staff")
    assert registry.head() == before


def test_a_person_named_in_a_form_or_an_address_is_ignored(
    kiosk: str, registry: ConsentRegistry
) -> None:
    with Shopper(kiosk) as somebody:
        person = person_of(somebody.decide())
    before = registry.history(person)
    with Shopper(kiosk) as stranger:
        own = person_of(stranger.decide())
        stranger.post("withdraw", {"person": person, "session": person})
        assert stranger.get(f"mine/{person}").status_code == 404
        assert stranger.get(f"held.json?person={person}").status_code == 404
        stranger.post("erase", {"person": person})
    assert registry.history(person) == before
    assert registry.history(own) == ()


def test_after_the_screen_is_cleared_the_old_cookie_opens_nothing(kiosk: str) -> None:
    with Shopper(kiosk) as shopper:
        shopper.decide()
        old = shopper.http.cookies[COOKIE]
        shopper.post("end")
        assert COOKIE not in shopper.http.cookies
        shopper.http.cookies.set(COOKIE, old)
        assert shopper.get("held.json").url.path == "/en/ended"


@pytest.mark.parametrize("path", ["", "notice"])
def test_the_next_person_at_a_screen_that_was_not_cleared_is_another(
    kiosk: str, registry: ConsentRegistry, path: str
) -> None:
    with Shopper(kiosk) as screen:
        first = screen.decide()
        screen.get(path)
        assert screen.get("mine").url.path == "/en/ended"
        second = screen.decide()
    assert first != second
    assert len(registry.history(person_of(first))) == len(registry.history(person_of(second))) == 3


def test_whoever_comes_back_takes_nothing_of_the_session_before(kiosk: str) -> None:
    with Shopper(kiosk) as first:
        code = first.decide()
    with Shopper(kiosk) as screen:
        mine = screen.decide()
        assert screen.come_back(code).url.path == "/en/mine"
        assert mine not in screen.get("receipt").text
        assert person_of(code) in screen.get("held").text


# -- guesses ---------------------------------------------------------------------------------------


def other_registrys_receipt(folder: Path) -> str:
    with kiosk_registry(folder / "other.sqlite", ["en"]) as other:
        other.answer(
            "p-1",
            {Purpose.TRAINING: True},
            age_band="25_34",  # type: ignore[arg-type]
            jurisdiction="IE",
            notice=other.notices()[0],
        )
        return other.receipt("p-1")


def test_whatever_is_no_receipt_gets_one_answer(
    kiosk: str, registry: ConsentRegistry, tmp_path: Path
) -> None:
    with Shopper(kiosk) as shopper:
        code = shopper.decide()
        token = shopper.get("receipt.jws").text.strip()
    with Shopper(kiosk) as gone:
        erased_code = gone.decide()
        erased = gone.get("receipt.jws").text.strip()
        gone.post("erase")
    head, body, signature = token.split(".")
    guesses = [
        "",
        "x",
        draw_code(),
        code[:-1] + ("0" if code[-1] != "0" else "1"),
        person_of(code),
        f"{head}.{body}.{'A' * len(signature)}",
        f"{head}.{body[:-4]}AAAA.{signature}",
        token[:-1],
        other_registrys_receipt(tmp_path),
        erased,
        erased_code,
        qr_text(token)[:-3],
        "PRIVEMO1:" + "A" * 4000,
        "'; drop table persons; --",
        "\x00" * 50,
        "." * 60_000,
        "<script>alert(1)</script>",
    ]
    answers = set()
    for guess in guesses:
        with Shopper(kiosk) as stranger:
            page = stranger.come_back(guess)
            assert page.status_code == 422, guess[:40]
            answers.add(re.sub(r'value="[^"]*"', "", page.text))
    assert len(answers) == 1  # not even what was typed comes back
    assert "Nothing is held under this receipt" in answers.pop()


def test_a_receipt_of_a_revoked_key_leads_to_nobody(tmp_path: Path) -> None:
    with (
        kiosk_registry(tmp_path / "c.sqlite", ["en"]) as registry,
        running(registry, settings_for(tmp_path)) as url,
        Shopper(url) as shopper,
    ):
        code = shopper.decide()
        token = shopper.get("receipt.jws").text.strip()
        registry.revoke_signing_key(registry.ring.periods[0].key.key_id.hex())
        assert shopper.come_back(token).status_code == 422
        assert shopper.come_back(code).status_code == 200


def limited(folder: Path, **rates: Rate) -> Any:
    rest = {name: getattr(UNLIMITED, name) for name in ("pages", "receipts", "logins", "answers")}
    return settings_for(folder, rates=Rates(**(rest | rates)))


def test_guessing_receipts_is_slow(registry: ConsentRegistry, tmp_path: Path) -> None:
    with running(registry, limited(tmp_path, receipts=Rate(3, 60.0))) as url:
        with Shopper(url) as guesser:
            found = [guesser.come_back(draw_code()).status_code for _ in range(5)]
        assert found == [422, 422, 422, 429, 429]
        with Shopper(url, address="127.0.0.9") as other:  # another kiosk goes on
            assert other.come_back(draw_code()).status_code == 422


def test_guessing_the_password_is_slow_from_everywhere_together(
    registry: ConsentRegistry, tmp_path: Path
) -> None:
    with running(registry, limited(tmp_path, logins=Rate(3, 60.0))) as url:
        found = []
        for number in range(5):
            with Shopper(url, address=f"127.0.0.{10 + number}") as guesser:
                guesser.get("staff")
                found.append(guesser.post("staff", {"password": "a guess"}).status_code)
        assert found == [422, 422, 422, 429, 429]
        with Shopper(url) as staff:
            staff.get("staff")
            assert staff.post("staff", {"password": PASSWORD}).status_code == 429


def test_a_flood_of_answers_or_pages_is_told_to_wait(
    registry: ConsentRegistry, tmp_path: Path
) -> None:
    before = registry.head().seq
    with running(registry, limited(tmp_path, answers=Rate(2, 60.0))) as url:
        found = []
        for _ in range(4):
            with Shopper(url) as child:
                found.append(child.read_on(age="under_13").status_code)
    assert found == [200, 200, 429, 429]
    assert registry.head().seq == before + 2
    with running(registry, limited(tmp_path, pages=Rate(5, 60.0))) as url:
        answers = [httpx.get(f"{url}/en/") for _ in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
    assert int(answers[-1].headers["retry-after"]) > 0


YES = dict.fromkeys((purpose.value for purpose in Purpose), "yes")


@pytest.mark.parametrize("first", ["25_34", None], ids=["25 before", "at once"])
def test_a_child_who_is_told_to_wait_cannot_go_on_as_an_adult(
    registry: ConsentRegistry, tmp_path: Path, first: str | None
) -> None:
    before = registry.persons()
    with running(registry, limited(tmp_path, answers=Rate(1, 60.0))) as url:
        with Shopper(url) as earlier:
            earlier.read_on(age="under_13")
        with Shopper(url) as child:
            if first is not None:
                assert child.read_on(age=first).url.path == "/en/choices"
                child.get("about")
                assert child.post("about", {"age": "13_15", "role": "shopper"}).status_code == 429
            else:
                assert child.read_on(age="13_15").status_code == 429
            assert child.get("choices").url.path == "/en/ended"
            assert child.post("choices", YES).url.path == "/en/ended"
    assert registry.persons() == before


def test_a_minor_known_here_loses_consent_however_busy_it_is(
    registry: ConsentRegistry, tmp_path: Path
) -> None:
    with (
        running(registry, limited(tmp_path, answers=Rate(1, 60.0))) as url,
        Shopper(url) as shopper,
    ):
        person = person_of(shopper.decide())
        shopper.get("about")
        assert shopper.post("about", {"age": "under_13", "role": "shopper"}).status_code == 200
    assert registry.history(person) == ()


@pytest.mark.parametrize(
    "form",
    [{"age": "25_34"}, {"age": "13_15", "role": "shopper"}, {"age": "25_34", "role": "shopper"}],
    ids=["half", "a minor", "an adult"],
)
def test_an_answer_that_is_not_taken_leaves_none_from_before(
    tmp_path: Path, form: dict[str, str]
) -> None:
    from privemo_consent.kiosk.demonstration import demo_notice
    from tests.support.consent import PARTY

    with (
        kiosk_registry(tmp_path / "c.sqlite", ["en"]) as registry,
        running(registry, settings_for(tmp_path)) as url,
        Shopper(url) as shopper,
    ):
        shopper.read_on()
        shopper.get("about")
        registry.notice(demo_notice("en", PARTY).model_copy(update={"version": 2}))
        shopper.post("about", form)
        assert shopper.get("choices").url.path == "/en/ended"
        assert shopper.post("choices", YES).url.path == "/en/ended"
        assert registry.persons() == ()


# -- sizes, hosts, methods, forms ---------------------------------------------------------------------


def test_an_oversized_upload_is_refused_before_it_is_read(kiosk: str) -> None:
    with Shopper(kiosk) as shopper:
        shopper.get("return")
        answer = shopper.http.post(
            "/en/return",
            data={"csrf": shopper.token},
            files={"file": ("big.jws", b"A" * (MAX_BODY + 1))},
        )
        assert answer.status_code == 413
        assert "64 kilobytes" in answer.text


def test_an_upload_that_hides_its_length_is_cut_off(kiosk: str) -> None:
    def endless() -> Any:
        yield b"csrf="
        for _ in range(1000):
            yield b"A" * 4096

    with Shopper(kiosk) as shopper:
        shopper.get("return")
        headers = {"content-type": "application/x-www-form-urlencoded"}
        answer = shopper.http.post("/en/return", content=endless(), headers=headers)
        assert answer.status_code == 413


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"--x\r\nno part", "multipart/form-data; boundary=x"),
        (b"", "multipart/form-data"),
        (b"\xff\xfe" * 20, "application/x-www-form-urlencoded"),
        (b"&".join(b"a%d=1" % n for n in range(500)), "application/x-www-form-urlencoded"),
        (b'{"csrf": 1}', "application/json"),
        (b"csrf=%", "application/x-www-form-urlencoded"),
    ],
    ids=["torn", "no-boundary", "bytes", "many-fields", "json", "percent"],
)
def test_a_malformed_form_is_refused_and_the_kiosk_goes_on(
    kiosk: str, body: bytes, kind: str
) -> None:
    with Shopper(kiosk) as shopper:
        shopper.get("return")
        answer = shopper.http.post("/en/return", content=body, headers={"content-type": kind})
        assert answer.status_code in (400, 403)
        assert shopper.get("return").status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "", "[::2]", "*"]
)
def test_another_host_is_refused(kiosk: str, host: str) -> None:
    answer = httpx.get(f"{kiosk}/en/", headers={"host": host})
    assert answer.status_code == 400
    assert "evil" not in answer.text


def test_two_hosts_are_refused(kiosk: str) -> None:
    port = int(kiosk.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"GET /en/ HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert b" 400 " in connection.recv(200)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
def test_other_methods_are_refused(kiosk: str, method: str) -> None:
    assert httpx.request(method, f"{kiosk}/en/").status_code == 405


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/web.py", "/en/../../etc/passwd"]
)
def test_no_path_leads_out(kiosk: str, path: str) -> None:
    port = int(kiosk.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        assert b" 404 " in connection.recv(200)


# -- headers, logs, addresses ------------------------------------------------------------------------


def test_every_answer_lets_a_browser_run_nothing_and_keep_nothing(kiosk: str) -> None:
    with Shopper(kiosk) as shopper:
        shopper.http.follow_redirects = False
        shopper.get("notice")
        answers = [shopper.get(path) for path in ("", "notice", "return", "mine", "nowhere")]
        answers += [shopper.http.get(path) for path in ("/", "/static/kiosk.css", "/nowhere")]
        answers.append(shopper.post("end", {"csrf": "forged"}))
        answers.append(shopper.http.get("/", headers={"host": "evil.example"}))
        answers.append(shopper.http.post("/en/return", content=b"A" * (MAX_BODY + 1)))
    assert {answer.status_code for answer in answers} == {200, 303, 400, 403, 404, 413}
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self';")
        for part in ("form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"):
            assert part in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert "server" not in answer.headers
        static = answer.url.path.startswith("/static/")
        assert answer.headers["cache-control"] == ("public, max-age=3600" if static else "no-store")


def test_no_page_has_a_script_a_style_of_its_own_or_an_address_elsewhere(kiosk: str) -> None:
    with Shopper(kiosk) as shopper:
        shopper.decide()
        paths = ("", "notice", "about", "return", "receipt", "mine", "held", "erase", "staff")
        pages = [shopper.get(path).text for path in paths]
    for page in pages:
        assert not re.search(r"<script|javascript:|\son\w+=|\sstyle=|<style|<iframe", page)
        for address in re.findall(r'(?:href|src|action|formaction)="([^"]*)"', page):
            assert re.match(r"(/(?!/)|#|$)", address), address
        # The code, the receipt and the person stand in no address.
        assert not re.search(r'(?:href|src|action)="[^"]*(\?|kiosk-[0-9a-f]{8})', page)


def test_what_a_shop_is_called_cannot_write_into_the_page(tmp_path: Path) -> None:
    from privemo_consent import ConsentRegistry as Registry
    from privemo_consent.kiosk.demonstration import demo_notice
    from tests.support.consent import PARTY

    shop = PARTY.model_copy(update={"name": "<script>alert('shop')</script>"})
    with Registry.create(tmp_path / "c.sqlite", mode="production", controller=shop) as registry:
        registry.notice(demo_notice("en", shop))
        with running(registry, settings_for(tmp_path)) as url, Shopper(url) as shopper:
            pages = [shopper.get(path).text for path in ("", "notice")]
    assert all("<script" not in page and "&lt;script" in page for page in pages)


def test_nothing_of_anyone_comes_into_a_log(
    registry: ConsentRegistry, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    with running(registry, settings_for(tmp_path)) as url, Shopper(url) as shopper:
        code = shopper.decide()
        token = shopper.get("receipt.jws").text.strip()
        cookie = shopper.http.cookies[COOKIE]
        shopper.come_back(token)
        shopper.get("held")
        shopper.post("withdraw", {"csrf": "forged"})
        shopper.post("erase")
    ours = [r for r in caplog.records if not r.name.startswith(("httpx", "httpcore"))]
    said = "\n".join(r.getMessage() for r in ours) + "".join(capfd.readouterr())
    for secret in (code, code.replace("-", ""), token[:100], token[-40:], person_of(code), cookie):
        assert secret not in said
    assert "GET /" not in said
    assert "127.0.0.1" not in said
