"""Verification of an export, offline: everything recomputed, the first bad entry named.

One pass over each log in memory of O(log n) plus 16 bytes a record id. `entries.py` says which
changes of state can and cannot be judged without knowing whose an entry is.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .. import merkle
from ..canonical import parse_canonical, sha256_hex
from ..checkpoint import Checkpoint, uses_of, uses_origin
from ..cosign import CosignerKey, parse_key
from ..errors import MalformedError, SignatureError, TamperedError
from ..keys import VerifyingKey
from ..note import Note, open_note
from ..times import from_us
from .entries import EventsCheck, NoticeFacts, UsesCheck
from .frontier import Frontier

__all__ = ["ExportVerified", "verify_export"]

Key = VerifyingKey | CosignerKey
#: No line, notice or note that this package writes comes near.
_MAX_LINE = 1 << 20
_HASH_LINE = 65


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportVerified:
    """What `verify_export` found whole: sizes, roots in hexadecimal, and on whose word."""

    registry_id: str
    origin: str
    simulated: bool
    events: int
    root: str
    uses: int
    uses_root: str
    #: False: there is no signed head of the log of uses, and no uses
    uses_signed: bool
    #: how many signed heads were held against the entries
    checkpoints: int
    #: names of the keys that signed the newest head of the events log
    signed_by: tuple[str, ...]
    #: names of the known witnesses that cosigned it
    witnesses: tuple[str, ...]
    #: False: the keys are the export's own, so that it agrees with itself and no more is shown
    pinned: bool


@dataclass(frozen=True, slots=True)
class _Head:
    label: str
    head: Checkpoint
    note: Note

    @property
    def signers(self) -> tuple[VerifyingKey, ...]:
        return tuple(key for key in self.note.keys if isinstance(key, VerifyingKey))


def verify_export(
    folder: str | os.PathLike[str], *, known: Iterable[Key] | None = None
) -> ExportVerified:
    """Verify an export from its files alone.

    Args:
        folder: what `write_export` wrote.
        known: the keys one trusts, from elsewhere: the log's, those it used in the past too, and
            its witnesses'. None takes the export's own word for its keys, and says so.

    Raises:
        TamperedError: names the first bad entry (``"event 17"``) or file.
        SignatureError: a signed head is signed by the export's keys, and by none of ``known``.
        MalformedError: no folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise MalformedError(f"no export at {root}: want a folder")
    stated = _read_keys(root)
    trust = _Trust(stated, None if known is None else tuple(known))
    notices = _read_notices(root)
    events = EventsCheck(notices)
    log = _Log(root, "events", "event", trust)
    log.check_all(events)
    if events.size == 0:
        raise TamperedError("event 0", "missing: the log has no beginning")
    for digest in notices:
        if digest not in events.announced:
            raise TamperedError(f"notices/{digest}.json", "no event brought it into force")
    newest = log.last
    assert newest is not None  # noqa: S101 - entries without a signed head were refused
    uses_check = UsesCheck(events=events.size, simulated=events.simulated)
    uses = _Log(root, "uses", "use", trust, of=(newest.head.origin, events, log.vouched))
    uses.check_all(uses_check)
    witnesses = (key.name for key in newest.note.keys if isinstance(key, CosignerKey))
    return ExportVerified(
        registry_id=events.registry_id,
        origin=newest.head.origin,
        simulated=events.simulated,
        events=events.size,
        root=newest.head.root.hex(),
        uses=uses_check.size,
        uses_root=uses.tree.root().hex(),
        uses_signed=uses.last is not None,
        checkpoints=log.heads + uses.heads,
        signed_by=tuple(key.name for key in newest.signers),
        witnesses=tuple(dict.fromkeys(witnesses)),
        pinned=known is not None,
    )


class _Trust:
    """Which keys count."""

    def __init__(self, stated: tuple[Key, ...], known: tuple[Key, ...] | None) -> None:
        self._stated = stated
        self._known = stated if known is None else known
        self._pinned = known is not None

    def open(self, label: str, note: str | bytes) -> _Head:
        try:
            return self._open(label, note, self._known)
        except MalformedError as error:
            raise TamperedError(label, str(error)) from error
        except SignatureError as error:
            if self._pinned:
                self._blame(label, note)
            raise TamperedError(label, str(error)) from error

    def _blame(self, label: str, note: str | bytes) -> None:
        """Tell a note that others signed from one that was changed."""
        try:
            found = self._open(label, note, self._stated)
        except (MalformedError, SignatureError):
            return
        logs = (key for key in self._known if isinstance(key, VerifyingKey))
        trusted = {(key.name, key.key_id) for key in logs}
        if any((line.name, line.key_id) in trusted for line in found.note.signatures):
            return  # a key one trusts is said to have signed, and has not
        who = ", ".join(str(key) for key in found.signers)
        raise SignatureError(f"{label} is signed by {who}, which is none of the keys you trust")

    @staticmethod
    def _open(label: str, note: str | bytes, keys: tuple[Key, ...]) -> _Head:
        opened = open_note(note, keys)
        found = _Head(label, Checkpoint.parse(opened.text), opened)
        if not found.signers:
            raise SignatureError("a witness has signed, the log has not")
        return found


class _Log:
    """One of the two logs: its lines against their hashes and against every signed head."""

    def __init__(
        self,
        root: Path,
        name: str,
        kind: str,
        trust: _Trust,
        of: tuple[str, EventsCheck, Mapping[int, bytes]] | None = None,
    ) -> None:
        self._root = root
        self._name = name
        self._kind = kind
        self._trust = trust
        self._of = of
        self.tree = Frontier()
        self.heads = 0
        self.last: _Head | None = None
        #: by size: the root of the log of uses that a signed head of events vouches for
        self.vouched: dict[int, bytes] = {}

    def check_all(self, check: EventsCheck | UsesCheck) -> None:
        """Read the log to its end.

        Raises:
            TamperedError, SignatureError: see `verify_export`.
        """
        heads = self._heads()
        head = next(heads, None)
        if head is not None and head.head.size == 0:
            head = self._hold(head, check, heads)
        with _open(self._root, f"{self._name}.hashes") as hashes:
            for leaf in self._leaves():
                entry = f"{self._kind} {self.tree.size}"
                value = merkle.leaf_hash(leaf)
                if hashes.readline(_HASH_LINE) != b"%s\n" % value.hex().encode():
                    raise TamperedError(entry, f"is not what {self._name}.hashes says")
                check.add(leaf)
                self.tree.append(value)
                if head is not None and head.head.size == self.tree.size:
                    head = self._hold(head, check, heads)
                self._check_vouched()
            if head is not None:
                raise TamperedError(
                    f"{self._kind} {self.tree.size}",
                    f"missing: {head.label} was signed over {head.head.size} entries",
                )
            if hashes.readline(_HASH_LINE):
                raise TamperedError(f"{self._kind} {self.tree.size}", "missing: its hash is here")
        covered = 0 if self.last is None else self.last.head.size
        if self._of is not None:
            covered = max(covered, self._check_end())
        if covered < self.tree.size:
            raise TamperedError(f"{self._kind} {covered}", "no signed head covers it")

    def _check_vouched(self) -> None:
        """Hold the log of uses, as far as it was read, against what heads of events say of it."""
        want = None if self._of is None else self._of[2].get(self.tree.size)
        if want is not None and want != self.tree.root():
            raise TamperedError(
                f"{self._kind} {self.tree.size - 1}", "or one before it: not what was vouched for"
            )

    def _check_end(self) -> int:
        """Return how many uses the heads of events vouch for, once none of them is missing."""
        assert self._of is not None  # noqa: S101
        most = max(self._of[2], default=0)
        if most > self.tree.size:
            raise TamperedError(f"{self._kind} {self.tree.size}", "missing: it was vouched for")
        return most

    def _leaves(self) -> Iterator[bytes]:
        with _open(self._root, f"{self._name}.jsonl") as file:
            for line in iter(lambda: file.readline(_MAX_LINE), b""):
                if not line.endswith(b"\n"):
                    raise TamperedError(f"{self._kind} {self.tree.size}", "cut off, or endless")
                yield line[:-1]

    def _heads(self) -> Iterator[_Head]:
        """Yield the signed heads, shortest first; `checkpoint.txt` is the last."""
        prefix = "" if self._of is None else f"{self._name}-"
        newest = f"{prefix}checkpoint.txt"
        size = -1
        with _open(self._root, f"{prefix}checkpoints.jsonl") as file:
            for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE), b"")):
                label = f"{prefix}checkpoints.jsonl line {number + 1}"
                try:
                    value = parse_canonical(line.removesuffix(b"\n"))
                    if value.keys() != {"note"} or not line.endswith(b"\n"):
                        raise MalformedError("no note, or cut off")
                    note = str(value["note"])
                except MalformedError as error:
                    raise TamperedError(label, str(error)) from error
                head = self._trust.open(label, note)
                if head.head.size <= size:
                    raise TamperedError(label, "not longer than the signed head before it")
                size = head.head.size
                yield head
        if self._of is not None and size < 0 and not os.path.lexists(self._root / newest):
            return  # a log of uses that was never signed; entries in it are refused
        with _open(self._root, newest) as file:
            head = self._trust.open(newest, file.read(_MAX_LINE))
        if head.head.size <= size:
            raise TamperedError(newest, "not longer than the signed head before it")
        yield head

    def _hold(
        self, head: _Head, check: EventsCheck | UsesCheck, heads: Iterator[_Head]
    ) -> _Head | None:
        """Hold a signed head against the entries read so far; return the next."""
        if head.head.root != self.tree.root():
            first = 0 if self.last is None else self.last.head.size
            last = self.tree.size - 1
            entry = f"{self._kind} {first}" if first >= last else f"{self._kind}s {first} to {last}"
            raise TamperedError(entry, f"not what {head.label} was signed over")
        self._check_signer(head, check)
        self.heads += 1
        self.last = head
        said = uses_of(head.head) if self._of is None else None
        if said is not None:
            self.vouched[said[0]] = said[1]
        return next(heads, None)

    def _check_signer(self, head: _Head, check: EventsCheck | UsesCheck) -> None:
        """Hold the signer to the periods of keys that the log states, where it states any."""
        if isinstance(check, EventsCheck):
            periods, valid = check.keys.periods, check.keys.valid(from_us(check.recorded))
            names = {periods[-1].key.name} if periods else {(self.last or head).head.origin}
        else:
            assert self._of is not None  # noqa: S101
            periods = self._of[1].keys.periods
            # When a use was signed is not told, so only keys that never counted, or count no more;
            # and under which name, where a log went on under another.
            valid = tuple(period.key for period in periods if period.revoked is None)
            names = {period.key.name for period in periods} or {self._of[0]}
            names = {uses_origin(name) for name in names}
        if head.head.origin not in names:
            want = " or ".join(sorted(names))
            raise TamperedError(head.label, f"is of {head.head.origin!r}, want {want!r}")
        if periods and not any(key in valid for key in head.signers):
            who = ", ".join(f"{key.name}+{key.key_id.hex()}" for key in head.signers)
            raise TamperedError(
                head.label, f"signed by {who}, which the log had not begun, had ended or revoked"
            )


@contextmanager
def _open(root: Path, name: str) -> Iterator[BinaryIO]:
    """Open a plain file; a link or a pipe could lead a reader anywhere, or hold it for ever."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(root / name, flags)
    except OSError as error:
        raise TamperedError(name, f"cannot be read: {error.strerror}") from error
    with os.fdopen(fd, "rb", buffering=1 << 18) as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise TamperedError(name, "is no plain file")
        yield file


def _read_keys(root: Path) -> tuple[Key, ...]:
    found: list[Key] = []
    with _open(root, "keys.txt") as file:
        text = file.read(_MAX_LINE)
    lines = text.split(b"\n")
    if lines.pop() != b"":
        raise TamperedError("keys.txt", "does not end in a newline")
    for number, line in enumerate(lines):
        try:
            found.append(parse_key(line.decode("utf-8")))
        except ValueError as error:
            raise TamperedError(f"keys.txt line {number + 1}", str(error)) from error
    return tuple(dict.fromkeys(found))


def _read_notices(root: Path) -> dict[str, NoticeFacts]:
    found: dict[str, NoticeFacts] = {}
    try:
        names = sorted(os.listdir(root / "notices"))
    except OSError as error:
        raise TamperedError("notices", f"cannot be read: {error.strerror}") from error
    for name in names:
        entry, digest = f"notices/{name}", name.removesuffix(".json")
        with _open(root, entry) as file:
            body = file.read(_MAX_LINE)
        if name == digest or sha256_hex(body) != digest:
            raise TamperedError(entry, f"its text has the hash {sha256_hex(body)}")
        try:
            value = parse_canonical(body)
            purposes = frozenset(str(purpose) for purpose in value["purposes"])
            found[digest] = NoticeFacts(value["notice_id"], value["version"], purposes)
        except (ValueError, TypeError, KeyError) as error:
            raise TamperedError(entry, f"is no notice: {error}") from error
    return found
