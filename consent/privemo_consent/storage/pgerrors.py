"""What PostgreSQL's errors mean to whoever runs the registry.

Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html.
"""

from __future__ import annotations

import psycopg

from ..errors import (
    RegistryBusyError,
    RegistryError,
    RegistryFullError,
    RegistryUnreadableError,
)
from .base import Stage

__all__ = ["explain"]

_BUSY = {
    "55P03": "is locked by another process",  # lock_not_available
    "40P01": "is locked by another process",  # deadlock_detected
    "40001": "was changed by another process meanwhile",  # serialization_failure
    "53300": "has no connection left",  # too_many_connections
    "57014": "took longer than the server allows",  # query_canceled
}
_FULL = {
    "53100": "no space left on the server; free some, nothing was recorded",
    "25006": "may not be written: the server or this session is read-only",
}


def explain(where: str, error: BaseException, stage: Stage) -> RegistryError:
    """Return the error of ours that says what can be done.

    Args:
        where: the registry, as messages name it.
        error: the driver's.
        stage: a connection that was lost while committing may have committed.

    """
    state = getattr(error, "sqlstate", None)
    lost = isinstance(error, psycopg.OperationalError) and (
        state is None or state.startswith(("08", "57P"))
    )
    cause = _first_line(error)
    if lost and stage == "commit":
        return RegistryUnreadableError(
            f"the connection to {where} was lost while recording: "
            "it may have been recorded: ask again"
        )
    if lost:
        return RegistryUnreadableError(
            f"{where} cannot be reached: {cause}; see that the server runs and that the "
            "URL names it; nothing was recorded"
        )
    if state in _BUSY:
        return RegistryBusyError(f"{where} {_BUSY[state]}: try again")
    if state in _FULL:
        return RegistryFullError(f"{where}: {_FULL[state]}")
    if state == "42501" and stage != "read":
        return RegistryFullError(f"{where} may not be written: this role has no right to")
    return RegistryUnreadableError(f"{where} cannot be read or written: {cause}")


def _first_line(error: BaseException) -> str:
    """Return what went wrong, without the lines that quote rows."""
    diagnosis = getattr(error, "diag", None)
    text = getattr(diagnosis, "message_primary", None) or str(error)
    return text.splitlines()[0] if text else type(error).__name__
