"""How an answer comes into the log: collected, written at once and durable, or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from . import leaves
from .bulk import Intake, check_person
from .custody import RegistryCustody
from .erasing import erase
from .errors import MinorRefused, StaffRefused, UnknownAgeRefused, UnknownPersonError
from .leaves import PURPOSES
from .records import ConsentEvent
from .terms import Purpose, Reason

__all__ = ["NOT_STAFF", "Answer", "Bulk", "RegistryRecording"]

NOT_STAFF = "staff and students are never read (EU AI Act 5(1)(f))"


@dataclass(slots=True)
class Answer:
    """An open transaction of one person: what to write, what became of it, and then its events."""

    intake: Intake
    reason: Reason = Reason.PERMITTED
    events: tuple[ConsentEvent, ...] = ()


@dataclass(slots=True)
class Bulk:
    """An open bulk transaction: what to write, and afterwards how many events were written."""

    intake: Intake
    written: int = 0


class RegistryRecording(RegistryCustody):
    """What every answer goes through, whatever it is."""

    @contextmanager
    def _answering(self) -> Iterator[Answer]:
        """Write what the body collects, then raise where the person may not take part.

        Raises:
            MinorRefused, UnknownAgeRefused, StaffRefused: by the reason that the body set, once the count
                or the record of it is on the disk.

        """
        with self._journal.lock:
            answer = Answer(self._intake())
            yield answer
            answer.events = self._write(answer.intake)
            self._forget_minors(answer.intake)
        _raise_refusal(answer.reason)

    @contextmanager
    def _bulk(self) -> Iterator[Bulk]:
        with self._journal.lock:
            bulk = Bulk(self._intake())
            yield bulk
            rows = self._journal.append(bulk.intake.drafts, bulk.intake.refusals)
            bulk.written = sum(row["pid"] is not None for row in rows)
            self._forget_minors(bulk.intake)

    def _intake(self) -> Intake:
        self._journal.refresh()
        return Intake(self._journal, self._book)

    def _write(self, intake: Intake) -> tuple[ConsentEvent, ...]:
        rows = self._journal.append(intake.drafts, intake.refusals)
        return tuple(
            leaves.event_of(row["leaf"], person=row["person"], seq=row["seq"])
            for row in rows
            if row["pid"] is not None
        )

    def _forget_minors(self, intake: Intake) -> None:
        """Erase whoever had a record as an adult and turns out a minor: a count is what is kept."""
        known = [
            person for person in intake.minors if self._journal.state.people.pid(person) is not None
        ]
        if known:
            erase(self._journal, known, cause="controller")

    def _pid(self, person: str) -> int:
        pid = self._journal.state.people.pid(check_person(person))
        if pid is None:
            raise UnknownPersonError("no record under this person id: check the id")
        return pid

    def _recorded(
        self, pid: int, purposes: Sequence[Purpose] | None, states: Iterable[int]
    ) -> list[Purpose]:
        """The purposes named; by default those that are in one of the states."""
        if purposes is not None:
            return [Purpose(purpose) for purpose in purposes]
        state, wanted = self._journal.state, frozenset(states)
        return [p for i, p in enumerate(PURPOSES) if state.last(pid, i)[0] in wanted]


def _raise_refusal(reason: Reason) -> None:
    if reason is Reason.MINOR:
        raise MinorRefused("minors are never read; nothing was kept but a count")
    if reason is Reason.UNKNOWN_AGE:
        raise UnknownAgeRefused(
            "an unknown age is treated as a child's (AADC 3); nothing was kept but a count"
        )
    if reason is Reason.STAFF:
        raise StaffRefused(NOT_STAFF)
