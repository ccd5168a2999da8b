"""Who was left out, and why: minors apart (AI Act 9(9); UK Age Appropriate Design Code 2).

The gate is asked again every round, so adding the rounds up would count each person once per round.
The first admission of each purpose in each store says who was left out; what changed later is told
as its own line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from .intervals import ALPHA, clopper_pearson
from .report_asked import AskedByGroup
from .report_exclusions import (
    Counted,
    Exclusions,
    Minors,
    PurposeExclusions,
    StoreExclusions,
    StoreShare,
    Tally,
)
from .runfiles import Run
from .runschema import Admission

ATTESTED = ("minor", "below_consent_age")
SUSPECTED = ("suspected_minor",)
UNKNOWN_AGE = ("unknown_age",)
WITHDRAWN = "withdrawn"

_NOTES = (
    (
        "Counts are of the first time the gate was asked, for each purpose and store; later rounds "
        "ask about the same people again and are not added."
    ),
    (
        "A person is counted once for each purpose asked. A person whose faces were refused for "
        "different reasons counts under each, so the reasons may add up to more than the refused."
    ),
    (
        "People whom a registry refused a record for their age are counted apart: they may be "
        "the same people as the minors that the gate refused, and are not added to them."
    ),
    "A person is refused when none of their faces was admitted.",
    (
        "Counts by reason carry no attribute of a person, and are exact: small ones are not suppressed "
        "here, so that nobody who was left out disappears."
    ),
)


def measure_exclusions(
    run: Run,
    turned_away: Iterable[dict[str, int]] = (),
    by_group: AskedByGroup | None = None,
) -> Exclusions:
    """Count asked, admitted and refused over a run's admissions.

    Args:
        run: the run.
        turned_away: for each registry, how many people it refused a record for their age, by rule.
        by_group: what it did to shares of groups, where stores counted.
    """
    stores = [_store(name, run.admissions[name]) for name in run.info.stores]
    purposes = sorted({p for s in stores for p in s.purposes}, key=_purpose_order)
    by_purpose = {p: _join([s.purposes[p] for s in stores if p in s.purposes]) for p in purposes}
    whole = _join(by_purpose.values())
    later = [s.withdrew_later for s in stores]
    return Exclusions(
        **whole.persons.model_dump(),
        faces=whole.faces,
        purposes=by_purpose,
        stores=tuple(stores),
        shares=_shares(stores),
        by_group=by_group,
        withdrew_later=Counted(
            persons=sum(c.persons for c in later), faces=sum(c.faces for c in later)
        ),
        turned_away=dict(sorted(sum((Counter(t) for t in turned_away), Counter()).items())),
        notes=_NOTES,
    )


def _purpose_order(purpose: str) -> tuple[int, str]:
    known = ("training", "fairness_audit", "personalisation")
    return (known.index(purpose) if purpose in known else len(known), purpose)


def _store(name: str, admissions: Iterable[Admission]) -> StoreExclusions:
    by_purpose: dict[str, list[Admission]] = {}
    for admission in admissions:
        by_purpose.setdefault(admission.purpose, []).append(admission)
    persons = faces = 0
    for asked in by_purpose.values():
        asked.sort(key=lambda a: (a.round, a.at, a.log_seq))
        persons += _grown(asked[0].refused.persons, asked[-1].refused.persons)
        faces += _grown(asked[0].refused.faces, asked[-1].refused.faces)
    return StoreExclusions(
        store=name,
        purposes={
            p: PurposeExclusions(persons=_tally(a[0], "persons"), faces=_tally(a[0], "faces"))
            for p, a in sorted(by_purpose.items(), key=lambda item: _purpose_order(item[0]))
        },
        withdrew_later=Counted(persons=persons, faces=faces),
    )


def _shares(stores: Iterable[StoreExclusions]) -> tuple[StoreShare, ...]:
    """Of stores that asked anybody for training; none where nobody was admitted anywhere."""
    asked = {
        s.store: tally
        for s in stores
        if "training" in s.purposes and (tally := s.purposes["training"].persons).asked
    }
    everybody = sum(t.asked for t in asked.values())
    admitted = sum(t.admitted for t in asked.values())
    if not admitted:
        return ()
    return tuple(
        StoreShare(
            store=name,
            asked=t.asked,
            admitted=t.admitted,
            share_asked=t.asked / everybody,
            share_admitted=t.admitted / admitted,
            ratio=(t.admitted / admitted) / (t.asked / everybody),
            kept=t.admitted / t.asked,
            kept_ci=clopper_pearson(t.admitted, t.asked, ALPHA / len(asked)),
        )
        for name, t in asked.items()
    )


def _grown(first: dict[str, int], last: dict[str, int]) -> int:
    return max(0, last.get(WITHDRAWN, 0) - first.get(WITHDRAWN, 0))


def _tally(admission: Admission, unit: Literal["persons", "faces"]) -> Tally:
    asked, admitted = getattr(admission.asked, unit), getattr(admission.admitted, unit)
    return _with_minors(asked, admitted, getattr(admission.refused, unit))


def _with_minors(asked: int, admitted: int, by_reason: dict[str, int]) -> Tally:
    def count(reasons: tuple[str, ...]) -> int:
        return sum(by_reason.get(r, 0) for r in reasons)

    ordered = sorted(
        ((r, n) for r, n in by_reason.items() if n), key=lambda item: (-item[1], item[0])
    )
    return Tally(
        asked=asked,
        admitted=admitted,
        refused=asked - admitted,
        by_reason=dict(ordered),
        minors=Minors(
            attested=count(ATTESTED),
            suspected=count(SUSPECTED),
            unknown_age=count(UNKNOWN_AGE),
            total=count(ATTESTED) + count(SUSPECTED),
        ),
    )


def _join(parts: Iterable[PurposeExclusions]) -> PurposeExclusions:
    whole = list(parts)
    return PurposeExclusions(
        persons=_add([p.persons for p in whole]), faces=_add([p.faces for p in whole])
    )


def _add(tallies: list[Tally]) -> Tally:
    reasons: Counter[str] = Counter()
    for tally in tallies:
        reasons.update(tally.by_reason)
    return _with_minors(
        sum(t.asked for t in tallies), sum(t.admitted for t in tallies), dict(reasons)
    )
