"""All attacks that were made on a run: none is forgotten, and none is diluted by those after it.

`attacks.jsonl` is written by `privemo attack`: an entry before each attack, and one with what it found.
Whoever makes attacks until one pleases has to be told from whoever makes one. So the k-th attack that was
finished has a share of 1 / (k (k + 1)) of the 5% that all bounds together may be wrong, whenever somebody
stops: the shares of however many add up to no more than 1. The first is judged at 97.5% however many
follow, and no later one takes back what it found. The strongest bound counts.

An attack that was broken off has no share. It has no bound that could be wrong, and shares for it would let
whoever breaks off a few hide what the next one finds. It is told all the same. No share either has an attack
that is no evidence: one of fewer people or rehearsals than `privemo attack` makes, or of another mechanism
than the run's. It is named, and the history is not whole.

The file is chained, and `attacks.head` knows how far it goes. An entry that was changed, taken out or moved
is named. Heads are signed too (`attacksigned`): whoever writes the files anew lacks the key, where it is not
in the same hands. Whoever puts an older copy of all of them in place is found out by an earlier report alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from privemo_consent.note import NoteKey

from .attacked import ATTACK_FILE, AttackInfo, bounds, check_attack, strangeness
from .attacksigned import read_signatures, unsigned_since
from .errors import ReportError
from .intervals import ALPHA
from .ledger import FIRST, entry_hash
from .report import Report
from .report_privacy import Attacked, Attempt, Attempts
from .runfiles import Run, read_head, read_lines, read_model
from .runschema import Hex, Part

__all__ = ["ATTACKS_FILE", "measure_attacks", "share_of"]

ATTACKS_FILE = "attacks.jsonl"

HEAD_FILE = "attacks.head"

FEWEST_PERSONS, FEWEST_REHEARSALS = 50, 2
"""`privemo attack` makes no attack of fewer of either: it could not find much, and used up a share."""


@dataclass
class Made:
    """One attack: its number from 1 as begun, its line's place among those that found something, and what."""

    number: int
    entry: Entry | None = None
    finished: int | None = None
    found: AttackInfo | None = None


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
    """How much of the 5% the attack that was finished as this one (from 1) may use up."""
    return ALPHA / (number * (number + 1))


def measure_attacks(
    run: Run, keys: Iterable[NoteKey] = (), earlier: Report | None = None
) -> tuple[Attacked | None, Attempts | None]:
    """The strongest bound of all attacks on a run, and how many there were; None where there were none.

    Args:
        run: the run.
        keys: of auditors who are known, and may have signed heads.
        earlier: a report of this run made before: all attacks that it knew of are due.

    Raises:
        RunFilesError: a file is torn, malformed, or of another run.
        ReportError: the earlier report is of another run.
    """
    rows = read_lines(run, ATTACKS_FILE, Entry)
    entries = [entry for _, entry in rows]
    there = (run.directory / ATTACKS_FILE).is_file()
    where, begun, faults = ATTACKS_FILE, list[Made](), list[str]()
    if there:
        begun, more = _numbered(run, entries)
        faults = [*_breaks(rows), *_cut_off(run, rows), *more]
    elif (run.directory / HEAD_FILE).is_file():
        faults = [f"{ATTACKS_FILE} is gone, and {HEAD_FILE} says that there were attacks"]
    elif (run.directory / ATTACK_FILE).is_file():
        where = ATTACK_FILE
        begun = [Made(1, finished=0, found=read_model(run, ATTACK_FILE, AttackInfo))]
    known = list(keys)
    signatures = read_signatures(run, [entry.hash for entry in entries], known)
    faults += [*signatures.faults, *_lost_since(earlier, run, entries, len(begun))]
    faults += [] if earlier is None else unsigned_since(earlier, run, signatures.heads, known)
    if not (there or begun or faults):
        return None, None
    strongest, attempts = _judged(run, where, begun, faults)
    held = earlier is not None and earlier.privacy.attempts is not None and not faults
    return strongest, attempts.model_copy(
        update={
            "entries": len(entries) or None,
            "head": entries[-1].hash if entries else None,
            "signed": signatures.heads,
            "earlier": sha256(earlier.to_json()).hexdigest() if earlier and held else None,
        }
    )


def _lost_since(
    earlier: Report | None, run: Run, entries: Sequence[Entry], begun: int
) -> list[str]:
    """What an earlier report knew of and is not there any more: no file beside these can know it."""
    if earlier is None:
        return []
    if earlier.run.run_id != run.info.run_id:
        raise ReportError(
            f"the earlier report is of run {earlier.run.run_id!r}, and this is {run.info.run_id!r}",
            "Name a report of this run.",
        )
    before = earlier.privacy.attempts
    if before is None:
        return []
    due = before.entries or 0
    gone = before.begun > begun or due > len(entries)
    if gone or (due and entries[due - 1].hash != before.head):
        known = f"{before.begun} attacks in {due} entries"
        told = f"an earlier report knew of {known}, and those are not how the {len(entries)} there begin"
        return [f"{told}: attacks were taken out or changed"]
    return []


def _judged(
    run: Run, where: str, begun: list[Made], faults: list[str]
) -> tuple[Attacked | None, Attempts]:
    judged: list[tuple[Made, float, Attacked]] = []
    for made in sorted(begun, key=lambda each: each.finished or 0):
        if made.found is None:
            continue
        check_attack(run, made.found, where)
        if wrong := [*_too_small(made.found), *strangeness(run, made.found)]:
            faults += [f"attack {made.number} {each}" for each in wrong]
            continue
        share = share_of(len(judged) + 1)
        judged.append((made, share, bounds(made.found, share)))
    strongest = max(
        (found for _, _, found in judged),
        key=lambda found: (not found.within, found.epsilon_at_least),
        default=None,
    )
    return strongest, Attempts(
        begun=len(begun),
        unfinished=tuple(made.number for made in begun if made.found is None),
        faults=tuple(faults),
        each=tuple(
            _told(made, share, found)
            for made, share, found in sorted(judged, key=lambda each: each[0].number)
        ),
    )


def _told(made: Made, share: float, found: Attacked) -> Attempt:
    return Attempt(
        number=made.number,
        made=found.made,
        certainty=1 - share,
        persons=found.persons,
        rehearsals=found.rehearsals,
        epsilon_at_least=found.epsilon_at_least,
        within=found.within,
    )


def _too_small(info: AttackInfo) -> list[str]:
    if info.canaries >= FEWEST_PERSONS and info.rehearsals >= FEWEST_REHEARSALS:
        return []
    fewest = f"{FEWEST_PERSONS} and {FEWEST_REHEARSALS} are the fewest"
    counted = f"{info.canaries} people in {info.rehearsals} rehearsals"
    return [f"is of {counted}, too few to be counted: {fewest}"]


def _numbered(run: Run, entries: list[Entry]) -> tuple[list[Made], list[str]]:
    """The attacks in the order in which they were begun, with what each found; and what is wrong."""
    made: dict[int, Made] = {}
    faults = []
    for entry in entries:
        if entry.run_id != run.info.run_id:
            faults.append(f"entry {entry.seq} is of run {entry.run_id!r}")
        if entry.event == "begun" or entry.of is None:
            one = made[entry.seq] = Made(len(made) + 1, entry)
        elif entry.of in made and made[entry.of].found is None:
            one = made[entry.of]
        else:
            faults.append(f"entry {entry.seq} found something in an attack that was not under way")
            one = made[entry.seq] = Made(len(made) + 1, entry)
        if entry.found is not None:
            one.found, one.finished = entry.found, entry.seq
            if {_size(each) for each in (one.entry, entry, entry.found)} != {_size(entry)}:
                faults.append(f"entry {entry.seq} found something on others than it was begun with")
    return list(made.values()), faults


def _size(stated: Entry | AttackInfo | None) -> tuple[int, int] | None:
    return None if stated is None else (stated.canaries, stated.rehearsals)


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
    head = read_head(run, HEAD_FILE)
    if head is None:
        return [f"{HEAD_FILE} is missing: nobody can tell whether attacks were cut off the end"]
    due, last = head
    if due < 1 or len(rows) < due or rows[due - 1][1].hash != last:
        return [f"{len(rows)} entries are there, and {due} were written: attacks were taken out"]
    return []
