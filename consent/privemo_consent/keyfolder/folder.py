"""The keys of a registry, in a folder of their own outside the database.

Backups hold the database and never these keys, so a key that is destroyed here is destroyed for
every copy of the database there is. What must go is overwritten before its file is let go; a file
system that copies on write, or an SSD, may keep the old blocks all the same. The remedy is a root
key kept elsewhere (`roots`): old blocks are then as closed as the root is.

Several processes share a folder. Each write holds its lock; `KeyFolder.refresh` tells a process
that another one wrote. The folder must lie on a local file system.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ..errors import KeyFileError, MalformedError
from ..keys import SigningKey
from .copies import MirroredFolder
from .files import FOLDER_FILE, Shelf
from .load import PersonKeys, persons_file, signer_bytes, signer_file
from .making import make_folder
from .puncture import INDICES
from .record import FolderRecord
from .roots import NoRoot, Root
from .seal import Seal

__all__ = ["KeyFolder"]


class KeyFolder(MirroredFolder):
    """An open key folder. Safe for threads and for many processes; neither copied nor sent.

    Writing methods are durable before they return. They raise `KeyFileError` when a file cannot be
    used, `RegistryFullError` when there is no space and `RegistryBusyError` when another process
    holds the folder; whether the change was made is then found out by asking again. Those that
    destroy raise `PlacesPendingError` when it was done here and not in every mirror.
    """

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        root: Root | None = None,
        registry_key: bytes | None = None,
    ) -> KeyFolder:
        """Make a folder with a registry key and the first epoch of person keys, and open it.

        Raises:
            KeyFileError: something stands at ``path``, it cannot be made, or the root has no key.
            MalformedError: ``registry_key`` is not 32 bytes.
            RegistryFullError: no space; nothing was made.
        """
        place = Path(os.path.abspath(path))
        return cls(place, make_folder(place, root or NoRoot(), registry_key))

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, root: Root | None = None) -> KeyFolder:
        """Open a folder, and finish or remove what a crash left in it.

        Raises:
            KeyFileError: missing, half made, damaged, open to others, or of another root: the
                message does not say whether a passphrase was nearly right.
        """
        place, given = Path(os.path.abspath(path)), root or NoRoot()
        shelf = Shelf(place)
        shelf.check()
        record = FolderRecord.decode(shelf.read(FOLDER_FILE), place)
        if record.root != given.kind:
            raise KeyFileError(
                f"{place} has a root of kind {record.root!r}, and {given.kind!r} was given"
            )
        try:
            key = given.key(record.parameters)
        except KeyFileError as error:
            raise KeyFileError(f"{place} cannot be opened: {error}") from None
        folder = cls(place, Seal(record.folder_id, key))
        folder._catch_up()
        return folder

    def puncture(self, pids: Iterable[int]) -> None:
        """Destroy the keys of rows in every epoch, here and in every mirror; once more is harmless.

        All of ``pids`` or, after a crash, none: what was begun is finished at the next use.

        Raises:
            PlacesPendingError: done here and not everywhere.
            MalformedError: one is no whole number in [0, 2**32); nothing was done.
        """
        wanted = sorted(set(pids))
        if any(type(pid) is not int or not 0 <= pid < INDICES for pid in wanted):
            raise MalformedError(f"a row is a whole number from 0 to {INDICES - 1}")
        with self._writing():
            new = [pid for pid in wanted if not self.punctured(pid)]
            mirrors = self._now.record.mirrors
            if new and (mirrors or len(self._persons) > 1):
                # Several files: the intent first, so that a crash leaves no half of it.
                self._record(puncturing=tuple(new), pending=mirrors)
            self._puncture_here(new)
            self._settle()
            self._raise_pending()

    def new_epoch(self, *, rows: int = INDICES, gone: Iterable[int] = ()) -> int:
        """Begin an epoch, in which the rows that were punctured are so too; return its number.

        Args:
            rows: of a registry that lost its end, how many it has: the rows after them are whole in
                the new epoch, for the people to come, who must share a key with nobody lost.
            gone: further rows that are empty.

        """
        with self._writing():
            epoch = self.epoch + 1
            keys, before = PersonKeys.generate(), self._persons[self.epoch]
            closed = {pid for pid in before.tree.indices_punctured() if pid < rows} | set(gone)
            keys = replace(keys, tree=keys.tree.without(sorted(closed)))
            self._record(behind=self._now.record.mirrors)
            self._put(persons_file(epoch), keys.content())
            self._hold(replace(self._now, persons={**self._persons, epoch: keys}))
            self._record(epoch=epoch)
            self._settle()
            return epoch

    def forget_epoch(self, epoch: int) -> None:
        """Destroy an epoch's keys, here and in every mirror; once more is harmless.

        Raises:
            KeyFileError: the current epoch, or one that never was.
            PlacesPendingError: done here and not everywhere.
        """
        with self._writing():
            record = self._now.record
            if epoch == record.epoch:
                raise KeyFileError(f"epoch {epoch} is the current one: begin another first")
            if epoch in self._persons:
                forgotten = tuple(sorted({*record.forgotten, epoch}))
                self._record(forgotten=forgotten, pending=record.mirrors)
                self._shelf.destroy(persons_file(epoch))
                kept = {e: keys for e, keys in self._persons.items() if e != epoch}
                self._hold(replace(self._now, persons=kept))
            elif epoch not in record.forgotten:
                raise self._no_epoch(epoch)
            self._settle()
            self._raise_pending()

    def add_signer(self, key: SigningKey) -> None:
        """Keep a signing key; one that is kept already is no error.

        Raises:
            KeyFileError: another key has its id, or it was dropped before.
        """
        with self._writing():
            record, held = self._now.record, self._now.signers.get(key.key_id)
            if held is not None and held.verifying != key.verifying:
                raise KeyFileError(f"{self.path} holds another key of id {key.key_id.hex()}")
            if key.key_id.hex() in record.gone or key.verifying.public in self.dropped:
                raise KeyFileError(f"the key {key.key_id.hex()} was dropped: make another")
            if held is None:
                self._record(behind=record.mirrors)
                self._put(signer_file(key.key_id), signer_bytes(key))
                signers = {**self._now.signers, key.key_id: key}
                self._hold(replace(self._now, signers=signers))
                names = tuple(sorted(key_id.hex() for key_id in signers))
                self._record(signers=names)
            self._settle()

    def drop_signer(self, key_id: bytes) -> None:
        """Destroy a signing key, here and in every mirror; once more is harmless.

        Raises:
            KeyFileError: the folder never held it.
            PlacesPendingError: done here and not everywhere.
        """
        with self._writing():
            record, named = self._now.record, bytes(key_id).hex()
            held = self._now.signers.get(key_id)
            if held is not None:
                public = held.verifying.public.hex()
                signers = {k: v for k, v in self._now.signers.items() if k != key_id}
                self._record(
                    signers=tuple(sorted(k.hex() for k in signers)),
                    gone=tuple(sorted({*record.gone, named})),
                    dropped=tuple(sorted({*record.dropped, public})),
                    pending=record.mirrors,
                )
                self._shelf.destroy(signer_file(key_id))
                self._hold(replace(self._now, signers=signers))
            elif named not in record.gone:
                raise KeyFileError(f"{self.path} holds no signing key {named}")
            self._settle()
            self._raise_pending()

    @property
    def witness(self) -> Path | None:
        """Where checkpoints of the log are copied to."""
        place = self._now.record.witness
        return None if place is None else Path(place)

    @witness.setter
    def witness(self, place: Path | None) -> None:
        with self._writing():
            text = None if place is None else os.path.abspath(place)
            if text != self._now.record.witness:
                self._record(witness=text, behind=self._now.record.mirrors)
            self._settle()

    @property
    def witness_behind(self) -> str | None:
        """A mark while the witness may lack a change that was acknowledged, or None.

        What the witness remembers is then no proof that a copy of the database is whole.
        """
        return self._now.record.witness_behind

    def miss_witness(self) -> None:
        """Remember, durably, that a change could not be told to the witness."""
        with self._writing():
            # New each time: who told the witness of all up to an earlier one did not tell of this.
            mark = secrets.token_hex(8)
            self._record(witness_behind=mark, behind=self._now.record.mirrors)
            self._settle()

    def catch_up_witness(self, mark: str) -> None:
        """Strike ``mark`` off: all was told that was signed when it was read. A newer one stays."""
        with self._writing():
            if self._now.record.witness_behind == mark:
                self._record(witness_behind=None, behind=self._now.record.mirrors)
            self._settle()
