"""An open key folder: what it holds, kept in step with its files and with other processes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from ..errors import ConsentError, KeyFileError
from ..keys import SigningKey, VerifyingKey
from .files import FOLDER_FILE, Shelf
from .load import Held, PersonKeys, load, persons_file
from .seal import Seal

__all__ = ["OpenFolder"]


class OpenFolder:
    """The reading half of `KeyFolder`, and how its writing half writes."""

    def __init__(self, path: Path, seal: Seal) -> None:
        """Read a folder; use `create` or `open`."""
        self._seal = seal
        self._shelf = Shelf(path)
        self._turn = threading.RLock()
        self._mark: tuple[int, int, int] | None = None  # None: what is held may be out of date
        self._held: Held | None = None
        self._persons: dict[int, PersonKeys] = {}
        with self._turn, self._shelf.locked():
            self._load()

    @property
    def path(self) -> Path:
        """Where it lies, absolute."""
        return self._shelf.path

    @property
    def folder_id(self) -> str:
        """32 hexadecimal digits, the same in its mirrors."""
        return self._seal.folder_id

    @property
    def registry_key(self) -> bytes:
        """32 bytes, constant."""
        return self._now.registry_key

    @property
    def epoch(self) -> int:
        """The current epoch of person keys, from 1."""
        return self._now.record.epoch

    @property
    def epochs(self) -> tuple[int, ...]:
        """Those that can still be opened, rising."""
        return tuple(sorted(self._now.persons))

    def wrap_key(self, epoch: int, pid: int) -> bytes:
        """Return the 32 bytes that wrap the data key of the person of row ``pid``.

        Raises:
            ErasedKeyError: it was destroyed.
            KeyFileError: the epoch was forgotten, or never was.
            MalformedError: ``pid`` is no whole number in [0, 2**32).
        """
        found = self._persons.get(epoch)
        if found is None:
            raise self._no_epoch(epoch)
        return found.tree.derive(pid)

    def lookup_key(self, epoch: int) -> bytes:
        """Return the 32 bytes under which people are found.

        Raises:
            KeyFileError: the epoch was forgotten, or never was.
        """
        found = self._persons.get(epoch)
        if found is None:
            raise self._no_epoch(epoch)
        return found.lookup

    def punctured(self, pid: int) -> bool:
        """Tell whether the keys of a row are destroyed.

        Raises:
            MalformedError: ``pid`` is no whole number in [0, 2**32).
        """
        return all(keys.tree.is_punctured(pid) for keys in self._now.persons.values())

    @property
    def signers(self) -> tuple[bytes, ...]:
        """The ids of the signing keys, in rising order."""
        return tuple(sorted(self._now.signers))

    @property
    def dropped(self) -> frozenset[bytes]:
        """The public halves, 32 bytes each, of signing keys that it held and that were revoked."""
        return frozenset(bytes.fromhex(public) for public in self._now.record.dropped)

    def holds(self, key: VerifyingKey) -> bool:
        """Tell whether it holds the private half of this very key: an id alone would not tell."""
        found = self._now.signers.get(key.key_id)
        return found is not None and found.verifying == key

    def ever_held(self, key: VerifyingKey) -> bool:
        """Tell whether it holds this very key, or did until the key was revoked."""
        return self.holds(key) or key.public in self.dropped

    def signer(self, key_id: bytes) -> SigningKey:
        """Return a signing key.

        Raises:
            KeyFileError: the folder does not hold it.
        """
        found = self._now.signers.get(key_id)
        if found is None:
            raise KeyFileError(f"{self.path} holds no signing key {bytes(key_id).hex()}")
        return found

    def refresh(self) -> bool:
        """Read the folder again if another process changed it: one ``stat`` when none did.

        Raises:
            KeyFileError: the folder is gone or damaged. No key is given out until it can be read.
            RegistryBusyError: another process held it too long; as above.
        """
        try:
            if self._mark is not None and self._shelf.mark() == self._mark:
                return False
            with self._turn:
                self._shelf.check()
                with self._shelf.locked():
                    self._load()
        except ConsentError:
            self._let_go()
            raise
        return True

    @property
    def _now(self) -> Held:
        if self._held is None:
            raise KeyFileError(f"{self.path} could not be read again: refresh, or restore it")
        return self._held

    def _no_epoch(self, epoch: int) -> KeyFileError:
        record = self._now.record
        what = "was forgotten" if epoch in record.forgotten else "was never begun"
        return KeyFileError(f"epoch {epoch} of the person keys {what}: {self.path} has no such key")

    def _load(self) -> None:
        """Read all files, and end what another process began and did not live to end."""
        self._mark = None
        try:
            self._hold(load(self._shelf, self._seal))
            if self._now.record.puncturing:
                self._puncture_here(self._now.record.puncturing)
                self._record(puncturing=())
        except BaseException:
            self._let_go()
            raise
        self._mark = self._shelf.mark()

    def _let_go(self) -> None:
        """Rather hold no key than one that was destroyed."""
        self._held, self._persons, self._mark = None, {}, None

    @contextlib.contextmanager
    def _writing(self, *, mirror: bool = False) -> Iterator[None]:
        with self._turn:
            self._shelf.check()
            with self._shelf.locked():
                if self._mark is None or self._shelf.mark() != self._mark:
                    self._load()
                owner = self._now.record.mirror_of
                if owner is not None and not mirror:
                    raise KeyFileError(
                        f"{self.path} is a mirror of {owner}: change that one, or promote this"
                    )
                self._mark = None  # until all went well, what is held may differ from the files
                self._shelf.announce()
                yield
                self._mark = self._shelf.mark()

    def _hold(self, held: Held) -> None:
        self._held, self._persons = held, held.persons

    def _put(self, name: str, content: bytes) -> None:
        self._shelf.put(name, self._seal.close(name, content))

    def _record(self, **fields: object) -> None:
        record = self._now.record.change(**fields)
        if record != self._now.record:
            self._shelf.put(FOLDER_FILE, record.encode(self._seal), wipe=False)
            self._hold(replace(self._now, record=record))

    def _puncture_here(self, pids: Iterable[int]) -> None:
        for epoch, keys in self._now.persons.items():
            left = [pid for pid in pids if not keys.tree.is_punctured(pid)]
            if left:
                rest = replace(keys, tree=keys.tree.without(left))
                self._put(persons_file(epoch), rest.content())
                self._hold(replace(self._now, persons={**self._persons, epoch: rest}))

    def __repr__(self) -> str:
        if self._held is None:
            return f"KeyFolder({self.path}, unreadable)"
        return f"KeyFolder({self.path}, epoch {self.epoch}, {len(self.signers)} signing keys)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key folder is neither copied nor sent: open it where it is used")
