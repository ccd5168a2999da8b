"""What checks are made of: each has a title, a verdict, its evidence in numbers, and the clause it serves.

The checks themselves stand in modules by what they judge: `consentchecks`, `askedchecks`, `privacychecks`,
`attackchecks`, `modelchecks`, and those of a policy in `policy`. `found.checks_of` puts them in their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .report import Check, Violation

__all__ = ["counted", "first", "judge", "of_kinds"]


def judge(name: str, title: str, clause: str, found: Sequence[Violation], fine: str) -> Check:
    """A required check that one of some violations fails; `fine` is its evidence where there is none."""
    return Check(
        id=name,
        title=title,
        passed=not found,
        required=True,
        evidence=first(found) if found else fine,
        clause=clause,
    )


def of_kinds(violations: Iterable[Violation], kinds: Sequence[str]) -> list[Violation]:
    """The violations of some kinds."""
    return [v for v in violations if v.kind in kinds]


def first(found: Sequence[Violation]) -> str:
    """Name the first of some violations."""
    v = found[0]
    where = v.store + (f", round {v.round}" if v.round is not None else "")
    who = f", person {v.person}" if v.person else ""
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{where}{who}: {v.detail}{more}"


def counted(number: int, what: str) -> str:
    """``1 round``, ``2 rounds``."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")
