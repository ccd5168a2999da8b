"""Opening, closing and naming a registry file."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Literal, NoReturn, Self

import sqlalchemy as sa

from . import leaves, schema
from .bulk import NoticeBook
from .canonical import canonical_bytes, parse_canonical, sha256_hex
from .errors import MalformedError, ModeMismatchError
from .journal import Journal
from .log import MerkleLog
from .records import Party
from .store import BUSY_TIMEOUT_MS, Store
from .times import Clock, to_us, utcnow
from .transaction import plain_row
from .uses import UsesLog

__all__ = ["Mode", "RegistryHandle"]

Mode = Literal["production", "simulation"]


def _check_mode(mode: str) -> None:
    if mode not in ("production", "simulation"):
        raise MalformedError(f"got mode {mode!r}, want 'production' or 'simulation'")


class RegistryHandle:
    """An open registry file: what it is, and its end."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._journal = Journal(store, clock)
        self._book = NoticeBook(self._journal)
        self._uses = UsesLog(self._journal)

    # -- opening and closing -------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        mode: Mode,
        controller: Party,
        clock: Clock | None = None,
        busy_timeout_ms: int = BUSY_TIMEOUT_MS,
    ) -> Self:
        """Make a registry at ``path``, readable by its owner alone.

        Args:
            path: a file that does not exist in a folder that does.
            mode: ``"simulation"`` marks every record `simulated` for good.
            controller: who answers for it (27560 6.3.6).
            clock: returns the time with its zone; the machine's by default.
            busy_timeout_ms: how long a write waits for another process.

        Raises:
            RegistryExistsError, RegistryMissingError, RegistryFullError

        """
        _check_mode(mode)
        clock = clock or utcnow

        def fill(connection: sa.Connection) -> None:
            body = canonical_bytes(controller.model_dump(mode="json")).decode()
            registry_id, now = os.urandom(16).hex(), to_us(clock())
            values = {"mode": mode, "registry_id": registry_id, "controller": body}
            rows = [{"key": key, "value": value} for key, value in values.items()]
            connection.execute(sa.insert(schema.meta), rows)
            secret = {"name": "subject", "value": os.urandom(32)}
            connection.execute(sa.insert(schema.secrets), [secret])
            simulated = mode == "simulation"
            leaf = leaves.genesis_leaf(
                registry_id=registry_id,
                mode=mode,
                controller=sha256_hex(body.encode()),
                recorded=now,
                simulated=simulated,
            )
            row = plain_row("registry", leaf, now, simulated)
            MerkleLog(schema.EVENTS_LOG, schema.events).append(connection, 0, [row])

        return cls(Store.create(Path(path), fill, busy_timeout_ms=busy_timeout_ms), clock)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        mode: Mode,
        clock: Clock | None = None,
        readonly: bool = False,
        busy_timeout_ms: int = BUSY_TIMEOUT_MS,
    ) -> Self:
        """Open the registry at ``path``.

        Raises:
            RegistryMissingError: no file there.
            RegistryUnreadableError: not a registry, damaged, or of another schema.
            ModeMismatchError: a simulation opened as production or the reverse (promise 1).

        """
        _check_mode(mode)
        store = Store.open(Path(path), readonly=readonly, busy_timeout_ms=busy_timeout_ms)
        try:
            registry = cls(store, clock or utcnow)
        except BaseException:
            store.close()
            raise
        if registry.mode != mode:
            store.close()
            raise ModeMismatchError(
                f"{path} is a {registry.mode} registry, opened as {mode}: "
                "simulated and real consent never mix"
            )
        return registry

    def close(self) -> None:
        """Close this process's connections; what was acknowledged is on the disk already."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ConsentRegistry(path={str(self._store.path)!r}, mode={self.mode!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a registry is not sent between processes: open its path there")

    @property
    def path(self) -> Path:
        """The file."""
        return self._store.path

    @property
    def mode(self) -> Mode:
        """``"production"`` or ``"simulation"``."""
        return "simulation" if self._journal.simulated else "production"

    @property
    def registry_id(self) -> str:
        """32 hexadecimal digits, drawn when the registry was made."""
        return self._journal.meta["registry_id"]

    @property
    def controller(self) -> Party:
        """Who answers for the registry."""
        return Party.model_validate(parse_canonical(self._journal.meta["controller"].encode()))
