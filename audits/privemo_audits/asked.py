"""What exclusion did to each group's share of the people trained on, by counts that stores made at the door.

`stores/NAME/asked.json` holds, by sensitive column, group and reason, how many people the gate admitted to
training and refused (EU AI Act 10(2)(f)-(g), 10(3)). The store signed its hash with each round
(`manifests`). No two columns stand there together, and nobody's row.

The counts are exact, and not all of them are published. Totals by reason stand in the report, so a group of
which fewer than 5 people were asked, admitted or refused is hidden, and others with it until the hidden ones
together are 5 or more, or nobody, in each of these. Reasons are joined until no group has fewer than 5 of
one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from .askedhide import hidden_groups, told_reasons
from .errors import RunFilesError
from .groups import MOST_GROUPS, NOT_RECORDED, is_age, reading_order
from .intervals import ALPHA, Interval, clopper_pearson
from .report_asked import AskedByGroup, AskedGroup
from .representation import Reference
from .runfiles import ASKED_FILE, Run, read_model
from .runschema import Part

__all__ = ["OTHER_REASONS", "Asked", "measure_asked", "read_asked"]

OTHER_REASONS = "other_reasons"

Count = Annotated[int, Field(ge=0, le=10**7)]
Table = NDArray[np.int64]


class ByReason(Part):
    """How many people were admitted, and refused by reason."""

    admitted: Count
    refused: dict[str, Count]

    @property
    def asked(self) -> int:
        """All of them."""
        return self.admitted + sum(self.refused.values())


class Column(Part):
    """One sensitive column: its groups, and the people of whom it was not counted."""

    groups: dict[str, ByReason] = Field(max_length=MOST_GROUPS)
    apart: ByReason


class Asked(Part):
    """`stores/NAME/asked.json`."""

    schema_: Literal["privemo.asked/1"] = Field(alias="schema")
    run_id: str
    store: str
    purpose: Literal["training"]
    persons: ByReason
    columns: dict[str, Column]
    left_out: tuple[str, ...]

    @model_validator(mode="after")
    def _adds_up(self) -> Asked:
        for name, column in self.columns.items():
            if added([*column.groups.values(), column.apart]) != added([self.persons]):
                raise ValueError(f"{name}: its groups do not add up to the people asked")
        return self


def added(parts: Iterable[ByReason]) -> Counter[str]:
    """Everybody by reason, the admitted under the empty one."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update({"": part.admitted, **part.refused})
    return +total


def read_asked(run: Run) -> dict[str, Asked]:
    """The counts of each store that made any.

    Raises:
        RunFilesError: a file is torn, contradicts itself, or is of another store.
    """
    found = {}
    for store in run.info.stores:
        name = f"stores/{store}/{ASKED_FILE}"
        if not (run.directory / name).is_file():
            continue
        counts = read_model(run, name, Asked)
        if counts.store != store:
            raise RunFilesError(
                f"{name} is of store {counts.store!r}", "Restore the file of this store."
            )
        if counts.run_id == run.info.run_id:  # else the store kept it of an earlier run
            found[store] = counts
    return found


def measure_asked(run: Run, reference: Reference | None = None) -> AskedByGroup | None:
    """Each group's share before and after the gate; None where no store counted.

    Args:
        run: the run.
        reference: by feature the share of each group among those whom the model is for.

    Raises:
        RunFilesError: as `read_asked`.
    """
    counts = read_asked(run)
    if not counts:
        return None
    reference = reference or {}
    features = list(dict.fromkeys(f for each in counts.values() for f in each.columns))
    by_feature = {f: _joined(f, counts.values()) for f in features}
    everybody = added(each.persons for each in counts.values())
    together = sum(len({*groups, *reference.get(f, ())}) for f, groups in by_feature.items())
    return AskedByGroup(
        stores=tuple(counts),
        stores_without=tuple(s for s in run.info.stores if s not in counts),
        asked=everybody.total(),
        admitted=everybody[""],
        apart={f: everybody.total() - _all(g).total() for f, g in by_feature.items()},
        judged=tuple(f for f in features if not is_age(f)),
        groups=tuple(
            group
            for feature, groups in by_feature.items()
            for group in _groups(feature, groups, reference.get(feature, {}), max(1, together))
        ),
        left_out=tuple(dict.fromkeys(f for each in counts.values() for f in each.left_out)),
        notes=tuple(_notes(run, counts)),
    )


def _joined(feature: str, counts: Iterable[Asked]) -> dict[str, Counter[str]]:
    """By group everybody by reason. A store that did not count the column is missing from its shares."""
    found: dict[str, Counter[str]] = {}
    for each in counts:
        column = each.columns.get(feature)
        for group, part in ({} if column is None else column.groups).items():
            found[group] = found.get(group, Counter()) + added([part])
    return {group: found[group] for group in sorted(found, key=reading_order)}


def _all(groups: Mapping[str, Counter[str]]) -> Counter[str]:
    return sum(groups.values(), Counter[str]())


def _groups(
    feature: str,
    groups: Mapping[str, Counter[str]],
    meant: Mapping[str, float],
    together: int,
) -> list[AskedGroup]:
    names = list(dict.fromkeys([*groups, *meant]))
    people = {name: groups.get(name, Counter[str]()) for name in names}
    table = np.array(
        [[people[n][""], people[n].total() - people[n][""]] for n in names], dtype=np.int64
    ).reshape(-1, 2)
    hidden = hidden_groups(table)
    known = np.array([name != NOT_RECORDED for name in names], dtype=np.bool_)
    if hidden[~known].any():  # the sum of the shares would tell it from the others
        hidden[:] = True
    reasons = told_reasons([people[n] for n in names], hidden)
    whole = table[known].sum(axis=0)
    out = []
    for at, name in enumerate(names):
        if hidden[at] or not whole.sum():
            group = AskedGroup(feature=feature, group=name, status="suppressed")
        else:
            group = _group(feature, name, table[at], whole, ALPHA / together)
            group = group.model_copy(update={"refused": _refused(people[name], reasons)})
            if name == NOT_RECORDED:
                group = AskedGroup(
                    feature=feature, group=name, status="ok", asked=group.asked,
                    admitted=group.admitted, refused=group.refused,
                )  # fmt: skip
        if name in meant:
            share = group.share_admitted
            over = None if share is None else share / meant[name]
            group = group.model_copy(update={"reference": meant[name], "over_reference": over})
        out.append(group)
    return out


def _group(feature: str, name: str, row: Table, whole: Table, alpha: float) -> AskedGroup:
    """Shares of one group: (2,) admitted and refused of it, and (2,) of all whose group is known."""
    admitted, asked = int(row[0]), int(row.sum())
    all_in, all_asked = int(whole[0]), int(whole.sum())
    before = asked / all_asked
    after = admitted / all_in if all_in else None
    return AskedGroup(
        feature=feature,
        group=name,
        status="ok",
        asked=asked,
        admitted=admitted,
        share_asked=before,
        share_asked_ci=clopper_pearson(asked, all_asked, alpha),
        share_admitted=after,
        share_admitted_ci=None if after is None else clopper_pearson(admitted, all_in, alpha),
        ratio=None if after is None or not asked else after / before,
        ratio_ci=None if after is None or not asked else ratio_interval(row, whole, alpha),
    )


def ratio_interval(row: Table, whole: Table, alpha: float) -> Interval:
    """Interval of a group's share of the admitted over its share of the asked.

    With w its share of the asked, p the chance of being admitted in the group and q elsewhere, the ratio is
    p / (w p + (1 - w) q): it rises with p and falls with q. Exact intervals of both, each at half of alpha,
    bound it; the result is never too narrow (Bonferroni). Who was asked is taken as it is.

    Args:
        row: (2,) admitted and refused of the group.
        whole: (2,) of everybody, the group with them.
        alpha: the chance, at most, that the interval misses.
    """
    asked, others = int(row.sum()), int(whole.sum() - row.sum())
    if not others:  # the only group: its share is 1 before and after
        return (1.0, 1.0)
    w = asked / (asked + others)
    p = clopper_pearson(int(row[0]), asked, alpha / 2)
    q = clopper_pearson(int(whole[0] - row[0]), others, alpha / 2)

    def ratio(inside: float, outside: float) -> float:
        mean = w * inside + (1 - w) * outside
        return inside / mean if mean else 1 / w

    return (ratio(p[0], q[1]), ratio(p[1], q[0]))


def _refused(people: Counter[str], told: frozenset[str]) -> dict[str, int]:
    found = {r: people[r] for r in told if people[r]}
    others = sum(n for r, n in people.items() if r and r not in told)
    named = dict(sorted(found.items(), key=lambda each: (-each[1], each[0])))
    return {**named, **({OTHER_REASONS: others} if others else {})}


def _notes(run: Run, counts: Mapping[str, Asked]) -> Iterable[str]:
    yield (
        "People were counted by look once, when faces were captured; of minors, of whoever looks too young "
        "and of whoever gave no age the age band alone was counted."
    )
    yield (
        "These counts are exact and not covered by epsilon, which is about the model. Small ones are "
        "hidden, and those that would give them away."
    )
    if without := [s for s in run.info.stores if s not in counts]:
        yield f"{', '.join(without)} counted nobody by look, and is missing from these shares."
    moved = []
    for store, each in counts.items():
        first = next((a for a in run.admissions[store] if a.purpose == "training"), None)
        if first is not None and (
            (first.asked.persons, first.admitted.persons)
            != (each.persons.asked, each.persons.admitted)
        ):
            moved.append(store)
    if moved:
        yield (
            f"In {', '.join(moved)} the first round asked about others than were counted: somebody was "
            "erased, or changed their answer, in between."
        )
