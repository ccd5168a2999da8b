"""Connections that are never secured leave a line in the server's log, by a real server on loopback."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from privemo.federation.authority import issue
from privemo.federation.handshake import tell_of_broken_handshakes


@dataclass
class Served:
    port: int
    authority: Path
    said: list[str]

    def line(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def said_by_now(self, count: int) -> list[str]:
        late = time.monotonic() + 20
        while len(self.said) < count and time.monotonic() < late:
            time.sleep(0.02)
        return self.said


@pytest.fixture(params=["asyncio", "uvloop"])
def served(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Served]:
    made = issue(["127.0.0.1"])
    for name, content in (("server.pem", made.server), ("server.key", made.server_key)):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "authority.pem").write_bytes(made.authority)
    said = list[str]()
    monkeypatch.setattr(uvicorn.config, "create_ssl_context", uvicorn.config.create_ssl_context)
    tell_of_broken_handshakes(uvicorn.config, said.append)

    async def app(_scope: Any, _receive: Any, send: Callable[[Any], Any]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"in"})

    server = uvicorn.Server(
        uvicorn.Config(
            app,
            port=0,
            loop=request.param,
            lifespan="off",
            ws="none",
            log_level="warning",
            ssl_certfile=tmp_path / "server.pem",
            ssl_keyfile=tmp_path / "server.key",
        )
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Served(port, tmp_path / "authority.pem", said)
    finally:
        server.should_exit = True
        thread.join(60)


def ask(served: Served, context: ssl.SSLContext) -> bytes:
    line = http.client.HTTPSConnection("127.0.0.1", served.port, timeout=20, context=context)
    try:
        line.request("GET", "/")
        return line.getresponse().read()
    finally:
        line.close()


def test_who_speaks_no_tls_or_trusts_another_is_told_and_who_comes_in_is_not(
    served: Served,
) -> None:
    trusting = ssl.create_default_context(cafile=str(served.authority))
    assert ask(served, trusting) == b"in"
    with served.line() as line:
        line.sendall(b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: a\r\n\r\n")
        with suppress(OSError):
            assert b"in" not in line.recv(100)
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(served, ssl.create_default_context())
    with served.line() as line:
        line.sendall(bytes(range(200)))
        with suppress(OSError):
            line.recv(100)
    assert served.said_by_now(3) == [
        "Refused a connection: it spoke HTTP without TLS.",
        "Refused a connection: it trusts another authority than this server's.",
        "Refused a connection: it spoke something else than TLS.",
    ]
    assert ask(served, trusting) == b"in"
    assert len(served.said) == 3


def test_who_only_looks_whether_the_port_is_open_leaves_no_line(served: Served) -> None:
    for _ in range(3):
        served.line().close()
    assert ask(served, ssl.create_default_context(cafile=str(served.authority))) == b"in"
    assert served.said == []
