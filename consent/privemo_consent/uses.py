"""Which persons' faces were used, batch by batch: a second append-only Merkle log.

It answers "was there live consent when this was used?" long after (GDPR 7(1); AI Act 10(2), 12).
A leaf holds counts and an HMAC of the row numbers; who they were stands in ``persons`` alone.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence
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
from .records import Use
from .snapshot import as_names
from .terms import Purpose
from .times import from_us, iso, parse_iso, to_us

__all__ = ["UsesLog", "parse_use", "persons_mac"]

_SCHEMA = "privemo.use/1"
_FIELDS = frozenset(
    {
        *("schema", "run", "round", "store", "batch", "purpose", "log_seq", "at", "recorded_at"),
        *("persons", "persons_mac", "simulated"),
    }
)


def persons_mac(key: bytes, packed: bytes) -> str:
    """Return what a leaf says of its row numbers: an HMAC, in hexadecimal."""
    return hmac.digest(key, b"privemo.use-persons/1\0" + packed, "sha256").hex()


def parse_use(leaf: bytes) -> dict[str, Any]:
    """Parse a leaf of the uses log.

    Raises:
        MalformedError: it is none that this package writes.

    """
    value = parse_canonical(leaf)
    if value.get("schema") != _SCHEMA or value.keys() != _FIELDS:
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
            size = journal.log.size(connection)
            journal._advance(connection, size)
            if not 0 <= log_seq <= size:
                raise MalformedError(f"got log_seq {log_seq}, the log has {size} entries")
            packed = self._pack(persons)
            now = journal.now()
            moment = now if at is None else to_us(at)
            if moment > now:
                raise BackdatedRefused(f"got a use at {iso(moment)}, which is still to come")
            seq = self.log.size(connection)
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
                    "persons_mac": persons_mac(journal.key, packed),
                    "simulated": journal.simulated,
                }
            )
            row = {"recorded": now, "persons": packed, "leaf": leaf}
            self.log.append(connection, seq, [row])
        return seq

    def _pack(self, persons: Sequence[str] | npt.NDArray[np.str_]) -> bytes:
        names = as_names(persons)
        index = self._journal.state.index
        try:
            rows = [index[name] for name in names]
        except KeyError:
            missing = sum(name not in index for name in names)
            raise UnknownPersonError(
                f"{missing} of {len(names)} persons in this batch have no record: "
                "their faces may not be used; admit faces through the gate"
            ) from None
        return np.array(rows, dtype="<i4").tobytes()

    def read(self) -> Iterator[Use]:
        """Yield every recorded batch, oldest first."""
        with self._journal.store.read() as connection:
            query = sa.select(schema.persons.c.person).order_by(schema.persons.c.pid)
            people = list(connection.execute(query).scalars())
            rows = connection.execute(
                sa.select(schema.uses.c.seq, schema.uses.c.persons, schema.uses.c.leaf).order_by(
                    schema.uses.c.seq
                )
            )
            for seq, packed, leaf in rows:
                yield _use(seq, packed, leaf, people)


def _use(seq: int, packed: bytes, leaf: bytes, people: list[str | None]) -> Use:
    value = parse_canonical(leaf)
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
            persons=tuple(people[pid] for pid in np.frombuffer(packed, dtype="<i4").tolist()),
            simulated=value["simulated"],
        )
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise MalformedError(f"use {seq} cannot be read: {error}") from error
