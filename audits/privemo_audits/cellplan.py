"""Which cells counts are made of, agreed on before anybody looks at the data.

Noised counts, and counts that stores add up, need the same cells everywhere: a cell that is there because
somebody is in it tells that somebody is in it. So groups are named in a file that is public, such as the
policy or the text that people were shown. Whoever is in none of them counts in a group of their own, and so
does whoever said nothing.

    schema = "privemo.groups/1"
    [groups]
    skin_tone = ["light", "medium", "dark"]

A policy's reference (`[representation.reference.COLUMN]`) names groups as well, and will do.
"""

from __future__ import annotations

import itertools
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import PolicyError
from .groups import MOST_GROUPS, NOT_RECORDED, ages, is_age
from .policy import SCHEMA as POLICY_SCHEMA
from .policy import load_policy

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["AGES", "ANOTHER", "SCHEMA", "CellPlan", "load_groups"]

SCHEMA = "privemo.groups/1"
ANOTHER = "another group"
AGES = tuple(ages(np.zeros(0))[1][:-1])
"""The names of age groups, which are the same everywhere."""

Names = tuple[str, ...]

_YEARS = re.compile(r"[0-9]{1,3}(\.[0-9]*)?")


@dataclass(frozen=True)
class CellPlan:
    """Tables by no feature, by one, or by two together, and the groups of each feature.

    A pair whose groups would make more than 100 cells is left out, for each table costs noise.

    Attributes:
        label_names: the emotions, in index order.
        groups: by feature the groups that were named, without the two that every feature has.

    Raises:
        PolicyError: a feature has no group, a group twice, or one of the two that every feature has.
    """

    label_names: Names
    groups: tuple[tuple[str, Names], ...]

    def __post_init__(self) -> None:
        for feature, names in self.groups:
            reserved = {NOT_RECORDED, ANOTHER, ""} & set(names)
            if not names or reserved or len(set(names)) < len(names) or len(names) > MOST_GROUPS:
                raise PolicyError(
                    f"groups of {feature!r}: {', '.join(map(repr, names)) or 'none'}",
                    f"Name 1 to {MOST_GROUPS} groups, each once; {NOT_RECORDED!r} and {ANOTHER!r} are added.",
                )

    @property
    def features(self) -> Names:
        """Names of the features."""
        return tuple(feature for feature, _ in self.groups)

    @property
    def tables(self) -> tuple[Names, ...]:
        """The features of each table; a person counts once in each."""
        pairs = itertools.combinations(self.features, 2)
        few = [p for p in pairs if math.prod(len(self.names(f)) for f in p) <= MOST_GROUPS]
        return ((), *((f,) for f in self.features), *few)

    def names(self, feature: str) -> Names:
        """All groups of a feature, in order."""
        return (*dict(self.groups)[feature], NOT_RECORDED, ANOTHER)

    def cells(self, table: Names) -> list[Names]:
        """The groups of each cell of a table, in order; of the table by no feature one cell of everyone."""
        return list(itertools.product(*(self.names(f) for f in table)))

    @property
    def length(self) -> int:
        """Of a count vector: one number for each emotion shown, emotion named and cell."""
        return sum(len(self.cells(t)) for t in self.tables) * len(self.label_names) ** 2

    def split(self, vector: NDArray[np.int64]) -> dict[Names, NDArray[np.int64]]:
        """A count vector (length,) as by table (cells, emotions, emotions)."""
        wide, out, low = len(self.label_names), {}, 0
        for table in self.tables:
            high = low + len(self.cells(table)) * wide * wide
            out[table] = vector[low:high].reshape(-1, wide, wide)
            low = high
        return out

    def vector(self, frame: pd.DataFrame | None) -> NDArray[np.int64]:
        """Count vector (length,) of a table in which each person has one row, labels as indices.

        The vector of each person is 1 in one cell of each table and 0 elsewhere. What cell that is depends on
        this person alone.
        """
        wide = len(self.label_names)
        parts = []
        rows = {} if frame is None else {f: self._rows(frame[f], f) for f in self.features}
        for table in self.tables:
            size = len(self.cells(table)) * wide * wide
            if frame is None:
                parts.append(np.zeros(size, np.int64))
                continue
            cell = np.zeros(len(frame), np.int64)
            for feature in table:
                cell = cell * len(self.names(feature)) + rows[feature]
            label, said = (frame[c].to_numpy(np.int64) for c in ("label", "prediction"))
            parts.append(np.bincount((cell * wide + label) * wide + said, minlength=size))
        return np.concatenate(parts).astype(np.int64)

    def _rows(self, column: pd.Series[str], feature: str) -> NDArray[np.int64]:
        """(N,) place of each value among the groups of its feature; each by itself."""
        names = self.names(feature)
        place = {name: i for i, name in enumerate(names)}
        return np.array(
            [place[self._group(str(v).strip(), feature, place)] for v in column.fillna("")],
            dtype=np.int64,
        )

    @staticmethod
    def _group(value: str, feature: str, known: Mapping[str, int]) -> str:
        if value in known:
            return value
        if not value:
            return NOT_RECORDED
        if is_age(feature) and _YEARS.fullmatch(value):
            name = ages(np.array([float(value)]))[0][0]
            return name if name in known else ANOTHER
        return ANOTHER


def load_groups(
    path: Path | str | None, features: Sequence[str], label_names: Sequence[str]
) -> CellPlan:
    """The cells of a run whose groups stand in a public file.

    Args:
        path: of the file: groups, or a policy with a reference. None names none: ages are known anyway.
        features: the sensitive columns of the run.
        label_names: the emotions.

    Raises:
        PolicyError: it cannot be read, or names no groups of a feature.
    """
    named = {} if path is None else _named(Path(path))
    groups = []
    for feature in features:
        if feature not in named and feature.lower() == "age":  # in years, and cut alike everywhere
            groups.append((feature, AGES))
        elif feature not in named:
            raise PolicyError(
                f"nobody named the groups of {feature!r}",
                f"Write a file with schema = {SCHEMA!r} and [groups] {feature} = [...], and name it by "
                "--groups: cells that follow from the data would tell who is in them.",
            )
        else:
            groups.append((feature, tuple(named[feature])))
    return CellPlan(tuple(label_names), tuple(groups))


def _named(path: Path) -> Mapping[str, Sequence[str]]:
    remedy = f"A file of groups is TOML with schema = {SCHEMA!r} and [groups] COLUMN = [...]."
    try:
        content: dict[str, Any] = tomllib.loads(path.read_bytes().decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PolicyError(f"{path} cannot be read ({error})", remedy) from error
    if content.get("schema") == POLICY_SCHEMA:
        reference = load_policy(path)[0].representation.reference
        return {feature: list(shares) for feature, shares in reference.items()}
    found = content.get("groups")
    if (
        content.get("schema") != SCHEMA
        or not isinstance(found, dict)
        or set(content) != {"schema", "groups"}
    ):
        raise PolicyError(f"{path} holds no groups", remedy)
    for feature, names in found.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise PolicyError(f"{path}: groups.{feature} is no list of names", remedy)
    return {feature: [name.strip() for name in names] for feature, names in found.items()}
