"""What `privemo federation` says of stores that measure and are counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from privemo.cli.common import counted

if TYPE_CHECKING:
    from privemo.counted import Counted
    from privemo.countterms import CountTerms
    from privemo.runs import Run

__all__ = ["agreed_counts", "told_counted", "told_measured"]


def agreed_counts(terms: CountTerms | None) -> str:
    """What a store agreed to have counted."""
    if terms is None:
        return "Nobody measured is counted for others."
    if terms.epsilon is None:
        return "Counts of the people measured leave once, exact, in a sum of all stores."
    return (
        f"Counts of the people measured leave at epsilon {terms.epsilon:g} for each of them, "
        f"{terms.releases} time(s) at most."
    )


def told_measured(the_run: Run) -> str:
    """Which stores measured, and why others did not."""
    from privemo.counted import measured

    missing = {name: why for name, why in measured(the_run).items() if why is not None}
    done = f"{len(the_run.stores) - len(missing)} of {counted(len(the_run.stores), 'store')} measured it"
    return f"{done}{_named(missing)}."


def told_counted(found: Counted) -> str:
    """Which stores are counted, why others are not, and where the audit is."""
    return (
        f"Counted in {counted(len(found.stores), 'store')}{_named(found.left_out)}: {found.joined}"
    )


def _named(left_out: dict[str, str]) -> str:
    """Who is missing, and why, as the end of a sentence."""
    named = "; ".join(f"{name}: {why}" for name, why in sorted(left_out.items()))
    return f" (without {named})" if named else ""
