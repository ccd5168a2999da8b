"""Checks by the article that they serve: what a regulator looks up first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .report import Check

__all__ = ["Article", "by_article", "clauses_of"]

_FIRST = ("GDPR", "EU AI Act")

_LAW = re.compile(r"^(GDPR|EU AI Act|UK AADC|BIPA|COPPA) (.+)$")


class Article(NamedTuple):
    """One clause of a law or a standard, and every check that bears on it."""

    law: str
    clause: str
    checks: tuple[Check, ...]

    @property
    def name(self) -> str:
        """As it is cited."""
        return f"{self.law} {self.clause}".strip()

    @property
    def failed(self) -> bool:
        """Whether a required check of it does not hold."""
        return any(check.required and not check.passed for check in self.checks)


def clauses_of(clause: str) -> list[tuple[str, str]]:
    """Law and clause of each part: ``GDPR 25(1), 32; RFC 9162`` are three."""
    out = []
    for part in filter(None, map(str.strip, clause.split(";"))):
        law = _LAW.match(part)
        if law is None:
            out.append((part, ""))
        else:
            out += [(law[1], number.strip()) for number in law[2].split(",")]
    return out


def by_article(checks: Iterable[Check]) -> list[Article]:
    """Every clause that some check serves, in reading order; a check stands at each of its clauses."""
    found: dict[tuple[str, str], list[Check]] = {}
    for check in checks:
        for where in clauses_of(check.clause):
            found.setdefault(where, []).append(check)
    return [
        Article(law, clause, tuple(found[law, clause]))
        for law, clause in sorted(found, key=_reading_order)
    ]


def _reading_order(where: tuple[str, str]) -> tuple[int, str, Sequence[tuple[int, int | str]]]:
    """The two laws that most ask for first; within a law numbers by value: 5 before 10(2) before 10(3)."""
    law, clause = where
    parts = re.findall(r"\d+|[a-z]+", clause)
    key = [(0, int(part)) if part.isdigit() else (1, part) for part in parts]
    return (_FIRST.index(law) if law in _FIRST else len(_FIRST), law, key)
