"""From drafts to rows: each change of state checked against what the log says by then."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from . import leaves, schema
from .errors import (
    BackdatedRefused,
    RegistryUnreadableError,
    TransitionRefused,
    UnknownPersonError,
)
from .leaves import KINDS, PURPOSES, ROLES, STATUSES
from .policy import TRANSITIONS, AgeRule, status_at
from .sealing import seal_person
from .state import NO_STATUS, State
from .terms import ConsentStatus, Purpose, Role
from .times import iso

__all__ = ["Draft", "Refusal", "Transaction", "plain_row"]

_SHOPPER = ROLES.index(Role.SHOPPER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A change of state somebody asks for; None means "as it was on the last record"."""

    person: str
    purpose: Purpose
    status: ConsentStatus
    entity: str = "data_subject"
    role: Role | None = None
    jurisdiction: str | None = None
    nid: int | None = None
    #: microseconds since 1970; None for now
    at: int | None = None
    #: microseconds from ``at``; for the two states that permit
    valid_for: int | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """People refused for their age: nothing but how many (AADC 7, 9, 12)."""

    rule: AgeRule
    jurisdiction: str
    count: int


@dataclass(slots=True)
class _Last:
    """What a person's last record for a purpose says, be it stored or about to be."""

    status: ConsentStatus | None
    expires: int
    nid: int
    seq: int
    jurisdiction: str | None = None


def plain_row(
    kind: str, leaf: bytes, at: int, simulated: bool, nid: int | None = None
) -> dict[str, Any]:
    """Return the columns of an event that is about no person."""
    return {
        "kind": KINDS.index(kind),
        "pid": None,
        "purpose": None,
        "status": None,
        "role": None,
        "at": at,
        "recorded": at,
        "expires": None,
        "nid": nid,
        "simulated": simulated,
        "leaf": leaf,
    }


class Transaction:
    """Turns drafts into rows, each seeing those before it.

    ``known`` has the row number of every person of the drafts who has one.
    """

    def __init__(
        self,
        state: State,
        connection: sa.Connection,
        now: int,
        *,
        registry_id: str,
        simulated: bool,
        known: Mapping[str, int],
    ) -> None:
        self._state = state
        self._registry_id = registry_id
        self._simulated = simulated
        self._connection = connection
        self._now = now
        self._pids = dict(known)
        self._keys: dict[int, bytes] = {}
        self._last: dict[tuple[int, Purpose], _Last] = {}
        self._roles: dict[int, int] = {}
        self._iso: dict[int, str] = {}
        self.new_persons: list[dict[str, Any]] = []
        self.new_names: list[str] = []

    def event(self, draft: Draft) -> dict[str, Any] | None:
        """Return the row of one draft, or None where nothing needs to change."""
        at = self._moment(draft.at)
        if draft.nid is None and draft.person not in self._pids:
            # It leans on a record, and whoever it is about was erased a moment ago.
            raise UnknownPersonError("no record under this person id: check the id")
        pid = self._pid(draft)
        last = self._last_of(pid, draft.purpose)
        status = _target(draft, last, at)
        if status is None:
            return None
        nid = last.nid if draft.nid is None else draft.nid
        jurisdiction = draft.jurisdiction or self._jurisdiction(last)
        if nid < 0 or jurisdiction is None:
            raise UnknownPersonError(
                f"no record for {draft.purpose.value} that says which notice and jurisdiction: "
                "give both"
            )
        role = self._role(pid) if draft.role is None else ROLES.index(draft.role)
        expires = at + draft.valid_for if status.permits and draft.valid_for else None
        if status.permits and expires is None:
            raise TransitionRefused("a consent needs a finite term (DPV guide 8.5.4)")
        self._last[(pid, draft.purpose)] = _Last(status, expires or 0, nid, -1, jurisdiction)
        self._roles[pid] = role
        return self._row(draft, pid, status, role, nid, jurisdiction, at, expires)

    def _row(
        self,
        draft: Draft,
        pid: int,
        status: ConsentStatus,
        role: int,
        nid: int,
        jurisdiction: str,
        at: int,
        expires: int | None,
    ) -> dict[str, Any]:
        record_id = os.urandom(16).hex()
        simulated = self._simulated
        leaf = leaves.consent_leaf(
            record_id=record_id,
            subject=leaves.subject_tag(self._key(pid), record_id, draft.person),
            purpose=draft.purpose.value,
            status=status.value,
            at=self._text(at),
            recorded_at=self._text(self._now),
            expires=None if expires is None else self._text(expires),
            entity=draft.entity,
            role=ROLES[role].value,
            jurisdiction=jurisdiction,
            notice=self._state.notices[nid].hash,
            simulated=simulated,
        )
        return {
            "kind": KINDS.index("consent"),
            "pid": pid,
            "purpose": PURPOSES.index(draft.purpose),
            "status": STATUSES.index(status),
            "role": role,
            "at": at,
            "recorded": self._now,
            "expires": expires,
            "nid": nid,
            "simulated": simulated,
            "leaf": leaf,
            "person": draft.person,
        }

    def erasure(self, person: str, cause: str) -> dict[str, Any]:
        """Return the row that says that a person is erased from here on (GDPR 17).

        Raises:
            UnknownPersonError: no record under this id.

        """
        pid = self._pids.get(person)
        if pid is None:
            raise UnknownPersonError("no record under this person id: check the id")
        record_id = os.urandom(16).hex()
        leaf = leaves.erasure_leaf(
            record_id=record_id,
            subject=leaves.subject_tag(self._key(pid), record_id, person),
            cause=cause,
            recorded=self._now,
            simulated=self._simulated,
        )
        return plain_row("erasure", leaf, self._now, self._simulated) | {"pid": pid}

    def _moment(self, at: int | None) -> int:
        if at is None:
            return self._now
        if at > self._now:
            raise BackdatedRefused(
                f"got {iso(at)}, which is still to come; now is {iso(self._now)}"
            )
        if at < self._state.recorded and not self._simulated:
            raise BackdatedRefused(
                f"got {iso(at)}, the log was written until {iso(self._state.recorded)}: "
                "only a simulation may date events back"
            )
        return at

    def _pid(self, draft: Draft) -> int:
        pid = self._pids.get(draft.person)
        if pid is None:
            pid = self._state.size + len(self.new_persons)
            row, secrets = seal_person(
                self._state.people.keys,
                registry_id=self._registry_id,
                epoch=self._state.keys.epoch,
                pid=pid,
                person=draft.person,
            )
            self.new_persons.append(row)
            self.new_names.append(draft.person)
            self._keys[pid] = secrets.subject_key
            self._pids[draft.person] = pid
        return pid

    def _key(self, pid: int) -> bytes:
        key = self._keys.get(pid)
        if key is None:
            secrets = self._state.people.secrets(self._connection, [pid])
            if pid not in secrets:
                raise UnknownPersonError("no record under this person id: check the id")
            key = self._keys[pid] = secrets[pid].subject_key
        return key

    def _last_of(self, pid: int, purpose: Purpose) -> _Last:
        found = self._last.get((pid, purpose))
        if found is None:
            if pid >= self._state.size:
                return _Last(None, 0, -1, -1)
            code, expires, nid, seq = self._state.last(pid, PURPOSES.index(purpose))
            found = _Last(None if code == NO_STATUS else STATUSES[code], expires, nid, seq)
        return found

    def _role(self, pid: int) -> int:
        if pid in self._roles:
            return self._roles[pid]
        return self._state.role(pid) if pid < self._state.size else _SHOPPER

    def _jurisdiction(self, last: _Last) -> str | None:
        if last.jurisdiction is None and last.seq >= 0:
            query = sa.select(schema.events.c.leaf).where(schema.events.c.seq == last.seq)
            leaf = self._connection.execute(query).scalar()
            if not isinstance(leaf, bytes):
                raise RegistryUnreadableError(f"event {last.seq} has no leaf")
            last.jurisdiction = str(leaves.parse(leaf)["jurisdiction"])
        return last.jurisdiction

    def _text(self, moment: int) -> str:
        text = self._iso.get(moment)
        if text is None:
            text = self._iso[moment] = iso(moment)
        return text


def _target(draft: Draft, last: _Last, at: int) -> ConsentStatus | None:
    """Return the state to write, or None when nothing needs to change.

    Raises:
        TransitionRefused: `policy.TRANSITIONS` does not allow it.

    """
    now = status_at(last.status, last.expires, at)
    wanted = draft.status
    live = now is not None and now.permits
    if wanted is ConsentStatus.REFUSED and live:
        wanted = ConsentStatus.WITHDRAWN  # a no is a no, whichever button it was
    if wanted is ConsentStatus.WITHDRAWN and not live and now is not ConsentStatus.EXPIRED:
        return None  # nothing permits as it is; two racing withdrawals write one event
    if now not in TRANSITIONS.get(wanted, frozenset()):
        state = "no record" if now is None else now.value
        remedy = {ConsentStatus.GIVEN: "; use renew"}.get(wanted, "") if live else ""
        if wanted is ConsentStatus.RENEWED:
            remedy = "; use grant"
        raise TransitionRefused(
            f"{draft.purpose.value}: from {state} to {wanted.value} is no step a record can take"
            + remedy
        )
    return wanted
