"""Time as the log keeps it: whole microseconds since 1970 in UTC, written as ISO 8601."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from .errors import MalformedError

__all__ = ["Clock", "elapsed", "from_us", "iso", "parse_iso", "to_us", "utcnow"]

Clock = Callable[[], datetime]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def utcnow() -> datetime:
    """Return the machine's clock, in UTC."""
    return datetime.now(UTC)


def elapsed() -> float:
    """Return seconds that only grow, and that grow while the machine sleeps where it can tell.

    A monotonic clock stands still then: who woke it would find the session of whoever left it.
    """
    counted = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if counted is None else time.clock_gettime(counted)


def to_us(moment: datetime) -> int:
    """Return microseconds since 1970-01-01T00:00:00Z.

    Raises:
        MalformedError: ``moment`` has no time zone, so that it names no moment.

    """
    if not isinstance(moment, datetime) or moment.tzinfo is None or moment.utcoffset() is None:
        raise MalformedError(f"got {moment!r}, want a datetime with a time zone (UTC)")
    return (moment - _EPOCH) // _MICROSECOND


def from_us(microseconds: int) -> datetime:
    """Return the UTC datetime of ``to_us``."""
    return _EPOCH + timedelta(microseconds=microseconds)


def iso(microseconds: int) -> str:
    """Write as ``2026-01-31T09:30:00.000000Z``: always six digits, so that text sorts as time."""
    return from_us(microseconds).isoformat(timespec="microseconds")[:-6] + "Z"


def parse_iso(text: str) -> int:
    """Return the microseconds of ``iso``, which alone is accepted.

    Raises:
        MalformedError: any other form.

    """
    try:
        moment = datetime.fromisoformat(text)
        value = to_us(moment)  # no zone in the text: refused there
        sound = iso(value) == text
    except (ValueError, TypeError, OverflowError):
        sound = False
    if not sound:
        raise MalformedError(f"got {text!r}, want a time as 2026-01-31T09:30:00.000000Z")
    return value
