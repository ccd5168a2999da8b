"""Opening, closing and naming a registry: a database, and the folder of keys that opens it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Literal, NoReturn, Self

import sqlalchemy as sa

from . import leaves, schema
from .bulk import NoticeBook
from .canonical import canonical_bytes, parse_canonical, sha256_hex
from .errors import (
    KeyFileError,
    MalformedError,
    ModeMismatchError,
    RegistryExistsError,
    RegistryMissingError,
    WitnessMissingError,
)
from .journal import Journal
from .keyfolder.folder import KeyFolder
from .keyfolder.roots import Root
from .keys import SigningKey
from .log import MerkleLog
from .records import Party
from .signing import Signer, check_belongs, drop_revoked
from .state import KeyState
from .storage import BUSY_TIMEOUT_MS, Store, create_store, is_url, open_store
from .times import Clock, to_us, utcnow
from .transaction import plain_row
from .uses import UsesLog

__all__ = ["Keys", "Mode", "RegistryHandle", "key_folder_of"]

Mode = Literal["production", "simulation"]
#: Where a database is: a file, or the URL of a PostgreSQL database.
Where = str | os.PathLike[str]
#: The folder of keys: itself, or its path.
Keys = KeyFolder | str | os.PathLike[str]


def _check_mode(mode: str) -> None:
    if mode not in ("production", "simulation"):
        raise MalformedError(f"got mode {mode!r}, want 'production' or 'simulation'")


def key_folder_of(where: Where) -> Path:
    """Return where the keys of a registry are by default: beside its file, ending in ``.keys``.

    Raises:
        KeyFileError: a database on a server has no folder beside it.

    """
    if is_url(where):
        raise KeyFileError(
            "a registry on a server needs keys=FOLDER, or --keys DIR: where its keys are kept"
        )
    return Path(where).with_suffix(".keys")


def new_signing_key(registry_id: str, generation: int = 1) -> SigningKey:
    """Draw a signing key, named by the origin of the log (C2SP tlog-checkpoint)."""
    name = f"privemo.consent/{registry_id}"
    return SigningKey.generate(name if generation == 1 else f"{name}/{generation}")


class RegistryHandle:
    """An open registry: what it is, and its end."""

    def __init__(self, store: Store, keys: KeyFolder | None, clock: Clock) -> None:
        self._store = store
        self._keys = keys
        self._journal = Journal(store, keys, clock)
        self._book = NoticeBook(self._journal)
        self._uses = UsesLog(self._journal)

    # -- opening and closing -------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        where: Where,
        *,
        mode: Mode,
        controller: Party,
        keys: Keys | None = None,
        root: Root | None = None,
        clock: Clock | None = None,
        busy_timeout_ms: int = BUSY_TIMEOUT_MS,
    ) -> Self:
        """Make a registry at ``where``, readable by its owner alone.

        Args:
            where: a file that does not exist in a folder that does, or the URL of a PostgreSQL
                database, with ``?schema=`` an empty schema of it.
            mode: ``"simulation"`` marks every record `simulated` for good.
            controller: who answers for it (27560 6.3.6).
            keys: the key folder, made where it does not exist; beside the file by default. Keep it
                on another disk, or give a ``root``: a thief of the disk then has sizes alone.
            root: what protects a new key folder: permissions alone by default.
            clock: returns the time with its zone; the machine's by default.
            busy_timeout_ms: how long a write waits for another process.

        Raises:
            RegistryExistsError, RegistryMissingError, RegistryFullError, KeyFileError

        """
        _check_mode(mode)
        clock = clock or utcnow
        folder, made = _folder_for(where, keys, root)

        def fill(connection: sa.Connection) -> None:
            _first_entries(connection, folder, mode, controller, to_us(clock()))

        try:
            store = create_store(where, fill, busy_timeout_ms=busy_timeout_ms)
        except BaseException:
            if made:
                shutil.rmtree(folder.path, ignore_errors=True)
            raise
        return cls(store, folder, clock)

    @classmethod
    def open(
        cls,
        where: Where,
        *,
        mode: Mode,
        keys: Keys | None = None,
        root: Root | None = None,
        clock: Clock | None = None,
        readonly: bool = False,
        busy_timeout_ms: int = BUSY_TIMEOUT_MS,
    ) -> Self:
        """Open the registry at ``where``.

        Erasures that a crash cut short are finished first, and the log is held against the
        witness, if the key folder names one.

        Args:
            where: a file or a PostgreSQL URL.
            mode: what the caller takes it for.
            keys: the key folder; beside the file by default. A registry opened ``readonly`` may do
                without: it verifies and proves, names nobody, and every decision refuses.
            root: what protects the key folder.
            clock: returns the time with its zone.
            readonly: nothing is written; decisions cannot be logged, so `decide` refuses.
            busy_timeout_ms: how long a write waits for another process.

        Raises:
            RegistryMissingError: no file there.
            RegistryUnreadableError: not a registry, damaged, or of another schema.
            ModeMismatchError: a simulation opened as production or the reverse (promise 1).
            KeyFileError: no key folder, open to others, or of another registry.
            RolledBackError, ForkedError: the witness remembers another log than this one.

        """
        _check_mode(mode)
        store = open_store(where, readonly=readonly, busy_timeout_ms=busy_timeout_ms)
        try:
            folder = _open_folder(where, keys, root, needed=not readonly)
            registry = cls(store, folder, clock or utcnow)
            if registry.mode != mode:
                raise ModeMismatchError(
                    f"{store.where} is a {registry.mode} registry, opened as {mode}: "
                    "simulated and real consent never mix"
                )
            registry._settle(readonly)
        except BaseException:
            store.close()
            raise
        return registry

    def _settle(self, readonly: bool) -> None:
        """Finish what a crash cut short, and ask the witness."""
        from .erasing import finish_erasures
        from .witness import is_there
        from .witnessing import check_witness

        if self._keys is not None:
            with self._journal.lock:
                ring = self._journal.refresh().keys.ring
            check_belongs(self._keys, ring)
            if not readonly:
                drop_revoked(self._keys, ring)
        if not readonly:
            finish_erasures(self._journal)
        if self._keys is not None and self._keys.witness is not None:
            try:
                check_witness(self._journal, self._keys.witness)
            except WitnessMissingError as error:
                if readonly or is_there(self._keys.witness):
                    raise  # another registry's, or emptied: nothing is written here
                # A no waits for nobody (GDPR 7(3)); until the witness was asked nobody is permitted.
                self._journal.unwitnessed = error

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
        return f"ConsentRegistry({self._store.where!r}, mode={self.mode!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a registry is not sent between processes: open its path there")

    @property
    def where(self) -> str:
        """The file, or the URL without its password."""
        return self._store.where

    @property
    def path(self) -> Path:
        """The file.

        Raises:
            MalformedError: the registry is on a server.

        """
        if self._store.path is None:
            raise MalformedError(f"{self._store.where} is no file")
        return self._store.path

    @property
    def keys(self) -> KeyFolder:
        """The key folder.

        Raises:
            KeyFileError: the registry was opened without one.

        """
        return self._journal.state.people.keys

    @property
    def mode(self) -> Mode:
        """``"production"`` or ``"simulation"``."""
        return "simulation" if self._journal.simulated else "production"

    @property
    def registry_id(self) -> str:
        """32 hexadecimal digits, drawn when the registry was made."""
        return self._journal.registry_id

    @property
    def controller(self) -> Party:
        """Who answers for the registry."""
        return Party.model_validate(parse_canonical(self._journal.meta["controller"].encode()))


def _folder_for(where: Where, keys: Keys | None, root: Root | None) -> tuple[KeyFolder, bool]:
    """Return the folder of a new registry, and whether it was made for it."""
    if isinstance(keys, KeyFolder):
        folder, made = keys, False
    else:
        path = key_folder_of(where) if keys is None else Path(keys)
        if not is_url(where) and not Path(where).absolute().parent.is_dir():
            raise RegistryMissingError(f"{Path(where).parent} does not exist: make the folder")
        if not is_url(where) and Path(where).exists():
            raise RegistryExistsError(
                f"{where} exists: open it with ConsentRegistry.open or name it with --registry, "
                "or choose another path"
            )
        made = not path.exists()
        folder = KeyFolder.create(path, root=root) if made else KeyFolder.open(path, root=root)
    if folder.signers:
        raise KeyFileError(f"{folder.path} holds the keys of a registry: make a new folder")
    return folder, made


def _open_folder(
    where: Where, keys: Keys | None, root: Root | None, *, needed: bool
) -> KeyFolder | None:
    if isinstance(keys, KeyFolder):
        return keys
    if keys is None and not needed and (is_url(where) or not key_folder_of(where).exists()):
        return None
    return KeyFolder.open(key_folder_of(where) if keys is None else Path(keys), root=root)


def _first_entries(
    connection: sa.Connection, folder: KeyFolder, mode: Mode, controller: Party, now: int
) -> None:
    """Write what a registry is into its tables, and sign the head of its log of one entry."""
    body = canonical_bytes(controller.model_dump(mode="json")).decode()
    registry_id = os.urandom(16).hex()
    values = {"mode": mode, "registry_id": registry_id, "controller": body}
    rows = [{"key": key, "value": value} for key, value in values.items()]
    connection.execute(sa.insert(schema.meta), rows)
    key = new_signing_key(registry_id)
    folder.add_signer(key)
    simulated = mode == "simulation"
    leaf = leaves.genesis_leaf(
        registry_id=registry_id,
        mode=mode,
        controller=sha256_hex(body.encode()),
        key=str(key.verifying),
        recorded=now,
        simulated=simulated,
    )
    log = MerkleLog(schema.EVENTS_LOG, schema.events)
    log.append(connection, 0, [plain_row("registry", leaf, now, simulated)])
    Signer(folder).sign(connection, log, 1, KeyState().after([leaf], now))
