"""Every attack that was made on a run, in the order in which they were begun.

A store that does not like what an attack found could make another, until one pleases. So none replaces
another, and an attack is written down *before* it is made: one that is broken off, or of which somebody would
rather not have known, has left its beginning. Entries are chained, and a head file knows how far they go
(`privemo.chain`).

With each entry the head is signed (`privemo_audits.attacksigned`): by the auditor who attacks, if they name a
key, and by a store of the run whose key lies in the run folder. It does in a simulation, where whoever owns
the folder owns that key: this signature tells those to whom the folder was handed, without its keys, that
nothing was left out since. On a federation's server lies no key of a store.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from privemo.chain import Chain, ChainEntry
from privemo.errors import LedgerError, RunError
from privemo.files import read_json, write_bytes
from privemo.runs import Run
from privemo.statements import read_signing_key
from privemo_audits.attacksigned import attacks_note, signature_name
from privemo_consent import MalformedError, SigningKey

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
        run_id: of the run, which each signature names.
        keys: sign how far the file goes, with each entry.

    Raises:
        LedgerError: an entry was changed, taken out or put in.
    """

    kind = AttackEntry
    what = "an attack"
    lost: ClassVar[str] = "an attack that was made stays made."

    def __init__(self, path: Path, run_id: str, keys: Sequence[SigningKey] = ()) -> None:
        self.run_id, self.keys = run_id, tuple(keys)
        super().__init__(path)

    def _write_head(self, entry: AttackEntry) -> None:
        """Under the lock, so that two who attack at once never sign a shorter history after a longer one."""
        super()._write_head(entry)
        for key in self.keys:
            note = attacks_note(self.run_id, entry.seq + 1, entry.hash, key)
            try:
                write_bytes(self.path.with_name(signature_name(key.key_id)), note.encode())
            except RunError as error:
                raise LedgerError(
                    f"{error} The attack was not made, or not written down."
                ) from error

    def facts(self) -> dict[str, Any]:
        """How far it goes, and who signed that."""
        return {
            "entries": len(self.entries),
            "head": self.head,
            "signed_by": [key.name for key in self.keys],
        }


def attacks_on(run: Run, *, sign: SigningKey | None = None) -> Attacks:
    """What was made so far; an attack of an earlier version becomes the first entry.

    Args:
        run: the run.
        sign: the auditor's key, who attacks.

    Raises:
        LedgerError: an entry was changed, taken out or put in, or cannot be written.
        RunError: the file of the earlier version is damaged.
    """
    keys = [key for key in (_key_of_a_store(run), sign) if key is not None]
    made = Attacks(run.folder / ATTACK_FILE, run.run_id, keys)
    older = run.folder / OLDER_FILE
    if not made.entries and older.exists():
        found = read_json(older, schema="privemo.attack/1")
        facts = {name: found.get(name) for name in ("run_id", "canaries", "rehearsals")}
        made.append(event="found", found=found, **facts)
    return made


def _key_of_a_store(run: Run) -> SigningKey | None:
    """The key of the first store that has one here, by which `run.json` names it."""
    for name in run.stores:
        try:
            key = SigningKey(name, read_signing_key(run.folder / "stores" / name))
        except (
            RunError,
            MalformedError,
        ):  # not here, not for us to read, or of a name no note takes
            continue
        if key.verifying.public == run.roster.get(name):
            return key
    return None
