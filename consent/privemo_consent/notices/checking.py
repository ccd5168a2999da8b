"""Is a notice fit to be shown? Every item of GDPR 13(1)-(2), in its record and in its text.

The record states facts; the text tells them to a person. Both are checked, and each against the
other (`wording`). What no program can check is in `UNCHECKED`. GDPR 13 is asked of every notice,
wherever it is shown: privemo holds all to the strictest law. This is engineering, not legal advice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from ..errors import NoticeRefused
from ..jurisdictions import jurisdiction
from ..records import Notice, Right
from .reading import UNSPACED, Reading, detect_language, is_language, measure
from .wording import untold

__all__ = [
    "MAX_MINUTES",
    "MAX_WORDS_PER_SENTENCE",
    "UNCHECKED",
    "Finding",
    "NoticeReport",
    "check_notice",
]

#: A person stands at a kiosk, and GDPR 12(1) asks for concise. The number is ours.
MAX_MINUTES = 4.0
#: Mean words a sentence; the GOV.UK content guidance asks for 25 at most in any.
MAX_WORDS_PER_SENTENCE = 25
_LONGEST_SENTENCE = 40
#: Below this many words a text is too short for its language to be told.
_ENOUGH_WORDS = 20
_BIPA_DAYS = 3 * 365

#: Said wherever a report is shown.
UNCHECKED = (
    "whether what the text says is true, and whether the words named for an item tell it",
    "whether a representative, a data protection officer or a safeguard is needed or is sound",
    "whether a processor named as one is one",
    "whether a figure in the text that equals the term is the one that states it",
    "whether people understand the text: only its length and its sentences are measured",
)

#: What the field of a notice tells, its clause, and what to do when it is silent.
_FIELDS = (
    ("GDPR 13(1)(a)", "representative", 'name the party that represents you, or say "none"'),
    ("GDPR 13(1)(b)", "data_protection_officer", 'say how to reach them, or "none"'),
    ("GDPR 13(1)(f)", "transfers", 'name countries and safeguards, or say "none"'),
    ("GDPR 13(2)(b)", "rights", f"name all of {', '.join(Right)}"),
    ("GDPR 13(2)(d)", "authority", "name the authority where people can complain"),
    ("GDPR 13(2)(e)", "data_required", "say false: nobody has to give a picture of their face"),
    ("GDPR 13(2)(e)", "refusal", "say what refusing means"),
    ("GDPR 13(2)(f)", "automated_decisions", 'say what is decided and how, or "none"'),
)
#: Facts in words: they differ between translations.
_WORDING = frozenset(
    {"language", "text", "told", "storage_location", "withdrawal_method", "refusal"}
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong with a notice.

    Attributes:
        clause: that asks for it.
        item: which item of the notice.
        severity: an error keeps the notice from being shown, a warning does not.
        remedy: what to do.

    """

    clause: str
    item: str
    severity: Literal["error", "warning"]
    remedy: str

    def __str__(self) -> str:
        return f"{self.clause}, {self.item}: {self.remedy}"


@dataclass(frozen=True, slots=True)
class NoticeReport:
    """What a check found.

    Attributes:
        notice_id: of the notice.
        version: of the notice.
        language: as the notice declares it.
        detected: the language found in the text; None where it was not looked for.
        reading: how long it takes; None for a language whose words are not counted.
        findings: in the order of the clauses.

    """

    notice_id: str
    version: int
    language: str
    detected: str | None
    reading: Reading | None
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that keep the notice from being shown."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    def raise_for_errors(self) -> None:
        """Refuse a notice that must not be shown.

        Raises:
            NoticeRefused: it has errors; the message names them all.

        """
        if self.errors:
            raise NoticeRefused(
                f"notice {self.notice_id} version {self.version} ({self.language}) is not fit to "
                f"be shown: {'; '.join(map(str, self.errors))}"
            )


def check_notice(notice: Notice, *, translations: Iterable[Notice] = ()) -> NoticeReport:
    """Check a notice; nothing is raised, whatever is wrong with it.

    Args:
        notice: to be shown.
        translations: notices shown beside it; those of the same id and version must state the
            same facts, each in a language of its own.

    """
    readable = notice.language.partition("-")[0] not in UNSPACED
    reading = measure(notice.text) if readable else None
    enough = reading is None or reading.words >= _ENOUGH_WORDS
    detected = detect_language(notice.text) if enough else None
    findings = (
        *_silent(notice),
        *(_error(*told) for told in untold(notice)),
        *_places(notice),
        *_language(notice, detected),
        *_length(reading),
        *_translated(notice, translations),
    )
    return NoticeReport(
        notice.notice_id, notice.version, notice.language, detected, reading, findings
    )


def _error(clause: str, item: str, remedy: str) -> Finding:
    return Finding(clause, item, "error", remedy)


def _warning(clause: str, item: str, remedy: str) -> Finding:
    return Finding(clause, item, "warning", remedy)


def _silent(notice: Notice) -> Iterator[Finding]:
    """What the record does not state. Controller, purposes and term are never empty."""
    if notice.schema_version == "privemo.notice/1":
        yield _error("27560 6.3.4", "schema_version", "write the notice as privemo.notice/2")
    for clause, item, remedy in _FIELDS:
        if getattr(notice, item) is None:
            yield _error(clause, item, remedy)
    missing = [right.value for right in Right if right not in (notice.rights or tuple(Right))]
    if missing:
        yield _error("GDPR 13(2)(b)", "rights", f"name {', '.join(missing)} as well")


def _places(notice: Notice) -> Iterator[Finding]:
    for code in notice.jurisdictions:
        place = jurisdiction(code)
        if place.law.startswith("not in the table"):
            remedy = f"{code} is not in the table of jurisdictions: look its law up"
            yield _warning("27560 6.3.4.16", "jurisdictions", remedy)
        if place.biometric_law is not None and notice.retention_days > _BIPA_DAYS:
            remedy = f"{code}: keep faces for at most {_BIPA_DAYS} days"
            yield _error("BIPA 15(a)", "retention_days", remedy)


def _language(notice: Notice, detected: str | None) -> Iterator[Finding]:
    clause = "GDPR 12(1); 27560 6.3.4.2"
    if detected is None:
        remedy = "not checked: write at least 20 words, and pip install 'privemo[notices]'"
        yield _warning(clause, "language", remedy)
    elif not is_language(detected, notice.language):
        remedy = f"the text is declared as {notice.language} and reads as {detected}"
        yield _error(clause, "language", remedy)


def _length(reading: Reading | None) -> Iterator[Finding]:
    if reading is None:
        yield _warning("GDPR 12(1)", "length", "not measured: no blanks between words")
        return
    if reading.minutes > MAX_MINUTES:
        remedy = f"{reading.words} words take {reading.minutes:.1f} minutes, want {MAX_MINUTES:.0f}"
        yield _error("GDPR 12(1)", "length", remedy)
    if reading.words_per_sentence > MAX_WORDS_PER_SENTENCE:
        remedy = f"a sentence has {reading.words_per_sentence:.0f} words, want at most 25"
        yield _error("GDPR 12(1)", "sentences", remedy)
    if reading.longest_sentence > _LONGEST_SENTENCE:
        remedy = f"one has {reading.longest_sentence} words: cut it in two"
        yield _warning("GDPR 12(1)", "sentences", remedy)


def _translated(notice: Notice, translations: Iterable[Notice]) -> Iterator[Finding]:
    """One version says one thing, in every language (ISO/IEC 29184 5.2.4)."""
    clause = "29184 5.2.4"
    facts = _facts(notice)
    for other in translations:
        if (other.notice_id, other.version) != (notice.notice_id, notice.version):
            continue
        if other.hash == notice.hash:
            continue
        if other.language == notice.language:
            remedy = f"two texts in {other.language}: give one of them another version"
            yield _error(clause, "language", remedy)
        theirs = _facts(other)
        odd = sorted(name for name in facts if facts[name] != theirs[name])
        if odd:
            yield _error(clause, ", ".join(odd), f"not as in the {other.language} text")


def _facts(notice: Notice) -> dict[str, object]:
    """Everything a translation must keep: all but wording."""
    facts: dict[str, object] = notice.model_dump(exclude=set(_WORDING))
    facts["told"] = sorted(each.item for each in notice.told or ())
    facts["refusal"] = notice.refusal is not None
    if isinstance(notice.transfers, tuple):
        facts["transfers"] = [transfer.country for transfer in notice.transfers]
    if notice.automated_decisions is not None:
        facts["automated_decisions"] = notice.automated_decisions == "none"
    return facts
