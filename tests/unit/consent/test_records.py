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
from privemo_consent.canonical import parse_canonical

NOW = datetime(2026, 3, 1, tzinfo=UTC)
#: A notice as the first version of privemo stored it, and the hash its consents bind to.
STORED = (
    b'{"controller":{"address":"1 Main Street","contact":"privacy@example.org","id":"shop-1",'
    b'"name":"A Shop","type":"controller"},"jurisdictions":["IE","IE"],"language":"en",'
    b'"lawful_basis":"dpv:ExplicitConsent","notice_id":"faces","pii_types":'
    b'["pd:FacialExpression"],"purposes":["fairness_audit","training"],"recipients":["none"],'
    b'"retention_days":365,"schema_version":"privemo.notice/1","storage_location":"in the store",'
    b'"text":"We would like to use pictures of your face.","version":1,'
    b'"withdrawal_method":"the same screen, one touch"}'
)
STORED_HASH = "8c9e57efb161d7881bf00bfc15349480e3b6f73f416224afd1fc67e9f1669acc"


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
        ("recipients", ""),
        ("recipients", "nobody"),
        ("recipients", ("Data Buyers Ltd",)),
        ("storage_location", ""),
        ("retention_days", 0),
        ("retention_days", 5000),
        ("withdrawal_method", ""),
        ("pii_types", ()),
        ("lawful_basis", "dpv:LegitimateInterest"),
        ("data_protection_officer", " "),
        ("transfers", ()),
        ("transfers", ({"country": "US", "safeguard": "", "copy_from": "us"},)),
        ("rights", ()),
        ("rights", ("access", "access")),
        ("rights", ("objection",)),
        ("data_required", True),  # GDPR 7(4): a consent one must give is not free
        ("refusal", ""),
        ("told", {"training": ""}),
        ("surprise", "an unknown field"),
    ],
)
def test_a_notice_with_a_hole_is_no_notice(notice: Notice, field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):  # 27560 6.3.4-6.3.5; GDPR 6, 9(2)(a)
        Notice.model_validate(notice.model_dump() | {field: value})


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        # There is no path to sell: who is no processor and no authority receives nothing
        # (BIPA 15(c)-(d); REQUIREMENTS 21).
        ("recipients", "third_party"),
        ("recipients", "buyer"),
        ("recipients", "data_broker"),
        ("recipients", "controller"),
        ("representative", "controller"),
        ("authority", "processor"),
        ("controller", "processor"),
    ],
)
def test_nobody_stands_in_a_place_not_theirs(
    notice: Notice, party: Party, place: str, kind: str
) -> None:
    wrong = party.model_copy(update={"type": kind})
    with pytest.raises(ValidationError, match=rf"{place}: A Shop is of type '{kind}'"):
        Notice.model_validate(
            notice.model_dump() | {place: (wrong,) if place == "recipients" else wrong}
        )


def test_processors_and_authorities_may_receive(notice: Notice, party: Party) -> None:
    for kind in ("processor", "authority"):
        named = (party.model_copy(update={"type": kind}),)
        assert Notice.model_validate(notice.model_dump() | {"recipients": named}).recipients


def test_a_notice_stored_by_the_first_version_keeps_its_hash() -> None:
    for stored in (
        Notice.model_validate_json(STORED),
        Notice.model_validate(parse_canonical(STORED)),
    ):
        assert (stored.body, stored.hash) == (STORED, STORED_HASH)
        assert stored.recipients == ("none",)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rights": ("access",)}, "rights"),
        ({"data_protection_officer": "none"}, "data_protection_officer"),
        ({"told": {"training": "to train"}}, "told"),
        ({"recipients": "none"}, "recipients"),
    ],
)
def test_an_old_notice_cannot_say_what_its_schema_has_not(
    changes: dict[str, object], named: str
) -> None:
    with pytest.raises(ValidationError, match=rf"{named}.*write privemo\.notice/2"):
        Notice.model_validate(parse_canonical(STORED) | changes)


def test_no_recipients_is_one_word_however_it_is_written(notice: Notice) -> None:
    for written in ("none", ("none",), ["none"]):
        again = Notice.model_validate(notice.model_dump() | {"recipients": written})
        assert (again.recipients, again.hash) == ("none", notice.hash)


def test_silence_leaves_no_trace_in_the_bytes(notice: Notice) -> None:
    silent = Notice.model_validate(notice.model_dump() | {"authority": None, "told": None})
    assert b"authority" not in silent.body
    assert b"null" not in silent.body
    assert Notice.model_validate_json(silent.body) == silent


def test_words_told_are_the_same_as_a_table_and_as_a_list(notice: Notice) -> None:
    assert notice.told is not None
    table = {each.item: each.words for each in notice.told}
    again = Notice.model_validate(notice.model_dump() | {"told": table})
    assert (again, again.hash) == (notice, notice.hash)
    assert len({notice, again}) == 1


def test_a_notice_is_named_by_every_word_of_it(notice: Notice) -> None:
    assert len(notice.hash) == 64
    for change in ({"text": "Other words."}, {"language": "de"}, {"version": 2}):
        assert Notice.model_validate(notice.model_dump() | change).hash != notice.hash
    again = Notice.model_validate_json(notice.model_dump_json())
    assert again.hash == notice.hash


def test_a_changed_copy_is_not_named_by_the_old_words(notice: Notice) -> None:
    old = notice.hash
    copied = notice.model_copy(update={"text": "Other words."})
    assert copied.hash != old
    assert copied == Notice.model_validate_json(copied.body)
    with pytest.raises(ValidationError, match="retention_days"):
        notice.model_copy(update={"retention_days": 10**6})


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
