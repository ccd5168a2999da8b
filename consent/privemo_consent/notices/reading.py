"""How long a text takes to read, in which language it is, and whether it says certain words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module

__all__ = ["UNSPACED", "Reading", "detect_language", "is_language", "measure", "normalised"]

#: Words a minute, read aloud with care, mean over 17 languages: Trauzettel-Klosinski and Dietz
#: (2012), IReST, Investigative Ophthalmology & Visual Science 53:5452. Silent reading is faster
#: (238 in English: Brysbaert 2019), older readers and second languages are slower.
WORDS_A_MINUTE = 184
#: Languages written without blanks between words: their words are not counted here.
UNSPACED = frozenset({"bo", "dz", "ja", "km", "lo", "my", "th", "wuu", "yue", "zh"})
#: Names of one written language, or of some that no short text tells apart.
_SAME = (
    frozenset({"no", "nb", "nn"}),
    frozenset({"bs", "hr", "sr", "sh"}),
    frozenset({"id", "ms"}),
    frozenset({"zh", "yue", "wuu"}),
)
_SENTENCE = re.compile(r"(?<=[.!?…。！？؟])\s+|\n+")  # noqa: RUF001


@dataclass(frozen=True, slots=True)
class Reading:
    """What reading a text takes.

    Attributes:
        words: how many.
        minutes: at `WORDS_A_MINUTE`.
        words_per_sentence: the mean; a line break ends a sentence, so that a list is none.
        longest_sentence: in words.

    """

    words: int
    minutes: float
    words_per_sentence: float
    longest_sentence: int


def measure(text: str) -> Reading:
    """Measure a text written with blanks between words; an empty one has 0 of everything."""
    lengths = [n for part in _SENTENCE.split(text) if (n := _words(part))]
    words = sum(lengths)
    mean = words / len(lengths) if lengths else 0.0
    return Reading(words, words / WORDS_A_MINUTE, mean, max(lengths, default=0))


def _words(text: str) -> int:
    return sum(any(char.isalnum() for char in token) for token in text.split())


def normalised(text: str) -> str:
    """Return a form in which the same words are the same text.

    Case, line breaks, compatibility forms, and the script of digits do not matter.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    digits = (str(unicodedata.decimal(c)) if c.isdecimal() else c for c in plain)
    return " ".join("".join(digits).split())


def detect_language(text: str) -> str | None:
    """Return the language of a text as ISO 639, or None without the package that tells.

    The package is py3langid: a model of 139 languages inside, nothing fetched. It is certain of a
    paragraph, not of a line.
    """
    classify = _classifier()
    return None if classify is None else classify(text)[0]


@cache
def _classifier() -> Callable[[str], tuple[str, float]] | None:
    try:  # half a second and 5 MB, needed only where a notice is checked
        model = import_module("py3langid.langid")
    except ImportError:
        return None
    found: Callable[[str], tuple[str, float]] = model.LanguageIdentifier.from_model_file(
        model.MODEL_FILE
    ).classify
    return found


def is_language(found: str, declared: str) -> bool:
    """Return whether the language found is the one declared, be it ``de`` or ``de-AT``."""
    wanted = declared.partition("-")[0].lower()
    return found == wanted or any({found, wanted} <= same for same in _SAME)
