"""The chain of round manifests, and what each store signed in it.

Each manifest names the hash of the one before, and the stores signed that hash with what they did. So to
change a round afterwards takes the keys of every store that took part in a later one; and what a store signed
is held against its own files: ledger, admissions, and the details whose hash it signed.
"""

from __future__ import annotations

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .report import Violation
from .runfiles import ASKED_FILE, Run, canonical_hash
from .runschema import Details, RoundInfo, Statement, StoreRound

__all__ = ["manifest_faults"]

_SIGNED_AS = b"privemo.statement/1\n"
FIRST = "0" * 64


def manifest_faults(run: Run) -> list[Violation]:
    """Name every round that does not follow the one before, and every statement that does not hold."""
    found: list[Violation] = []
    expected = canonical_hash(run.said["run.json"])
    for item in run.rounds:
        if item.prev != expected:
            fault = "does not follow what stands before it: one of the two was changed afterwards"
            found.append(_violation("manifest_chain", "server", item.round, fault))
        raw = run.said[f"rounds/{item.round:04d}.json"]
        for store, did in sorted(item.stores.items()):
            said = raw["stores"][store].get("statement")
            faults = _faults(run, item, store, did, said)
            found += [_violation("statement", store, item.round, fault) for fault in faults]
        expected = canonical_hash(raw)
    for store in run.info.stores:
        found += _own_words(run, store, expected)
    return found


def _own_words(run: Run, store: str, head: str) -> list[Violation]:
    """What a store signed of this run, held against the rounds: who changes those cannot change this."""
    found = []
    for row in run.signed[store]:
        said = row["statement"]
        if said["run_id"] != run.info.run_id:
            continue
        number = said["round"]
        # The round after the last one may have been begun; and one that broke off was stated twice.
        before = run.rounds[number - 1].prev if number <= len(run.rounds) else head
        if not _signed(said, row["signature"], run.info.roster.get(store, "")):
            fault = "its own statements.jsonl is not signed with the key that run.json names"
        elif number > len(run.rounds) + 1:
            fault = f"it signed a round {number}, and there are {len(run.rounds)}: some are gone"
        elif said["history"] != before:
            fault = "what came before is not what the store signed: it was changed afterwards"
        else:
            continue
        found.append(_violation("statement", store, number, fault))
    return found


def _faults(
    run: Run, item: RoundInfo, store: str, did: StoreRound, said: dict[str, object] | None
) -> list[str]:
    stated = did.statement
    if stated is None or said is None or did.signature is None:
        # Who refused before anything was trained, or failed, has stated nothing.
        return ["counted, and has signed nothing"] if did.status == "trained" else []
    if not _signed(said, did.signature, run.info.roster.get(store, "")):
        return ["what it is said to have done is not signed with its key"]
    mine = {"statement": said, "signature": did.signature}
    if not any(mine.items() <= row.items() for row in run.signed[store]):
        return ["what it is said to have signed is not in its statements.jsonl"]
    return [
        *_against_manifest(run, item, store, did, stated),
        *_against_ledger(run, store, stated),
        *_against_details(run, store, stated),
    ]


def _signed(said: dict[str, object], signature: str, key: str) -> bool:
    try:
        text = rfc8785.dumps(said)  # type: ignore[arg-type]  # JSON, as it was read
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
        public.verify(bytes.fromhex(signature), _SIGNED_AS + text)
    except (InvalidSignature, ValueError, rfc8785.CanonicalizationError):
        return False
    return True


def _against_manifest(
    run: Run, item: RoundInfo, store: str, did: StoreRound, stated: Statement
) -> list[str]:
    mine = {
        "run": (stated.run_id, run.info.run_id),
        "round": (stated.round, item.round),
        "name": (stated.store, store),
        "model": (stated.model_in, item.model_in),
        "history": (stated.history, item.prev),
        "status": (stated.status, did.status),
        "update": (stated.update_sha256, did.update_sha256),
        "consent log": (stated.consent_log_root, did.consent_log_root),
    }
    return [
        f"signed another {what} than the round names" for what, (a, b) in mine.items() if a != b
    ]


def _against_ledger(run: Run, store: str, stated: Statement) -> list[str]:
    lines, head = run.ledgers[store], stated.ledger
    if head.entries > len(lines):
        return [f"signed a ledger of {head.entries} entries, which has {len(lines)}"]
    last = lines[head.entries - 1].entry if head.entries else None
    if head.hash != (last.hash if last else FIRST):
        return [f"signed another ledger: its first {head.entries} entries are not the ones there"]
    if stated.epsilon != (last.epsilon_rdp if last else None):
        return ["signed another epsilon than its ledger states"]
    release = (stated.run_id, stated.round, stated.update_sha256)
    there = {(e.run_id, e.round, e.update_sha256) for e in (x.entry for x in lines[: head.entries])}
    if run.info.privacy.private and stated.status == "trained" and release not in there:
        return ["signed a ledger in which its update does not stand"]
    return []


def _against_details(run: Run, store: str, stated: Statement) -> list[str]:
    kept = run.details[store].get(stated.details)
    if kept is None:
        return ["signed details that are not in its statements.jsonl"]
    if kept.asked != run.files.get(f"stores/{store}/{ASKED_FILE}"):
        return [_asked_fault(run, store, kept)]
    if kept.admission is None:
        return ["trained without having asked the gate"] if stated.status == "trained" else []
    if kept.admission not in run.admissions[store]:
        return ["signed other numbers of people admitted and refused than its admissions.jsonl has"]
    if (kept.admission.run_id, kept.admission.round) != (stated.run_id, stated.round):
        return ["signed the admissions of another round"]
    return []


def _asked_fault(run: Run, store: str, kept: Details) -> str:
    if kept.asked is None:
        return f"it has an {ASKED_FILE} that it did not sign with this round"
    if f"stores/{store}/{ASKED_FILE}" not in run.files:
        return f"signed whom it asked by look, and its {ASKED_FILE} is gone"
    return f"signed other numbers of people by look than its {ASKED_FILE} has"


def _violation(kind: str, store: str, number: int, detail: str) -> Violation:
    return Violation(kind=kind, store=store, round=number, person=None, detail=detail)
