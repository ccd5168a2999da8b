"""Ending consent: by the person, for many people, or by the controller."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from .bulk import Intake
from .leaves import STATUSES
from .recording import RegistryRecording
from .records import ConsentEvent
from .terms import ConsentStatus, Purpose

__all__ = ["ONCE_GIVEN", "RegistryEnding"]

ONCE_GIVEN = frozenset(
    STATUSES.index(s) for s in (ConsentStatus.GIVEN, ConsentStatus.RENEWED, ConsentStatus.EXPIRED)
)
"""States of what was given, and may be over: it can be renewed, and it can be withdrawn."""


class RegistryEnding(RegistryRecording):
    """As easy as giving it (GDPR 7(3)): one call, and no reason is asked."""

    def withdraw(
        self,
        person: str,
        purposes: Sequence[Purpose] | None = None,
        *,
        at: datetime | None = None,
    ) -> tuple[ConsentEvent, ...]:
        """Withdraw; on the disk when this returns, and no later decision permits (GDPR 7(3)).

        Args:
            person: someone with a record.
            purposes: by default all.
            at: as in `grant`.

        Returns:
            One event for each purpose that was given; none for what was not given any more.

        Raises:
            UnknownPersonError: no record under this id. Silence here would let a person with a
                mistyped id believe they had withdrawn.

        """
        with self._journal.lock:
            intake = self._intake()
            self._end(intake, person, purposes, ConsentStatus.WITHDRAWN, at, "data_subject")
            return self._write(intake)

    def withdraw_many(
        self, persons: Iterable[str], purposes: Sequence[Purpose] | None = None
    ) -> int:
        """Withdraw for many people in one durable transaction; return the number of events.

        Raises:
            UnknownPersonError: one of them has no record; nothing changed.

        """
        with self._bulk() as bulk:
            for person in persons:
                self._end(
                    bulk.intake, person, purposes, ConsentStatus.WITHDRAWN, None, "data_subject"
                )
        return bulk.written

    def revoke(
        self, person: str, purposes: Sequence[Purpose] | None = None
    ) -> tuple[ConsentEvent, ...]:
        """End consent from the controller's side, for good cause; acts as a withdrawal does.

        Raises:
            UnknownPersonError: no record under this id.
            TransitionRefused: a purpose named was not given.

        """
        with self._journal.lock:
            intake = self._intake()
            self._end(intake, person, purposes, ConsentStatus.REVOKED, None, "registry")
            return self._write(intake)

    def _end(
        self,
        intake: Intake,
        person: str,
        purposes: Sequence[Purpose] | None,
        status: ConsentStatus,
        at: datetime | None,
        entity: str,
    ) -> None:
        found = self._recorded(self._pid(person), purposes, ONCE_GIVEN)
        intake.write(person, tuple(found), status, at=at, entity=entity)
