"""Does the text of a notice tell what its record states?

What the record says in words (names, contacts, how to withdraw) must stand in the text as it
stands in the record. For what it says in codes (purposes, rights, the lawful basis) the author
names the words of the text that tell it (``Notice.told``), so that the check holds in any language
and a reviewer sees which words tell what. Whether they tell it truly, no program can say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..records import Notice, Party
from .reading import normalised

__all__ = ["untold"]


def untold(notice: Notice) -> Iterator[tuple[str, str, str]]:
    """Yield what the record states and the text does not tell: clause, item, what to do."""
    text = normalised(notice.text)
    for clause, item, words in _words(notice):
        if normalised(words) not in text:
            yield clause, item, f"the text does not say {words!r}"
    told = {each.item: each.words for each in notice.told or ()}
    codes = dict(_codes(notice))
    for item, clause in codes.items():
        if item not in told:
            yield clause, item, f"name the words of the text that tell it: told[{item!r}]"
        elif not _says(text, told[item]):
            yield clause, item, f"the text does not say {told[item]!r}"
    for item in sorted(told.keys() - codes.keys()):
        yield "27560 6.3.4", f"told[{item!r}]", "the notice has no such item: take it out"
    if len({normalised(words) for words in told.values()}) < len(notice.told or ()):
        yield "GDPR 12(1)", "told", "tell each item once, and in words of its own"
    if not _says_term(text, notice.retention_days):
        days = notice.retention_days
        # BIPA 15(b)(2): the release states the term before any capture.
        yield "GDPR 13(2)(a); BIPA 15(b)", "retention_days", f"write {days} days in figures"


def _words(notice: Notice) -> Iterator[tuple[str, str, str]]:
    """What the record says in words: clause, item, words."""
    yield from _party("GDPR 13(1)(a)", "controller", notice.controller)
    yield "27560 6.3.4.11", "storage_location", notice.storage_location
    yield "GDPR 13(2)(c), 7(3)", "withdrawal_method", notice.withdrawal_method
    yield from _party("GDPR 13(1)(a)", "representative", notice.representative)
    if notice.data_protection_officer not in (None, "none"):
        yield "GDPR 13(1)(b)", "data_protection_officer", str(notice.data_protection_officer)
    for recipient in notice.recipients:
        if isinstance(recipient, Party):
            yield "GDPR 13(1)(e)", "recipients", recipient.name
    if isinstance(notice.transfers, tuple):
        for transfer in notice.transfers:
            yield "GDPR 13(1)(f)", "transfers", transfer.safeguard
            yield "GDPR 13(1)(f)", "transfers", transfer.copy_from
    if notice.authority is not None:
        yield "GDPR 13(2)(d)", "authority", notice.authority.name
    if notice.refusal is not None:
        yield "GDPR 13(2)(e)", "refusal", notice.refusal
    if notice.automated_decisions not in (None, "none"):
        yield "GDPR 13(2)(f)", "automated_decisions", str(notice.automated_decisions)


def _party(clause: str, item: str, party: object) -> Iterator[tuple[str, str, str]]:
    if isinstance(party, Party):
        yield clause, item, party.name
        yield clause, item, party.contact


def _codes(notice: Notice) -> Iterator[tuple[str, str]]:
    """What the record says in codes: item, clause."""
    for purpose in notice.purposes:
        yield purpose.value, "GDPR 13(1)(c); BIPA 15(b)"
    yield "lawful_basis", "GDPR 13(1)(c)"
    for right in notice.rights or ():
        yield right.value, "GDPR 13(2)(b)"


def _says(text: str, words: str) -> bool:
    """Three letters at least, or two of a script in which each is a word."""
    wanted = normalised(words)
    letters = sum(char.isalpha() for char in wanted)
    return letters >= (3 if wanted.isascii() else 2) and wanted in text


def _says_term(text: str, days: int) -> bool:
    """In days, whole weeks, or months of 30 or 365/12 days; a 1 stands in too many texts."""
    terms = {days}
    if days % 7 == 0 and days > 7:
        terms.add(days // 7)
    months = round(days * 12 / 365)
    if months > 1 and days in (30 * months, months * 365 // 12, -(-months * 365 // 12)):
        terms.add(months)
    return not terms.isdisjoint(int(digits) for digits in re.findall(r"\d{1,9}", text))
