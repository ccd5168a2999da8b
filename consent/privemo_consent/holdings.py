"""What is held of a person: the receipt, the export, the record of processing, what falls due."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .dpv.records import record_to_jsonld
from .errors import MalformedError
from .items import ItemKind
from .leaves import PURPOSES, STATUSES
from .receipts import issue_receipt
from .records import ConsentEvent
from .retention import SCHEDULE, Due, DueRule, due
from .signing import newest_signer
from .state import View
from .terms import ConsentStatus, Purpose
from .times import from_us
from .uses import LoggedDecision
from .vault import Vault

if TYPE_CHECKING:
    from .custody import RegistryCustody
    from .records import Use

__all__ = ["Overdue", "export_person", "make_receipt", "overdue", "processing_record"]

_ASKED = frozenset(map(STATUSES.index, (ConsentStatus.REQUESTED, ConsentStatus.REQUEST_DEFERRED)))
_ENDED = frozenset(code for code, status in enumerate(STATUSES) if not status.permits) - _ASKED


@dataclass(frozen=True, slots=True)
class Overdue:
    """A person whose data should be gone.

    Attributes:
        person: id.
        since: when destruction fell due.
        rule: which rule said so.

    """

    person: str
    since: datetime
    rule: DueRule


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
    }


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
    """Return whose data should have been destroyed by ``at``, the longest due first."""
    journal = registry._journal
    with journal.lock:
        state = journal.refresh()
        views = [state.view(code) for code in range(len(PURPOSES))]
        days = [registry._book.get(row.hash).retention_days for row in state.notices]
        size = state.size
    found: list[tuple[int, Overdue]] = []
    for pid in range(size):
        verdict = _due_of(pid, views, days)
        if verdict is not None and verdict.at <= at:
            found.append((pid, Overdue("", verdict.at, verdict.rule)))
    with journal.store.read() as connection:
        names = state.people.names(connection, [pid for pid, _ in found])
    named = [Overdue(names[pid], entry.since, entry.rule) for pid, entry in found if pid in names]
    return tuple(sorted(named, key=lambda entry: (entry.since, entry.person)))


def _due_of(pid: int, views: Sequence[View], days: Sequence[int]) -> Due | None:
    """Return when and why a person's data falls due; None for whoever has no record.

    Each purpose falls due by itself, and data that is held for two is held until the later of them.
    Whoever was asked and has not answered yet has ended nothing: the notice's term counts.
    """
    held = [view for view in views if view.nid[pid] >= 0]
    if not held:
        return None
    interaction = from_us(max(int(view.at[pid]) for view in held))
    found = []
    for view in held:
        at = from_us(int(view.at[pid]))
        status, ended = int(view.status[pid]), None
        if status not in _ASKED:
            ended = at if status in _ENDED else from_us(int(view.expires[pid]))
        found.append(
            due(
                last_interaction=interaction,
                ended=ended,
                granted=at,
                retention_days=days[view.nid[pid]],
            )
        )
    return max(found, key=lambda verdict: verdict.at)
