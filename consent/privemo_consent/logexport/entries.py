"""What the leaves of a log show by themselves: no database, no key folder, one pass, any length.

The leaves of one person share nothing, so a reader of the log cannot follow a person's record, and
cannot tell whether *this* withdrawal follows *that* grant; `ConsentRegistry.verify` can. What the
log does show is checked: how many records of a purpose can be live bounds how many can end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any

from .. import leaves
from ..errors import MalformedError, TamperedError
from ..keys import KeyRing
from ..policy import MAX_VALIDITY, TRANSITIONS
from ..state import KeyState
from ..terms import ConsentStatus, Purpose
from ..times import iso, parse_iso
from ..uses import parse_use

__all__ = ["EventsCheck", "NoticeFacts", "UsesCheck"]

Leaf = dict[str, Any]
_MAX_TERM = MAX_VALIDITY // timedelta(microseconds=1)
_DAY = 86_400_000_000


@dataclass(frozen=True, slots=True)
class NoticeFacts:
    """What the log is held against of a notice's text."""

    notice_id: str
    version: int
    purposes: frozenset[str]


class _Balance:
    """How many records of a purpose can be in a set of states, at most.

    A step that starts only inside the set needs a record there. Some steps enter the set from
    outside, some leave it: the records inside are at most those entered and not left.
    """

    def __init__(self, inside: frozenset[ConsentStatus]) -> None:
        self.needs = {to for to, start in TRANSITIONS.items() if start <= inside}
        self.enters = {to for to in inside if to not in self.needs}
        self.leaves = self.needs - inside
        self.count: Counter[str] = Counter()

    def step(self, entry: str, status: ConsentStatus, purpose: str) -> None:
        if status in self.needs and self.count[purpose] < 1:
            raise TamperedError(entry, f"no record for {purpose} can go to {status.value} here")
        if status in self.enters:
            self.count[purpose] += 1
        elif status in self.leaves:
            self.count[purpose] -= 1


def _balances() -> list[_Balance]:
    live = {ConsentStatus.GIVEN, ConsentStatus.RENEWED}
    found: list[_Balance] = []
    for inside in dict.fromkeys(TRANSITIONS.values()):
        # A term that is over needs no entry: a set with "expired" but not the live states is
        # entered unseen, and one with a live state but not "expired" is left unseen.
        if None in inside or (ConsentStatus.EXPIRED in inside) is not (live <= inside):
            continue
        found.append(_Balance(frozenset(state for state in inside if state is not None)))
    return found


# Entries of one transaction share their moment: most times are read more than once.
_moment = lru_cache(maxsize=256)(parse_iso)


def _times(value: Leaf) -> dict[str, int | None]:
    expires = value["expires"]
    return {
        "at": _moment(value["at"]),
        "recorded": _moment(value["recorded_at"]),
        "expires": None if expires is None else _moment(expires),
    }


class EventsCheck:
    """Takes the leaves of an events log in order and raises at the first that cannot be."""

    def __init__(self, notices: Mapping[str, NoticeFacts]) -> None:
        self._notices = notices
        self._balances = _balances()
        self._records: set[bytes] = set()
        self._versions: dict[str, int] = {}
        self._consents = 0
        self._erased = 0
        self._recorded = 0
        self._day = 0
        self._simulated = False
        self.size = 0
        self.registry_id = ""
        self.announced: set[str] = set()
        #: the signing keys that the log names, and their periods
        self._key_state = KeyState()

    @property
    def keys(self) -> KeyRing:
        """The signing keys, as the log itself tells them up to here."""
        return self._key_state.ring

    @property
    def recorded(self) -> int:
        """When the last entry was written; microseconds."""
        return self._recorded

    @property
    def simulated(self) -> bool:
        """Whether all of it is simulated."""
        return self._simulated

    def add(self, leaf: bytes) -> None:
        """Check the next leaf.

        Raises:
            TamperedError: names it.

        """
        entry = f"event {self.size}"
        try:
            value = leaves.parse(leaf)
            kind = value["kind"]
            if (self.size == 0) is not (kind == "registry"):
                raise MalformedError("the first entry, and no other, says what the registry is")
            # A consent leaf's vocabularies were checked as it was parsed: its times are left.
            self._check_times(kind, _times(value) if kind == "consent" else leaves.columns(value))
            if self.size and value["simulated"] is not self._simulated:
                raise MalformedError("simulated and real entries in one log")
            check = getattr(self, f"_{kind}", None)
            if check is not None:
                check(entry, value)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise TamperedError(entry, str(error) or type(error).__name__) from error
        self.size += 1

    def _check_times(self, kind: str, columns: Mapping[str, Any]) -> None:
        at, recorded = columns["at"], columns.get("recorded")
        if recorded is None:  # an age refusal tells its day, never its moment
            if at % _DAY or at + _DAY <= self._recorded:
                raise MalformedError(f"its day is over before the entry before it ({iso(at)[:10]})")
            self._day = max(self._day, at)
            return
        if recorded < self._recorded or recorded < self._day:
            raise MalformedError("recorded before the entry before it: time runs backwards")
        if at > recorded:
            raise MalformedError("takes effect after it was recorded")
        self._recorded = recorded
        expires = columns.get("expires")
        if kind == "consent" and expires is not None and not at < expires <= at + _MAX_TERM:
            raise MalformedError(f"its term is empty, or longer than {MAX_VALIDITY.days} days")

    def _registry(self, _entry: str, value: Leaf) -> None:
        self._simulated = value["simulated"]
        if (value["mode"] != "production") is not self._simulated:
            raise MalformedError(f"mode {value['mode']!r} and simulated {self._simulated}")
        if not isinstance(value["registry_id"], str) or not value["registry_id"]:
            raise MalformedError("names no registry")
        self.registry_id = value["registry_id"]
        self._key_state.apply(value)

    def _notice(self, _entry: str, value: Leaf) -> None:
        digest = value["notice"]
        facts = self._facts(digest)
        if (facts.notice_id, facts.version) != (value["notice_id"], value["version"]):
            raise MalformedError("id or version differs from the notice's text")
        if facts.version < self._versions.get(facts.notice_id, 0):
            raise MalformedError("a later version of this notice was in force before")
        self._versions[facts.notice_id] = facts.version
        self.announced.add(digest)

    def _consent(self, entry: str, value: Leaf) -> None:
        self._fresh(value)
        self._in_force(value["notice"])
        status = ConsentStatus(value["status"])
        if status.permits is not (value["expires"] is not None):
            raise MalformedError("a term belongs to the states that permit, and to them alone")
        purpose = value["purpose"]
        if status.permits and purpose not in self._facts(value["notice"]).purposes:
            raise MalformedError(f"its notice does not name the purpose {purpose}")
        if status not in TRANSITIONS:
            raise MalformedError(f"no record goes to {status.value}")
        for balance in self._balances:
            balance.step(entry, status, purpose)
        self._consents += 1

    def _age_refusal(self, _entry: str, value: Leaf) -> None:
        count = value["count"]
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise MalformedError(f"got a count of {count!r}, want 1 or more")

    def _erasure(self, _entry: str, value: Leaf) -> None:
        self._fresh(value)
        self._erased += 1
        if self._erased > self._consents:  # each person has at least one entry
            raise MalformedError("more people erased than the log can hold")

    def _exposure(self, _entry: str, value: Leaf) -> None:
        self._in_force(value["notice"])

    def _key(self, _entry: str, value: Leaf) -> None:
        self._key_state.apply(value)

    def _fresh(self, value: Leaf) -> None:
        record = bytes.fromhex(value["record_id"])
        if record in self._records:
            raise MalformedError("its record id stands in an earlier entry: it was replayed")
        self._records.add(record)

    def _facts(self, digest: object) -> NoticeFacts:
        facts = self._notices.get(digest) if isinstance(digest, str) else None
        if facts is None:
            raise MalformedError(f"its notice {digest!r} is not here")
        return facts

    def _in_force(self, digest: str) -> None:
        if digest not in self.announced:
            raise MalformedError("binds to a notice that was not yet in force")


class UsesCheck:
    """The same for the log of uses."""

    def __init__(self, *, events: int, simulated: bool) -> None:
        self._events = events
        self._simulated = simulated
        self._recorded = 0
        self.size = 0

    def add(self, leaf: bytes) -> None:
        """Check the next leaf.

        Raises:
            TamperedError: names it.

        """
        entry = f"use {self.size}"
        try:
            self._check(parse_use(leaf))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise TamperedError(entry, str(error) or type(error).__name__) from error
        self.size += 1

    def _check(self, value: Leaf) -> None:
        recorded = parse_iso(value["recorded_at"])
        if recorded < self._recorded:
            raise MalformedError("recorded before the entry before it: time runs backwards")
        if parse_iso(value["at"]) > recorded:
            raise MalformedError("used after it was recorded")
        self._recorded = recorded
        Purpose(value["purpose"])
        if value["simulated"] is not self._simulated:
            raise MalformedError("simulated and real entries in one registry")
        if not 0 <= value["log_seq"] <= self._events:
            raise MalformedError(f"relies on {value['log_seq']} events, the log has {self._events}")
