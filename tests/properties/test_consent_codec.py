"""Bytes: the fast paths say what the slow ones say, and nothing else is read."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import rfc8785
from hypothesis import assume, given
from hypothesis import strategies as st

from privemo_consent import MalformedError, leaves
from privemo_consent.canonical import canonical_bytes, parse_canonical
from privemo_consent.times import from_us, iso, parse_iso, to_us

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
FLAT = st.dictionaries(
    TEXT, st.none() | st.booleans() | TEXT | st.integers(-(2**53) + 1, 2**53 - 1), max_size=8
)
NESTED = st.recursive(
    st.none()
    | st.booleans()
    | TEXT
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(9998, 1, 1), timezones=st.just(UTC))
HEX = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(FLAT | NESTED)
def test_canonical_bytes_are_those_of_rfc8785(value: object) -> None:
    assert canonical_bytes(value) == rfc8785.dumps(value)  # type: ignore[arg-type]


@given(st.dictionaries(TEXT, NESTED, max_size=4))
def test_what_was_written_is_read_back(value: dict[str, object]) -> None:
    data = canonical_bytes(value)
    assert canonical_bytes(parse_canonical(data)) == data


@given(st.binary(max_size=60) | TEXT.map(str.encode))
def test_nothing_but_canonical_objects_is_read(data: bytes) -> None:
    try:
        value = parse_canonical(data)
    except MalformedError:
        return
    assert rfc8785.dumps(value) == data


@given(MOMENTS)
def test_times_round_trip(moment: datetime) -> None:
    assert from_us(to_us(moment)) == moment
    assert parse_iso(iso(to_us(moment))) == to_us(moment)


@st.composite
def consents(draw: st.DrawFn) -> dict[str, object]:
    return {
        "record_id": draw(HEX)[:32],
        "subject": draw(HEX),
        "purpose": draw(st.sampled_from([p.value for p in leaves.PURPOSES])),
        "status": draw(st.sampled_from([s.value for s in leaves.STATUSES])),
        "at": iso(to_us(draw(MOMENTS))),
        "recorded_at": iso(to_us(draw(MOMENTS))),
        "expires": draw(st.none() | MOMENTS.map(to_us).map(iso)),
        "entity": draw(st.sampled_from(["data_subject", "registry"])),
        "role": draw(st.sampled_from([r.value for r in leaves.ROLES])),
        "jurisdiction": draw(st.from_regex(r"[A-Z]{2}(-[A-Z0-9]{1,3})?", fullmatch=True)),
        "notice": draw(HEX),
        "simulated": draw(st.booleans()),
    }


@given(consents())
def test_a_consent_leaf_is_canonical_and_reads_back(fields: dict[str, object]) -> None:
    leaf = leaves.consent_leaf(**fields)  # type: ignore[arg-type]
    whole = {
        "schema": "privemo.log/1",
        "kind": "consent",
        "type": "explicit",
        "age": "adult",
        **fields,
    }
    assert leaf == rfc8785.dumps(whole)  # type: ignore[arg-type]
    assert leaves.parse(leaf) == whole
    event = leaves.event_of(leaf, person="ann", seq=3)
    assert event.status == fields["status"]


@given(consents(), st.data())
def test_a_leaf_changed_in_one_byte_is_refused_or_says_something_else(
    fields: dict[str, object], data: st.DataObject
) -> None:
    leaf = leaves.consent_leaf(**fields)  # type: ignore[arg-type]
    place = data.draw(st.integers(0, len(leaf) - 1))
    byte = data.draw(st.integers(0, 255))
    changed = leaf[:place] + bytes([byte]) + leaf[place + 1 :]
    assume(changed != leaf)
    try:
        value = leaves.parse(changed)
    except MalformedError:
        return
    assert value != leaves.parse(leaf)


@given(st.dictionaries(TEXT, TEXT, max_size=3), st.sampled_from(leaves.KINDS))
def test_a_leaf_of_no_known_form_is_refused(extra: dict[str, str], kind: str) -> None:
    value = {"schema": "privemo.log/1", "kind": kind, "simulated": False, **extra}
    with pytest.raises(MalformedError):
        leaves.parse(rfc8785.dumps(value))  # type: ignore[arg-type]
