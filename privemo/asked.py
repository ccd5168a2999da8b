"""Whom a store asked for training, counted by what they look like: numbers, and no row of anybody.

What exclusion does to each group's share of the training data (EU AI Act 10(2)(f)-(g), 10(3)) can only be
told by counting those who are turned away as well. So people are counted at the door, once, while the table
that they come from is still there. Kept are how many of each group were admitted and refused, by reason: no
id, no face, and no two columns of anybody together.

| who | what is counted of them |
|---|---|
| admitted, or refused for anything but age | each column |
| a minor, somebody taken for one, somebody of unknown age (promise 2) | the age band that they said, alone |
| in a production registry: who did not agree to FAIRNESS_AUDIT (EU AI Act 10(5)) | the same |
| somebody whose pictures disagree in a column | a group of its own, `differs` |

Counts are exact. They are about the people and not about the model, so epsilon says nothing of them; the
file stays in the store's folder, and no message to a server holds anything of it. What a report publishes of
it goes through the suppression of small cells (`privemo_audits.asked`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privemo.errors import RunError
from privemo.faces import FaceTable
from privemo.files import write_json
from privemo_consent import ConsentRegistry, Context, Purpose, Reason

__all__ = ["ASKED_FILE", "count_asked", "digest_of", "write_asked"]

ASKED_FILE = "asked.json"
"""In a store's folder."""

AGE_BAND = "age_band"
"""The one column that is counted of everybody: people say it themselves, for the gate to decide by."""

DIFFERS = "differs"

FOR_AGE = (Reason.MINOR, Reason.UNKNOWN_AGE, Reason.SUSPECTED_MINOR)

Counts = dict[str, Any]


def count_asked(
    registry: ConsentRegistry,
    table: FaceTable,
    rows: NDArray[np.int64],
    *,
    columns: Sequence[str],
    context: Context,
    attested_age_band: NDArray[np.str_] | None = None,
    challenge_age: float = 25.0,
) -> Counts:
    """Count whom the gate admits for TRAINING and whom it refuses, by reason and group.

    Ask at the moment of capture, with what `privemo.capture.capture` is given.

    Args:
        registry: of the store.
        table: where the faces come from.
        rows: indices into the table.
        columns: sensitive columns of the table.
        context: where the faces are captured.
        attested_age_band: (len(rows),) what each person said in the session.
        challenge_age: a person who is estimated to be younger is refused.

    Returns:
        `persons`, `columns` and `left_out` of `asked.json`; a column of many different numbers is left out.

    Raises:
        DataError: a column is missing.
        privemo_consent.ConsentError: the registry cannot be read.
    """
    sealed = table.seal(rows, attested_age_band=attested_age_band)
    verdicts = registry.snapshot(Purpose.TRAINING).decide_many(
        sealed.person,
        context,
        at=registry.now(),
        challenge_age=challenge_age,
        estimated_age=sealed.estimated_age,
        attested_age_band=sealed.attested_age_band,
    )
    persons, first, who = np.unique(sealed.person, return_index=True, return_inverse=True)
    reason = verdicts.reasons[first]  # all faces of a person have the same
    seen = _may_be_seen(registry, persons, reason, context)
    found, left_out = {}, []
    for name in columns:
        everyone = name == AGE_BAND and sealed.attested_age_band is not None
        value = sealed.attested_age_band if everyone else table.column(name)[rows]
        groups = None if value is None else _groups_of(name, value, who, len(persons))
        if groups is None:
            left_out.append(name)
            continue
        counted = np.ones(len(persons), dtype=np.bool_) if everyone else seen
        found[name] = {
            "groups": {
                group: _by_reason(reason[counted & (groups == group)])
                for group in sorted(set(groups[counted].tolist()))
            },
            "apart": _by_reason(reason[~counted]),
        }
    return {"persons": _by_reason(reason), "columns": found, "left_out": left_out}


def _may_be_seen(
    registry: ConsentRegistry,
    persons: NDArray[np.str_],
    reason: NDArray[np.str_],
    context: Context,
) -> NDArray[np.bool_]:
    """Whose looks may be counted: of nobody who was refused for age (UK AADC 12)."""
    may: NDArray[np.bool_] = ~np.isin(reason, [each.value for each in FOR_AGE])
    if registry.mode == "production":
        audit = registry.snapshot(Purpose.FAIRNESS_AUDIT)
        may &= audit.decide_many(persons, context, at=registry.now()).permit
    return may


def _groups_of(
    name: str, column: NDArray[np.generic], who: NDArray[np.int64], people: int
) -> NDArray[np.str_] | None:
    """(people,) the group of each; None where every store would cut the column in its own way."""
    import pandas as pd

    from privemo_audits.errors import PredictionsError
    from privemo_audits.groups import groups_alike

    text = column.astype(np.str_)
    if np.issubdtype(column.dtype, np.floating):
        text = np.where(np.isnan(column.astype(np.float64)), "", text)
    try:
        groups = groups_alike(pd.Series(text.tolist(), dtype=str), name)
    except PredictionsError:
        return None
    names, code = np.unique(groups, return_inverse=True)
    low, high = np.full(people, len(names)), np.full(people, -1)
    np.minimum.at(low, who, code)
    np.maximum.at(high, who, code)
    return np.where(low == high, names[low].astype(object), DIFFERS).astype(np.str_)


def _by_reason(reasons: NDArray[np.str_]) -> dict[str, Any]:
    counts = Counter(reasons.tolist())
    admitted = counts.pop(Reason.PERMITTED.value, 0)
    return {"admitted": admitted, "refused": dict(sorted(counts.items()))}


def write_asked(folder: Path, counts: Counts, *, run_id: str, store: str) -> None:
    """Write the counts into a store's folder, once; every statement of the store then names their hash.

    Raises:
        RunError: there are counts already, or the file cannot be written.
    """
    path = folder / ASKED_FILE
    if path.exists():
        raise RunError(f"{path} is there already: people are counted once, when they are captured.")
    facts = {"schema": "privemo.asked/1", "run_id": run_id, "store": store, "purpose": "training"}
    write_json(path, {**facts, **counts})


def digest_of(folder: Path) -> str | None:
    """SHA-256 of a store's counts, hex; None where it made none.

    Raises:
        RunError: they cannot be read.
    """
    try:
        return sha256((folder / ASKED_FILE).read_bytes()).hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"{folder / ASKED_FILE} cannot be read ({error.strerror}).") from error
