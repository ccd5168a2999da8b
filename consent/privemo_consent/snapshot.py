"""One moment of the registry for one purpose: immutable, and quick over whole tables of faces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from .people import People
from .policy import CHALLENGE_AGE, check_challenge_age
from .records import Context
from .rules import CODE, REASONS, age_evidence, reason_codes
from .state import View
from .terms import Purpose, Reason
from .times import to_us

__all__ = ["Snapshot", "Verdicts", "as_names", "refuse_all"]

_NOBODY = 255


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The decisions over a table of n faces.

    Attributes:
        codes: shape (n,), positions in `Reason`; all faces of one person have the same.
        person_codes: the same once for each distinct person, in no particular order.

    """

    codes: npt.NDArray[np.uint8]
    person_codes: npt.NDArray[np.uint8]

    @property
    def permit(self) -> npt.NDArray[np.bool_]:
        """Shape (n,): True where the face may be used."""
        permit: npt.NDArray[np.bool_] = self.codes == CODE[Reason.PERMITTED]
        return permit

    @property
    def reasons(self) -> npt.NDArray[np.str_]:
        """Shape (n,): the reasons as text."""
        return np.array([reason.value for reason in REASONS])[self.codes]

    def both(self, other: Verdicts) -> Verdicts:
        """Return these verdicts, with the other's refusals where these permit."""
        return Verdicts(
            codes=np.where(self.permit, other.codes, self.codes),
            person_codes=np.where(
                self.person_codes == CODE[Reason.PERMITTED], other.person_codes, self.person_codes
            ),
        )

    def faces_by_reason(self) -> dict[Reason, int]:
        """Return how many faces have each reason that occurs."""
        return _tally(self.codes)

    def persons_by_reason(self) -> dict[Reason, int]:
        """Return how many distinct persons have each reason that occurs."""
        return _tally(self.person_codes)


def _tally(codes: npt.NDArray[np.uint8]) -> dict[Reason, int]:
    counts = np.bincount(codes, minlength=len(REASONS))
    return {reason: int(n) for reason, n in zip(REASONS, counts, strict=True) if n}


def as_names(persons: Sequence[str] | npt.NDArray[np.str_]) -> list[str]:
    """Return person ids as Python strings.

    A list is not made an array on the way: NumPy drops NUL characters at the end of a text, and
    an id would become another person's.
    """
    return persons.tolist() if isinstance(persons, np.ndarray) else list(persons)


def refuse_all(persons: Sequence[str] | npt.NDArray[np.str_], reason: Reason) -> Verdicts:
    """Return the same refusal for every face (fail closed)."""
    people = len(set(as_names(persons)))
    code = CODE[reason]
    return Verdicts(
        codes=np.full(len(persons), code, dtype=np.uint8),
        person_codes=np.full(people, code, dtype=np.uint8),
    )


def _persons(rows: npt.NDArray[np.int64], people: int) -> tuple[npt.NDArray[np.int64], int]:
    """Return a number for each face's person, and how many numbers there are.

    Row numbers will do for a large table; a few faces among a million people are numbered anew, so
    that nothing as long as the registry is made for them.
    """
    if 8 * len(rows) > people:
        return rows, people
    if len(rows) == 1:
        return np.zeros(1, dtype=np.int64), 1
    distinct, numbers = np.unique(rows, return_inverse=True)
    return numbers.reshape(-1), len(distinct)


@dataclass(frozen=True, slots=True, repr=False)
class Snapshot:
    """The states of one purpose after ``log_seq`` events. Later events do not change it."""

    purpose: Purpose
    log_seq: int
    production: bool
    #: microseconds: the time of the last event in it
    recorded: int
    view: View
    people: People

    def __repr__(self) -> str:
        return f"Snapshot(purpose={self.purpose.value!r}, log_seq={self.log_seq})"

    def decide_many(
        self,
        persons: Sequence[str] | npt.NDArray[np.str_],
        context: Context,
        *,
        at: datetime,
        estimated_age: npt.ArrayLike | None = None,
        attested_age_band: Sequence[str] | npt.NDArray[np.str_] | None = None,
        challenge_age: float = CHALLENGE_AGE,
    ) -> Verdicts:
        """Decide n faces at once.

        Age is a matter of the person: when one face of a person looks too young, or one session's
        answer says minor or nothing, every face of that person here is refused.

        Args:
            persons: shape (n,), a person id for each face.
            context: where the use would happen.
            at: the moment of the use.
            estimated_age: shape (n,), years, NaN for none.
            attested_age_band: shape (n,), the session's age answer.
            challenge_age: years; at least 18.

        Raises:
            MalformedError: arrays of other lengths, a naive ``at``, a challenge age under 18.

        """
        names = as_names(persons)
        moment = to_us(at)
        if moment < self.recorded:
            # A clock set back would bring expired consent to life again.
            return refuse_all(names, Reason.CLOCK_BACKWARDS)
        evidence = age_evidence(
            len(names),
            estimated_age=estimated_age,
            attested_age_band=attested_age_band,
            challenge_age=check_challenge_age(challenge_age),
        )
        rows, people = self._rows(names)
        who, many = _persons(rows, people)
        worst = np.zeros(many, dtype=np.uint8)
        # rising: the most protective is written last
        for level in np.unique(evidence) if len(names) > 1 else evidence:
            worst[who[evidence == level]] = level
        codes = reason_codes(
            self.view,
            rows,
            worst[who],
            context=context,
            at=moment,
            production=self.production,
            purpose=self.purpose,
        )
        by_person = np.full(many, _NOBODY, dtype=np.uint8)
        by_person[who] = codes
        return Verdicts(codes=codes, person_codes=by_person[by_person != _NOBODY])

    def _rows(self, names: list[str]) -> tuple[npt.NDArray[np.int64], int]:
        """Return a number for each face's person, and a bound on them.

        Persons of this snapshot have their pid; all others get numbers from its size on.
        """
        size = len(self.view.status)
        rows = self.people.find(names)
        strangers = np.flatnonzero((rows < 0) | (rows >= size))
        numbers: dict[str, int] = {}
        for face in strangers.tolist():
            rows[face] = numbers.setdefault(names[face], size + len(numbers))
        return rows, size + len(numbers)
