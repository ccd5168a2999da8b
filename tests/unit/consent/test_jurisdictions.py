"""Places as data: every number has a source, and a file that is not sound is refused whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest

from privemo_consent.errors import MalformedError
from privemo_consent.jurisdictions import (
    STRICTEST_AGE_OF_CONSENT,
    age_of_consent,
    jurisdiction,
    jurisdictions,
    parse_jurisdictions,
)
from privemo_consent.policy import AGE_OF_CONSENT

DATA = files("privemo_consent").joinpath("data/jurisdictions.json").read_bytes()
NOT_CONFIRMED = "secondary, not confirmed"
#: The numbers of the first version, by hand.
AGES = {
    13: "BE EE FI GB IS LV MT NO PT SE US",
    14: "AT BG CY ES IT LT",
    15: "CZ DK FR GR SI",
    16: "DE HR HU IE LI LU NL PL RO SK",
}


def test_the_ages_are_those_that_were_looked_up() -> None:
    wanted = {code: age for age, codes in AGES.items() for code in codes.split()}
    assert dict(AGE_OF_CONSENT) == wanted


def test_every_entry_says_where_its_number_is_from() -> None:
    for place in jurisdictions():
        assert place.law, place.code
        assert place.source, place.code
        assert place.checked.year >= 2026, place.code
        assert place.is_confirmed == ("https://" in place.source or "http://" in place.source)


def test_a_number_that_nobody_found_in_a_text_says_so_and_cites_no_article() -> None:
    open_ones = [place for place in jurisdictions() if not place.is_confirmed]
    assert [place.code for place in open_ones] == ["LV", "RO"]
    assert {place.source for place in open_ones} == {NOT_CONFIRMED}
    assert not any("section" in place.law or "article" in place.law for place in open_ones)


def test_a_change_under_way_is_told() -> None:
    assert [place.code for place in jurisdictions() if place.pending] == ["ES", "GB", "NO", "RO"]


def test_the_union_asks_for_explicit_consent() -> None:
    members = [place for place in jurisdictions() if place.is_eea]
    assert len(members) == 30
    assert all("9(2)(a)" in (place.explicit_consent or "") for place in members)
    assert not jurisdiction("GB").is_eea


def test_illinois_has_a_law_of_its_own() -> None:
    assert "BIPA" in (jurisdiction("US-IL").biometric_law or "")
    assert jurisdiction("US-CA").biometric_law is None
    assert jurisdiction("US-CA") == jurisdiction("US")


@pytest.mark.parametrize("code", ["ZZ", "BR", "XK-1"])
def test_a_place_nobody_looked_up_gets_the_strictest_rules(code: str) -> None:
    place = jurisdiction(code)
    assert (place.age_of_consent, age_of_consent(code)) == (STRICTEST_AGE_OF_CONSENT,) * 2
    assert place.explicit_consent
    assert place.law.startswith("not in the table")
    assert (place.standing, place.pending) == ("law", None)


@pytest.mark.parametrize("code", ["", "ie", "Ireland", "IE\n", "US-", "US-TOOLONG", None, 7])
def test_a_code_is_one(code: object) -> None:
    with pytest.raises(MalformedError, match="want ISO 3166"):
        jurisdiction(code)  # type: ignore[arg-type]


def place(code: str, /, **changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(file: dict[str, Any]) -> None:
        entry = next(entry for entry in file["jurisdictions"] if entry["code"] == code)
        entry |= changes
        for name in [name for name, value in changes.items() if value is None]:
            del entry[name]

    return change


def without(code: str) -> Callable[[dict[str, Any]], None]:
    def change(file: dict[str, Any]) -> None:
        file["jurisdictions"] = [e for e in file["jurisdictions"] if e["code"] != code]

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (place("IE", age_of_consent=12), "age_of_consent"),
        (place("IE", age_of_consent=17), "age_of_consent"),
        (place("IE", age_of_consent="16"), "age_of_consent"),
        (place("IE", age_of_consent=True), "age_of_consent"),
        (place("IE", law=" "), "law"),
        (place("IE", source=None), "source"),
        (place("IE", source="somebody said so"), "the source of IE has no address"),
        (place("IE", source=NOT_CONFIRMED), "IE is 'commentary'"),
        (place("IE", standing="not confirmed"), "IE is 'not confirmed'"),
        (place("IE", standing="hearsay"), "standing"),
        (place("IE", standing=None), "standing"),
        (place("LV", standing="law"), "LV is 'law'"),
        (place("LV", source=f"{NOT_CONFIRMED} at all"), "LV is 'not confirmed'"),
        (place("GB", pending=" "), "pending"),
        (place("IE", checked="lately"), "checked"),
        (place("IE", surprise=1), "surprise"),
        (place("IE", membership="USA"), "membership"),
        (place("IE", membership=None), "26 members of the EU"),
        (place("GB", membership="EU"), "28 members of the EU"),
        (place("NO", membership=None), "of the EEA"),
        (place("IE", explicit_consent=None), "IE without explicit consent"),
        (place("IE", code="ie"), "code"),
        (place("IE", code="ZZ"), "out of order"),
        (place("IE", code="HU"), "twice"),
        (without("MT"), "26 members"),
        (without("US"), "US-IL without its country"),
        (lambda file: file.update(schema="privemo.jurisdictions/2"), "schema"),
        (lambda file: file.update(jurisdictions=[]), "0 members"),
        (lambda file: file.pop("note"), "note"),
    ],
)
def test_a_file_that_is_not_sound_is_refused(
    change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    file = json.loads(DATA)
    change(file)
    with pytest.raises(MalformedError, match=reason):
        parse_jurisdictions(json.dumps(file).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        DATA[:-9],
        DATA.replace(b'"code": "AT"', b'"code": "AT", "code": "AT"'),
        b"[" * 100_000,
    ],
)
def test_bytes_that_are_no_such_file_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedError, match="jurisdictions"):
        parse_jurisdictions(data)
