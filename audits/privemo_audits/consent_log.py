"""Reading a store's consent registry: its events, its uses, and whether its log verifies.

Read only, through `privemo_consent`; a registry that cannot be read is an error, one that reads
but does not verify is a finding.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from privemo_consent import schema
from privemo_consent.errors import ConsentError, TamperedError
from privemo_consent.leaves import KINDS, PURPOSES, ROLES, STATUSES
from privemo_consent.registry import ConsentRegistry
from privemo_consent.store import Store
from privemo_consent.times import from_us

from .errors import ConsentLogError
from .runfiles import Run


class Event(NamedTuple):
    """One change of state of one person's consent to one purpose."""

    seq: int
    person: str
    purpose: str
    status: str
    at: datetime
    recorded: datetime
    expires: datetime | None
    role: str


class UsedBatch(NamedTuple):
    """One batch as it was used."""

    run: str
    round: int
    store: str
    batch: int
    purpose: str
    log_seq: int
    at: datetime
    persons: tuple[str, ...]


@dataclass(frozen=True)
class ConsentLog:
    """One store's consent log.

    Attributes:
        size: number of events.
        root: hex Merkle root over all of them.
        fault: what `verify` found wrong, naming the entry, or None.
        erased_uses: recorded uses of people erased since, who can no longer be looked up.
        turned_away: people who were refused a record for their age, by rule.
        roots: (hex root, size) pairs that the rounds name and that this log once had; size None
            where a round names a root alone.
    """

    size: int
    root: str
    fault: str | None
    simulated: bool
    events: tuple[Event, ...]
    uses: tuple[UsedBatch, ...]
    erased_uses: int
    turned_away: dict[str, int]
    roots: frozenset[tuple[str, int | None]]

    def root_fault(self, seq: int | None, root: str | None) -> str | None:
        """Say what is wrong with a log state that a round names, or None."""
        if root is None or (root, seq) in self.roots:
            return None  # a store that never asked its registry names no state
        if seq is None:
            return "the round was run on another consent log than this one"
        if seq > self.size:
            return f"the round names {seq} consent log entries, the log has {self.size}"
        return f"the consent log's first {seq} entries are not the ones the round was run on"

    def facts(self) -> dict[str, Any]:
        """What the report keeps of it."""
        return {
            "entries": self.size,
            "root": self.root,
            "verified": self.fault is None,
            "fault": self.fault,
            "erased_uses": self.erased_uses,
        }


def read_consent_logs(run: Run) -> dict[str, ConsentLog]:
    """Read every store's registry.

    Raises:
        ConsentLogError: one is missing, damaged beyond reading, or of the other mode
            (simulation and production must not be mixed).
    """
    return {store: _read(run, store) for store in run.info.stores}


def _read(run: Run, store: str) -> ConsentLog:
    path, name = run.store_file(store, "consent.sqlite"), f"stores/{store}/consent.sqlite"
    mode: Literal["simulation", "production"] = "simulation" if run.info.simulated else "production"
    named = {
        (did.consent_log_root, did.consent_log_seq)
        for item in run.rounds
        if (did := item.stores.get(store)) and did.consent_log_root is not None
    }
    try:
        with ConsentRegistry.open(path, mode=mode, readonly=True) as registry:
            fault = _fault(registry)
            head = registry.head()
            uses, erased = _uses(registry)
            return ConsentLog(
                size=head.seq,
                root=head.root,
                fault=fault,
                simulated=registry.mode == "simulation",
                events=_events(path),
                uses=uses,
                erased_uses=erased,
                turned_away={str(k): n for k, n in registry.age_refusals().items() if n},
                roots=_once_had(registry, named, head.seq, [use.log_seq for use in uses]),
            )
    except (ConsentError, ValueError, OSError) as error:
        raise ConsentLogError(
            f"{name} cannot be audited: {error}",
            "Restore the registry that the run was made with; without it nobody can say whether "
            "consent was live.",
        ) from error


def _fault(registry: ConsentRegistry) -> str | None:
    """What `verify` finds wrong; a log that reads but was changed is a finding, not an error."""
    try:
        registry.verify()
    except TamperedError as error:
        return str(error)
    return None


def _events(path: Path) -> tuple[Event, ...]:
    """Every consent event in log order, in one query; `verify` has held the columns to the leaves.

    People erased since are left out: nobody can be looked up under a name that is gone.
    """
    import sqlalchemy as sa

    table, people = schema.events, schema.persons
    query = (
        sa.select(
            table.c.seq,
            people.c.person,
            table.c.purpose,
            table.c.status,
            table.c.at,
            table.c.recorded,
            table.c.expires,
            table.c.role,
        )
        .join(people, people.c.pid == table.c.pid)
        .where(table.c.kind == KINDS.index("consent"), people.c.person.is_not(None))
        .order_by(table.c.seq)
    )
    store = Store.open(path, readonly=True)
    try:
        with store.read() as connection:
            rows = connection.execute(query).all()
    finally:
        store.close()
    purposes = [str(p) for p in PURPOSES]
    statuses = [str(s) for s in STATUSES]
    roles = [str(r) for r in ROLES]
    return tuple(
        Event(
            seq,
            person,
            purposes[purpose],
            statuses[status],
            from_us(at),
            from_us(recorded),
            None if expires is None else from_us(expires),
            roles[role],
        )
        for seq, person, purpose, status, at, recorded, expires, role in rows
    )


def _uses(registry: ConsentRegistry) -> tuple[tuple[UsedBatch, ...], int]:
    """Every recorded batch, and how many of its people were erased since."""
    out, erased = [], 0
    for use in registry.uses():
        known = tuple(p for p in use.persons if p is not None)
        erased += len(use.persons) - len(known)
        out.append(
            UsedBatch(
                use.run,
                use.round,
                use.store,
                use.batch,
                str(use.purpose),
                use.log_seq,
                use.at,
                known,
            )
        )
    return tuple(out), erased


def _once_had(
    registry: ConsentRegistry,
    named: Iterable[tuple[str, int | None]],
    size: int,
    likely: Iterable[int],
) -> frozenset[tuple[str, int | None]]:
    """Return those of the named (root, size) that the log had; a root alone is searched for.

    Args:
        registry: the open registry.
        named: what the rounds name.
        size: how long the log is.
        likely: sizes to try first; all others follow, which takes long only for a foreign root.
    """
    known: dict[int, str] = {}

    def root(n: int) -> str:
        if n not in known:
            known[n] = registry.log_root(n)
        return known[n]

    order = list(dict.fromkeys([size, *(n for n in likely if n <= size), *range(size, -1, -1)]))
    return frozenset(
        (digest, n)
        for digest, n in named
        if (any(root(m) == digest for m in order) if n is None else n <= size and root(n) == digest)
    )
