"""All attacks that were made on a run: none is forgotten, and none is diluted by those after it.

`attacks.jsonl` is written by `privemo attack`: an entry before each attack, and one with what it found.
Whoever makes attacks until one pleases has to be told from whoever makes one. So the k-th attack that was
begun has a share of 1 / (k (k + 1)) of the 5% that all bounds together may be wrong, whenever somebody
stops: the shares of however many add up to no more than 1. The first is judged at 97.5% however many
follow, and no later one takes back what it found. The strongest bound counts.

The file is chained, and `attacks.head` knows how far it goes. An entry that was changed, taken out or moved
is named. Nobody signs entries: whoever writes both files anew is not found out here, but by a signed report
that was made before.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from .attacked import ATTACK_FILE, AttackInfo, bounds, check_attack
from .errors import RunFilesError
from .intervals import ALPHA
from .ledger import FIRST, entry_hash
from .report_privacy import Attacked, Attempt, Attempts
from .runfiles import Hex, Part, Run, read_lines, read_model

__all__ = ["ATTACKS_FILE", "measure_attacks", "share_of"]

ATTACKS_FILE = "attacks.jsonl"

HEAD_FILE = "attacks.head"


class Entry(Part):
    """A line of `attacks.jsonl`."""

    schema_: Literal["privemo.attacks/1"] = Field(alias="schema")
    seq: int
    at: datetime
    prev: Hex
    hash: Hex
    run_id: str
    event: Literal["begun", "found"]
    of: int | None = None
    canaries: int = Field(ge=1)
    rehearsals: int = Field(ge=1)
    found: AttackInfo | None = None

    @model_validator(mode="after")
    def _says_what_it_found(self) -> Self:
        if (self.event == "found") != (self.found is not None):
            raise ValueError("an attack that found something says what, and no other")
        return self


def share_of(number: int) -> float:
    """How much of the 5% the attack with this number (from 1) may use up: all shares add up to it."""
    return ALPHA / (number * (number + 1))


def measure_attacks(run: Run) -> tuple[Attacked | None, Attempts | None]:
    """The strongest bound of all attacks on a run, and how many there were; None where there were none.

    Raises:
        RunFilesError: a file is torn, malformed, or of another run.
    """
    if (run.directory / ATTACKS_FILE).is_file():
        rows = read_lines(run, ATTACKS_FILE, Entry)
        faults = [*_breaks(rows), *_cut_off(run, rows)]
        numbered, more = _numbered([entry for _, entry in rows])
        return _judged(run, ATTACKS_FILE, numbered, (*faults, *more))
    if (run.directory / HEAD_FILE).is_file():
        lost = f"{ATTACKS_FILE} is gone, and {HEAD_FILE} says that there were attacks"
        return None, Attempts(begun=0, unfinished=(), faults=(lost,), each=())
    if not (run.directory / ATTACK_FILE).is_file():
        return None, None
    return _judged(run, ATTACK_FILE, [read_model(run, ATTACK_FILE, AttackInfo)], ())


def _judged(
    run: Run, where: str, numbered: list[AttackInfo | None], faults: tuple[str, ...]
) -> tuple[Attacked | None, Attempts]:
    made: list[tuple[int, Attacked]] = []
    for number, info in enumerate(numbered, start=1):
        if info is not None:
            check_attack(run, info, where)
            made.append((number, bounds(info, share_of(number))))
    strongest = max(
        (found for _, found in made),
        key=lambda found: (not found.within, found.epsilon_at_least),
        default=None,
    )
    return strongest, Attempts(
        begun=len(numbered),
        unfinished=tuple(n for n, info in enumerate(numbered, start=1) if info is None),
        faults=faults,
        each=tuple(
            Attempt(
                number=number,
                made=found.made,
                certainty=1 - share_of(number),
                persons=found.persons,
                rehearsals=found.rehearsals,
                epsilon_at_least=found.epsilon_at_least,
                within=found.within,
            )
            for number, found in made
        ),
    )


def _numbered(entries: list[Entry]) -> tuple[list[AttackInfo | None], list[str]]:
    """What each attack found, in the order in which they were begun; None of one that was not finished."""
    found: dict[int, AttackInfo | None] = {}
    faults = []
    for entry in entries:
        if entry.event == "begun" or entry.of is None:
            found[entry.seq] = entry.found
        elif entry.of in found and found[entry.of] is None:
            found[entry.of] = entry.found
        else:
            faults.append(f"entry {entry.seq} found something in an attack that was not under way")
            found[entry.seq] = entry.found
    return list(found.values()), faults


def _breaks(rows: list[tuple[dict[str, Any], Entry]]) -> list[str]:
    found, previous = [], FIRST
    for number, (raw, entry) in enumerate(rows):
        if entry_hash(raw) != entry.hash:
            found.append(f"entry {number} was changed after it was written")
        if entry.prev != previous or entry.seq != number:
            found.append(
                f"entry {number} does not follow the one before: one was taken out or moved"
            )
        previous = entry.hash
    return found


def _cut_off(run: Run, rows: list[tuple[dict[str, Any], Entry]]) -> list[str]:
    """The file may be longer than its head file says (a crash in between), never shorter."""
    path = run.directory / HEAD_FILE
    try:
        head = json.loads(path.read_bytes())
        due, last = int(head["entries"]), str(head["hash"])
    except FileNotFoundError:
        return [f"{HEAD_FILE} is missing: nobody can tell whether attacks were cut off the end"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFilesError(f"{HEAD_FILE} cannot be read ({error})", "Restore the file.") from error
    if due < 1 or len(rows) < due or rows[due - 1][1].hash != last:
        return [f"{len(rows)} entries are there, and {due} were written: attacks were taken out"]
    return []
