"""A registry and its witness: told after every signed head, asked at every opening."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from .checkpoint import Checkpoint, uses_origin
from .errors import ForkedError, RolledBackError, TamperedError, WitnessMissingError
from .journal import Journal
from .leaves import KINDS, parse
from .log import MerkleLog
from .schema import USES_LOG, events, uses
from .signing import latest_checkpoint
from .state import KeyState
from .witness import Witness, check_against

__all__ = ["check_witness", "tell_witness"]


def _logs(journal: Journal, origin: str) -> list[tuple[str, MerkleLog, str]]:
    """Return origin, log and what its entries are called, for both logs."""
    return [
        (origin, journal.log, "event"),
        (uses_origin(origin), MerkleLog(USES_LOG, uses), "use"),
    ]


def _open(journal: Journal, path: Path) -> Witness:
    # The keys of the past too, those revoked since among them: they signed the lines of the past.
    known = [period.key for period in journal.state.keys.ring.periods]
    return Witness.open(path, known=known)


def tell_witness(journal: Journal, path: Path) -> None:
    """Bring the witness up to what was signed.

    Raises:
        WitnessMissingError, RegistryFullError, RegistryBusyError: it cannot be reached now.
        RolledBackError, ForkedError: it remembers another log than this one.

    """
    with journal.lock:
        journal.refresh()
    witness = _open(journal, path)
    for origin, log, _ in _logs(journal, journal.state.keys.origin):
        with journal.store.read() as connection:
            found = latest_checkpoint(connection, log.number)
        # Under a new name nothing of the log of uses may be signed yet: its last head is of the old.
        if found is None or found[1].partition("\n")[0] != origin:
            continue

        def newest(number: int = log.number) -> str:
            with journal.store.read() as connection:
                found = latest_checkpoint(connection, number)
            assert found is not None  # noqa: S101 - asked above, and the last head is never deleted
            return found[1]

        def prove(size1: int, size2: int, log: MerkleLog = log) -> list[bytes]:
            with journal.store.read() as connection:
                return log.consistency_proof(connection, size1, size2)

        witness.follow(origin, newest, prove)


def check_witness(journal: Journal, path: Path) -> None:
    """Hold the registry against what the witness remembers (REQUIREMENTS 30).

    Raises:
        RolledBackError, ForkedError: an old copy, or a rewritten one, stands in the registry's place.
        WitnessMissingError: it cannot be asked, or is of another log; without it an old copy
            could not be told.
        TamperedError: the witness's own file was changed, or was signed by a key that this log does
            not know: an old copy from before a change of keys.

    """
    try:
        _check(journal, path)
    except (RolledBackError, ForkedError):
        raise
    except TamperedError:
        _check(journal, path)  # another process may have begun a key between the two readings


def _check(journal: Journal, path: Path) -> None:
    with journal.lock:
        journal.refresh()
    witness = _open(journal, path)
    # Under its earlier names too: a log that goes on under a new one still holds the old entries.
    names = dict.fromkeys(period.key.name for period in journal.state.keys.ring.periods)
    if all(witness.latest(name) is None for name in names):
        raise WitnessMissingError(
            f"the witness at {path} remembers nothing of this log: it is another registry's, or "
            "was emptied; bring its own back, or set a new one"
        )
    until = _renamed(journal)
    for name in names:
        for origin, log, kind in _logs(journal, name):
            latest = witness.latest(origin)
            if latest is None or (name in until and _given_up(latest, until[name], kind)):
                continue
            with journal.store.read() as connection:
                _hold_against(latest, log, connection, kind)


def _renamed(journal: Journal) -> dict[str, int]:
    """Return, by earlier name, how many entries the log had when it took another.

    Nothing where a key that began a name was never in this key folder: a restore puts it there, and
    whoever writes into the database alone cannot.
    """
    keys = journal.keys_needed()
    query = sa.select(events.c.seq, events.c.leaf).where(
        events.c.kind.in_([KINDS.index("registry"), KINDS.index("key")])
    )
    found, said = {}, KeyState()
    with journal.store.read() as connection:
        for seq, leaf in connection.execute(query.order_by(events.c.seq)):
            before = said.origin
            said.apply(parse(bytes(leaf)))
            if before and said.origin != before:
                if not keys.ever_held(said.ring.periods[-1].key):
                    return {}
                found[before] = int(seq)
    return found


def _given_up(latest: Checkpoint, until: int, kind: str) -> bool:
    """Return whether a head lies in the part that a restore gave up: it suspended all consents.

    Where the log of uses ended then, no entry says.
    """
    return kind == "use" or latest.size > until


def _hold_against(latest: Checkpoint, log: MerkleLog, connection: sa.Connection, kind: str) -> None:
    check_against(
        latest,
        size=log.size(connection),
        root_at=lambda size: log.root(connection, size),
        kind=kind,
    )
