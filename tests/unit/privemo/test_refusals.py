"""Why a server turns a store away: asked of a real TLS server on loopback, whose clock is any we like."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from privemo.federation import authority
from privemo.federation.authority import issue
from privemo.federation.refusals import out_of_reach, why_refused
from privemo.federation.supernode import _joining


@contextmanager
def server(folder: Path, ahead: timedelta = timedelta()) -> Iterator[tuple[str, Path]]:
    """Address and authority of a server whose clock is off by so much."""
    made = issue(["127.0.0.1"])
    for name, pem in (
        ("ca", made.authority),
        ("cert", made.server),
        ("key", made.server_key),
    ):
        (folder / name).write_bytes(pem)

    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response_only(404)
            self.send_header("Date", format_datetime(datetime.now(UTC) + ahead, usegmt=True))
            self.end_headers()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert", folder / "key")
    http = HTTPServer(("127.0.0.1", 0), Answer)
    http.socket = context.wrap_socket(http.socket, server_side=True)
    http.handle_error = lambda *_: None  # type: ignore[method-assign] # a client that hangs up
    thread = threading.Thread(target=http.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"127.0.0.1:{http.server_port}", folder / "ca"
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


@pytest.mark.parametrize(
    ("server_ahead", "says"),
    [
        (timedelta(hours=-1), "clock is 1:00:0. ahead of the server's: set it"),
        (timedelta(seconds=-9), "clock is 0:00:.. ahead of"),
        (timedelta(minutes=6), "clock is 0:0.:.. behind the server's"),
        (timedelta(days=-100), "clock is 100 days, 0:00:0. ahead of"),
    ],
)
def test_a_clock_that_is_off_is_named(tmp_path: Path, server_ahead: timedelta, says: str) -> None:
    with server(tmp_path, server_ahead) as (address, ca):
        for was_in in (False, True):
            text = why_refused(address, ca, was_in=was_in)
            assert re.search(says, text), text


@pytest.mark.parametrize("server_ahead", [timedelta(), timedelta(minutes=4)])
def test_with_the_right_clock_it_is_the_key(tmp_path: Path, server_ahead: timedelta) -> None:
    with server(tmp_path, server_ahead) as (address, ca):
        assert "lets this store's node key in no more" in why_refused(address, ca)
        assert why_refused(address, ca, was_in=True) == ""


def made_at(moment: Callable[[datetime], datetime]) -> type[datetime]:
    class Then(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return moment(datetime.now(UTC))

    return Then


@pytest.mark.parametrize(
    ("days", "says"),
    [(2, "not valid yet: is this machine's clock behind"), (-400, "has run out, if this machine")],
)
def test_a_certificate_of_another_time_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, says: str
) -> None:
    monkeypatch.setattr(authority, "datetime", made_at(lambda now: now + timedelta(days=days)))
    with server(tmp_path) as (address, ca):
        assert says in why_refused(address, ca)


def test_another_authority_is_named(tmp_path: Path) -> None:
    with server(tmp_path) as (address, ca):
        ca.write_bytes(issue(["127.0.0.1"]).authority)
        assert "not of the authority that the invitation named" in why_refused(address, ca)


def test_nothing_is_said_of_a_server_out_of_reach(tmp_path: Path) -> None:
    with server(tmp_path) as (address, ca):
        pass
    assert why_refused(address, ca) == ""
    assert why_refused("nowhere", ca) == ""
    assert why_refused(address, tmp_path / "none.pem") == ""


def test_a_store_whose_server_is_out_of_reach_says_so_and_does_not_claim_to_take_part() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        assert out_of_reach(address) == "connection refused"  # bound, and not listening yet
        assert "does not reach" in _joining("amber", address)
        assert "connection refused" in _joining("amber", address)
        listening.listen()
        assert out_of_reach(address) == ""
        assert _joining("amber", address) == f"amber takes part in the federation at {address}."


@pytest.mark.parametrize(
    "address", ["chain.invalid:9092", "chain", "127.0.0.1:", "127.0.0.1:99999"]
)
def test_what_is_no_address_is_out_of_reach(address: str) -> None:
    assert out_of_reach(address)
