"""The kiosk's words in every language, and the notices of its demonstration."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

from privemo_consent import (
    AgeBand,
    ConsentStatus,
    MalformedError,
    check_notice,
)
from privemo_consent.kiosk.demonstration import demo_notice
from privemo_consent.kiosk.texts import LANGUAGES, texts_in


def test_every_text_is_there_in_every_language_with_the_same_places() -> None:
    english = texts_in("en")
    assert len(LANGUAGES) >= 6
    assert {texts_in(language).direction for language in LANGUAGES} == {"ltr", "rtl"}
    for language in LANGUAGES:
        words = texts_in(language).words
        assert list(words) == list(english.words), language
        for key, text in words.items():
            assert text.strip(), f"{language} {key}"
            places = sorted(re.findall(r"{\w*}", text))
            assert places == sorted(re.findall(r"{\w*}", english.words[key])), f"{language} {key}"


def test_no_text_was_forgotten_in_translation() -> None:
    english = texts_in("en").words
    for language in LANGUAGES:
        if language != "en":
            alike = [key for key, text in texts_in(language).words.items() if text == english[key]]
            words_of_one_form = {"no", "state_off", "status_ConsentRefused", "error_prefix"}
            assert set(alike) <= words_of_one_form, language


def test_every_text_that_a_template_asks_for_is_there_and_no_other() -> None:
    folder = files("privemo_consent.kiosk").joinpath("templates")
    sources = [path.read_text(encoding="utf-8") for path in folder.iterdir()]
    package = Path(str(files("privemo_consent.kiosk")))
    sources += [path.read_text(encoding="utf-8") for path in package.glob("*.py")]
    asked = set(re.findall(r"""["']([a-z][a-z0-9_]+)["']""", "\n".join(sources)))
    built = ("age_", "role_", "purpose_", "status_", "item_", "overdue_", "staff_witness_")
    words = set(texts_in("en").words)
    unused = {key for key in words - asked if not key.startswith(built)}
    assert not unused
    in_templates = set(re.findall(r"""\bt\(['"]([a-z0-9_]+)['"][,)]""", "\n".join(sources)))
    assert in_templates <= words
    for band in AgeBand:
        assert f"age_{band.value}" in words
    for status in ConsentStatus:
        assert f"status_{status.value}" in words


def test_a_date_is_not_turned_round_where_one_writes_from_the_right() -> None:
    assert "\u20682027-11-29\u2069" in texts_in("ar")("until", day="2027-11-29")
    assert texts_in("en")("until", day="2027-11-29") == "until 2027-11-29"


def test_a_language_that_nobody_wrote_is_refused() -> None:
    with pytest.raises(MalformedError, match="speaks"):
        texts_in("nl")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_notices_of_the_demonstration_are_fit_to_be_shown(language: str) -> None:
    report = check_notice(demo_notice(language))
    assert report.findings == ()
    assert report.detected in (language, None)
