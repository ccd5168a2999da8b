"""The events log, entry by entry: leaf, hash, columns, person, notice and change of state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from . import leaves, merkle, schema
from .canonical import sha256_hex
from .errors import ErasedKeyError, KeyFileError, TamperedError
from .journal import Journal
from .policy import TRANSITIONS, status_at
from .sealing import PersonSecrets, handle_of, open_person
from .state import KeyState
from .storage import pairs
from .terms import ConsentStatus
from .times import parse_iso

__all__ = ["EventsCheck", "checked_leaf_hash", "naming", "rows_of"]

Leaf = dict[str, Any]
_CONSENT = leaves.KINDS.index("consent")
_NOTICE = leaves.KINDS.index("notice")
_ERASURE = leaves.KINDS.index("erasure")
_OF_KEYS = (leaves.KINDS.index("registry"), leaves.KINDS.index("key"))
_UNNAMED = PersonSecrets("", b"", b"")
# SQLite columns hold values of any type: 1.0 equals 1, and is not what was written.
_CONSENT_TYPES = tuple((*(int,) * 8, ends, int, bool, bytes, bytes) for ends in (int, type(None)))
_CODES: dict[str, int] = {
    str(name): code
    for names in (leaves.PURPOSES, leaves.STATUSES, leaves.ROLES)
    for code, name in enumerate(names)
}
_microseconds = lru_cache(maxsize=4096)(parse_iso)  # an import gives thousands the same moment


@contextmanager
def naming(entry: str) -> Iterator[None]:
    """Blame ``entry`` for whatever reading it runs into.

    SQLite columns hold values of any type, so that a damaged byte can turn bytes into text or a
    number into None; MalformedError and pydantic's errors are ValueErrors.
    """
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        told = (str(error).splitlines() or [""])[0]
        raise TamperedError(entry, told or type(error).__name__) from error


def rows_of(connection: sa.Connection, query: sa.Select[Any], what: str) -> Iterator[Any]:
    """Yield rows as mappings; blame the row after the last one read for an error of the file."""
    for row in plain_rows_of(connection, query, what):
        yield row._mapping


def plain_rows_of(
    connection: sa.Connection, query: sa.Select[Any], what: str
) -> Iterator[sa.Row[Any]]:
    """Yield rows as tuples, read a thousand at a time; blame as `rows_of` does."""
    count = 0
    try:
        result = connection.execute(query, execution_options={"yield_per": 1000})
        for part in result.partitions():
            for row in part:
                yield row
                count += 1
    except (sa_exc.DBAPIError, UnicodeDecodeError) as error:
        cause = error.orig if isinstance(error, sa_exc.DBAPIError) else "no text"
        raise TamperedError(f"{what} {count}", f"cannot be read: {cause}") from error


def checked_leaf_hash(entry: str, row: Any, seq: int) -> bytes:
    """Return the hash of a row's leaf, once it is the row expected and the hash the one stored."""
    if row["seq"] != seq:
        raise TamperedError(entry, f"missing: the next entry is {row['seq']}")
    value = merkle.leaf_hash(row["leaf"])
    if value != row["leaf_hash"]:
        raise TamperedError(entry, f"got leaf hash {value.hex()}, want {row['leaf_hash'].hex()}")
    return value


class EventsCheck:
    """One pass over the events log."""

    def __init__(
        self, journal: Journal, connection: sa.Connection, notices: list[tuple[str, str, int]]
    ) -> None:
        self._journal = journal
        self._connection = connection
        self._notices = notices
        self._announced: set[int] = set()
        #: by pid: what the row holds, None for a person erased
        self.people: list[PersonSecrets | None] = []
        #: False when the registry was opened without its keys: nobody can be named then
        self.named = journal.keys is not None
        self._seen: set[int] = set()
        self._erased: set[int] = set()
        self._last: dict[tuple[int, int], tuple[ConsentStatus, int]] = {}
        self._recorded = 0
        #: what the log says of keys, entry by entry
        self.keys = KeyState()
        #: by the key as C2SP writes it: which entry began it
        self._begun: dict[str, str] = {}
        #: by epoch of person keys: the first row that is wrapped under it
        self._wrapped: dict[int, str] = {}

    def check(self) -> list[bytes]:
        """Return the leaf hashes of a log in which every entry is as written."""
        self._check_beginning()  # first: nobody's row opens under another registry's id
        self._read_people()
        hashes: list[bytes] = []
        query = sa.select(schema.events).order_by(schema.events.c.seq)
        for row in plain_rows_of(self._connection, query, "event"):
            if row.seq == len(hashes) and self._is_sound_consent(row):
                hashes.append(row.leaf_hash)
                continue
            entry = f"event {len(hashes)}"
            with naming(entry):
                hashes.append(checked_leaf_hash(entry, row._mapping, len(hashes)))
                self._check_row(entry, row._mapping)
        if not hashes:
            raise TamperedError("event 0", "missing: the log has no beginning")
        self._check_keys_held()
        self._check_rows()
        return hashes

    def _check_rows(self) -> None:
        """Hold the rows of notices and persons to what the whole log says of them."""
        for epoch, entry in self._wrapped.items():
            if epoch != self.keys.epoch:
                told = f"is wrapped under epoch {epoch}, the log says {self.keys.epoch}"
                raise TamperedError(entry, told)
        for nid in range(len(self._notices)):
            if nid not in self._announced:
                raise TamperedError(f"notice {nid}", "no event brought it into force")
        for pid, secrets in enumerate(self.people):
            if pid not in self._seen:
                raise TamperedError(f"person row {pid}", "no event is about it")
            if (secrets is None) is not (pid in self._erased):
                told = "an erasure" if secrets is None else "no erasure"
                raise TamperedError(f"person row {pid}", f"the log should tell of {told}")

    def _check_keys_held(self) -> None:
        """Refuse a key that signs for this log and is nobody's here.

        Whoever can write into the database can append an entry that begins a key of his own, and
        sign with it; he cannot put it into the key folder. Keys of earlier names are left out:
        those of a log that was taken over lie with whoever kept it.
        """
        folder = self._journal.keys
        if folder is None:
            return
        for period in self.keys.ring.periods:
            key = period.key
            if key.name != self.keys.origin or folder.ever_held(key):
                continue
            raise TamperedError(
                self._begun.get(str(key), "event 0"),
                "begins a signing key that the key folder never held: somebody else signs for "
                "this log",
            )

    def _check_beginning(self) -> None:
        query = sa.select(schema.events).where(schema.events.c.seq == 0)
        for row in rows_of(self._connection, query, "event"):
            with naming("event 0"):
                checked_leaf_hash("event 0", row, 0)
                leaf = leaves.parse(row["leaf"])
                if leaf["kind"] == "registry":
                    self._check_meta(leaf)

    def _read_people(self) -> None:
        query = sa.select(schema.persons).order_by(schema.persons.c.pid)
        for row in rows_of(self._connection, query, "person row"):
            entry = f"person row {len(self.people)}"
            if row["pid"] != len(self.people):
                raise TamperedError(entry, "missing")
            with naming(entry):
                self.people.append(self._open(entry, row))

    def _open(self, entry: str, row: Any) -> PersonSecrets | None:
        empty = [row[name] is None for name in ("handle", "sealed", "wrapped", "epoch")]
        if all(empty):
            return None
        if any(empty):
            raise TamperedError(entry, "half erased")
        self._wrapped.setdefault(row["epoch"], entry)
        if not self.named:
            return _UNNAMED
        journal = self._journal
        keys = journal.keys_needed()
        try:
            secrets = open_person(keys, journal.registry_id, row)
        except ErasedKeyError:
            raise TamperedError(entry, "its key was destroyed, and its row was not") from None
        except KeyFileError as error:
            raise TamperedError(entry, str(error)) from None
        if row["handle"] != handle_of(keys.lookup_key(row["epoch"]), secrets.person):
            raise TamperedError(entry, "is found under another person's id")
        return secrets

    def _is_sound_consent(self, row: Any) -> bool:
        """Return whether this is a consent entry without any fault: the one in front of millions.

        A fault of any kind is left to `_check_row`, which names it: this only ever says yes to what
        that would pass.
        """
        seq, _, pid, *coded, at, recorded, expires, nid, simulated, leaf, leaf_hash = row
        if tuple(map(type, row)) not in _CONSENT_TYPES or merkle.leaf_hash(leaf) != leaf_hash:
            return False
        match = leaves.match_consent(leaf)
        if match is None or row.kind != _CONSENT or seq == 0:
            return False
        said = match.groupdict()
        ends = said["expires"]
        status = ConsentStatus(said["status"])
        sound = (
            coded == [_CODES[said["purpose"]], _CODES[status], _CODES[said["role"]]]
            and at == _microseconds(said["at"])
            and recorded == _microseconds(said["recorded_at"])
            and expires == (None if ends is None else _microseconds(ends))
            and simulated is (said["simulated"] == "true")
            and simulated is self._journal.simulated
            and recorded >= self._recorded
            and nid in self._announced
            and self._notices[nid][0] == said["notice"]
            and self._is_about(pid, said)
            and self._goes_on((pid, coded[0]), at, expires, status)
        )
        if sound:
            self._recorded = recorded
            self._seen.add(pid)
        return sound

    def _is_about(self, pid: int, said: Leaf) -> bool:
        if not 0 <= pid < len(self.people) or pid in self._erased:
            return False
        found = self.people[pid]
        if self.named and found is not None:
            tag = leaves.subject_tag(found.subject_key, said["record_id"], found.person)
            if tag != said["subject"]:
                return False
        return True

    def _goes_on(
        self, key: tuple[int, int], at: int, expires: int | None, status: ConsentStatus
    ) -> bool:
        """Return whether a person's record for a purpose may go to ``status``; if so take it there."""
        last, until = self._last.get(key, (None, 0))
        before = status_at(last, until, at)
        if before not in TRANSITIONS[status] or status.permits is not (expires is not None):
            return False
        self._last[key] = (status, expires or 0)
        return True

    def _check_row(self, entry: str, row: Any) -> None:
        leaf = leaves.parse(row["leaf"])
        want = leaves.columns(leaf)
        notice = want.pop("notice")
        want.setdefault("recorded", self._recorded)  # an age refusal does not tell its moment
        for name in ("purpose", "status", "role", "expires"):
            want.setdefault(name, None)
        for name, value in want.items():
            if row[name] != value or type(row[name]) is not type(value):
                raise TamperedError(entry, f"column {name} says {row[name]!r}, its leaf {value!r}")
        if row["recorded"] < self._recorded:
            raise TamperedError(entry, "recorded before the entry before it")
        self._recorded = row["recorded"]
        if want["simulated"] is not self._journal.simulated:
            raise TamperedError(entry, "simulated and real entries in one registry")
        self._check_notice(entry, row, leaf, notice)
        self._check_kind(entry, row, leaf)
        if (row["seq"] == 0) is not (row["kind"] == leaves.KINDS.index("registry")):
            raise TamperedError(entry, "the registry's first entry, and no other, says what it is")

    def _check_kind(self, entry: str, row: Any, leaf: Leaf) -> None:
        if row["kind"] == _CONSENT:
            self._check_person(entry, row, leaf)
            self._check_transition(entry, row, ConsentStatus(leaf["status"]))
        elif row["kind"] == _ERASURE:
            self._check_person(entry, row, leaf)
            self._erased.add(row["pid"])
        elif row["pid"] is not None:
            raise TamperedError(entry, "names a person, which its kind does not")
        if row["kind"] in _OF_KEYS:
            self.keys.apply(leaf)
            self._begun.setdefault(leaf.get("key", ""), entry)

    def _check_notice(self, entry: str, row: Any, leaf: Leaf, notice: str | None) -> None:
        nid = row["nid"]
        if nid is None and notice is None:
            return
        if nid is None or not 0 <= nid < len(self._notices) or self._notices[nid][0] != notice:
            raise TamperedError(entry, f"notice row {nid} is not the notice of its leaf")
        if row["kind"] == _NOTICE:
            if (leaf["notice_id"], leaf["version"]) != self._notices[nid][1:]:
                raise TamperedError(entry, "id or version differs from the notice's text")
            self._announced.add(nid)
        elif nid not in self._announced:
            raise TamperedError(entry, "binds to a notice that was not yet in force")

    def _check_person(self, entry: str, row: Any, leaf: Leaf) -> None:
        pid = row["pid"]
        if pid is None or not 0 <= pid < len(self.people):
            raise TamperedError(entry, f"person row {pid} does not exist")
        if pid in self._erased:
            raise TamperedError(entry, f"is about person row {pid}, which was erased before")
        self._seen.add(pid)
        found = self.people[pid]
        if not self.named or found is None:
            return
        if (
            leaves.subject_tag(found.subject_key, leaf["record_id"], found.person)
            != leaf["subject"]
        ):
            raise TamperedError(entry, f"its subject is not the person of row {pid}")

    def _check_transition(self, entry: str, row: Any, status: ConsentStatus) -> None:
        key = (row["pid"], row["purpose"])
        if self._goes_on(key, row["at"], row["expires"], status):
            return
        if status.permits is not (row["expires"] is not None):
            raise TamperedError(
                entry, "a term belongs to the states that permit, and to them alone"
            )
        last, expires = self._last.get(key, (None, 0))
        before = status_at(last, expires, row["at"])
        raise TamperedError(entry, f"no record goes from {before} to {status}")

    def _check_meta(self, value: Leaf) -> None:
        meta: dict[str, str] = pairs(self._connection.execute(sa.select(schema.meta)))
        if meta.keys() != {"mode", "registry_id", "controller"}:
            raise TamperedError("meta", f"got keys {sorted(meta)}")
        for name in ("mode", "registry_id"):
            if value[name] != meta[name]:
                raise TamperedError(f"meta {name}", f"got {meta[name]!r}, event 0 {value[name]!r}")
        if value["controller"] != sha256_hex(meta["controller"].encode()):
            raise TamperedError("meta controller", "is not the controller of event 0")
