"""The words of the interface: one small file for each language, every file with the same keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from ..errors import MalformedError

__all__ = ["LANGUAGES", "Texts", "texts_in"]

_COMMA = ("de", "es", "fr", "pl")
#: In the order of the first page: by the name each language gives itself.
LANGUAGES = ("de", "en", "es", "fr", "pl", "ar")


@dataclass(frozen=True, slots=True)
class Texts:
    """One language.

    Attributes:
        language: ISO 639.
        name: as the language calls itself.
        direction: ``"ltr"`` or ``"rtl"``.
        words: every text, by key.

    """

    language: str
    name: str
    direction: str
    words: Mapping[str, str]

    def __call__(self, key: str, **values: object) -> str:
        """Return a text with its places filled in; a key that is none is a mistake of ours."""
        if self.direction == "rtl":
            # A date or a name that stands alone keeps its own direction (Unicode TR9, FSI and PDI):
            # otherwise 2027-11-29 is shown as 29-11-2027.
            values = {name: f"\u2068{value}\u2069" for name, value in values.items()}
        return self.words[key].format(**values)

    def number(self, value: float) -> str:
        """Return a number as this language writes it; whole where it is whole."""
        point = "," if self.language in _COMMA else "."
        return f"{value:g}".replace(".", point)


@cache
def texts_in(language: str) -> Texts:
    """Return the texts of one of `LANGUAGES`.

    Raises:
        MalformedError: another language.

    """
    if language not in LANGUAGES:
        raise MalformedError(f"got {language!r}, the kiosk speaks {', '.join(LANGUAGES)}")
    body = files(__package__).joinpath("texts", f"{language}.json").read_bytes()
    words: dict[str, str] = json.loads(body)
    return Texts(language, words.pop("name"), words.pop("direction"), words)
