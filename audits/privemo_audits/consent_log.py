"""Reading a store's consent registry: its events, its uses, and whether its log verifies.

Read only, through `privemo_consent`; a registry that cannot be read is an error, one that reads
but does not verify is a finding. Who is who is sealed under the keys of the folder `consent.keys` beside
it: without them nobody could be looked up, so the audit asks for them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from privemo_consent.errors import ConsentError, KeyFileError, TamperedError
from privemo_consent.registry import ConsentRegistry

from .errors import ConsentLogError
from .runfiles import Run
from .upkeep import Upkeep, last_moment, read_upkeep


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
        signed: how many events the last signed head covers; 0 where the log does not verify.
        erasures: how many people were erased.
        erased_uses: recorded uses of people erased since, who can no longer be looked up.
        decisions: how many answers of the registry were logged, and how many of them permitted.
        turned_away: people who were refused a record for their age, by rule.
        roots: (hex root, size) pairs that the rounds name and that this log once had; size None
            where a round names a root alone.
        upkeep: what the store owed people besides.
    """

    size: int
    root: str
    fault: str | None
    signed: int
    simulated: bool
    events: tuple[Event, ...]
    uses: tuple[UsedBatch, ...]
    erasures: int
    erased_uses: int
    decisions: tuple[int, int]
    turned_away: dict[str, int]
    roots: frozenset[tuple[str, int | None]]
    upkeep: Upkeep

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
            "signed": self.signed,
            "erasures": self.erasures,
            "erased_uses": self.erased_uses,
            "decisions": {"logged": self.decisions[0], "permitted": self.decisions[1]},
            "overdue": len(self.upkeep.due),
            "erased_keys_left": self.upkeep.erased_keys_left,
        }


def read_consent_logs(run: Run) -> dict[str, ConsentLog]:
    """Read every store's registry.

    Raises:
        ConsentLogError: one is missing, damaged beyond reading, without its keys, or of the other
            mode (simulation and production must not be mixed).
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
            _need_keys(registry, name)
            signed, fault = _verified(registry)
            head = registry.head()
            uses, erased = _uses(registry)
            upkeep = read_upkeep(registry, path, last_moment(run, [use.at for use in uses]))
            answers = [decision.permit for decision in registry.decisions()]
            return ConsentLog(
                size=head.seq,
                root=head.root,
                fault=fault,
                signed=signed,
                simulated=registry.mode == "simulation",
                events=_events(registry),
                uses=uses,
                erasures=upkeep.erased,
                erased_uses=erased,
                decisions=(len(answers), sum(answers)),
                turned_away={str(k): n for k, n in registry.age_refusals().items() if n},
                roots=_once_had(registry, named, head.seq, [use.log_seq for use in uses]),
                upkeep=upkeep,
            )
    except (ConsentError, ValueError, OSError) as error:
        raise ConsentLogError(
            f"{name} cannot be audited: {error}",
            "Restore the registry that the run was made with; without it nobody can say whether "
            "consent was live.",
        ) from error


def _need_keys(registry: ConsentRegistry, name: str) -> None:
    try:
        registry.keys  # noqa: B018 - asking for them is the check
    except KeyFileError as error:
        raise ConsentLogError(
            f"{name} cannot be audited: its key folder consent.keys is not beside it",
            "Hand over the key folder with the registry; people's ids are sealed under its keys, "
            "and without them nobody can be looked up.",
        ) from error


def _verified(registry: ConsentRegistry) -> tuple[int, str | None]:
    """How much of the log is signed, and what `verify` finds wrong.

    A log that reads but was changed is a finding, not an error.
    """
    try:
        return registry.verify().signed, None
    except TamperedError as error:
        return 0, str(error)


def _events(registry: ConsentRegistry) -> tuple[Event, ...]:
    """Every consent event in log order, as its leaf says it.

    People erased since are left out: nobody can be looked up under a name that is gone.
    """
    return tuple(
        Event(
            event.seq,
            event.person,
            str(event.purpose),
            str(event.status),
            event.at,
            event.recorded_at,
            event.expires,
            str(event.role),
        )
        for event in registry.histories()
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
