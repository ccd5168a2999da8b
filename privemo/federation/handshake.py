"""Connections that end before anybody says who they are, in the server's log.

TLS turns them away by itself, and neither uvicorn nor asyncio says a word of it: a store that was told
`http://`, one that trusts another authority, and whoever tries doors would leave no trace. What is known of
them here is why. Where they come from is not: the handshake does not know, and a firewall does.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

__all__ = ["tell_of_broken_handshakes"]

_MEANINGS = {
    "HTTP_REQUEST": "it spoke HTTP without TLS",
    "WRONG_VERSION_NUMBER": "it spoke something else than TLS",
    "UNSUPPORTED_PROTOCOL": "its TLS is too old",
    "TLSV1_ALERT_UNKNOWN_CA": "it trusts another authority than this server's",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not trust this server's certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not trust this server's certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "by its clock this server's certificate has expired",
}


def tell_of_broken_handshakes(place: Any, log: Callable[[str], None]) -> None:
    """Have each connection that breaks off while it is being secured be told.

    Args:
        place: the module that makes a server's TLS context by `create_ssl_context` (uvicorn's `config`).
        log: told a line of each.
    """

    class Told(ssl.SSLObject):
        def do_handshake(self) -> None:
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise  # it goes on
            except ssl.SSLError as error:
                reason = error.reason or type(error).__name__
                why = _MEANINGS.get(reason, reason.replace("_", " ").lower())
                log(f"Refused a connection: {why}.")
                raise

    make: Callable[..., ssl.SSLContext] = place.create_ssl_context

    def made(*given: Any, **named: Any) -> ssl.SSLContext:
        context = make(*given, **named)
        context.sslobject_class = Told
        return context

    place.create_ssl_context = made
