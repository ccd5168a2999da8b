"""A session ends by itself, and a flood of them ends nobody's."""

from __future__ import annotations

import pytest

from privemo_consent.kiosk.codes import draw_code
from privemo_consent.kiosk.limits import Rate, RateLimit
from privemo_consent.kiosk.sessions import Sessions


class Seconds:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_session_ends_after_a_quiet_while_and_after_a_long_one() -> None:
    clock = Seconds()
    sessions = Sessions(idle_s=60, longest_s=200, clock=clock)
    session = sessions.begin()
    for _ in range(3):
        clock.now += 59
        assert sessions.find(session.id) is session
    clock.now += 59  # never quiet for a minute, and over all the same
    assert sessions.find(session.id) is None
    quiet = sessions.begin()
    clock.now += 61
    assert sessions.find(quiet.id) is None
    assert len(sessions) == 0


def test_a_session_that_was_ended_gets_no_new_id() -> None:
    sessions = Sessions(idle_s=60)
    session = sessions.begin()
    sessions.end(session)  # cleared, while an answer of it was being recorded
    sessions.renew_id(session)
    assert sessions.find(session.id) is None
    assert len(sessions) == 0


def test_a_machine_that_slept_finds_no_session_open(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = [0.0]
    monkeypatch.setattr("time.clock_gettime", lambda _: 1000.0 + slept[0])
    sessions = Sessions(idle_s=60)
    session = sessions.begin()
    slept[0] = 3600
    assert sessions.find(session.id) is None


def test_a_flood_of_screens_does_not_end_the_session_of_somebody_known() -> None:
    sessions = Sessions(idle_s=60, most=10)
    known, staff = sessions.begin(), sessions.begin()
    known.person, staff.staff = "p", True
    for _ in range(100):
        sessions.begin()
    assert len(sessions) == 10
    assert sessions.find(known.id) is known
    assert sessions.find(staff.id) is staff


def test_a_session_does_not_show_itself() -> None:
    session = Sessions(idle_s=60).begin()
    session.person, session.code = "kiosk-somebody", draw_code()
    assert "somebody" not in repr(session)
    assert session.code not in repr(session)


def test_a_limit_lets_a_burst_through_and_then_one_at_a_time() -> None:
    clock = Seconds()
    limit = RateLimit(Rate(3, 10.0), clock)
    assert [limit.take("a") for _ in range(3)] == [0, 0, 0]
    assert limit.take("a") == pytest.approx(10)
    assert limit.take("b") == 0
    clock.now += 10
    assert limit.take("a") == 0
    assert limit.take("a") > 0


def test_a_limit_remembers_a_bounded_number_of_addresses() -> None:
    limit = RateLimit(Rate(1, 10.0))
    for number in range(10_000):
        limit.take(str(number))
    assert len(limit._spent) <= 4096
