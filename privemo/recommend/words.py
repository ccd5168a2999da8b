"""What a shopper is told, in one sentence, in each language: small files under `data/words/`."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from privemo.errors import SettingsError

from .ranking import Why

if TYPE_CHECKING:
    from .ranking import Ranking

__all__ = ["LANGUAGES", "sentence"]

LANGUAGES: tuple[str, ...] = ("en", "de", "fr", "es", "pl", "ar")

TOLD_AS: dict[Why, str] = {
    Why.ADAPTED: "adapted",
    Why.SHOP_CHOSEN: "same",
    Why.NOTHING_MOVED: "same",
    Why.NO_SESSION: "without_consent",
    Why.NOT_PERMITTED: "without_consent",
    Why.NOT_READ: "not_read",
    Why.ABSTAINED: "not_read",
    Why.READING_REFUSED: "not_read",
    Why.UNSURE: "not_read",
    Why.FAILED: "failed",
    Why.NOT_LOGGED: "failed",
}


@cache
def words(language: str) -> dict[str, Any]:
    """The words of a language.

    Raises:
        SettingsError: there are none.
    """
    if language not in LANGUAGES:
        raise SettingsError(f"got language {language!r}; choose one of {', '.join(LANGUAGES)}")
    raw = (files("privemo.recommend") / f"data/words/{language}.toml").read_text(encoding="utf-8")
    return tomllib.loads(raw)


def sentence(ranking: Ranking, language: str) -> str:
    """See `Ranking.sentence`."""
    told = words(language.partition("-")[0].lower())
    text: str = told["sentences"][TOLD_AS[ranking.why]]
    return text.format(
        emotion=told["emotions"].get(ranking.emotion, ""),
        appeal=told["appeals"].get(ranking.arm, ""),
        places=ranking.places,
    )
