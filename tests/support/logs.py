"""Small whole logs out of real leaves, to export, to show to a witness, and to break."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from privemo_consent import leaves, merkle
from privemo_consent.canonical import canonical_bytes
from privemo_consent.checkpoint import Checkpoint, sign_checkpoint, uses_origin
from privemo_consent.keys import SigningKey
from privemo_consent.logexport import write_export
from privemo_consent.times import iso
from tests.support.consent import consent_notice

DAY = 86_400_000_000
START = 1_772_355_600_000_000  # 2026-03-01T09:00:00Z
NOTICE = consent_notice()


def record_id() -> str:
    return os.urandom(16).hex()


class SmallLog:
    """A log that grows by `add`, and signs a head over what it has with `sign`."""

    def __init__(self, key: SigningKey, *, registry_id: str = "r1", **genesis: Any) -> None:
        self.key = key
        self.origin = key.name
        self.signers = [key]
        self.now = START
        self.leaves: list[bytes] = []
        self.uses: list[bytes] = []
        self.notes: dict[str, list[str]] = {"events": [], "uses": []}
        fields = {
            "registry_id": registry_id,
            "mode": "production",
            "controller": "0" * 64,
            "key": str(key.verifying),
            "recorded": self.now,
            "simulated": False,
        }
        self.leaves.append(leaves.genesis_leaf(**(fields | genesis)))
        self.sign()

    def tick(self) -> int:
        self.now += 60_000_000
        return self.now

    def notice(self, **changes: Any) -> None:
        fields = {
            "notice": NOTICE.hash,
            "notice_id": NOTICE.notice_id,
            "version": NOTICE.version,
            "recorded": self.tick(),
            "simulated": False,
        }
        self.leaves.append(leaves.notice_leaf(**(fields | changes)))

    def consent(self, status: str, purpose: str = "training", **changes: Any) -> None:
        now = self.tick()
        permits = status in ("ConsentGiven", "RenewedConsentGiven")
        fields = {
            "record_id": record_id(),
            "subject": os.urandom(32).hex(),
            "purpose": purpose,
            "status": status,
            "at": iso(now),
            "recorded_at": iso(now),
            "expires": iso(now + 100 * DAY) if permits else None,
            "entity": "data_subject",
            "role": "shopper",
            "jurisdiction": "IE",
            "notice": NOTICE.hash,
            "simulated": False,
        }
        self.leaves.append(leaves.consent_leaf(**(fields | changes)))

    def age_refusal(self, **changes: Any) -> None:
        fields = {
            "rule": "unknown_age",
            "count": 2,
            "jurisdiction": "IE",
            "day": self.now - self.now % DAY,
            "simulated": False,
        }
        self.leaves.append(leaves.age_refusal_leaf(**(fields | changes)))

    def exposure(self, **changes: Any) -> None:
        fields = {
            "notice": NOTICE.hash,
            "place": "door",
            "recorded": self.tick(),
            "simulated": False,
        }
        self.leaves.append(leaves.exposure_leaf(**(fields | changes)))

    def erasure(self, **changes: Any) -> None:
        fields = {
            "record_id": record_id(),
            "subject": os.urandom(32).hex(),
            "cause": "request",
            "recorded": self.tick(),
            "simulated": False,
        }
        self.leaves.append(leaves.erasure_leaf(**(fields | changes)))

    def key_entry(self, op: str, key: SigningKey, *, overlap: int | None = None) -> None:
        now = self.tick()
        ends = None if overlap is None else now + overlap
        text = str(key.verifying)
        self.leaves.append(
            leaves.key_leaf(op=op, key=text, ends_others=ends, recorded=now, simulated=False)
        )

    def use(self, **changes: Any) -> None:
        now = self.tick()
        fields = {
            "schema": "privemo.use/1",
            "run": "run-1",
            "round": 1,
            "store": "store-01",
            "batch": len(self.uses),
            "purpose": "training",
            "log_seq": len(self.leaves),
            "at": iso(now),
            "recorded_at": iso(now),
            "persons": 2,
            "persons_mac": "ab" * 32,
            "simulated": False,
        }
        self.uses.append(canonical_bytes(fields | changes))

    def head(self, log: str = "events") -> Checkpoint:
        data = self.leaves if log == "events" else self.uses
        origin = self.origin if log == "events" else uses_origin(self.origin)
        return Checkpoint(origin, len(data), merkle.root([merkle.leaf_hash(x) for x in data]))

    def sign(self, log: str = "events") -> str:
        note = sign_checkpoint(self.head(log), *self.signers, previous=None, proof=[])
        self.notes[log].append(note)
        return note

    def proof(self, size1: int, size2: int) -> list[bytes]:
        hashes = [merkle.leaf_hash(leaf) for leaf in self.leaves[:size2]]
        return merkle.consistency_proof(hashes, size1)

    def root_at(self, size: int) -> bytes:
        return merkle.root([merkle.leaf_hash(leaf) for leaf in self.leaves[:size]])

    def export(
        self,
        folder: Path,
        *,
        keys: Iterable[str] | None = None,
        notes: Mapping[str, Iterable[str]] | None = None,
        notices: Iterable[bytes] = (NOTICE.body,),
    ) -> Path:
        write_export(
            folder,
            leaves=self.leaves,
            uses=self.uses,
            checkpoints=self.notes if notes is None else notes,
            notices=notices,
            keys=[str(key.verifying) for key in self.signers] if keys is None else keys,
        )
        return folder


def small_log(key: SigningKey | None = None) -> SmallLog:
    """One of everything: 12 events under 8 heads, 3 uses under 2; the key is rotated once."""
    log = SmallLog(key or SigningKey.generate("shop.example/log"))
    log.notice()
    log.sign()
    log.consent("ConsentGiven")
    log.consent("ConsentGiven")
    log.consent("ConsentGiven", "personalisation")
    log.sign()  # three in one transaction
    log.consent("ConsentWithdrawn")
    log.sign()
    log.age_refusal()
    log.consent("RenewedConsentGiven")
    log.sign()
    log.use()
    log.use()
    log.sign("uses")
    new = SigningKey.generate(log.origin)
    log.key_entry("begin", new, overlap=30 * DAY)
    log.signers.append(new)
    log.sign()
    log.exposure()
    log.erasure()
    log.sign()
    log.consent("ConsentRefused")
    log.sign()
    log.use()
    log.sign("uses")
    return log
