"""Connections that hold the kiosk: half a head, half a form, an answer nobody takes, very many at once."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from privemo_consent import ConsentRegistry, MalformedError
from privemo_consent.kiosk import Patience
from privemo_consent.kiosk.connections import Door
from privemo_consent.kiosk.limits import Rate, RateLimit, counted_as
from privemo_consent.kiosk.serving import _room
from tests.support.certificates import certificate
from tests.support.kiosk import Shopper, kiosk_registry, running, settings_for

HALF = b"GET /en/ HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
SHORT = Patience(head_s=0.4, body_s=0.8, take_s=0.8)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with kiosk_registry(tmp_path_factory.mktemp("r") / "consent.sqlite", ["en"]) as made:
        yield made


@pytest.fixture(scope="module")
def kiosk(registry: ConsentRegistry, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running(registry, settings_for(tmp_path_factory.mktemp("k")), patience=SHORT) as url:
        yield url


def connect(url: str, address: str = "127.0.0.1") -> socket.socket:
    port = int(url.rpartition(":")[2])
    return socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(address, 0))


def closed_after(connection: socket.socket) -> float:
    """How many seconds the other side held the line; whatever it still said is dropped."""
    began = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while connection.recv(65536):
            pass
    return time.monotonic() - began


# -- half a request --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent", [b"", b"G", HALF, HALF * 3], ids=["nothing", "a byte", "half", "more"]
)
def test_a_request_whose_head_does_not_come_is_waited_for_briefly(kiosk: str, sent: bytes) -> None:
    with connect(kiosk) as slow:
        slow.sendall(sent)
        assert 0.2 < closed_after(slow) < 5


def test_a_byte_now_and_then_buys_no_time(kiosk: str) -> None:
    with connect(kiosk) as slow:
        began = time.monotonic()
        slow.sendall(HALF)
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - began < 5:
                slow.sendall(b"a")
                time.sleep(0.1)
        assert time.monotonic() - began < 2


def test_the_second_request_of_a_connection_is_waited_for_no_longer(kiosk: str) -> None:
    with connect(kiosk) as slow:
        slow.sendall(b"GET /static/icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 200 " in slow.recv(65536)
        time.sleep(0.6)  # between two requests a browser may be quiet for longer than over a head
        slow.sendall(HALF)
        assert 0.2 < closed_after(slow) < 5


def test_two_requests_sent_at_once_are_both_answered(kiosk: str) -> None:
    one = b"GET /static/icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connect(kiosk) as both:
        both.sendall(one + one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        answer = b""
        while part := both.recv(65536):
            answer += part
    assert answer.count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize(
    "request_line", [b"POST /en/return", b"GET /en/"], ids=["a form", "read by nobody"]
)
def test_a_body_that_does_not_come_is_waited_for_briefly(kiosk: str, request_line: bytes) -> None:
    head = b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\ncsrf="
    with connect(kiosk) as slow:
        slow.sendall(request_line + head)
        assert closed_after(slow) < 5


def test_an_answer_that_nobody_takes_is_not_kept_for_ever(
    kiosk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from starlette.responses import Response

    # As large as somebody's pictures; far more than the sockets between the two hold.
    large = Response(b"x" * 30_000_000)
    monkeypatch.setattr("privemo_consent.kiosk.returning.as_file", lambda *_: large)
    with Shopper(kiosk) as shopper:
        shopper.decide()
        cookie = f"privemo_kiosk={shopper.http.cookies['privemo_kiosk']}"
    with connect(kiosk) as slow:
        slow.sendall(
            f"GET /en/held.json HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n".encode()
        )
        assert slow.recv(100).startswith(b"HTTP/1.1 200")
        time.sleep(1.5)
        taken = 100
        with contextlib.suppress(ConnectionError):
            while part := slow.recv(65536):
                taken += len(part)
        assert taken < 30_000_000


# -- very many -------------------------------------------------------------------------------------


@contextlib.contextmanager
def crowd(url: str, addresses: int, each: int) -> Iterator[list[socket.socket]]:
    """Connections with half a head from many addresses."""
    with contextlib.ExitStack() as stack:
        held = []
        for number in range(addresses):
            for _ in range(each):
                held.append(stack.enter_context(connect(url, f"127.0.1.{1 + number}")))
                with contextlib.suppress(ConnectionError):  # turned away already
                    held[-1].sendall(HALF)
        yield held


def status(url: str, address: str = "127.0.0.1") -> int:
    """What somebody at an address gets; 0 for a closed door."""
    with Shopper(url, address=address, timeout=5) as shopper:
        try:
            return shopper.get("").status_code
        except httpx.TransportError:
            return 0


def test_a_thousand_and_one_half_heads_do_not_shut_the_kiosk(
    registry: ConsentRegistry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if _room(3000) < 3000:
        pytest.skip("this process may not open three thousand files")
    caplog.set_level(logging.WARNING)
    with (
        running(registry, settings_for(tmp_path), patience=Patience(head_s=4)) as url,
        crowd(url, 13, 77) as held,
    ):
        assert len(held) == 1001
        assert status(url) == 200  # the kiosk's own screen
        assert status(url, "127.0.2.1") == 0  # somebody elsewhere: no room just now
        deadline = time.monotonic() + 20
        while status(url, "127.0.2.1") != 200:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        with Shopper(url, address="127.0.2.1") as somebody:
            assert somebody.decide()
    said = [record.getMessage() for record in caplog.records if "turned away" in record.message]
    assert len(said) == 1  # now and then, and by number
    assert "127.0" not in said[0]


def test_one_address_has_its_share_and_no_more(registry: ConsentRegistry, tmp_path: Path) -> None:
    few = Patience(each=20)
    with (
        running(registry, settings_for(tmp_path), patience=few) as url,
        crowd(url, 1, 30) as held,
    ):
        assert status(url, "127.0.1.1") == 0
        assert status(url, "127.0.1.2") == 200
        for connection in held:
            connection.close()
        deadline = time.monotonic() + 10
        while status(url, "127.0.1.1") != 200:  # whoever goes makes room
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_everybody_behind_a_proxy_is_not_one_address(
    registry: ConsentRegistry, tmp_path: Path
) -> None:
    few = Patience(each=5)
    with (
        running(registry, settings_for(tmp_path), patience=few, proxy="127.0.1.1") as url,
        crowd(url, 1, 20),
    ):
        assert status(url, "127.0.1.1") == 200


def test_half_a_tls_handshake_is_counted_and_does_not_last(
    registry: ConsentRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("privemo_consent.kiosk.connections._HANDSHAKE_S", 1.0)
    chain, key = certificate(tmp_path)
    few = Patience(each=4)
    with running(registry, settings_for(tmp_path), patience=few, certificate=chain, key=key) as url:
        with contextlib.ExitStack() as stack:
            half = [stack.enter_context(connect(url)) for _ in range(4)]
            for each in half:
                each.sendall(b"\x16\x03\x01\x02\x00\x01\x00")  # the first bytes of a ClientHello
            with connect(url) as fifth:
                assert closed_after(fifth) < 1  # four wait already
            assert closed_after(half[0]) < 5
        context = ssl.create_default_context(cafile=str(chain))
        with (
            connect(url) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            secure.sendall(b"GET /en/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b" 200 " in secure.recv(65536)


@pytest.mark.parametrize(
    ("soft", "hard", "room"),
    [(5000, 5000, 1000), (256, 5000, 1000), (256, 600, 500), (64, 64, 2)],
    ids=["enough", "raised", "less", "hardly any"],
)
def test_a_kiosk_that_may_open_few_files_holds_few_connections(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, room: int
) -> None:
    import resource

    asked = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    assert _room(1000) == room
    assert all(new <= hard and kept == hard for new, kept in asked)
    assert bool(asked) == (soft < 1100)


# -- numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"head_s": 0},
        {"body_s": -1},
        {"take_s": float("inf")},
        {"head_s": float("nan")},
        {"each": 0},
        {"most": 100},
        {"reserved": -1},
    ],
    ids=str,
)
def test_patience_without_an_end_or_room_for_nobody_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError, match="patience"):
        Patience(**changes)


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::1"),
        ("unknown", "unknown"),
    ],
)
def test_a_network_of_ipv6_is_one_address(address: str, counted: str) -> None:
    assert counted_as(address) == counted


def test_another_address_of_the_same_network_is_no_new_start() -> None:
    limit = RateLimit(Rate(1, 60.0))
    assert limit.take("2001:db8::1") == 0
    assert limit.take("2001:db8::2") > 0
    assert limit.take("2001:db8:0:1::1") == 0


def test_a_screen_shares_no_count_with_the_telephones_of_its_network() -> None:
    limit = RateLimit(Rate(1, 60.0), apart=["2001:DB8::1"])
    assert limit.take("2001:db8::2") == 0
    assert limit.take("2001:db8::3") > 0
    assert limit.take("2001:db8::1") == 0


def test_nobody_has_the_places_of_a_screen_or_the_freedom_of_a_proxy_by_its_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Real connections, of which the network says that they come from such addresses."""
    coming: list[str] = []

    def accept(_: socket.socket) -> tuple[socket.socket, Any]:
        if not coming:
            raise BlockingIOError
        ours, theirs = socket.socketpair()
        ends.append(theirs)
        return ours, (coming.pop(0), 1, 0, 0)

    monkeypatch.setattr(socket.socket, "accept", accept)
    patience = Patience(most=6, reserved=2, each=3)
    with contextlib.ExitStack() as stack:
        ends: list[socket.socket] = []
        door = stack.enter_context(
            Door(socket.AF_INET6, patience, screens=["2001:db8::1"], proxy="2001:db8::9")
        )

        def let_in(address: str, times: int) -> int:
            coming.extend([address] * times)
            came = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    stack.enter_context(door.accept()[0])
                    came += 1
            return came

        assert let_in("2001:db8::5", 5) == 3  # its share, and no proxy's
        assert let_in("2001:db8::9", 5) == 1  # as many as there are for everybody
        assert let_in("2001:db8::6", 1) == 0
        assert let_in("2001:db8::1", 5) == 2  # the screen has its own
        for end in ends:
            end.close()
