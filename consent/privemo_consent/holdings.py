"""What is held of a person: the receipt, the export, the record of processing, what falls due."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from . import beside, schema
from .dpv.records import record_to_jsonld
from .errors import MalformedError, RegistryError
from .items import ItemKind
from .leaves import PURPOSES, ROLES, STATUSES
from .receipts import issue_receipt
from .records import ConsentEvent
from .retention import SCHEDULE, Due, DueRule, Kept, due, record_due
from .signing import newest_signer
from .state import View
from .terms import ConsentStatus, Purpose, Role
from .times import from_us
from .uses import LoggedDecision
from .vault import Vault

if TYPE_CHECKING:
    from .custody import RegistryCustody
    from .records import Use

__all__ = [
    "Destroyed",
    "Overdue",
    "destroy_overdue",
    "export_person",
    "make_receipt",
    "overdue",
    "predictions_of",
    "processing_record",
]

_ASKED = frozenset(map(STATUSES.index, (ConsentStatus.REQUESTED, ConsentStatus.REQUEST_DEFERRED)))
_SUSPENDED = STATUSES.index(ConsentStatus.INVALIDATED)
_AUDIT = PURPOSES.index(Purpose.FAIRNESS_AUDIT)
_SHOPPER = ROLES.index(Role.SHOPPER)
_ENDED = frozenset(code for code, status in enumerate(STATUSES) if not status.permits) - _ASKED


@dataclass(frozen=True, slots=True)
class Overdue:
    """Something of a person that should be gone.

    Attributes:
        person: id.
        what: ``FACE`` for what the vault holds, ``PREDICTION`` for what a store wrote beside the registry,
            ``CONSENT_RECORD`` for all of the person.
        since: when destruction fell due.
        rule: which rule said so.

    """

    person: str
    what: Kept
    since: datetime
    rule: DueRule


@dataclass(frozen=True, slots=True)
class Destroyed:
    """What `destroy_overdue` did: people erased, items deleted, places still to be reached.

    A row of a model's answers counts as an item.
    """

    people: int
    items: int
    pending: tuple[str, ...] = ()


def make_receipt(registry: RegistryCustody, person: str) -> str:
    """Return the receipt of what was last recorded for each purpose, under the last notice shown.

    Raises:
        MalformedError: the person was erased meanwhile.

    """
    journal = registry._journal
    history = registry.history(person)
    last: dict[Purpose, ConsentEvent] = {event.purpose: event for event in history}
    notice = max(last.values(), key=lambda event: event.seq).notice
    shown = [event for event in last.values() if event.notice == notice]
    checkpoint = registry.checkpoint()
    size = int(checkpoint.split("\n", 2)[1])
    entries = [
        (event.seq, registry.leaf(event.seq), registry.inclusion_proof(event.seq, size))
        for event in sorted(shown, key=lambda event: event.seq)
    ]
    with journal.store.read() as connection:
        pid = journal.state.people.pid(person)
        secrets = {} if pid is None else journal.state.people.secrets(connection, [pid])
    if pid is None or pid not in secrets:
        raise MalformedError("the person was erased a moment ago: there is nothing to show")
    return issue_receipt(
        person=person,
        subject_key=secrets[pid].subject_key,
        entries=entries,
        checkpoint=checkpoint,
        controller=registry.controller,
        notice=registry._book.get(notice),
        registry_id=registry.registry_id,
        simulated=registry.mode == "simulation",
        signer=newest_signer(journal),
        issued_at=registry.now(),
        known=[period.key for period in registry.ring.periods],
    )


def export_person(registry: RegistryCustody, person: str) -> dict[str, Any]:
    """Return everything held of one person, as JSON values."""
    history = registry.history(person)
    hashes = dict.fromkeys(event.notice for event in history)
    vault = Vault(registry)
    return {
        "schema": "privemo.person-export/1",
        "person": person,
        "exported_at": registry.now().isoformat(),
        "registry_id": registry.registry_id,
        "simulated": registry.mode == "simulation",
        "record": record_to_jsonld(
            person, history, [registry._book.get(digest) for digest in hashes], registry.controller
        ),
        "uses": [_use(use) for use in registry.uses() if person in use.persons],
        "decisions": [_decision(d) for d in registry.decisions() if d.person == person],
        "items": [
            {
                "kind": kind.value,
                "id": item.item_id,
                "facts": dict(item.facts),
                "body": base64.b64encode(item.body).decode(),
            }
            for kind in ItemKind
            for item in vault.of_person(person, kind=kind)
        ],
        "predictions": predictions_of(registry, person),
    }


def predictions_of(registry: RegistryCustody, person: str) -> list[dict[str, str]]:
    """Return what a store wrote of a person beside the registry: what a model said of each face.

    Raises:
        RegistryUnreadableError: the table is there and cannot be read.

    """
    return beside.rows_of(beside.table_of(registry._journal), person)


def _use(use: Use) -> dict[str, Any]:
    return {
        "purpose": use.purpose.value,
        "at": use.at.isoformat(),
        "run": use.run,
        "round": use.round,
        "store": use.store,
        "batch": use.batch,
    }


def _decision(decision: LoggedDecision) -> dict[str, Any]:
    return {
        "purpose": decision.purpose.value,
        "at": decision.at.isoformat(),
        "permit": decision.permit,
        "reason": decision.reason.value,
        "setting": decision.context.setting.value,
    }


def processing_record(registry: RegistryCustody) -> dict[str, Any]:
    """Return the record of processing activities (GDPR 30(1)), as JSON values."""
    notices = registry.notices()
    return {
        "schema": "privemo.processing-record/1",
        "controller": registry.controller.model_dump(mode="json"),
        "registry_id": registry.registry_id,
        "mode": registry.mode,
        "purposes": sorted({purpose.value for notice in notices for purpose in notice.purposes}),
        "data_subjects": "adult shoppers who agreed; never minors, never staff",
        "categories": sorted({kind for notice in notices for kind in notice.pii_types}),
        "lawful_basis": "dpv:ExplicitConsent",
        "ai_act": "eu-aiact:HighRiskAISystem-AnnexIII-1-c",
        "notices": [notice.model_dump(mode="json") for notice in notices],
        "retention": [
            {"what": kept.value, "days": term.days, "since": term.since, "clause": term.clause}
            for kept, term in SCHEDULE.items()
        ],
        "security": "one key for each person (AES-256-GCM), wrapped by keys outside the database; "
        "erasing destroys the key; an append-only log with signed heads (RFC 9162, C2SP)",
        "people": len(registry.persons()),
        "items": {kind.value: n for kind, n in Vault(registry).counts().items()},
        "log": dict(zip(("entries", "root"), registry.head(), strict=True)),
    }


def overdue(registry: RegistryCustody, at: datetime) -> tuple[Overdue, ...]:
    """Return what should have been destroyed by ``at``, the longest due first.

    Raises:
        RegistryUnreadableError: nobody can say what the table beside the registry holds.

    """
    return _overdue(registry, at, _measured(registry))


def _overdue(registry: RegistryCustody, at: datetime, measured: set[int]) -> tuple[Overdue, ...]:
    journal = registry._journal
    with journal.lock:
        state = journal.refresh()
        views = [state.view(code) for code in range(len(PURPOSES))]
        days = [registry._book.get(row.hash).retention_days for row in state.notices]
        size = state.size
    holding = _holding(registry)
    found: list[tuple[int, Kept, Due]] = []
    for pid in range(size):
        held = [view for view in views if view.nid[pid] >= 0]
        if not held:
            continue
        record = _record_due(pid, held)
        if record.at <= at:
            found.append((pid, Kept.CONSENT_RECORD, record))
            continue
        if pid in holding and (face := _faces_due(pid, held, days)).at <= at:
            found.append((pid, Kept.FACE, face))
        asked = [views[_AUDIT]] if views[_AUDIT].nid[pid] >= 0 else held
        if pid in measured and (said := _faces_due(pid, asked, days)).at <= at:
            found.append((pid, Kept.PREDICTION, said))
    with journal.store.read() as connection:
        names = state.people.names(connection, [pid for pid, _, _ in found])
    named = [Overdue(names[pid], what, d.at, d.rule) for pid, what, d in found if pid in names]
    return tuple(sorted(named, key=lambda entry: (entry.since, entry.person)))


def destroy_overdue(registry: RegistryCustody) -> Destroyed:
    """Destroy what is due now: what the vault or the table beside holds, or all of a person.

    Faces wait for no table: one that cannot be read or written is told as pending.
    """
    pending: tuple[str, ...] = ()
    try:
        measured = _measured(registry)
    except RegistryError as error:
        measured, pending = set(), (str(error),)
    due_now = _overdue(registry, registry.now(), measured)
    faces = [entry.person for entry in due_now if entry.what is Kept.FACE]
    gone = [entry.person for entry in due_now if entry.what is Kept.CONSENT_RECORD]
    vault, items = Vault(registry), 0
    if faces:
        items = sum(vault.delete(kind=kind, persons=faces) for kind in ItemKind)
    said = {entry.person for entry in due_now if entry.what is Kept.PREDICTION}
    try:
        items += beside.forget(beside.table_of(registry._journal), said)
    except RegistryError as error:
        pending += (str(error),)
    if not gone:
        return Destroyed(0, items, pending)
    done = registry.erase_many(gone, cause="retention")
    return Destroyed(done.people, items + done.items, pending + done.pending)


def _holding(registry: RegistryCustody) -> set[int]:
    """Return the rows of whom the vault holds something."""
    with registry._journal.store.read() as connection:
        return set(connection.execute(sa.select(schema.items.c.pid).distinct()).scalars())


def _measured(registry: RegistryCustody) -> set[int]:
    """Return the rows of whom a store wrote something beside the registry."""
    people = beside.people_of(beside.table_of(registry._journal))
    return set(registry._journal.state.people.rows(people)) if people else set()


def _moments(pid: int, view: View) -> tuple[datetime, datetime | None]:
    """Return when a person last answered for a purpose, and when that consent ended or will.

    Whoever was asked and has not answered yet has ended nothing, nor has a shopper whose consent the
    registry suspended (a restore does): they are to be asked again first.
    """
    at, status = from_us(int(view.at[pid])), int(view.status[pid])
    if status in _ASKED or (status == _SUSPENDED and int(view.role[pid]) == _SHOPPER):
        return at, None
    return at, at if status in _ENDED else from_us(int(view.expires[pid]))


def _record_due(pid: int, held: Sequence[View]) -> Due:
    """Return when the record falls due: its term after the last of all consents ended."""
    moments = [_moments(pid, view) for view in held]
    return record_due(max(ended or at for at, ended in moments))


def _faces_due(pid: int, held: Sequence[View], days: Sequence[int]) -> Due:
    """Return when and why what the vault holds of a person falls due.

    Each purpose falls due by itself, and a face that is held for two is held until the later of them.
    """
    interaction = from_us(max(int(view.at[pid]) for view in held))
    found = []
    for view in held:
        at, ended = _moments(pid, view)
        found.append(
            due(
                last_interaction=interaction,
                ended=ended,
                granted=at,
                retention_days=days[view.nid[pid]],
            )
        )
    return max(found, key=lambda verdict: verdict.at)
