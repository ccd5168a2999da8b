"""The only door to faces. It fails closed, and it counts whom it refused and why.

`SealedFaces` holds who is in a table and how to open it, and offers no way to the pixels:
the opener is kept outside the object, where only `ConsentGate` looks, and is called with the rows
that were admitted and no others. No flag turns the gate off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, NoReturn, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from .counts import RefusalCounts
from .deciding import reason_of
from .errors import MalformedError, ModeMismatchError
from .handle import Mode
from .policy import CHALLENGE_AGE, check_challenge_age
from .reader import RegistryReader
from .records import Context
from .snapshot import Verdicts, refuse_all
from .terms import Purpose
from .times import to_us, utcnow

__all__ = ["Admitted", "ConsentGate", "SealedFaces"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Rows = npt.NDArray[np.int64]

# Who can open what. Not an attribute: neither vars(), copy nor pickle of a table leads to it.
_OPENERS: WeakKeyDictionary[SealedFaces[Any], Callable[[Rows], Any]] = WeakKeyDictionary()


class SealedFaces(Generic[T]):
    """A table of n faces that can be counted and asked about, but not seen.

    Args:
        person: shape (n,), the person id of each face.
        face_id: shape (n,), an id for each face, unique in the table.
        open_: given the admitted rows, in rising order, returns those faces.
        estimated_age: shape (n,), years; NaN where there is no estimate; None for none at all.
        attested_age_band: shape (n,), the session's answer to the age question as an `AgeBand`
            value; anything else counts as unknown. None where no session asked (the record's
            attestation alone then speaks). Minors have no record by design, so the reason
            ``minor`` can come from here only.

    Raises:
        MalformedError: arrays of other lengths, or a face id that stands twice.

    """

    __slots__ = ("__weakref__", "_attested_age_band", "_estimated_age", "_face_id", "_person")

    def __init__(
        self,
        person: Sequence[str] | npt.NDArray[np.str_],
        face_id: Sequence[str] | npt.NDArray[np.str_],
        open_: Callable[[Rows], T],
        estimated_age: npt.ArrayLike | None = None,
        attested_age_band: Sequence[str] | npt.NDArray[np.str_] | None = None,
    ) -> None:
        self._person = _ids(person, "person")
        self._face_id = _ids(face_id, "face_id")
        size = self._person.shape[0] if self._person.ndim == 1 else -1
        if self._face_id.shape != (size,):
            raise MalformedError(
                f"got person {self._person.shape} and face_id {self._face_id.shape}, want both (n,)"
            )
        if len(set(self._face_id.tolist())) != size:
            raise MalformedError("a face_id stands twice in the table")
        self._estimated_age = _column(estimated_age, np.float64, size, "estimated_age")
        self._attested_age_band = _column(attested_age_band, np.str_, size, "attested_age_band")
        if not callable(open_):
            raise MalformedError("open_ must be a function from rows to faces")
        _OPENERS[self] = open_

    def __len__(self) -> int:
        return len(self._person)

    def __repr__(self) -> str:
        return f"SealedFaces({len(self)} faces)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("sealed faces are neither copied nor sent: load them where they are used")

    @property
    def person(self) -> npt.NDArray[np.str_]:
        """Shape (n,), read-only."""
        return self._person

    @property
    def face_id(self) -> npt.NDArray[np.str_]:
        """Shape (n,), read-only."""
        return self._face_id

    @property
    def estimated_age(self) -> npt.NDArray[np.float64] | None:
        """Shape (n,), years, NaN for none; read-only."""
        return self._estimated_age

    @property
    def attested_age_band(self) -> npt.NDArray[np.str_] | None:
        """Shape (n,), read-only."""
        return self._attested_age_band


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array.flags.writeable = False
    return array


def _ids(values: Sequence[str] | npt.NDArray[np.str_], name: str) -> npt.NDArray[np.str_]:
    # Converting would make None the person "None", and "ann\0" the person "ann".
    given = np.ravel(values).tolist() if isinstance(values, np.ndarray) else list(values)
    if not all(isinstance(value, str) and "\0" not in value for value in given):
        raise MalformedError(f"{name}: every id is a text without NUL characters")
    return _frozen(np.array(values, dtype=np.str_))


def _column(values: Any, dtype: Any, size: int, name: str) -> npt.NDArray[Any] | None:
    if values is None:
        return None
    array = np.array(values, dtype=dtype)
    if array.shape != (size,):
        raise MalformedError(f"{name}: got shape {array.shape}, want ({size},)")
    return _frozen(array)


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted(Generic[T_co]):
    """Faces that passed, and on what word.

    Attributes:
        faces: what the table's opener returned for ``rows``.
        rows: shape (k,), which rows of the table passed, rising.
        counts: whom the gate refused, and why.
        log_seq: the log the decision saw, for `ConsentRegistry.record_use`; -1 if unreadable.
        at: the moment of the decision.

    """

    faces: T_co
    rows: Rows
    counts: RefusalCounts
    log_seq: int
    at: datetime


class ConsentGate:
    """Admits faces by consent, purpose by purpose.

    Args:
        registry: who agreed to what.
        challenge_age: years under which an age estimate refuses; may be raised, not set under 18.
        mode: what the caller is: a ``"production"`` gate refuses a simulation's registry.

    Raises:
        MalformedError: a challenge age under 18.
        ModeMismatchError: the registry is of the other mode (promise 1).

    """

    def __init__(
        self,
        registry: RegistryReader,
        *,
        challenge_age: float = CHALLENGE_AGE,
        mode: Mode | None = None,
    ) -> None:
        self._registry = registry
        self._challenge_age = check_challenge_age(challenge_age)
        if mode is not None and mode != registry.mode:
            raise ModeMismatchError(
                f"a {mode} gate was given a {registry.mode} registry: "
                "simulated and real consent never mix"
            )

    def __repr__(self) -> str:
        return f"ConsentGate({self._registry!r}, challenge_age={self._challenge_age})"

    @property
    def challenge_age(self) -> float:
        """Years."""
        return self._challenge_age

    def admit(
        self,
        sealed: SealedFaces[T],
        purpose: Purpose,
        context: Context,
        *,
        at: datetime | None = None,
    ) -> Admitted[T]:
        """Decide a whole table against one snapshot and open what passed.

        When deciding fails, for whatever reason, nothing passes, the reason is
        ``registry_unreadable``, and the opener is called with no rows.

        Raises:
            MalformedError: ``purpose`` or ``at`` is not what it should be.

        """
        purpose = Purpose(purpose)
        verdicts, seq, moment = self._decide(
            sealed.person,
            purpose,
            context,
            at=at,
            estimated_age=sealed.estimated_age,
            attested_age_band=sealed.attested_age_band,
        )
        rows = _frozen(np.flatnonzero(verdicts.permit).astype(np.int64))
        return Admitted(
            faces=_OPENERS[sealed](rows),
            rows=rows,
            counts=RefusalCounts.of(verdicts),
            log_seq=seq,
            at=moment,
        )

    def still_permitted(
        self,
        persons: Sequence[str] | npt.NDArray[np.str_],
        purpose: Purpose,
        context: Context,
        *,
        at: datetime | None = None,
    ) -> npt.NDArray[np.bool_]:
        """Return, shape (n,), whose faces may still be used: ask before every batch (GDPR 7(3)).

        Costs one small query while nothing was appended. Sees what other processes committed.
        Age evidence belongs to `admit`; this looks at records and the clock alone.
        """
        verdicts, _seq, _moment = self._decide(persons, Purpose(purpose), context, at=at)
        return verdicts.permit

    def _decide(
        self,
        persons: Sequence[str] | npt.NDArray[np.str_],
        purpose: Purpose,
        context: Context,
        *,
        at: datetime | None,
        **evidence: Any,
    ) -> tuple[Verdicts, int, datetime]:
        if at is not None:
            to_us(at)  # a naive time is the caller's mistake, not the registry's
        moment, seq = at, -1
        try:
            snapshot = self._registry.snapshot(purpose)
            now = self._registry.now()
            moment = now if at is None else at
            verdicts = snapshot.decide_many(
                persons, context, at=moment, challenge_age=self._challenge_age, **evidence
            )
            if moment < now:  # a date is no way round an end: what is over by now stays shut
                today = snapshot.decide_many(
                    persons, context, at=now, challenge_age=self._challenge_age, **evidence
                )
                verdicts = verdicts.both(today)
            seq = snapshot.log_seq
        except Exception as error:  # fail closed: no failure may let a face through
            verdicts = refuse_all(persons, reason_of(error))
        return verdicts, seq, moment or utcnow()
