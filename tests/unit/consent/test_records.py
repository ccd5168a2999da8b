"""Records: no mandatory field may be empty, no time without zone, nothing changes afterwards."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from privemo_consent import (
    AgeBand,
    ConsentStatus,
    Context,
    Decision,
    Notice,
    Party,
    Purpose,
    Reason,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize("field", ["id", "name", "address", "contact", "type"])
@pytest.mark.parametrize("empty", ["", "   ", None])
def test_a_party_says_who_and_where_it_is(party: Party, field: str, empty: str | None) -> None:
    with pytest.raises(ValidationError, match=field):  # 27560 6.3.6
        Party.model_validate(party.model_dump() | {field: empty})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("notice_id", ""),
        ("version", 0),
        ("language", "English"),
        ("text", " "),
        ("purposes", ()),
        ("purposes", ("training", "training")),
        ("purposes", ("advertising",)),
        ("jurisdictions", ()),
        ("jurisdictions", ("Ireland",)),
        ("recipients", ()),
        ("storage_location", ""),
        ("retention_days", 0),
        ("retention_days", 5000),
        ("withdrawal_method", ""),
        ("pii_types", ()),
        ("lawful_basis", "dpv:LegitimateInterest"),
        ("surprise", "an unknown field"),
    ],
)
def test_a_notice_with_a_hole_is_no_notice(notice: Notice, field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):  # 27560 6.3.4-6.3.5; GDPR 6, 9(2)(a)
        Notice.model_validate(notice.model_dump() | {field: value})


def test_a_notice_is_named_by_every_word_of_it(notice: Notice) -> None:
    assert len(notice.hash) == 64
    for change in ({"text": "Other words."}, {"language": "de"}, {"version": 2}):
        assert Notice.model_validate(notice.model_dump() | change).hash != notice.hash
    again = Notice.model_validate_json(notice.model_dump_json())
    assert again.hash == notice.hash


def test_the_order_of_purposes_does_not_change_a_notice(notice: Notice) -> None:
    turned = notice.model_dump() | {"purposes": tuple(reversed(notice.purposes))}
    assert Notice.model_validate(turned).hash == notice.hash


def test_records_are_frozen(notice: Notice, shop: Context) -> None:
    for record, field in ((notice, "text"), (shop, "setting"), (notice.controller, "name")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(record, field, "changed")


def decision(**changes: object) -> Decision:
    fields: dict[str, object] = {
        "permit": True,
        "reason": Reason.PERMITTED,
        "person": "p",
        "purpose": Purpose.TRAINING,
        "at": NOW,
        "log_seq": 3,
    }
    return Decision.model_validate(fields | changes)


def test_a_decision_cannot_be_taken_for_a_boolean() -> None:
    with pytest.raises(TypeError, match=r"decision\.permit"):
        bool(decision(permit=False, reason=Reason.EXPIRED))


@pytest.mark.parametrize(
    ("permit", "reason"), [(True, Reason.MINOR), (False, Reason.PERMITTED), (True, Reason.EXPIRED)]
)
def test_permit_and_reason_cannot_contradict(permit: bool, reason: Reason) -> None:
    with pytest.raises(ValueError, match="contradicts"):
        decision(permit=permit, reason=reason)


def test_a_time_without_zone_is_no_time() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        decision(at=datetime(2026, 1, 1))


def test_two_states_permit_and_no_other() -> None:
    # DPV guide to 27560, 8.5.2
    assert [s.value for s in ConsentStatus if s.permits] == ["ConsentGiven", "RenewedConsentGiven"]


def test_no_band_is_minor_and_adult_and_unknown_is_neither() -> None:
    assert not [band for band in AgeBand if band.is_minor and band.is_adult]
    assert [band for band in AgeBand if not band.is_minor and not band.is_adult] == [
        AgeBand.UNKNOWN
    ]
    assert [band.value for band in AgeBand if band.is_minor] == ["under_13", "13_15", "16_17"]
