"""Who is drawn for a step, and their pictures side by side."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from privemo.errors import SettingsError

__all__ = ["PersonBatch", "PersonIndex", "sample_people"]

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class PersonIndex:
    """Which rows belong to which person.

    Attributes:
        people: (p,) ids, sorted.
        order: (n,) rows, grouped by person.
        start: (p + 1,) where each person's rows begin in `order`.
    """

    people: NDArray[np.str_]
    order: IntArray
    start: IntArray

    @classmethod
    def of(cls, person: NDArray[np.str_]) -> PersonIndex:
        """Group the rows of a column of person ids."""
        people, who, counts = np.unique(person, return_inverse=True, return_counts=True)
        start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(people, np.argsort(who, kind="stable").astype(np.int64), start)

    def __len__(self) -> int:
        return len(self.people)

    def rows(self, position: int) -> IntArray:
        """The rows of the person at `position`."""
        return self.order[self.start[position] : self.start[position + 1]]


def sample_people(people: int, sample_rate: float, rng: np.random.Generator) -> IntArray:
    """Poisson sampling: each of `people` joins independently with probability `sample_rate`.

    The result may be empty. Shuffling and cutting into batches is *not* this, and the accountants'
    bounds would not hold for it.
    """
    return np.flatnonzero(rng.random(people) < sample_rate).astype(np.int64)


@dataclass(frozen=True)
class PersonBatch:
    """A part of one private step: whole people only, since a person torn in two would be clipped twice.

    Pictures may hold NaN or infinity: the step bounds the harm to their person.

    Attributes:
        images: float32, (n, channels, height, width), n >= 1.
        labels: int64, (n,).
        owner: int64, (n,): the position, 0 to `people` - 1, of the person in each row; ascending, and nobody
            without a row.
        people: how many people, at least 1.

    Raises:
        SettingsError: an attribute is not as described; the message names it.
    """

    images: Tensor
    labels: Tensor
    owner: Tensor
    people: int

    def __post_init__(self) -> None:
        n = len(self.images)
        if self.images.ndim != 4 or self.images.dtype != torch.float32 or n == 0:
            shape = tuple(self.images.shape)
            raise SettingsError(
                "The images of a batch are float32 (n, channels, height, width) with n >= 1, not "
                f"{self.images.dtype} {shape}. A step for which nobody was drawn has no batch at all."
            )
        for name, column in (("labels", self.labels), ("owner", self.owner)):
            if column.shape != (n,) or column.dtype != torch.int64:
                raise SettingsError(
                    f"The {name} of {n} images are int64 ({n},), not {column.dtype} "
                    f"{tuple(column.shape)}."
                )
        if bool((self.owner.diff() < 0).any()):
            raise SettingsError(
                "The owner of a batch's rows is not sorted: sort the rows by person."
            )
        if int(self.owner[0]) < 0 or int(self.owner[-1]) >= self.people:
            raise SettingsError(
                f"The owner of a row lies outside 0 to people - 1, with people = {self.people}."
            )
        without = (self.counts == 0).nonzero()
        if len(without):
            raise SettingsError(
                f"The person at position {int(without[0])} of a batch has no image: leave them out "
                "of the batch and number the others from 0."
            )

    @cached_property
    def counts(self) -> Tensor:
        """How many rows each person has: int64, (people,)."""
        return torch.bincount(self.owner, minlength=self.people)
