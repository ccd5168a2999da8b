"""What a store owes people besides asking them: to destroy what is due, to finish erasures, to tell them.

Judged as of the last thing that the run recorded, so that an audit repeated later says the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from privemo_consent import leaves, schema
from privemo_consent.storage import open_store
from privemo_consent.terms import Purpose

from .report import Violation

if TYPE_CHECKING:
    from pathlib import Path

    from privemo_consent.registry import ConsentRegistry

    from .runfiles import Run

__all__ = ["Due", "Upkeep", "last_moment", "read_upkeep", "upkeep_faults"]


class Due(NamedTuple):
    """Something of a person that should have been destroyed."""

    person: str
    what: str
    since: datetime
    rule: str


class Upkeep(NamedTuple):
    """Of one store.

    Attributes:
        due: what should have been destroyed.
        erased: how many people were erased.
        erased_keys_left: people erased whose key is still there.
        told: when people were first told that expressions are read; None if never.
        first_reading: the first permitted reading for PERSONALISATION; None if there was none.
    """

    due: tuple[Due, ...]
    erased: int
    erased_keys_left: int
    told: datetime | None
    first_reading: datetime | None


def last_moment(run: Run, uses: Sequence[datetime]) -> datetime:
    """When the last thing happened that a run recorded."""
    done = [item.finished for item in run.rounds if item.finished is not None]
    return max([run.info.created, *done, *uses])


def read_upkeep(registry: ConsentRegistry, path: Path, at: datetime) -> Upkeep:
    """Read a registry's dues as of a moment.

    Raises:
        privemo_consent.ConsentError: it cannot be read.
    """
    due = tuple(
        Due(each.person, str(each.what), each.since, str(each.rule))
        for each in registry.overdue(at)
    )
    readings = (
        decision.at
        for decision in registry.decisions()
        if decision.permit and decision.purpose is Purpose.PERSONALISATION
    )
    told, erased = _special(path)
    keys = registry.keys
    left = sum(not keys.punctured(pid) for pid in erased)
    return Upkeep(due, len(erased), left, told, min(readings, default=None))


def _special(path: Path) -> tuple[datetime | None, list[int]]:
    """When people were told, and the rows of whoever was erased, as the log tells it."""
    events = schema.events
    kinds = {kind: leaves.KINDS.index(kind) for kind in ("exposure", "erasure")}
    query = sa.select(events.c.kind, events.c.pid, events.c.leaf).where(
        events.c.kind.in_(kinds.values())
    )
    store = open_store(path, readonly=True)
    try:
        with store.read() as connection:
            rows = connection.execute(query).all()
    finally:
        store.close()
    told = [
        datetime.fromisoformat(leaves.parse(bytes(leaf))["recorded_at"])
        for kind, _, leaf in rows
        if kind == kinds["exposure"]
    ]
    return min(told, default=None), [int(pid) for kind, pid, _ in rows if kind == kinds["erasure"]]


def upkeep_faults(store: str, upkeep: Upkeep) -> list[Violation]:
    """Name everything that was owed and not done."""

    def fault(kind: str, detail: str, person: str | None = None) -> Violation:
        return Violation(kind=kind, store=store, round=None, person=person, detail=detail)

    found = [
        fault(
            "overdue",
            f"the {due.what.replace('_', ' ')} was due to be destroyed on {due.since:%Y-%m-%d} "
            f"({due.rule.replace('_', ' ')})",
            due.person,
        )
        for due in upkeep.due
    ]
    if upkeep.erased_keys_left:
        found.append(
            fault(
                "erasure_incomplete",
                f"{upkeep.erased_keys_left} people were erased, and their keys are still there",
            )
        )
    first, told = upkeep.first_reading, upkeep.told
    if first is not None and (told is None or told > first):
        late = "never" if told is None else f"on {told:%Y-%m-%d %H:%M} UTC"
        found.append(
            fault(
                "read_before_told",
                f"expressions were read from {first:%Y-%m-%d %H:%M} UTC on, and people were told {late}",
            )
        )
    return found
