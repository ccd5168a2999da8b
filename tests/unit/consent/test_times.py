from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from privemo_consent.errors import MalformedError
from privemo_consent.times import from_us, iso, parse_iso, to_us, utcnow


def test_times_survive_the_round_trip() -> None:
    moment = datetime(2026, 1, 31, 9, 30, 0, 123456, tzinfo=UTC)
    assert from_us(to_us(moment)) == moment
    assert iso(to_us(moment)) == "2026-01-31T09:30:00.123456Z"
    assert parse_iso("2026-01-31T09:30:00.123456Z") == to_us(moment)


def test_other_zones_name_the_same_moment() -> None:
    eastern = timezone(timedelta(hours=-5))
    assert to_us(datetime(2026, 1, 1, 0, tzinfo=eastern)) == to_us(
        datetime(2026, 1, 1, 5, tzinfo=UTC)
    )


def test_whole_seconds_keep_their_six_digits() -> None:
    assert iso(0) == "1970-01-01T00:00:00.000000Z"


@pytest.mark.parametrize("moment", [datetime(2026, 1, 1), "2026-01-01", None, 17])
def test_a_time_without_zone_is_refused(moment: object) -> None:
    with pytest.raises(MalformedError, match="time zone"):
        to_us(moment)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T09:30:00Z",
        "2026-01-31T09:30:00.123456",
        "2026-01-31T09:30:00.123456+00:00",
        "2026-01-31 09:30:00.123456Z",
        "2026-W05-6T09:30:00.123456Z",
        "2026-13-31T09:30:00.123456Z",
        "2026-01-31T24:00:00.000000Z",
        "",
        None,
        7,
    ],
)
def test_one_form_of_time_alone_is_read(text: object) -> None:
    with pytest.raises(MalformedError, match="want a time as"):
        parse_iso(text)  # type: ignore[arg-type]


def test_the_machines_clock_has_a_zone() -> None:
    assert utcnow().utcoffset() == timedelta(0)
