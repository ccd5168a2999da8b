"""What people answer, and what the registry makes of it."""

from __future__ import annotations

import pickle
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from privemo_consent import (
    AgeBand,
    AgeRule,
    BackdatedRefused,
    ClockBackwardsError,
    ConsentRegistry,
    ConsentStatus,
    Context,
    Grant,
    MalformedError,
    MinorRefused,
    ModeMismatchError,
    NewItem,
    Notice,
    NoticeRefused,
    Party,
    Purpose,
    Reason,
    RegistryExistsError,
    RegistryMissingError,
    RegistryUnreadableError,
    Role,
    SimulatedRefused,
    StaffRefused,
    TransitionRefused,
    UnknownAgeRefused,
    UnknownPersonError,
    ValidityRefused,
    Vault,
    merkle,
)
from privemo_consent.items import ItemKind
from tests.support.notices import whole_notice

TRAINING = Purpose.TRAINING
AUDIT = Purpose.FAIRNESS_AUDIT


def everything(path: Path) -> bytes:
    """All bytes the registry has on disk."""
    files = sorted(path.parent.glob(f"{path.name}*"))
    return b"".join(file.read_bytes() for file in files)


# -- opening ---------------------------------------------------------------------------------------


def test_a_registry_is_its_owners_alone(registry: ConsentRegistry) -> None:
    assert registry.path.stat().st_mode & 0o777 == 0o600


def test_nothing_is_overwritten_by_create(registry: ConsentRegistry, party: Party) -> None:
    before = registry.head()
    with pytest.raises(RegistryExistsError, match=r"ConsentRegistry\.open"):
        ConsentRegistry.create(registry.path, mode="production", controller=party)
    assert registry.head() == before


def test_missing_files_and_folders_are_named(tmp_path: Path, party: Party) -> None:
    with pytest.raises(RegistryMissingError, match="nowhere"):
        ConsentRegistry.open(tmp_path / "nowhere.sqlite", mode="production")
    with pytest.raises(RegistryMissingError, match="make the folder"):
        ConsentRegistry.create(tmp_path / "no" / "r", mode="production", controller=party)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"hello", b"SQLite format 3\0" + b"\0" * 4000])
def test_a_file_that_is_no_registry_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.sqlite"
    path.write_bytes(content)
    with pytest.raises(RegistryUnreadableError, match=r"r\.sqlite"):
        ConsentRegistry.open(path, mode="production")


def test_simulation_and_production_never_mix(
    registry: ConsentRegistry, simulation: ConsentRegistry
) -> None:
    with pytest.raises(ModeMismatchError, match="never mix"):
        ConsentRegistry.open(simulation.path, mode="production")
    with pytest.raises(ModeMismatchError, match="never mix"):
        ConsentRegistry.open(registry.path, mode="simulation")
    with pytest.raises(MalformedError, match="mode"):
        ConsentRegistry.open(registry.path, mode="prod")  # type: ignore[arg-type]


def test_what_was_written_is_there_after_reopening(registry: ConsentRegistry, yes: Any) -> None:
    registry.grant("ann", [TRAINING], **yes())
    head, party = registry.head(), registry.controller
    registry.close()
    with ConsentRegistry.open(registry.path, mode="production") as again:
        assert (again.head(), again.controller) == (head, party)
        assert again.registry_id == registry.registry_id
        assert [event.person for event in again.history("ann")] == ["ann"]
        assert again.persons() == ("ann",)


def test_a_registry_is_not_pickled(registry: ConsentRegistry) -> None:
    with pytest.raises(TypeError, match="open its path"):
        pickle.dumps(registry)


# -- granting --------------------------------------------------------------------------------------


def test_a_yes_is_one_event_for_each_purpose(
    registry: ConsentRegistry, notice: Notice, yes: Any, clock: Any
) -> None:
    events = registry.grant("ann", [TRAINING, AUDIT], **yes(valid_for=timedelta(days=30)))
    assert [event.purpose for event in events] == [TRAINING, AUDIT]
    for event in events:
        assert event.status is ConsentStatus.GIVEN
        assert (event.at, event.expires) == (clock.time, clock.time + timedelta(days=30))
        assert event.notice == notice.hash
        assert (event.entity, event.type, event.age) == ("data_subject", "explicit", "adult")
        assert not event.simulated
    assert registry.history("ann") == events
    assert len({event.record_id for event in events} | {e.subject for e in events}) == 4


def test_everybodys_events_come_in_the_order_of_the_log_and_without_the_erased(
    registry: ConsentRegistry, yes: Any
) -> None:
    for person in ("ann", "bob", "cid"):
        registry.grant(person, [TRAINING], **yes())
    registry.withdraw("ann")
    together = list(registry.histories())
    assert [event.person for event in together] == ["ann", "bob", "cid", "ann"]
    one_by_one = [event for person in ("ann", "bob", "cid") for event in registry.history(person)]
    assert together == sorted(one_by_one, key=lambda event: event.seq)
    registry.erase("bob")
    assert {event.person for event in registry.histories()} == {"ann", "cid"}


def test_a_simulation_marks_every_record(simulation: ConsentRegistry, yes: Any) -> None:
    (event,) = simulation.grant("ann", [TRAINING], **yes())
    assert event.simulated
    assert b'"simulated":true' in simulation.leaf(event.seq)


def test_no_leaf_holds_an_identifier(registry: ConsentRegistry, yes: Any) -> None:
    # GDPR 5(1)(c), 25: neither the id nor an unkeyed hash of it
    import hashlib

    person = "ann-of-the-long-identifier"
    registry.grant(person, [TRAINING], **yes())
    registry.withdraw(person)
    for seq in range(registry.log_seq):
        leaf = registry.leaf(seq)
        assert person.encode() not in leaf
        for name in ("md5", "sha1", "sha256", "sha512", "blake2b"):
            digest = hashlib.new(name, person.encode(), usedforsecurity=False)
            assert digest.hexdigest().encode() not in leaf


def test_two_leaves_of_one_person_share_no_name(registry: ConsentRegistry, yes: Any) -> None:
    registry.grant("ann", list(Purpose), **yes())
    subjects = {event.subject for event in registry.history("ann")}
    assert len(subjects) == len(Purpose)


@pytest.mark.parametrize("band", [band for band in AgeBand if not band.is_adult])
def test_of_a_minor_nothing_is_kept_but_a_count(
    registry: ConsentRegistry, yes: Any, band: AgeBand
) -> None:
    # AADC 3, 7, 9, 12; GDPR 8: in every jurisdiction
    error = MinorRefused if band.is_minor else UnknownAgeRefused
    with pytest.raises(error, match="count"):
        registry.grant("a-child-called-zoe", [TRAINING], **yes(age_band=band))
    assert registry.persons() == ()
    assert sum(registry.age_refusals().values()) == 1
    registry.close()
    assert b"zoe" not in everything(registry.path)


def test_the_count_tells_the_rule_and_the_day_and_no_more(
    registry: ConsentRegistry, yes: Any
) -> None:
    with pytest.raises(MinorRefused):
        registry.grant("zoe", [TRAINING], **yes(age_band=AgeBand.FROM_13))
    assert registry.age_refusals()[AgeRule.BELOW_NATIONAL_AGE] == 1
    leaf = registry.leaf(registry.log_seq - 1)
    assert b'"day":"2026-03-01"' in leaf
    assert b"T09" not in leaf
    assert b"13_15" not in leaf


def test_an_adult_who_turns_out_a_minor_loses_consent_at_once(
    registry: ConsentRegistry, yes: Any, shop: Context
) -> None:
    registry.grant("zoe", [TRAINING, AUDIT], **yes())
    with pytest.raises(MinorRefused):
        registry.grant("zoe", [Purpose.PERSONALISATION], **yes(age_band=AgeBand.FROM_16))
    assert registry.decide("zoe", TRAINING, shop).reason is Reason.NO_RECORD
    assert registry.decide("zoe", AUDIT, shop).reason is Reason.NO_RECORD


def test_of_an_adult_who_turns_out_a_minor_a_count_is_what_is_kept(
    registry: ConsentRegistry, yes: Any, shop: Context
) -> None:
    """AADC 7, 9, 12: the entries that were written together must not tell whose age it was."""
    registry.grant("zoe", [TRAINING], **yes())
    registry.grant("ann", [TRAINING], **yes())
    Vault(registry).put([NewItem(person="zoe", item_id="f", body=b"face")], shop)
    pid = registry._journal.state.people.pid("zoe")
    assert pid is not None
    with pytest.raises(MinorRefused):
        registry.refuse("zoe", **yes(age_band=AgeBand.UNDER_13))
    assert registry.persons() == ("ann",)
    assert registry.keys.punctured(pid)
    assert Vault(registry).counts()[ItemKind.FACE] == 0
    assert sum(registry.age_refusals().values()) == 1
    registry.verify()


def test_an_adult_who_does_not_tell_any_more_loses_consent_and_keeps_the_record(
    registry: ConsentRegistry, yes: Any, shop: Context
) -> None:
    registry.grant("zoe", [TRAINING], **yes())
    with pytest.raises(UnknownAgeRefused):
        registry.grant("zoe", [AUDIT], **yes(age_band=AgeBand.UNKNOWN))
    assert registry.decide("zoe", TRAINING, shop).reason is Reason.NOT_GIVEN
    assert registry.persons() == ("zoe",)


@pytest.mark.parametrize("role", [Role.EMPLOYEE, Role.STUDENT])
def test_staff_are_recorded_as_invalid_and_refused(
    registry: ConsentRegistry, yes: Any, shop: Context, role: Role
) -> None:
    with pytest.raises(StaffRefused, match=r"5\(1\)\(f\)"):
        registry.grant("sam", [TRAINING], **yes(role=role))
    (event,) = registry.history("sam")
    assert (event.status, event.role, event.entity) == (
        ConsentStatus.INVALIDATED,
        role,
        "registry",
    )
    assert registry.decide("sam", TRAINING, shop).reason is Reason.STAFF


def test_a_shopper_who_starts_working_there_is_staff_for_every_purpose(
    registry: ConsentRegistry, yes: Any, shop: Context
) -> None:
    registry.grant("sam", [TRAINING], **yes())
    with pytest.raises(StaffRefused):
        registry.grant("sam", [AUDIT], **yes(role=Role.EMPLOYEE))
    assert registry.decide("sam", TRAINING, shop).reason is Reason.STAFF
    with pytest.raises(StaffRefused):
        registry.renew("sam", [TRAINING])
    registry.withdraw("sam")
    assert registry.decide("sam", TRAINING, shop).reason is Reason.STAFF


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"valid_for": timedelta(0)}, ValidityRefused),
        ({"valid_for": timedelta.max}, ValidityRefused),
        ({"notice": "0" * 64}, NoticeRefused),
        ({"jurisdiction": "Ireland"}, MalformedError),
        ({"jurisdiction": 'IE","kind":"x'}, MalformedError),
        ({"jurisdiction": ""}, MalformedError),
        ({"age_band": "grown up"}, ValueError),
        ({"role": "boss"}, ValueError),
    ],
)
def test_a_wrong_argument_changes_nothing(
    registry: ConsentRegistry, yes: Any, change: dict[str, Any], error: type[Exception]
) -> None:
    before = registry.head()
    with pytest.raises(error):
        registry.grant("ann", [TRAINING], **yes(**change))
    assert registry.head() == before


@pytest.mark.parametrize(
    "purposes", [[], [TRAINING, TRAINING], ["advertising"], "training", ["training", None]]
)
def test_purposes_are_named_once_each(registry: ConsentRegistry, yes: Any, purposes: Any) -> None:
    before = registry.head()
    with pytest.raises(ValueError, match=r"purposes|Purpose"):
        registry.grant("ann", purposes, **yes())
    assert registry.head() == before


@pytest.mark.parametrize(
    "person", ["", " ann", "ann ", "a\nb", "a\0b", "x" * 201, "\ud800", "a\u202eb", None, 7]
)
def test_an_unusable_id_is_refused_without_repeating_it(
    registry: ConsentRegistry, yes: Any, person: Any
) -> None:
    with pytest.raises(MalformedError, match="person id") as caught:
        registry.grant(person, [TRAINING], **yes())
    if isinstance(person, str) and len(person) > 3:
        assert person not in str(caught.value)


def test_a_second_yes_is_a_renewal(registry: ConsentRegistry, yes: Any) -> None:
    registry.grant("ann", [TRAINING], **yes())
    with pytest.raises(TransitionRefused, match="use renew"):
        registry.grant("ann", [TRAINING], **yes())
    (event,) = registry.renew("ann")
    assert event.status is ConsentStatus.RENEWED


def test_after_a_withdrawal_a_new_yes_counts(
    registry: ConsentRegistry, yes: Any, shop: Context
) -> None:
    registry.grant("ann", [TRAINING], **yes())
    registry.withdraw("ann")
    registry.grant("ann", [TRAINING], **yes())
    assert registry.decide("ann", TRAINING, shop).permit
    assert len(registry.history("ann")) == 3


# -- dates -----------------------------------------------------------------------------------------


def test_production_dates_no_event_back(registry: ConsentRegistry, yes: Any, clock: Any) -> None:
    with pytest.raises(BackdatedRefused, match="simulation"):
        registry.grant("ann", [TRAINING], **yes(at=clock.time - timedelta(seconds=1)))


def test_no_event_lies_in_the_future(simulation: ConsentRegistry, yes: Any, clock: Any) -> None:
    with pytest.raises(BackdatedRefused, match="to come"):
        simulation.grant("ann", [TRAINING], **yes(at=clock.time + timedelta(seconds=1)))


def test_a_simulation_may_date_back_but_not_hide_it(
    simulation: ConsentRegistry, yes: Any, clock: Any
) -> None:
    at = clock.time - timedelta(days=400)
    (event,) = simulation.grant("ann", [TRAINING], **yes(at=at))
    assert (event.at, event.recorded_at) == (at, clock.time)


def test_with_the_clock_set_back_a_yes_must_wait_and_a_no_must_not(
    registry: ConsentRegistry, yes: Any, clock: Any, shop: Context
) -> None:
    registry.grant("ann", [TRAINING], **yes())
    clock.forward(days=-1)
    with pytest.raises(ClockBackwardsError, match="set the clock"):
        registry.grant("bob", [TRAINING], **yes())
    (event,) = registry.withdraw("ann")
    assert event.status is ConsentStatus.WITHDRAWN
    clock.forward(days=2)
    assert registry.decide("ann", TRAINING, shop).reason is Reason.WITHDRAWN
    registry.verify()


def test_with_the_clock_set_back_nothing_to_withdraw_is_no_error(
    registry: ConsentRegistry, yes: Any, clock: Any
) -> None:
    # found by the stateful test
    registry.grant("ann", [TRAINING], **yes())
    registry.withdraw("ann")
    clock.forward(days=-1)
    assert registry.withdraw("ann") == ()
    with pytest.raises(MinorRefused):
        registry.grant("zoe", [TRAINING], **yes(age_band=AgeBand.UNDER_13))


# -- withdrawing, refusing, renewing ---------------------------------------------------------------


def test_withdrawing_takes_one_argument(registry: ConsentRegistry, yes: Any, shop: Context) -> None:
    # GDPR 7(3): no more steps than granting
    registry.grant("ann", [TRAINING, AUDIT], **yes())
    events = registry.withdraw("ann")
    assert {event.purpose for event in events} == {TRAINING, AUDIT}
    assert not registry.decide("ann", TRAINING, shop).permit
    assert not registry.decide("ann", AUDIT, shop).permit


def test_one_purpose_can_be_withdrawn_alone(
    registry: ConsentRegistry, yes: Any, shop: Context
) -> None:
    registry.grant("ann", [TRAINING, AUDIT], **yes())
    registry.withdraw("ann", [TRAINING])
    assert registry.decide("ann", TRAINING, shop).reason is Reason.WITHDRAWN
    assert registry.decide("ann", AUDIT, shop).permit


def test_withdrawing_twice_writes_once(registry: ConsentRegistry, yes: Any) -> None:
    registry.grant("ann", [TRAINING], **yes())
    registry.withdraw("ann")
    before = registry.head()
    assert registry.withdraw("ann") == ()
    assert registry.head() == before


def test_a_mistyped_withdrawal_is_not_silent(registry: ConsentRegistry) -> None:
    with pytest.raises(UnknownPersonError, match="check the id"):
        registry.withdraw("amn")


def test_many_withdraw_together_or_not_at_all(
    registry: ConsentRegistry, yes: Any, shop: Context
) -> None:
    for person in ("ann", "bob"):
        registry.grant(person, [TRAINING], **yes())
    before = registry.head()
    with pytest.raises(UnknownPersonError):
        registry.withdraw_many(["ann", "bob", "nobody"])
    assert registry.head() == before
    assert registry.withdraw_many(["ann", "bob", "ann"]) == 2
    assert not registry.decide("ann", TRAINING, shop).permit


def test_an_expired_consent_can_still_be_withdrawn(
    registry: ConsentRegistry, yes: Any, clock: Any, shop: Context
) -> None:
    registry.grant("ann", [TRAINING], **yes(valid_for=timedelta(days=1)))
    clock.forward(days=2)
    registry.withdraw("ann")
    assert registry.decide("ann", TRAINING, shop).reason is Reason.WITHDRAWN


def test_a_no_on_a_live_consent_is_a_withdrawal(
    registry: ConsentRegistry, yes: Any, shop: Context
) -> None:
    registry.grant("ann", [TRAINING], **yes())
    (event,) = registry.refuse("ann")
    assert event.status is ConsentStatus.WITHDRAWN
    assert registry.decide("ann", TRAINING, shop).reason is Reason.WITHDRAWN


def test_a_first_no_is_kept(registry: ConsentRegistry, yes: Any, shop: Context) -> None:
    events = registry.refuse("ann", **yes())
    assert {event.status for event in events} == {ConsentStatus.REFUSED}
    assert len(events) == len(Purpose)
    assert registry.decide("ann", TRAINING, shop).reason is Reason.REFUSED


def test_a_minors_no_is_not_kept_either(registry: ConsentRegistry, yes: Any) -> None:
    with pytest.raises(MinorRefused):
        registry.refuse("zoe", **yes(age_band=AgeBand.UNDER_13))
    with pytest.raises(UnknownPersonError, match="age_band"):
        registry.refuse("zoe")
    assert registry.persons() == ()


def test_a_revocation_ends_consent(registry: ConsentRegistry, yes: Any, shop: Context) -> None:
    registry.grant("ann", [TRAINING], **yes())
    (event,) = registry.revoke("ann")
    assert (event.status, event.entity) == (ConsentStatus.REVOKED, "registry")
    assert registry.decide("ann", TRAINING, shop).reason is Reason.NOT_GIVEN
    with pytest.raises(TransitionRefused):
        registry.revoke("ann", [TRAINING])


@pytest.mark.parametrize("end", ["withdraw", "revoke"])
def test_what_ended_cannot_be_renewed(registry: ConsentRegistry, yes: Any, end: str) -> None:
    registry.grant("ann", [TRAINING], **yes())
    getattr(registry, end)("ann")
    with pytest.raises(TransitionRefused):
        registry.renew("ann", [TRAINING])


def test_nothing_never_given_can_be_renewed(registry: ConsentRegistry, yes: Any) -> None:
    registry.grant("ann", [TRAINING], **yes())
    with pytest.raises(NoticeRefused, match="never given"):
        registry.renew("ann", [AUDIT])


# -- notices ---------------------------------------------------------------------------------------


def next_version(notice: Notice, *, version: int | None = None, **changes: Any) -> Notice:
    return whole_notice(notice.controller, version or notice.version + 1, **changes)


def test_a_changed_notice_needs_renewal(
    registry: ConsentRegistry, notice: Notice, yes: Any, shop: Context
) -> None:
    # ISO/IEC 29184 5.5
    registry.grant("ann", [TRAINING], **yes())
    changed = next_version(notice)
    registry.notice(changed)
    assert registry.decide("ann", TRAINING, shop).reason is Reason.NOTICE_CHANGED
    with pytest.raises(NoticeRefused, match="superseded"):
        registry.renew("ann")
    with pytest.raises(NoticeRefused, match="superseded"):
        registry.grant("bob", [TRAINING], **yes())
    registry.renew("ann", notice=changed)
    assert registry.decide("ann", TRAINING, shop).permit


def test_another_language_of_the_same_version_supersedes_nothing(
    registry: ConsentRegistry, notice: Notice, yes: Any, shop: Context
) -> None:
    registry.grant("ann", [TRAINING], **yes())
    german = next_version(notice, version=1, language="de")
    registry.notice(german)
    assert registry.decide("ann", TRAINING, shop).permit
    registry.grant("bob", [TRAINING], **yes(notice=german))


def test_an_old_version_cannot_return(registry: ConsentRegistry, notice: Notice) -> None:
    registry.notice(next_version(notice, version=3))
    with pytest.raises(TransitionRefused, match="too late"):
        registry.notice(next_version(notice, version=2))


def test_registering_twice_changes_nothing(registry: ConsentRegistry, notice: Notice) -> None:
    before = registry.head()
    assert registry.notice(notice) == notice.hash
    assert registry.head() == before
    assert registry.notices() == (notice,)


def test_a_notice_binds_only_to_the_purposes_it_names(
    registry: ConsentRegistry, notice: Notice, yes: Any
) -> None:
    narrow = next_version(notice, notice_id="narrow", purposes=(AUDIT,))
    registry.notice(narrow)
    with pytest.raises(NoticeRefused, match="training"):
        registry.grant("ann", [AUDIT, TRAINING], **yes(notice=narrow))
    assert registry.persons() == ()


# -- bulk ------------------------------------------------------------------------------------------


def row(shown: Notice, name: str, **changes: Any) -> Grant:
    fields: dict[str, Any] = {
        "person": name,
        "purposes": (TRAINING,),
        "age_band": AgeBand.FROM_35,
        "jurisdiction": "IE",
        "notice": shown,
        "valid_for": timedelta(days=90),
    }
    return Grant(**(fields | changes))


def test_an_import_counts_whom_it_refuses(
    registry: ConsentRegistry, notice: Notice, shop: Context
) -> None:
    outcome = registry.grant_many(
        [
            row(notice, "ann"),
            row(notice, "bob", purposes=(TRAINING, AUDIT)),
            row(notice, "zoe", age_band=AgeBand.UNDER_13),
            row(notice, "kim", age_band=AgeBand.UNKNOWN),
            row(notice, "sam", role=Role.EMPLOYEE),
        ]
    )
    assert (outcome.granted, outcome.events) == (2, 4)
    assert outcome.refused == {Reason.MINOR: 1, Reason.UNKNOWN_AGE: 1, Reason.STAFF: 1}
    assert registry.persons() == ("ann", "bob", "sam")
    assert registry.decide("bob", AUDIT, shop).permit
    registry.verify()


@pytest.mark.parametrize("first", ["child", "adult"])
def test_one_answer_as_a_minor_bars_the_person_from_the_whole_import(
    registry: ConsentRegistry, notice: Notice, first: str
) -> None:
    rows = [row(notice, "zoe", age_band=AgeBand.FROM_16), row(notice, "zoe")]
    outcome = registry.grant_many(rows if first == "child" else rows[::-1])
    assert outcome.granted == 0
    assert registry.persons() == ()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"valid_for": timedelta.max}, ValidityRefused),
        ({"notice": "f" * 64}, NoticeRefused),
        ({"person": " "}, MalformedError),
        ({"simulated": True}, SimulatedRefused),
        ({"person": "ann"}, TransitionRefused),
    ],
)
def test_one_wrong_row_stops_the_whole_import(
    registry: ConsentRegistry, notice: Notice, change: dict[str, Any], error: type[Exception]
) -> None:
    before = registry.head()
    with pytest.raises(error):
        registry.grant_many([row(notice, "ann"), row(notice, "bob", **change)])
    assert registry.head() == before
    assert registry.persons() == ()
    registry.grant_many([row(notice, "ann")])  # and the registry goes on as if nothing had been
    registry.verify()


# -- the log ---------------------------------------------------------------------------------------


def test_proofs_of_the_registry_verify(registry: ConsentRegistry, yes: Any) -> None:
    roots = {}
    for i in range(40):
        registry.grant(f"p{i}", [TRAINING], **yes())
        roots[registry.log_seq] = registry.log_root()
    size, root = registry.head()
    for seq in range(size):
        leaf = merkle.leaf_hash(registry.leaf(seq))
        proof = registry.inclusion_proof(seq)
        merkle.verify_inclusion(leaf, seq, size, proof, bytes.fromhex(root))
    for old, old_root in roots.items():
        assert registry.log_root(old) == old_root
        proof = registry.consistency_proof(old)
        merkle.verify_consistency(old, size, proof, bytes.fromhex(old_root), bytes.fromhex(root))


@pytest.mark.parametrize("seq", [-1, 99])
def test_what_the_log_does_not_have_it_does_not_prove(registry: ConsentRegistry, seq: int) -> None:
    for ask in (registry.inclusion_proof, registry.leaf, registry.log_root):
        with pytest.raises(MalformedError):
            ask(seq)


def test_who_withdrew_since(registry: ConsentRegistry, yes: Any) -> None:
    for person in ("ann", "bob", "kim"):
        registry.grant(person, [TRAINING, AUDIT], **yes())
    seq = registry.log_seq
    assert not registry.changed_since(seq)
    registry.withdraw("bob")
    registry.withdraw("ann", [AUDIT])
    assert registry.changed_since(seq)
    assert registry.withdrawn_since(seq) == ("bob", "ann")
    assert registry.withdrawn_since(seq, TRAINING) == ("bob",)
    assert registry.withdrawn_since(registry.log_seq) == ()
