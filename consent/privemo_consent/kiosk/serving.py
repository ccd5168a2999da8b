"""Serving the kiosk: on this machine alone, unless browsers elsewhere reach it over TLS.

uvicorn, one process, no access log: an address and a moment are personal data of whoever stood there. Who
may be connected, and for how long, is `connections`.
"""

from __future__ import annotations

import ipaddress
import logging
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import KeyFileError, MalformedError, RegistryError
from .limits import Patience

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

    from .connections import Door

__all__ = ["Listening", "make_server", "serve"]

_THIS_MACHINE = ("127.0.0.1", "::1")
#: For what a process opens besides connections: the database, the files of visits.
_OTHER_FILES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where the kiosk listens, and who speaks TLS for it.

    Attributes:
        host: an address of this machine.
        port: 0 for any that is free.
        certificate: chain of certificates, PEM; with ``key``.
        key: its private key, PEM.
        proxy: the address from which a reverse proxy connects, when one ends TLS in front of the
            kiosk. Its word for who asks is believed, and nobody else's.
        screens: addresses of the kiosk's own screens: some connections are kept for them alone. Behind a
            proxy all come from its address, and it has to limit them.
        patience: how many connections, and how long each may take for what.

    Raises:
        MalformedError: no address, a port out of range, half a key pair, or an address that others
            reach without TLS.

    """

    host: str = "127.0.0.1"
    port: int = 8470
    certificate: Path | None = None
    key: Path | None = None
    proxy: str | None = None
    screens: tuple[str, ...] = _THIS_MACHINE
    patience: Patience = field(default_factory=Patience)

    def __post_init__(self) -> None:
        try:
            address = ipaddress.ip_address(self.host)
            if self.proxy is not None:
                ipaddress.ip_address(self.proxy)
        except ValueError as error:
            raise MalformedError(f"{error}: give an address as 127.0.0.1") from None
        if not 0 <= self.port <= 65535:
            raise MalformedError(f"got port {self.port}, want 0 to 65535")
        if (self.certificate is None) != (self.key is None):
            raise MalformedError("TLS needs both: a certificate and its key")
        if self.certificate is not None and self.proxy is not None:
            raise MalformedError("either the kiosk speaks TLS or the proxy does: give one of them")
        if not address.is_loopback and not self.secure:
            raise MalformedError(
                f"{self.host} can be reached from elsewhere: give a certificate and its key, or the "
                "address of the proxy that speaks TLS in front; what people answer must not travel "
                "in the open"
            )

    @property
    def secure(self) -> bool:
        """Whether browsers speak TLS with the kiosk or its proxy."""
        return self.certificate is not None or self.proxy is not None


def make_server(app: ASGIApp, listening: Listening) -> tuple[uvicorn.Server, Door]:
    """Return a server that is ready to run, and its port, which is open already.

    Run it with ``server.run(sockets=[door])``; that closes the port as well.

    Raises:
        KeyFileError: the certificate or its key cannot be read, or do not belong together.
        RegistryError: the port is taken, or may not be opened.
        ModuleNotFoundError: uvicorn is missing; the extra ``kiosk`` brings it.

    """
    import uvicorn

    from .connections import event_loop, prompt_protocol

    if listening.certificate is not None:
        _check_pair(listening)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=prompt_protocol(listening.patience),
            loop=f"{event_loop.__module__}:event_loop",
            ssl_certfile=None if listening.certificate is None else str(listening.certificate),
            ssl_keyfile=None if listening.key is None else str(listening.key),
            proxy_headers=listening.proxy is not None,
            forwarded_allow_ips=listening.proxy or "",
            access_log=False,
            log_config=None,  # the process says where its words go
            log_level=logging.WARNING,
            server_header=False,
            lifespan="off",
            ws="none",
            timeout_keep_alive=15,
            timeout_graceful_shutdown=10,
        )
    )
    return server, _open(listening)


def _check_pair(listening: Listening) -> None:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(listening.certificate), str(listening.key))
    except (OSError, ssl.SSLError) as error:
        raise KeyFileError(
            f"{listening.certificate} and {listening.key} are no certificate and its key: "
            f"{error.strerror or type(error).__name__}"
        ) from error


def _open(listening: Listening) -> Door:
    from .connections import Door

    family = socket.AF_INET6 if ":" in listening.host else socket.AF_INET
    most = _room(listening.patience.most)
    patience = replace(
        listening.patience, most=most, reserved=min(listening.patience.reserved, most // 2)
    )
    opened = Door(family, patience, screens=listening.screens, proxy=listening.proxy)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((listening.host, listening.port))
        opened.listen(2048)  # whoever is told the address next may already ask
    except OSError as error:
        opened.close()
        raise RegistryError(
            f"port {listening.port} of {listening.host} cannot be opened ({error.strerror}): "
            "give another --port"
        ) from error
    return opened


def _room(wanted: int) -> int:
    """Return how many connections this process may hold, after it asked for as many as are wanted.

    A process without a file left cannot open its database either, and records nothing.
    """
    try:
        import resource
    except ModuleNotFoundError:  # no Unix: there is no such limit
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = wanted + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= need:
        return wanted
    if hard != resource.RLIM_INFINITY:
        need = min(need, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))
    return max(2, need - _OTHER_FILES)


@contextmanager
def _ending_quietly() -> Iterator[None]:
    """Let a signal end the server and nothing else: the caller closes the registry after it.

    uvicorn raises the signal again once it has stopped, and SIGTERM would then end the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


def serve(
    app: ASGIApp, listening: Listening, *, told: Callable[[str], None] = lambda _url: None
) -> None:
    """Serve until a signal ends it (Ctrl-C, or SIGTERM).

    Args:
        app: made by `create_app`.
        listening: where.
        told: called with the address once the port is open.

    Raises:
        RegistryError: the port is taken, or may not be opened.

    """
    server, door = make_server(app, listening)
    with door:
        host, port = door.getsockname()[:2]
        scheme = "https" if listening.certificate else "http"
        shown = f"[{host}]" if ":" in host else host
        told(f"{scheme}://{shown}:{port}/")
        with _ending_quietly():
            server.run(sockets=[door])
