"""Checks by the article that they serve: what a regulator looks up first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .report import Check

__all__ = ["SUBJECTS", "Article", "by_article", "clauses_of"]

_FIRST = ("GDPR", "EU AI Act")

SUBJECTS = {
    "GDPR 5(1)(c)": "no more data than is needed",
    "GDPR 5(1)(e)": "nothing kept longer than is needed",
    "GDPR 5(2)": "being able to show that the principles are kept",
    "GDPR 7(1)": "being able to show that people consented",
    "GDPR 7(3)": "withdrawing consent",
    "GDPR 17": "erasure",
    "GDPR 25(1)": "data protection by design",
    "GDPR 32": "security of processing",
    "GDPR 32(1)(d)": "testing regularly whether the security measures work",
    "GDPR 35(7)": "what an impact assessment holds: risks, and measures against them",
    "EU AI Act 9(9)": "whether people under 18 or other vulnerable groups are affected",
    "EU AI Act 10(2)": "how training data are governed",
    "EU AI Act 10(2)(f)-(g)": "looking for biases, and measures against them",
    "EU AI Act 10(3)": "data that are relevant and representative",
    "EU AI Act 12": "automatic records of what the system does",
    "EU AI Act 13(3)(b)": "telling what the system can do, and for which groups how well",
    "EU AI Act 15(1)": "accuracy, robustness and security that are appropriate",
    "EU AI Act 15(3)": "declared levels of accuracy",
    "EU AI Act 15(5)": "resilience against being changed by others",
    "EU AI Act 19": "keeping automatic records",
    "EU AI Act 50(3)": "telling people that their emotions are read",
    "UK AADC 3": "age-appropriate application: knowing who is a child",
    "UK AADC 7": "default settings",
    "UK AADC 9": "sharing children's data",
    "UK AADC 12": "profiling children",
    "BIPA 15(a)": "a schedule by which biometric data are destroyed",
    "COPPA 312.10": "how long children's data are kept",
    "RFC 9162": "Merkle logs whose proofs anybody can check",
    "C2SP tlog-checkpoint": "signed heads of a log",
}
"""What a clause is about, in our words: to find it by, and no quotation."""

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
    def subject(self) -> str:
        """What it is about, in our words; empty where we have none."""
        return SUBJECTS.get(self.name, "")

    @property
    def place(self) -> str:
        """Its anchor in a page."""
        return "a-" + re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")

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
