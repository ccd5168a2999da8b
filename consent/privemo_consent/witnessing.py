"""A registry and its witness: told after every signed head, asked at every opening."""

from __future__ import annotations

from pathlib import Path

from .checkpoint import uses_origin
from .journal import Journal
from .log import MerkleLog
from .schema import USES_LOG, uses
from .signing import latest_checkpoint
from .witness import Witness, check_against

__all__ = ["check_witness", "tell_witness"]


def _logs(journal: Journal) -> list[tuple[str, MerkleLog, str]]:
    """Return origin, log and what its entries are called, for both logs."""
    origin = journal.state.keys.origin
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
    for origin, log, _ in _logs(journal):
        with journal.store.read() as connection:
            if latest_checkpoint(connection, log.number) is None:
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
        WitnessMissingError: it cannot be asked; without it an old copy could not be told.
        TamperedError: the witness's own file was changed.

    """
    with journal.lock:
        journal.refresh()
    witness = _open(journal, path)
    for origin, log, kind in _logs(journal):
        latest = witness.latest(origin)
        if latest is None:
            continue
        with journal.store.read() as connection:
            check_against(
                latest,
                size=log.size(connection),
                root_at=lambda size, log=log, at=connection: log.root(at, size),
                kind=kind,
            )
