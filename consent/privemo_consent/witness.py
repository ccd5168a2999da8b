"""A second place that remembers how far a log had come, and says so when the log forgets.

Whoever can replace the database can replace it by yesterday's, and everything in that copy verifies
(REQUIREMENTS 30: the promise to only append is one that the log alone cannot show). A witness is a
folder elsewhere (a mounted share, a USB stick) with one append-only file for each log: a checkpoint
a line, each with the proof that it extends the line before. A line is on the disk before `add`
returns. What a crash leaves unfinished at the end was never acknowledged, and is cut away.

What it cannot show: the first checkpoint is taken on trust, and whoever can write to the witness's
folder can cut its last lines off. A `cosign.Cosigner` makes a line worth more than the folder.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .checkpoint import Checkpoint
from .cosign import Cosigner
from .errors import (
    ForkedError,
    MalformedError,
    ProofError,
    RegistryExistsError,
    RegistryFullError,
    RolledBackError,
    TamperedError,
    WitnessMissingError,
)
from .keys import VerifyingKey
from .note import Note, NoteKey, open_note
from .witnessfile import (
    MAX_LINE,
    Entry,
    append,
    check_step,
    format_line,
    is_torn,
    last_line,
    lock,
    parse_line,
    sync_folder,
    write_all,
)

__all__ = ["MARK", "Witness", "check_against", "is_there"]

MARK = "privemo-witness.txt"
_MARK_TEXT = """This folder is a witness of privemo consent logs. Each .jsonl file in it remembers the
signed heads of one log, so that an old copy of the log cannot pass for the newest.
Do not delete or edit these files. They hold no personal data.
"""


def is_there(path: Path) -> bool:
    """Return whether a witness stands at ``path``; an empty folder is how an unplugged stick looks."""
    return (path / MARK).is_file()


def check_against(
    latest: Checkpoint, *, size: int, root_at: Callable[[int], bytes], kind: str = "event"
) -> None:
    """Hold a log against what a witness remembers of it.

    Ask the witness for ``latest`` first and the log for ``size`` after: a log that others write to
    has then come at least as far.

    Args:
        latest: from `Witness.latest`.
        size: how many entries the log has now.
        root_at: gives the root of the log's first n entries.
        kind: what the log's entries are called in messages.

    Raises:
        RolledBackError: the log is shorter than ``latest``.
        ForkedError: it holds other entries than those ``latest`` was signed over.
    """
    if size < latest.size:
        raise RolledBackError(
            f"{kind} {size}",
            f"missing: this registry holds {size} entries, but its witness has already seen "
            f"{latest.size}. An old copy stands in its place. Whoever said no since then would be "
            "forgotten, so nobody's face may be used. Put the newest copy or backup back; if "
            "nobody here restored an old one, somebody else did",
        )
    root = root_at(latest.size)
    if root != latest.root:
        raise ForkedError(
            f"checkpoint {latest.size}",
            f"of the first {latest.size} entries of this registry at least one is not what the "
            "witness saw. The past was rewritten, or two copies of the registry were in use at "
            "once. Nobody's face may be used. Keep this registry and the witness's folder as they "
            f"are, and have both looked at (got root {root.hex()}, want {latest.root.hex()})",
        )


class Witness:
    """One such place. Several processes may use it at once; every method is safe for threads."""

    def __init__(
        self, path: Path, known: tuple[VerifyingKey, ...], cosigner: Cosigner | None
    ) -> None:
        self._path = path
        self._known = known
        self._cosigner = cosigner

    @property
    def path(self) -> Path:
        """The folder."""
        return self._path

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        known: Iterable[VerifyingKey],
        cosigner: Cosigner | None = None,
    ) -> Witness:
        """Make an empty or missing folder a witness; arguments as in `open`.

        Raises:
            RegistryExistsError: something stands there already.
            RegistryFullError: it cannot be written.
        """
        folder = Path(path)
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            if any(folder.iterdir()):
                raise RegistryExistsError(f"{folder} is not empty: give the witness its own folder")
            fd = os.open(folder / MARK, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            try:
                write_all(fd, _MARK_TEXT.encode())
            finally:
                os.close(fd)
            sync_folder(folder)
        except OSError as error:
            raise RegistryFullError(f"{folder} cannot be written: {error.strerror}") from error
        return cls.open(folder, known=known, cosigner=cosigner)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        known: Iterable[VerifyingKey],
        cosigner: Cosigner | None = None,
    ) -> Witness:
        """Open a witness.

        Args:
            path: the folder.
            known: the logs' keys, those of the past too: they signed the lines of the past.
            cosigner: signs what is added, with a key that the log's machine does not hold.

        Raises:
            WitnessMissingError: none is there. An empty folder is none: it is how a stick that is
                not plugged in looks, and would remember nothing.
        """
        folder = Path(path)
        if not (folder / MARK).is_file():
            raise WitnessMissingError(
                f"no witness at {folder}: plug the stick in, mount the share, or make a new one"
            )
        return cls(folder, tuple(known), cosigner)

    # -- reading -----------------------------------------------------------------------------

    def latest(self, origin: str) -> Checkpoint | None:
        """Return the last checkpoint seen of this log, its line verified; None if there is none.

        Raises:
            TamperedError: the line is not what was written, or signed by no known key.
            WitnessMissingError: the folder cannot be read any more.
        """
        entry = self._read_last(origin)
        return None if entry is None else entry.head

    def note(self, origin: str) -> str | None:
        """Return the note of `latest`, with the cosignature if there is a cosigner."""
        entry = self._read_last(origin)
        return None if entry is None else str(entry.note)

    def history(self, origin: str) -> Iterator[Checkpoint]:
        """Yield every checkpoint, oldest first: each line verified, each held to the one before.

        Raises:
            TamperedError: names the first line that is not what was written.
        """
        with self._reading(origin) as fd:
            if fd is None:
                return
            before: Entry | None = None
            torn: str | None = None
            with os.fdopen(os.dup(fd), "rb") as file:
                for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), b"")):
                    name = f"witness line {number}"
                    if torn is not None and line.endswith(b"\n") and not is_torn(line):
                        raise TamperedError(torn, "not what was written, and no crash's end")
                    if not line.endswith(b"\n") or is_torn(line):
                        torn = torn or name
                        continue
                    entry = self._entry(line[:-1], origin, name)
                    check_step(before, entry, name)
                    before = entry
                    yield entry.head

    # -- writing -----------------------------------------------------------------------------

    def add(self, note: str, proof: Sequence[bytes]) -> None:
        """Remember a checkpoint, durably. One that is remembered already changes nothing.

        Where several processes write to one log, use `follow`: here another one's checkpoint may
        come between the proof and this call, and what is merely late looks like a fork.

        Args:
            note: a signed checkpoint.
            proof: that it extends `latest`; empty for the first.

        Raises:
            SignatureError: no known key has signed it, or a known one's signature does not hold.
            MalformedError: no checkpoint, or a proof that is none.
            RolledBackError: it is shorter than `latest`.
            ForkedError: it is not shown to extend `latest`.
            TamperedError: `latest` is not what was written.
            RegistryFullError, RegistryBusyError, WitnessMissingError: nothing was remembered.
        """
        head = Checkpoint.parse(open_note(note, self._known).text)
        self._follow(head.origin, lambda: note, lambda _old, _new: proof)

    def follow(
        self,
        origin: str,
        newest: Callable[[], str],
        prove: Callable[[int, int], Sequence[bytes]],
    ) -> Checkpoint:
        """Bring the witness up to a log that others write to as well; see `add`.

        Args:
            origin: of the log.
            newest: gives its newest signed checkpoint; called under the witness's lock.
            prove: gives the proof from one size to another; called at most once.

        Returns:
            What the witness remembers now.
        """
        return self._follow(origin, newest, prove)

    def _follow(
        self,
        origin: str,
        newest: Callable[[], str],
        prove: Callable[[int, int], Sequence[bytes]],
    ) -> Checkpoint:
        with self._writing(origin) as fd:
            line, end = last_line(fd)
            last = None if line is None else self._entry(line, origin, f"witness of {origin}")
            opened = open_note(newest(), self._known)
            head = Checkpoint.parse(opened.text)
            if head.origin != origin:
                raise MalformedError(f"got a checkpoint of {head.origin!r}, want {origin!r}")
            if last is not None and (head.size, head.root) == (last.head.size, last.head.root):
                return last.head
            _check_longer(last, head)
            proof = tuple(prove(0 if last is None else last.head.size, head.size))
            if last is None and proof:
                raise ProofError("a first checkpoint has nothing to be consistent with")
            entry = Entry(head, self._cosigned(opened, last), proof)
            check_step(last, entry, f"checkpoint {head.size}")
            self._append(fd, end, entry)
        return head

    def _append(self, fd: int, end: int, entry: Entry) -> None:
        line = format_line(entry)
        try:
            append(fd, end, line)
        except OSError as error:
            raise RegistryFullError(
                f"{self._path} cannot be written: {error.strerror}; nothing was remembered"
            ) from error

    def _cosigned(self, note: Note, last: Entry | None) -> Note:
        if self._cosigner is None:
            return note
        key, before = self._cosigner.key, 0
        for line in last.note.signatures if last is not None else ():
            if (line.name, line.key_id) == (key.name, key.key_id):
                before = max(before, key.time_of(line.signature))
        cosigned = self._cosigner.cosign(str(note), not_before=before)
        return open_note(cosigned, (*self._known, key))

    # -- files -------------------------------------------------------------------------------

    def _file(self, origin: str) -> Path:
        name = re.sub(r"[^A-Za-z0-9]+", "-", origin).strip("-")[:60]
        return self._path / f"{name}-{hashlib.sha256(origin.encode()).hexdigest()[:16]}.jsonl"

    @contextmanager
    def _reading(self, origin: str) -> Iterator[int | None]:
        self._check_there()
        try:
            fd = os.open(self._file(origin), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            self._check_there()  # gone with the whole folder, or never written
            yield None
            return
        except OSError as error:
            raise WitnessMissingError(f"{self._path} cannot be read: {error.strerror}") from error
        try:
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def _writing(self, origin: str) -> Iterator[int]:
        self._check_there()
        path = self._file(origin)
        try:
            fresh = not path.exists()
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(path, flags, 0o600)
        except OSError as error:
            raise RegistryFullError(f"{path} cannot be written: {error.strerror}") from error
        try:
            lock(fd, path)
            if fresh:
                sync_folder(self._path)
            yield fd
        finally:
            os.close(fd)  # and with it the lock

    def _check_there(self) -> None:
        if not (self._path / MARK).is_file():
            raise WitnessMissingError(f"the witness at {self._path} is gone: plug it in again")

    def _read_last(self, origin: str) -> Entry | None:
        with self._reading(origin) as fd:
            if fd is None:
                return None
            try:
                line, _ = last_line(fd)
            except OSError as error:
                told = f"{self._path} cannot be read: {error.strerror}"
                raise WitnessMissingError(told) from error
        return None if line is None else self._entry(line, origin, f"witness of {origin}")

    def _entry(self, line: bytes, origin: str, name: str) -> Entry:
        keys: tuple[NoteKey, ...] = self._known
        if self._cosigner is not None:
            keys = (*keys, self._cosigner.key)
        return parse_line(line, keys, origin, name)


def _check_longer(last: Entry | None, head: Checkpoint) -> None:
    if last is not None and head.size < last.head.size:
        raise RolledBackError(
            f"checkpoint {head.size}",
            f"the witness has already seen {last.head.size} entries of {head.origin}: an old copy "
            "of the registry is in use, or a key signs for it elsewhere",
        )
