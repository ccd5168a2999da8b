"""The decision itself: every rule of the gate in one vectorised function, clause by clause.

It starts from refusal and permits only where every condition holds; reasons are then written from
the mildest to the most protective, so that the last one written is the one told.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .errors import MalformedError
from .policy import covers, is_wrong_context
from .records import Context
from .state import NO_STATUS, View
from .terms import AgeBand, ConsentStatus, Purpose, Reason, Role

__all__ = ["ADULT", "CODE", "EVIDENCE_NONE", "REASONS", "age_evidence", "reason_codes"]

REASONS = tuple(Reason)
CODE = {reason: position for position, reason in enumerate(REASONS)}
ADULT = frozenset(band.value for band in AgeBand if band.is_adult)
_MINOR = frozenset(band.value for band in AgeBand if band.is_minor)
_STATUS = {status: position for position, status in enumerate(ConsentStatus)}
_SHOPPER = tuple(Role).index(Role.SHOPPER)

# What is known of a face's age besides the record, the most protective highest.
EVIDENCE_NONE, EVIDENCE_UNKNOWN, EVIDENCE_SUSPECTED, EVIDENCE_MINOR = range(4)


def age_evidence(
    size: int,
    *,
    estimated_age: npt.ArrayLike | None,
    attested_age_band: Sequence[str] | npt.NDArray[np.str_] | None,
    challenge_age: float,
) -> npt.NDArray[np.uint8]:
    """Return, for each face, the most protective thing known of its age.

    Args:
        size: number of faces n.
        estimated_age: shape (n,), years; NaN where there is no estimate. Anything else that is
            not at least ``challenge_age`` (negative, infinite) counts as a suspected minor's.
        attested_age_band: shape (n,), the session's age answer; whatever is no `AgeBand` is
            unknown, and so is treated as a child's (REQUIREMENTS 16; AADC 3).
        challenge_age: years.

    Raises:
        MalformedError: an array of another length.

    """
    evidence = np.zeros(size, dtype=np.uint8)
    if attested_age_band is not None:
        bands = np.asarray(attested_age_band, dtype=np.str_)
        _check_length(bands, size, "attested_age_band")
        adult = np.zeros(size, dtype=np.bool_)
        minor = np.zeros(size, dtype=np.bool_)
        for band in ADULT:
            adult |= bands == band
        for band in _MINOR:
            minor |= bands == band
        evidence[~adult] = EVIDENCE_UNKNOWN
    if estimated_age is not None:
        ages = np.asarray(estimated_age, dtype=np.float64)
        _check_length(ages, size, "estimated_age")
        # REQUIREMENTS promise 2: under the challenge age is refused whatever the record says.
        old_enough = (ages >= challenge_age) & np.isfinite(ages)
        evidence[~old_enough & ~np.isnan(ages)] = EVIDENCE_SUSPECTED
    if attested_age_band is not None:
        evidence[minor] = EVIDENCE_MINOR
    return evidence


def reason_codes(
    view: View,
    pids: npt.NDArray[np.int64],
    evidence: npt.NDArray[np.uint8],
    *,
    context: Context,
    at: int,
    production: bool,
    purpose: Purpose,
) -> npt.NDArray[np.uint8]:
    """Decide each face.

    Args:
        view: the purpose's states, p persons.
        pids: shape (n,); anything outside 0 .. p-1 has no record.
        evidence: shape (n,), from `age_evidence`, the same for all faces of one person.
        context: where the use would happen.
        at: microseconds since 1970.
        production: whether simulated records are refused.
        purpose: whose states ``view`` holds.

    Returns:
        Positions in `REASONS`, shape (n,).

    """
    codes = np.full(len(pids), CODE[Reason.NOT_GIVEN], dtype=np.uint8)
    people = len(view.status)
    known = (pids >= 0) & (pids < people)
    if people:
        _from_records(codes, view, np.where(known, pids, 0), context, at=at, production=production)
    codes[~known] = CODE[Reason.NO_RECORD]
    # EU AI Act 50(3): people are told of the system no later than its first reading.
    if purpose is Purpose.PERSONALISATION and at < view.announced:
        codes[codes == CODE[Reason.PERMITTED]] = CODE[Reason.NOT_ANNOUNCED]
    # AADC 3: an unknown age is a child's. AADC 7, 9, 12: nothing is ever profiled for a minor,
    # in any jurisdiction, guardian or not (GDPR 8).
    codes[evidence == EVIDENCE_UNKNOWN] = CODE[Reason.UNKNOWN_AGE]
    codes[evidence == EVIDENCE_SUSPECTED] = CODE[Reason.SUSPECTED_MINOR]
    codes[evidence == EVIDENCE_MINOR] = CODE[Reason.MINOR]
    # EU AI Act 5(1)(f): no emotion is inferred in workplaces and education.
    if is_wrong_context(context.setting):
        codes[:] = CODE[Reason.WRONG_CONTEXT]
    return codes


def _from_records(
    codes: npt.NDArray[np.uint8],
    view: View,
    rows: npt.NDArray[np.int64],
    context: Context,
    *,
    at: int,
    production: bool,
) -> None:
    status = view.status[rows]
    # DPV guide to 27560, 8.5.2: these two states permit, all others refuse.
    given = (status == _STATUS[ConsentStatus.GIVEN]) | (status == _STATUS[ConsentStatus.RENEWED])
    # DPV guide 8.5.4: valid from its moment up to, not including, its end.
    live = given & (view.at[rows] <= at) & (at < view.expires[rows])
    codes[live] = CODE[Reason.PERMITTED]
    codes[given & (view.expires[rows] <= at)] = CODE[Reason.EXPIRED]
    codes[status == _STATUS[ConsentStatus.EXPIRED]] = CODE[Reason.EXPIRED]
    codes[status == _STATUS[ConsentStatus.REFUSED]] = CODE[Reason.REFUSED]
    # GDPR 7(3): acts at once.
    codes[status == _STATUS[ConsentStatus.WITHDRAWN]] = CODE[Reason.WITHDRAWN]
    # GDPR 4(11), 6(1)(a): a grant for one purpose never permits another.
    codes[status == NO_STATUS] = CODE[Reason.WRONG_PURPOSE]
    # ISO/IEC 29184 5.5: a changed notice needs renewal.
    codes[live & view.superseded[view.nid[rows]]] = CODE[Reason.NOTICE_CHANGED]
    # 27560 6.3.4: a notice is for the jurisdictions it names, and the consent to it with it.
    here = np.array([covers(names, context.jurisdiction) for names in view.places] + [False])
    codes[live & ~here[view.nid[rows]]] = CODE[Reason.WRONG_CONTEXT]
    # Promise 1: simulated consent never opens a production door.
    if production:
        codes[given & view.simulated[rows]] = CODE[Reason.SIMULATED_IN_PRODUCTION]
    # EU AI Act 5(1)(f): staff and students are never read, whatever they agreed to.
    codes[view.role[rows] != _SHOPPER] = CODE[Reason.STAFF]


def _check_length(values: npt.NDArray[np.generic], size: int, name: str) -> None:
    if values.shape != (size,):
        raise MalformedError(f"{name}: got shape {values.shape}, want ({size},)")
