"""Every attack that was made on a run, in the order in which they were begun.

A store that does not like what an attack found could make another, until one pleases. So none replaces
another, and an attack is written down *before* it is made: one that is broken off, or of which somebody would
rather not have known, has left its beginning. Entries are chained, and a head file knows how far they go
(`privemo.chain`). Nobody signs them: whoever writes both files anew is not found out by them; a signed report
made before still says how many attacks there were.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from privemo.chain import Chain, ChainEntry
from privemo.files import read_json
from privemo.runs import Run

__all__ = ["ATTACK_FILE", "OLDER_FILE", "AttackEntry", "Attacks", "attacks_on"]

ATTACK_FILE = "attacks.jsonl"

OLDER_FILE = "attack.json"
"""Where earlier versions kept the last attack and no other."""


class AttackEntry(ChainEntry):
    """An attack was begun, or found something.

    `of` is the number (`seq`) of the entry that began it; an attack of an earlier version, brought along,
    began nowhere. `found` has the schema `privemo.attack/1` or `/2`.
    """

    schema_: Literal["privemo.attacks/1"] = Field("privemo.attacks/1", alias="schema")
    run_id: str
    event: Literal["begun", "found"]
    of: int | None = Field(None, ge=0)
    canaries: int = Field(ge=1)
    rehearsals: int = Field(ge=1)
    found: dict[str, Any] | None = None


class Attacks(Chain[AttackEntry]):
    """The attacks on one run.

    Args:
        path: the file; created with its first entry.

    Raises:
        LedgerError: an entry was changed, taken out or put in.
    """

    kind = AttackEntry
    what = "an attack"
    lost: ClassVar[str] = "an attack that was made stays made."


def attacks_on(run: Run) -> Attacks:
    """What was made so far; an attack of an earlier version becomes the first entry.

    Raises:
        LedgerError: an entry was changed, taken out or put in, or cannot be written.
        RunError: the file of the earlier version is damaged.
    """
    made = Attacks(run.folder / ATTACK_FILE)
    older = run.folder / OLDER_FILE
    if not made.entries and older.exists():
        found = read_json(older, schema="privemo.attack/1")
        facts = {name: found.get(name) for name in ("run_id", "canaries", "rehearsals")}
        made.append(event="found", found=found, **facts)
    return made
