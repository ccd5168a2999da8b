"""How the rows of one pass are laid out by person."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from privemo.dp.batches import PersonBatch

__all__ = ["Block", "People", "arrange"]


@dataclass(frozen=True)
class Block:
    """Neighbouring people with equally many rows.

    Attributes:
        people: their positions.
        rows: the rows that are theirs.
        each: rows of each of them.
    """

    people: slice
    rows: slice
    each: int

    def by_person(self, x: Tensor) -> Tensor:
        """A view (people, each, ...) of the rows (n, ...) that are theirs."""
        return torch.unflatten(x[self.rows], 0, (-1, self.each))


class People:
    """Who owns which rows: people one after the other, those with fewer rows first.

    So people with equally many rows are a block, and a sum over a person is a sum over an axis, in which no
    person's NaN can touch another.

    Args:
        counts: int64 (p,), ascending: rows of each person, at least 1.
    """

    def __init__(self, counts: Tensor) -> None:
        self.counts = counts
        self.blocks = tuple(_blocks(counts))
        self.bounds = [0, *counts.cumsum(0).tolist()]

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return int(self.bounds[-1])

    def sums(self, x: Tensor) -> Tensor:
        """Sum each person's rows: (n, ...) to (people, ...)."""
        if self.rows == len(self):
            return x
        return torch.cat([block.by_person(x).sum(1) for block in self.blocks])

    def spread(self, values: Tensor) -> Tensor:
        """Give each row its person's value: (people,) to (n,)."""
        return values.repeat_interleave(self.counts)


def _blocks(counts: Tensor) -> Iterator[Block]:
    each, how_many = torch.unique_consecutive(counts, return_counts=True)
    person = row = 0
    for k, m in zip(each.tolist(), how_many.tolist(), strict=True):
        yield Block(slice(person, person + m), slice(row, row + k * m), k)
        person, row = person + m, row + k * m


def arrange(batch: PersonBatch) -> tuple[Tensor, Tensor, People]:
    """Images and labels of a batch in the order that `People` asks for, and that layout.

    The order of people does not show in a sum over them.
    """
    counts, order = torch.sort(batch.counts, stable=True)
    if bool((order.diff() < 0).any()):
        # Rows of a person stay in their order, one person after the other.
        place = torch.empty_like(order)
        place[order] = torch.arange(batch.people)
        rows = torch.argsort(place[batch.owner], stable=True)
        return batch.images[rows], batch.labels[rows], People(counts)
    return batch.images, batch.labels, People(counts)
