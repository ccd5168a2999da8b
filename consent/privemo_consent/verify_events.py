"""The events log, entry by entry: leaf, hash, columns, person, notice and change of state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from . import leaves, merkle, schema
from .canonical import sha256_hex
from .errors import TamperedError
from .journal import Journal
from .policy import TRANSITIONS
from .store import pairs
from .terms import ConsentStatus

__all__ = ["EventsCheck", "checked_leaf_hash", "naming", "rows_of"]

Leaf = dict[str, Any]
_CONSENT = leaves.KINDS.index("consent")
_NOTICE = leaves.KINDS.index("notice")


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
    count = 0
    try:
        for row in connection.execute(query).mappings():
            yield row
            count += 1
    except sa_exc.DBAPIError as error:
        raise TamperedError(f"{what} {count}", f"cannot be read: {error.orig}") from error


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
        self._people: list[tuple[str | None, bytes | None]] = []
        self._keys: dict[int, bytes] = {}
        self._seen: set[int] = set()
        self._last: dict[tuple[int, int], tuple[ConsentStatus, int]] = {}
        self._recorded = 0

    def check(self) -> list[bytes]:
        """Return the leaf hashes of a log in which every entry is as written."""
        self._read_people()
        hashes: list[bytes] = []
        query = sa.select(schema.events).order_by(schema.events.c.seq)
        for row in rows_of(self._connection, query, "event"):
            entry = f"event {len(hashes)}"
            with naming(entry):
                hashes.append(checked_leaf_hash(entry, row, len(hashes)))
                self._check_row(entry, row)
        if not hashes:
            raise TamperedError("event 0", "missing: the log has no beginning")
        for nid in range(len(self._notices)):
            if nid not in self._announced:
                raise TamperedError(f"notice {nid}", "no event brought it into force")
        for pid in range(len(self._people)):
            if pid not in self._seen:
                raise TamperedError(f"person row {pid}", "no event is about it")
        return hashes

    def _read_people(self) -> None:
        query = sa.select(schema.persons).order_by(schema.persons.c.pid)
        for row in rows_of(self._connection, query, "person row"):
            person, nonce = row["person"], row["nonce"]
            entry = f"person row {len(self._people)}"
            if row["pid"] != len(self._people):
                raise TamperedError(entry, "missing")
            if (person is None) is not (nonce is None):
                raise TamperedError(entry, "half erased")
            if person is not None and not (isinstance(person, str) and isinstance(nonce, bytes)):
                raise TamperedError(entry, "holds values of another type")
            self._people.append((person, nonce))

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
        if row["kind"] == _CONSENT:
            self._check_consent(entry, row, leaf)
        elif row["pid"] is not None:
            raise TamperedError(entry, "names a person, which its kind does not")
        if (row["seq"] == 0) is not (row["kind"] == leaves.KINDS.index("registry")):
            raise TamperedError(entry, "the registry's first entry, and no other, says what it is")
        if row["seq"] == 0:
            self._check_meta(leaf)

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

    def _check_consent(self, entry: str, row: Any, leaf: Leaf) -> None:
        pid = row["pid"]
        if pid is None or not 0 <= pid < len(self._people):
            raise TamperedError(entry, f"person row {pid} does not exist")
        self._seen.add(pid)
        person, nonce = self._people[pid]
        if person is not None and nonce is not None:
            key = self._keys.get(pid)
            if key is None:
                key = self._keys[pid] = leaves.subject_key(self._journal.key, nonce)
            if leaves.subject_tag(key, leaf["record_id"], person) != leaf["subject"]:
                raise TamperedError(entry, f"its subject is not the person of row {pid}")
        self._check_transition(entry, row, ConsentStatus(leaf["status"]))

    def _check_transition(self, entry: str, row: Any, status: ConsentStatus) -> None:
        key = (row["pid"], row["purpose"])
        last, expires = self._last.get(key, (None, 0))
        if last is not None and last.permits and expires <= row["at"]:
            last = ConsentStatus.EXPIRED
        if last not in TRANSITIONS[status]:
            raise TamperedError(entry, f"no record goes from {last} to {status}")
        if status.permits is not (row["expires"] is not None):
            raise TamperedError(
                entry, "a term belongs to the states that permit, and to them alone"
            )
        self._last[key] = (status, row["expires"] or 0)

    def _check_meta(self, value: Leaf) -> None:
        meta: dict[str, str] = pairs(self._connection.execute(sa.select(schema.meta)))
        if meta.keys() != {"mode", "registry_id", "controller"}:
            raise TamperedError("meta", f"got keys {sorted(meta)}")
        for name in ("mode", "registry_id"):
            if value[name] != meta[name]:
                raise TamperedError(f"meta {name}", f"got {meta[name]!r}, event 0 {value[name]!r}")
        if value["controller"] != sha256_hex(meta["controller"].encode()):
            raise TamperedError("meta controller", "is not the controller of event 0")
