"""Which persons' faces were used, batch by batch: a second append-only Merkle log.

It answers "was there live consent when this was used?" long after (GDPR 7(1); AI Act 10(2), 12).
A leaf holds counts and an HMAC of the row numbers; who they were stands in ``persons`` alone.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from . import schema
from .canonical import canonical_bytes, parse_canonical
from .errors import BackdatedRefused, MalformedError, UnknownPersonError
from .journal import Journal
from .log import MerkleLog
from .records import Context, Decision, Use
from .snapshot import as_names
from .terms import Purpose, Reason
from .times import from_us, iso, parse_iso, to_us

__all__ = ["LoggedDecision", "UsesLog", "parse_use", "persons_mac"]

_SCHEMA = "privemo.use/1"
_DECISION = "privemo.decision/1"
_FIELDS = frozenset(
    {
        *("schema", "run", "round", "store", "batch", "purpose", "log_seq", "at", "recorded_at"),
        *("persons", "persons_mac", "simulated"),
    }
)
_DECISION_FIELDS = frozenset(
    {
        *("schema", "purpose", "setting", "jurisdiction", "permit", "reason", "log_seq"),
        *("at", "recorded_at", "persons", "persons_mac", "simulated"),
    }
)
#: A minor, or someone taken for one, leaves no row number either: a count is all that is kept.
_NAMELESS = frozenset({Reason.MINOR, Reason.UNKNOWN_AGE, Reason.SUSPECTED_MINOR})


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedDecision:
    """One answer of `ConsentRegistry.decide`, as it was logged before it was given."""

    seq: int
    #: None for a person erased since, for someone unknown, and for whoever was refused for age
    person: str | None
    purpose: Purpose
    permit: bool
    reason: Reason
    context: Context
    log_seq: int
    at: datetime
    recorded_at: datetime
    simulated: bool


def persons_mac(key: bytes, packed: bytes) -> str:
    """Return what a leaf says of its row numbers: an HMAC, in hexadecimal."""
    return hmac.digest(key, b"privemo.use-persons/1\0" + packed, "sha256").hex()


def parse_use(leaf: bytes) -> dict[str, Any]:
    """Parse a leaf of the uses log.

    Raises:
        MalformedError: it is none that this package writes.

    """
    value = parse_canonical(leaf)
    fields = {_SCHEMA: _FIELDS, _DECISION: _DECISION_FIELDS}.get(str(value.get("schema")))
    if value.keys() != fields:
        raise MalformedError(f"got schema {value.get('schema')!r} with fields {sorted(value)}")
    return value


class UsesLog:
    """The uses of one registry."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.log = MerkleLog(schema.USES_LOG, schema.uses)

    def record(
        self,
        persons: Sequence[str] | npt.NDArray[np.str_],
        purpose: Purpose,
        *,
        run: str,
        round_: int,
        store: str,
        batch: int,
        log_seq: int,
        at: datetime | None,
    ) -> int:
        """Append one batch durably and return its ``seq``; see `ConsentRegistry.record_use`."""
        journal = self._journal
        with journal.lock, journal.store.write() as connection:
            size = journal.catch_up(connection)
            if not 0 <= log_seq <= size:
                raise MalformedError(f"got log_seq {log_seq}, the log has {size} entries")
            packed = self._pack(persons)
            now = journal.now()
            moment = now if at is None else to_us(at)
            if moment > now:
                raise BackdatedRefused(f"got a use at {iso(moment)}, which is still to come")
            seq = journal.uses_size
            leaf = canonical_bytes(
                {
                    "schema": _SCHEMA,
                    "run": run,
                    "round": round_,
                    "store": store,
                    "batch": batch,
                    "purpose": purpose.value,
                    "log_seq": log_seq,
                    "at": iso(moment),
                    "recorded_at": iso(now),
                    "persons": len(packed) // 4,
                    "persons_mac": persons_mac(journal.state.people.keys.registry_key, packed),
                    "simulated": journal.simulated,
                }
            )
            row = {"recorded": now, "persons": packed, "leaf": leaf}
            self.log.append(connection, seq, [row])
            journal.signer.sign(connection, self.log, seq + 1, (journal.state.keys, now))
        journal.signer.publish(journal)
        return seq

    def record_decision(
        self, connection: sa.Connection, decision: Decision, context: Context, pid: int | None
    ) -> int:
        """Append one decision and return its ``seq`` (AI Act 12).

        The head is signed with the next batch: a decision at a time would be a signature for each
        frame of a camera.

        Args:
            connection: holds the write lock.
            decision: the answer.
            context: of the question.
            pid: the person's row, where there is one.

        """
        journal = self._journal
        nameless = pid is None or decision.reason in _NAMELESS
        packed = b"" if nameless else np.array([pid], dtype="<i4").tobytes()
        now = journal.now()
        leaf = canonical_bytes(
            {
                "schema": _DECISION,
                "purpose": decision.purpose.value,
                "setting": context.setting.value,
                "jurisdiction": context.jurisdiction,
                "permit": decision.permit,
                "reason": decision.reason.value,
                "log_seq": decision.log_seq,
                "at": iso(to_us(decision.at)),
                "recorded_at": iso(now),
                "persons": len(packed) // 4,
                "persons_mac": persons_mac(journal.state.people.keys.registry_key, packed),
                "simulated": journal.simulated,
            }
        )
        seq = journal.uses_size  # of this very transaction: the caller caught up under the lock
        self.log.append(connection, seq, [{"recorded": now, "persons": packed, "leaf": leaf}])
        return seq

    def _pack(self, persons: Sequence[str] | npt.NDArray[np.str_]) -> bytes:
        names = as_names(persons)
        rows = self._journal.state.people.rows(names)
        missing = sum(row < 0 for row in rows)
        if missing:
            raise UnknownPersonError(
                f"{missing} of {len(names)} persons in this batch have no record: "
                "their faces may not be used; admit faces through the gate"
            )
        return np.array(rows, dtype="<i4").tobytes()

    def read(self) -> Iterator[Use]:
        """Yield every recorded batch, oldest first."""
        for seq, packed, value, names in self._entries():
            if value["schema"] == _SCHEMA:
                yield _use(seq, packed, value, names)

    def decisions(self) -> Iterator[LoggedDecision]:
        """Yield every logged decision, oldest first."""
        for seq, packed, value, names in self._entries():
            if value["schema"] == _DECISION:
                yield _decision(seq, packed, value, names)

    def _entries(self) -> Iterator[tuple[int, list[int], dict[str, Any], dict[int, str]]]:
        """Yield number, row numbers, leaf and the names known so far of each entry."""
        table = schema.uses
        query = sa.select(table.c.seq, table.c.persons, table.c.leaf).order_by(table.c.seq)
        people = self._journal.state.people
        with self._journal.store.read() as connection:
            rows = connection.execute(query, execution_options={"yield_per": 500})
            for part in rows.partitions(500):
                packed = [np.frombuffer(row[1], dtype="<i4").tolist() for row in part]
                with self._journal.store.read() as other:
                    names = people.names(other, list({p for pids in packed for p in pids}))
                for row, pids in zip(part, packed, strict=True):
                    yield row[0], pids, parse_use(bytes(row[2])), names


def _use(seq: int, pids: list[int], value: dict[str, Any], names: dict[int, str]) -> Use:
    try:
        return Use(
            seq=seq,
            run=value["run"],
            round=value["round"],
            store=value["store"],
            batch=value["batch"],
            purpose=Purpose(value["purpose"]),
            log_seq=value["log_seq"],
            at=from_us(parse_iso(value["at"])),
            persons=tuple(names.get(pid) for pid in pids),
            simulated=value["simulated"],
        )
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise MalformedError(f"use {seq} cannot be read: {error}") from error


def _decision(
    seq: int, pids: list[int], value: dict[str, Any], names: dict[int, str]
) -> LoggedDecision:
    try:
        return LoggedDecision(
            seq=seq,
            person=names.get(pids[0]) if pids else None,
            purpose=Purpose(value["purpose"]),
            permit=value["permit"],
            reason=Reason(value["reason"]),
            context=Context(setting=value["setting"], jurisdiction=value["jurisdiction"]),
            log_seq=value["log_seq"],
            at=from_us(parse_iso(value["at"])),
            recorded_at=from_us(parse_iso(value["recorded_at"])),
            simulated=value["simulated"],
        )
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise MalformedError(f"use {seq} cannot be read: {error}") from error
