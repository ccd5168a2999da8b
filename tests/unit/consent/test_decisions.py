"""The threat model of a decision: each row a way in that must stay shut."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from privemo_consent import (
    AgeBand,
    ConsentRegistry,
    ConsentStatus,
    Context,
    MalformedError,
    Purpose,
    Reason,
    Role,
    StaffRefused,
)
from privemo_consent.leaves import STATUSES

TRAINING = Purpose.TRAINING
AUDIT = Purpose.FAIRNESS_AUDIT


def given(registry: ConsentRegistry, yes: Any) -> None:
    registry.grant("ann", [TRAINING], **yes(valid_for=timedelta(days=10)))


def nothing(registry: ConsentRegistry, yes: Any) -> None:
    registry.grant("somebody-else", [TRAINING], **yes())


def other_purpose(registry: ConsentRegistry, yes: Any) -> None:
    registry.grant("ann", [AUDIT], **yes())


def withdrawn(registry: ConsentRegistry, yes: Any) -> None:
    given(registry, yes)
    registry.withdraw("ann")


def refused(registry: ConsentRegistry, yes: Any) -> None:
    registry.refuse("ann", **yes())


def revoked(registry: ConsentRegistry, yes: Any) -> None:
    given(registry, yes)
    registry.revoke("ann")


def staff(registry: ConsentRegistry, yes: Any) -> None:
    with pytest.raises(StaffRefused):
        registry.grant("ann", [TRAINING], **yes(role=Role.STUDENT))


@pytest.mark.parametrize(
    ("record", "question", "reason"),
    [
        (given, {}, Reason.PERMITTED),
        # no record, wrong purpose, ended: GDPR 4(11), 7(3)
        (nothing, {}, Reason.NO_RECORD),
        (other_purpose, {}, Reason.WRONG_PURPOSE),
        (withdrawn, {}, Reason.WITHDRAWN),
        (refused, {}, Reason.REFUSED),
        (revoked, {}, Reason.NOT_GIVEN),
        # the term: DPV guide 8.5.4; the last moment is in, the end is out
        (given, {"after": timedelta(days=10, microseconds=-1)}, Reason.PERMITTED),
        (given, {"after": timedelta(days=10)}, Reason.EXPIRED),
        (given, {"after": timedelta(days=4000)}, Reason.EXPIRED),
        # the clock
        (given, {"after": timedelta(microseconds=-1)}, Reason.CLOCK_BACKWARDS),
        # age: AADC 3, 7, 9, 12; whatever the record says
        (given, {"attested_age_band": AgeBand.UNDER_13}, Reason.MINOR),
        (given, {"attested_age_band": "16_17"}, Reason.MINOR),
        (given, {"attested_age_band": "unknown"}, Reason.UNKNOWN_AGE),
        (given, {"attested_age_band": ""}, Reason.UNKNOWN_AGE),
        (given, {"attested_age_band": "adult"}, Reason.UNKNOWN_AGE),
        (given, {"attested_age_band": "25_34"}, Reason.PERMITTED),
        (nothing, {"attested_age_band": "13_15"}, Reason.MINOR),
        (given, {"estimated_age": 24.999}, Reason.SUSPECTED_MINOR),
        (given, {"estimated_age": 25.0}, Reason.PERMITTED),
        (given, {"estimated_age": -1.0}, Reason.SUSPECTED_MINOR),
        (given, {"estimated_age": np.inf}, Reason.SUSPECTED_MINOR),
        (given, {"estimated_age": -np.inf}, Reason.SUSPECTED_MINOR),
        (given, {"estimated_age": np.nan}, Reason.PERMITTED),
        (given, {"estimated_age": 30.0, "challenge_age": 31.0}, Reason.SUSPECTED_MINOR),
        (given, {"estimated_age": 20.0, "challenge_age": 18.0}, Reason.PERMITTED),
        (given, {"estimated_age": 12.0, "attested_age_band": "25_34"}, Reason.SUSPECTED_MINOR),
        (given, {"estimated_age": 40.0, "attested_age_band": "13_15"}, Reason.MINOR),
        (withdrawn, {"estimated_age": 12.0}, Reason.SUSPECTED_MINOR),
        # place and role: EU AI Act 5(1)(f)
        (given, {"setting": "workplace"}, Reason.WRONG_CONTEXT),
        (given, {"setting": "education"}, Reason.WRONG_CONTEXT),
        (nothing, {"setting": "workplace"}, Reason.WRONG_CONTEXT),
        (staff, {}, Reason.STAFF),
    ],
)
def test_every_way_in_is_shut_but_one(
    registry: ConsentRegistry,
    yes: Any,
    clock: Any,
    record: Callable[..., None],
    question: dict[str, Any],
    reason: Reason,
) -> None:
    record(registry, yes)
    asked = dict(question)
    after = asked.pop("after", timedelta(0))
    context = Context(setting=asked.pop("setting", "retail"), jurisdiction="IE")
    decision = registry.decide("ann", TRAINING, context, at=clock.time + after, **asked)
    assert decision.reason is reason
    assert decision.permit is (reason is Reason.PERMITTED)
    assert (decision.person, decision.purpose, decision.log_seq) == (
        "ann",
        TRAINING,
        registry.log_seq,
    )


@pytest.mark.parametrize("status", list(ConsentStatus))
def test_two_states_permit_and_every_other_refuses(
    registry: ConsentRegistry, yes: Any, shop: Context, status: ConsentStatus
) -> None:
    # DPV guide to 27560, 8.5.2: put every state into the table by force.
    given(registry, yes)
    registry.close()
    with sqlite3.connect(registry.path) as raw:
        raw.execute("DROP TRIGGER events_no_update")
        raw.execute("UPDATE events SET status = ? WHERE pid = 0", (STATUSES.index(status),))
    raw.close()
    with ConsentRegistry.open(registry.path, mode="production", clock=registry.now) as opened:
        assert opened.decide("ann", TRAINING, shop).permit is status.permits


def test_the_clock_itself_set_back_refuses(
    registry: ConsentRegistry, yes: Any, clock: Any, shop: Context
) -> None:
    given(registry, yes)
    clock.forward(days=20)
    assert registry.decide("ann", TRAINING, shop).reason is Reason.EXPIRED
    clock.forward(days=-15)  # later than the log's end, earlier than this process has seen
    assert registry.decide("ann", TRAINING, shop).reason is Reason.CLOCK_BACKWARDS
    clock.forward(days=-15)
    assert registry.decide("ann", TRAINING, shop).reason is Reason.CLOCK_BACKWARDS
    clock.forward(days=30)
    assert registry.decide("ann", TRAINING, shop).reason is Reason.EXPIRED


def test_a_broken_clock_refuses(registry: ConsentRegistry, yes: Any, shop: Context) -> None:
    given(registry, yes)
    for broken in (lambda: None, lambda: datetime(2026, 3, 1), lambda: 1 / 0):
        registry.close()
        with ConsentRegistry.open(registry.path, mode="production", clock=broken) as opened:  # type: ignore[arg-type]
            decision = opened.decide("ann", TRAINING, shop)
        assert decision.reason is Reason.REGISTRY_UNREADABLE


@pytest.mark.parametrize("person", ["", " ann", "ANN", "ann\0", "nobody", "\udcff"])
def test_nobody_is_taken_for_somebody_else(
    registry: ConsentRegistry, yes: Any, shop: Context, person: str
) -> None:
    given(registry, yes)
    reason = registry.decide(person, TRAINING, shop).reason
    assert reason in (Reason.NO_RECORD, Reason.REGISTRY_UNREADABLE)


@pytest.mark.parametrize("change", [{"at": datetime(2026, 3, 1)}, {"challenge_age": 17.0}])
def test_a_question_that_is_none_raises(
    registry: ConsentRegistry, shop: Context, change: dict[str, Any]
) -> None:
    with pytest.raises(MalformedError):
        registry.decide("ann", TRAINING, shop, **change)
    with pytest.raises(ValueError, match="advertising"):
        registry.decide("ann", "advertising", shop)  # type: ignore[arg-type]


def test_a_simulated_record_never_opens_a_production_door(
    simulation: ConsentRegistry, yes: Any, clock: Any, shop: Context
) -> None:
    simulation.grant("ann", [TRAINING], **yes())
    assert simulation.decide("ann", TRAINING, shop).permit
    simulation.close()
    with sqlite3.connect(simulation.path) as raw:  # a thief relabels the file
        raw.execute("DROP TRIGGER meta_no_update")
        raw.execute("UPDATE meta SET value = 'production' WHERE key = 'mode'")
    raw.close()
    with ConsentRegistry.open(simulation.path, mode="production", clock=clock) as opened:
        decision = opened.decide("ann", TRAINING, shop)
    assert decision.reason is Reason.SIMULATED_IN_PRODUCTION


def test_a_decision_sees_what_another_process_committed(
    registry: ConsentRegistry, yes: Any, clock: Any, shop: Context
) -> None:
    given(registry, yes)
    assert registry.decide("ann", TRAINING, shop).permit
    with ConsentRegistry.open(registry.path, mode="production", clock=clock) as other:
        other.withdraw("ann")
    assert registry.decide("ann", TRAINING, shop).reason is Reason.WITHDRAWN
