"""Places and what their law asks, from a data file in which every number names its source.

This is engineering, not legal advice. Each entry says what kind of text its number was read in
(``standing``) and when; most are commentary, and the pages were copies of different ages. Where no
text could be found the source is ``secondary, not confirmed``. A place the file does not name gets
the strictest of what it holds.
"""

from __future__ import annotations

import json
import re
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from .errors import MalformedError
from .records import JURISDICTION

__all__ = [
    "STRICTEST_AGE_OF_CONSENT",
    "Jurisdiction",
    "age_of_consent",
    "jurisdiction",
    "jurisdictions",
    "parse_jurisdictions",
]

#: GDPR 8(1)'s own age, for every country without a lower one.
STRICTEST_AGE_OF_CONSENT = 16
_UNION = 27
_EEA_ALONE = frozenset({"IS", "LI", "NO"})
_CODE = re.compile(JURISDICTION)
_ADDRESS = re.compile(r"https?://\S")
_NOT_CONFIRMED = "secondary, not confirmed"

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Jurisdiction(BaseModel):
    """One place.

    Attributes:
        code: ISO 3166-1 alpha-2, or ISO 3166-2 for a part of a country.
        name: in English.
        membership: of the Union, of the EEA alone, or of neither.
        age_of_consent: from which a child may consent alone to online services (GDPR 8(1); COPPA).
        law: that sets the age; without an article where none could be confirmed.
        pending: a change of the age that was seen under way; how it ended is not known.
        standing: what kind of text the number was read in: the law itself, a page of the
            supervisory authority, what others wrote of the law, or none that was found.
        source: what was read, with its address; ``secondary, not confirmed`` where nothing was.
        checked: the day it was compared with the source.
        explicit_consent: the clause by which a face needs explicit consent; None where no clause
            is known. privemo asks for explicit consent everywhere.
        biometric_law: a law of its own on biometric data, as BIPA in Illinois.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: Annotated[str, StringConstraints(pattern=rf"^{JURISDICTION}$")]
    name: Text
    membership: Literal["EU", "EEA"] | None = None
    age_of_consent: Annotated[int, Field(ge=13, le=STRICTEST_AGE_OF_CONSENT, strict=True)]
    law: Text
    pending: Text | None = None
    standing: Literal["law", "authority", "commentary", "not confirmed"]
    source: Text
    checked: date
    explicit_consent: Text | None = None
    biometric_law: Text | None = None

    @property
    def is_confirmed(self) -> bool:
        """True where a text that states the number was read."""
        return self.standing != "not confirmed"

    @property
    def is_eea(self) -> bool:
        """True where the GDPR itself applies: the Union, Iceland, Liechtenstein, Norway."""
        return self.membership is not None


def _check(place: Jurisdiction) -> None:
    if place.is_eea and place.explicit_consent is None:
        raise MalformedError(f"jurisdictions: {place.code} without explicit consent")
    if place.is_confirmed == (place.source == _NOT_CONFIRMED):
        raise MalformedError(
            f"jurisdictions: {place.code} is {place.standing!r}, got source {place.source!r}"
        )
    if place.is_confirmed and not _ADDRESS.search(place.source):
        raise MalformedError(f"jurisdictions: the source of {place.code} has no address")


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_: Annotated[Literal["privemo.jurisdictions/1"], Field(alias="schema")]
    note: Text
    jurisdictions: tuple[Jurisdiction, ...]


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedError("jurisdictions: a key stands twice in one object")
    return found


def parse_jurisdictions(data: bytes) -> dict[str, Jurisdiction]:
    """Parse the data file; every place by its code.

    Raises:
        MalformedError: not JSON, a field missing, unknown or out of range, a place twice or out
            of order, a part without its country, a member of the EEA missing, a member where
            explicit consent would not be required (GDPR 9(2)(a)), or a source without an address
            that does not say ``secondary, not confirmed``.

    """
    try:
        value = json.loads(data, object_pairs_hook=_no_duplicates)
        places = _File.model_validate(value).jurisdictions
    except (ValidationError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise MalformedError(f"jurisdictions: {error}") from error
    codes = [place.code for place in places]
    if codes != sorted(set(codes)):
        raise MalformedError("jurisdictions: got a code twice or out of order")
    found = dict(zip(codes, places, strict=True))
    for place in places:
        if place.code[:2] not in found:
            raise MalformedError(f"jurisdictions: {place.code} without its country")
        _check(place)
    union = [place.code for place in places if place.membership == "EU"]
    eea = {place.code for place in places if place.membership == "EEA"}
    if len(union) != _UNION or eea != _EEA_ALONE:
        raise MalformedError(
            f"jurisdictions: got {len(union)} members of the EU and {sorted(eea)} of the EEA, "
            f"want {_UNION} and {sorted(_EEA_ALONE)}"
        )
    return found


@cache
def _places() -> dict[str, Jurisdiction]:
    return parse_jurisdictions(files(__package__).joinpath("data/jurisdictions.json").read_bytes())


def jurisdictions() -> tuple[Jurisdiction, ...]:
    """Return every place of the data file, by code."""
    return tuple(_places().values())


def jurisdiction(code: str) -> Jurisdiction:
    """Return a place; for a part of a country that has no entry, the country.

    A code without any entry gives the strictest rules there are, and says so in ``law``.

    Raises:
        MalformedError: ``code`` is no ISO 3166 code as ``IE`` or ``US-IL``.

    """
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        raise MalformedError(f"got jurisdiction {code!r}, want ISO 3166 as IE or US-IL")
    found = _places().get(code) or _places().get(code[:2])
    if found is not None:
        return found
    return Jurisdiction(
        code=code,
        name=code,
        age_of_consent=STRICTEST_AGE_OF_CONSENT,
        law="not in the table: the strictest age, GDPR 8(1)",
        standing="law",
        source="GDPR 8(1), https://eur-lex.europa.eu/eli/reg/2016/679/oj",
        checked=max(place.checked for place in _places().values()),
        explicit_consent="not in the table: as in the Union, GDPR 9(2)(a)",
    )


def age_of_consent(code: str) -> int:
    """Return the age of a place; 16 for one the table does not name (GDPR 8(1))."""
    return jurisdiction(code).age_of_consent
