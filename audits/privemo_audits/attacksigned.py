"""Who signed how far the history of attacks goes.

`attacks-ID.sig` is a signed note (C2SP) by the key with that id: the run, how many entries `attacks.jsonl`
has, and the hash of the last one in base64. `privemo attack` signs after each entry: with the key of a store
where one lies in the run folder, as in a simulation, and with the auditor's key that it is given. Each key's
note says how far the history went when that key signed last; it may be longer by now, never another one.

| what is there | what is said |
|---|---|
| a known key signed entries that are not there, or others | attacks were taken out: it is not whole |
| a signature of a known key that does not hold, or is of another run | the same |
| entries after the last that a known key signed | how many nobody signed: a warning |
| notes by keys that nobody named | they prove nothing; whose they are |
| a note is gone, or an older one of the same key stands there | nothing: only an earlier report knows |
| files, head and notes of an older day put back together | likewise |

Known are the stores' keys that `run.json` names, and those that whoever audits names.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from typing import NamedTuple

from privemo_consent.errors import ConsentError, MalformedError, SignatureError
from privemo_consent.keys import SigningKey, VerifyingKey
from privemo_consent.note import NoteKey, open_note, sign_note, split_note

from .errors import RunFilesError
from .report import Report
from .report_privacy import SignedHead
from .runfiles import Run, read_bytes

__all__ = ["Signatures", "attacks_note", "read_signatures", "signature_name", "unsigned_since"]


_NOTES = "attacks-*.sig"


class Signatures(NamedTuple):
    """What stands in the notes: heads by whom, and what is wrong with them."""

    heads: tuple[SignedHead, ...]
    faults: tuple[str, ...]


def signature_name(key_id: bytes) -> str:
    """The file of one key's note."""
    return f"attacks-{key_id.hex()}.sig"


def attacks_note(run_id: str, entries: int, last: str, key: SigningKey) -> str:
    """A head of the history of attacks, signed.

    Args:
        run_id: of the run.
        entries: how many there are.
        last: hash of the last one, hex.
        key: who signs.
    """
    root = base64.b64encode(bytes.fromhex(last)).decode()
    return sign_note(f"{_origin(run_id)}\n{entries}\n{root}\n", key)


def _origin(run_id: str) -> str:
    return f"privemo.attacks/{run_id}"


def read_signatures(run: Run, hashes: Sequence[str], keys: Iterable[NoteKey]) -> Signatures:
    """Hold every note beside a history against it.

    Args:
        run: the run.
        hashes: of the entries that are there, in order; none where the file is gone.
        keys: of auditors who are known.

    Raises:
        RunFilesError: a note is none.
    """
    known = [*_of_stores(run), *keys]
    heads, faults = [], []
    for path in sorted(run.directory.glob(_NOTES)):
        raw = read_bytes(run, path.name)
        try:
            text, lines = split_note(raw)
            entries, root = _head(text)
        except (MalformedError, ValueError) as error:
            raise RunFilesError(
                f"{path.name} is no signed head ({error})", "Restore it."
            ) from error
        if path.name not in map(signature_name, (line.key_id for line in lines)):
            faults.append(f"{path.name} is named after another key than those in it")
            continue
        there = entries <= len(hashes) and _root(hashes, entries) == root
        try:
            signers = open_note(raw, known).verified
        except SignatureError as error:
            named = {(key.name, key.key_id) for key in known}
            if any((line.name, line.key_id) in named for line in lines):
                faults.append(f"{path.name} does not hold: {error}")
                continue
            names = (f"{line.name}+{line.key_id.hex()}" for line in lines)
            heads += [SignedHead(by=n, entries=entries, known=False, holds=there) for n in names]
            continue
        except ConsentError as error:
            raise RunFilesError(f"{path.name}: {error}", "Name each key once.") from error
        by = " and ".join(signers)
        if text.split("\n")[0] != _origin(run.info.run_id):
            faults.append(f"{path.name} was signed by {by} for another run")
        elif not there:
            faults.append(
                f"{by} signed a history of {entries} entries, and that is not how the "
                f"{len(hashes)} that are there begin: attacks were taken out or changed"
            )
        else:
            heads += [SignedHead(by=n, entries=entries, known=True, holds=True) for n in signers]
    return Signatures(tuple(heads), tuple(faults))


def unsigned_since(
    earlier: Report, run: Run, heads: Sequence[SignedHead], keys: Iterable[NoteKey]
) -> list[str]:
    """What an earlier report of a run saw signed, and nobody has signed now.

    Args:
        earlier: the report.
        run: whose notes were read (`read_signatures`).
        heads: what stands in them.
        keys: of auditors who are known.
    """
    gone = [
        f"{name} was there when an earlier report was made, and is gone: it said who signed the attacks"
        for name in sorted(earlier.evidence.files)
        if fnmatch(name, _NOTES) and name not in run.files
    ]
    attempts = earlier.privacy.attempts
    if gone or attempts is None:
        return gone
    known = {key.name for key in (*_of_stores(run), *keys)}
    now: dict[str, int] = {}
    for head in heads:
        name = head.by.partition("+")[0]  # with its id where the key was not named
        # Whose key is known speaks by that key alone: anybody can make another of the same name.
        if head.holds and (head.known or name not in known):
            now[name] = max(now.get(name, 0), head.entries)
    return [
        f"by an earlier report {head.by} signed {head.entries} entries, and by what is there fewer"
        for head in attempts.signed
        if head.holds and now.get(head.by.partition("+")[0], 0) < head.entries
    ]


def _of_stores(run: Run) -> list[VerifyingKey]:
    found = []
    for store, key in run.info.roster.items():
        try:
            found.append(VerifyingKey(store, bytes.fromhex(key)))
        except MalformedError:  # no note can be signed under such a name
            continue
    return found


def _head(text: str) -> tuple[int, str]:
    lines = text.split("\n")
    if len(lines) != 4 or not lines[1].isdecimal() or len(lines[1]) > 9:
        raise ValueError("a run, a number of entries and a hash are due")
    return int(lines[1]), lines[2]


def _root(hashes: Sequence[str], entries: int) -> str | None:
    return base64.b64encode(bytes.fromhex(hashes[entries - 1])).decode() if entries else None
