"""Serving the kiosk: on this machine alone, unless browsers elsewhere reach it over TLS.

uvicorn, one process, no access log: an address and a moment are personal data of whoever stood there.
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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import KeyFileError, MalformedError, RegistryError

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

__all__ = ["Listening", "make_server", "serve"]

#: Connections at once; each further one is told to come back.
_MOST_CONNECTIONS = 1000


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

    Raises:
        MalformedError: no address, a port out of range, half a key pair, or an address that others
            reach without TLS.

    """

    host: str = "127.0.0.1"
    port: int = 8470
    certificate: Path | None = None
    key: Path | None = None
    proxy: str | None = None

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


def make_server(app: ASGIApp, listening: Listening) -> uvicorn.Server:
    """Return a server that is ready to run.

    Raises:
        KeyFileError: the certificate or its key cannot be read, or do not belong together.
        ModuleNotFoundError: uvicorn is missing; the extra ``kiosk`` brings it.

    """
    import uvicorn

    if listening.certificate is not None:
        _check_pair(listening)
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=listening.host,
            port=listening.port,
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
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=10,
        )
    )


def _check_pair(listening: Listening) -> None:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(listening.certificate), str(listening.key))
    except (OSError, ssl.SSLError) as error:
        raise KeyFileError(
            f"{listening.certificate} and {listening.key} are no certificate and its key: "
            f"{error.strerror or type(error).__name__}"
        ) from error


def _bind(listening: Listening) -> socket.socket:
    family = socket.AF_INET6 if ":" in listening.host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((listening.host, listening.port))
        opened.listen(2048)  # whoever is told the address next may already ask
    except OSError:
        opened.close()
        raise
    return opened


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
    server = make_server(app, listening)
    try:
        opened = _bind(listening)
    except OSError as error:
        raise RegistryError(
            f"port {listening.port} of {listening.host} cannot be opened ({error.strerror}): "
            "give another --port"
        ) from error
    with opened:
        host, port = opened.getsockname()[:2]
        scheme = "https" if listening.certificate else "http"
        shown = f"[{host}]" if ":" in host else host
        told(f"{scheme}://{shown}:{port}/")
        with _ending_quietly():
            server.run(sockets=[opened])
