"""The code that somebody takes home, and the id that does not tell it."""

from __future__ import annotations

from typing import Any

import pytest

from privemo_consent.kiosk.codes import draw_code, person_of, read_code


def test_codes_are_all_different_and_have_a_hundred_bits() -> None:
    drawn = {draw_code() for _ in range(1000)}
    assert len(drawn) == 1000
    letters = "".join(drawn).replace("-", "")
    assert len(set(letters)) == 32
    assert all(len(code.replace("-", "")) == 20 for code in drawn)


@pytest.mark.parametrize(
    "change", [str, str.lower, lambda c: c.replace("-", " "), lambda c: f" {c}\n"]
)
def test_a_code_is_read_as_people_type_it(change: Any) -> None:
    code = draw_code()
    assert read_code(change(code)) == code


def test_letters_that_look_like_digits_are_read_as_digits() -> None:
    assert read_code("OIL00-00000-00000-00000") == "01100-00000-00000-00000"


@pytest.mark.parametrize("typed", ["", "7", "7" * 19, "7" * 21, "U" * 20, "ä" * 20, "\x00" * 20])
def test_what_is_no_code_is_none(typed: str) -> None:
    assert read_code(typed) is None


def test_a_person_id_does_not_tell_its_code() -> None:
    code = draw_code()
    person = person_of(code)
    assert person.startswith("kiosk-")
    assert not any(part in person.upper() for part in code.split("-"))
    assert person != person_of(draw_code())
