"""Who was measured, held against whom the model is for (EU AI Act 10(2)(f)-(g), 10(3)).

What people look like is kept of those alone who agreed to a fairness audit, apart, and until it is over
(10(5)); so it is their shares that can be told, and not those of the people who were trained on. Both come
through the same doors: who is turned away, or says no, is missing from both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .errors import PolicyError
from .groups import NOT_RECORDED, group_rows
from .intervals import ALPHA, clopper_pearson
from .report_performance import GroupCell, Representation
from .scores import people_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Reference", "measure_representation"]

Reference = Mapping[str, Mapping[str, float]]
"""By feature the share of each group among those whom the model is for."""


def measure_representation(
    frame: pd.DataFrame, cells: Sequence[GroupCell], reference: Reference
) -> list[Representation]:
    """The share of each group among the people measured, beside its share in a reference.

    Args:
        frame: the predictions, with a column for each feature.
        cells: of the same predictions: what is hidden there is hidden here.
        reference: shares of each feature's groups, adding up to 1.

    Returns:
        For each feature of the reference its groups, and those of the people measured that it does not name.
        People whose group was not recorded count for none.

    Raises:
        PolicyError: the predictions have no such feature.
    """
    known = list(dict.fromkeys(cell.feature for cell in cells if not cell.crossed))
    hidden = {(c.feature, c.group) for c in cells if not c.crossed and c.status == "suppressed"}
    people = people_of(frame)
    out: list[Representation] = []
    for feature, shares in reference.items():
        if feature not in known:
            raise PolicyError(
                f"representation.reference names {feature}, and the predictions have {', '.join(known)}",
                "Name one of these, or run with --sensitive and that column.",
            )
        persons = _persons(frame, feature, people)
        out += _of_feature(feature, shares, persons, hidden)
    return out


def _persons(
    frame: pd.DataFrame, feature: str, people: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> dict[str, int]:
    row, order = group_rows(frame[feature], feature)
    pairs = np.unique(np.stack([row, people]), axis=1)
    counts = np.bincount(pairs[0], minlength=len(order))
    return {g: int(n) for g, n in zip(order, counts, strict=True) if g != NOT_RECORDED}


def _of_feature(
    feature: str,
    shares: Mapping[str, float],
    persons: Mapping[str, int],
    hidden: set[tuple[str, str]],
) -> list[Representation]:
    # Hidden people whose group is not recorded would be told from the others by the sum of the shares.
    total = 0 if (feature, NOT_RECORDED) in hidden else sum(persons.values())
    names = list(dict.fromkeys([*shares, *persons]))
    out = []
    for name in names:
        n, meant = persons.get(name, 0), shares.get(name)
        if (feature, name) in hidden or not total:
            out.append(
                Representation(feature=feature, group=name, status="suppressed", reference=meant)
            )
            continue
        share = n / total
        out.append(
            Representation(
                feature=feature,
                group=name,
                status="ok",
                persons=n,
                share=share,
                # All groups of a feature are looked at together.
                ci=clopper_pearson(n, total, ALPHA / len(names)),
                reference=meant,
                ratio=share / meant if meant else None,
            )
        )
    return out
