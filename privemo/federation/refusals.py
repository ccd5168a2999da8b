"""Why a server did not let a store in, in words: Flower's node says nothing when it is turned away."""

from __future__ import annotations

import http.client
import socket
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

from privemo.flower import SYSTEM_TIME_TOLERANCE, TIMESTAMP_TOLERANCE

__all__ = ["out_of_reach", "why_refused"]

_PATIENCE_S = 5.0
# OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED.
_NOT_YET, _RUN_OUT = 9, 10

_UNKNOWN = (
    "The server lets this store's node key in no more, or never did: is its card among those of "
    "`federation init`, was the key made anew since, or the store revoked?"
)


def why_refused(address: str, authority: Path, *, was_in: bool = False) -> str:
    """Ask a server over TLS what may be wrong between it and this machine.

    What a node signs is the time, so a server takes it from clocks alone that agree with its own.

    Args:
        address: "host:port" of the server.
        authority: PEM file of the authority that its certificate has to be of.
        was_in: the server knew the store a while ago, so that its key is the right one.

    Returns:
        A sentence that names the cause and the remedy; empty where none is seen, or the server is out of
        reach.
    """
    host, _, port = address.rpartition(":")
    try:
        context = ssl.create_default_context(cafile=str(authority))
        line = http.client.HTTPSConnection(
            host.strip("[]"), int(port), timeout=_PATIENCE_S, context=context
        )
        try:
            line.request("HEAD", "/")
            said = line.getresponse().getheader("Date")
        finally:
            line.close()
    except ssl.SSLCertVerificationError as error:
        return _of_certificate(error)
    except (OSError, ValueError, http.client.HTTPException):
        return ""
    return _of_clock(said) or ("" if was_in else _UNKNOWN)


def out_of_reach(address: str) -> str:
    """What keeps this machine from a server's port, in the system's words; empty where nothing does.

    Args:
        address: "host:port" of the server.
    """
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE_S).close()
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    except (ValueError, OverflowError):
        return "that is no address"
    return ""


def _of_certificate(error: ssl.SSLCertVerificationError) -> str:
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    if error.verify_code == _NOT_YET:
        return f"The server's certificate is not valid yet: is this machine's clock behind? It says {now}."
    if error.verify_code == _RUN_OUT:
        return f"The server's certificate has run out, if this machine's clock is right. It says {now}."
    return "The server's certificate is not of the authority that the invitation named."


def _of_clock(said: str | None) -> str:
    if said is None:
        return ""
    ahead = (datetime.now(UTC) - parsedate_to_datetime(said)).total_seconds()
    # The answer's date is cut to seconds and was some time on its way: a second is nobody's fault.
    if -(TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE) < ahead <= SYSTEM_TIME_TOLERANCE:
        return ""
    by = timedelta(seconds=round(abs(ahead)))
    return (
        f"This machine's clock is {by} {'ahead of' if ahead > 0 else 'behind'} the server's: set it, best "
        f"by NTP. A server lets in who is {SYSTEM_TIME_TOLERANCE} s ahead or {TIMESTAMP_TOLERANCE} s behind "
        "at most."
    )
