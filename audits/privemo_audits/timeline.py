"""What one store's consent log says of a person at a moment: a replay of its events."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from .consent_log import Event

GIVEN = ("ConsentGiven", "RenewedConsentGiven")
ENDED = ("ConsentWithdrawn", "ConsentRevoked")
SHOPPER = "shopper"

_NOT_GIVEN = {
    "ConsentRefused": "had refused",
    "ConsentWithdrawn": "had withdrawn",
    "ConsentRevoked": "had been revoked",
    "ConsentExpired": "had expired",
    "ConsentInvalidated": "had been invalidated",
}


@dataclass
class Timeline:
    """One store's events by person and purpose, in log order."""

    events: dict[tuple[str, str], list[Event]] = field(default_factory=lambda: defaultdict(list))
    seqs: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(list))
    people: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, events: Sequence[Event]) -> Timeline:
        """Index events, which come in log order."""
        new = cls()
        for event in events:
            key = (event.person, event.purpose)
            new.events[key].append(event)
            new.seqs[key].append(event.seq)
            new.people.setdefault(event.person, event.seq)
        return new

    def fault(
        self, person: str, purpose: str, log_seq: int, at: datetime
    ) -> tuple[str, str] | None:
        """Say why a use was not permitted: (kind, words), or None when it was."""
        key = (person, purpose)
        events = self.events.get(key)
        known = bisect_left(self.seqs[key], log_seq) if events else 0
        if not events or not known:
            first = self.people.get(person)
            if first is not None and first < log_seq:
                return ("wrong_purpose", f"had not agreed to {purpose}")
            return ("no_record", "had no record in the consent log")
        state = events[known - 1]
        if state.status not in GIVEN:
            return ("no_live_consent", _NOT_GIVEN.get(state.status, f"was in state {state.status}"))
        if state.at > at:
            return ("no_live_consent", f"agreed only from {state.at:%Y-%m-%d %H:%M:%S} on")
        if state.expires is None or state.expires <= at:
            return ("expired", "had a consent that had run out")
        if state.role != SHOPPER:
            return ("staff", f"is recorded as {state.role}")
        for later in events[known:]:
            if later.status not in GIVEN and later.recorded < at:
                return ("used_after_withdrawal", "had withdrawn after the snapshot the batch used")
        return None
