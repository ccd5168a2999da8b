"""What the book-keeping keeps of one layer in one pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from privemo.dp.bookkeeping.people import People

__all__ = ["ROUNDING", "Entry", "InstancesEntry", "in_float32", "squares", "weighted"]

ROUNDING = 2.0**-22
"""What to add to a squared norm that terms cancelled in, times their size without signs.

A clip holds only if no norm is found too short. The error of such a float32 sum was measured at 1.2 units of
2^-24 of that size at most (`test_a_norm_is_never_found_too_short`); four units are added. Where terms
hardly cancel, this is 1e-7 of the norm.
"""

_FLOATS_AT_ONCE = 1 << 19

Instances = Mapping[Tensor, Tensor]
"""For each parameter the gradient of each person: (people, *shape)."""


class Entry(ABC):
    """One call of one layer: what went in, and later what flowed back.

    Args:
        layer: the layer.
        wanted: its own parameters that are trained.
        x: what went in, (n, ...).
        output: what came out, (n, ...).
    """

    name = ""  # of the layer in its model, for errors

    def __init__(
        self, layer: nn.Module, wanted: frozenset[Tensor], x: Tensor, output: Tensor
    ) -> None:
        self.layer, self.wanted = layer, wanted
        self._x, self._version = x.detach(), x._version

    @property
    def x(self) -> Tensor:
        """What went in, in float32; errors are those of `kept`."""
        return self.kept.float()

    @property
    def kept(self) -> Tensor:
        """What went in, as it came.

        Raises:
            RuntimeError: it was overwritten since.
        """
        if self._x._version != self._version:
            raise RuntimeError(
                f"What layer {self.name!r} ({type(self.layer).__name__}) read was changed in place before "
                "its gradient: write that operation without the underscore or `inplace`."
            )
        return self._x

    @abstractmethod
    def receive(self, g: Tensor, people: People) -> Tensor:
        """Take the gradient of the output, (n, ...); give each person's squared norm, float64 (people,)."""

    @abstractmethod
    def instances(self, g: Tensor, people: People) -> Instances:
        """Each person's gradient in full; for parameters that are used more than once."""

    @abstractmethod
    def summed(self, coefficient: Tensor, broken: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
        """For each parameter the sum over people of coefficient times gradient.

        Args:
            coefficient: float32 (people,).
            broken: bool (people,), whose gradients hold NaN or infinity and must not touch the sum; None
                where there is nobody. Their coefficient is 0, but 0 times NaN is NaN.
        """


class InstancesEntry(Entry):
    """A layer whose gradients of each person are small enough to stand in memory."""

    _kept: Instances

    def receive(self, g: Tensor, people: People) -> Tensor:
        """See `Entry.receive`."""
        self._kept = self.instances(g, people)
        del self._x  # the pass gives memory back as it goes, and so does this
        return squares(self._kept.values(), len(people))

    def summed(self, coefficient: Tensor, broken: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Entry.summed`."""
        for p, instances in self._kept.items():
            yield p, weighted(instances, coefficient, broken)


def squares(instances: object, people: int) -> Tensor:
    """Squared norms over all of some tensors (people, ...): float64 (people,)."""
    total = torch.zeros(people, dtype=torch.float64)
    for x in instances:  # type: ignore[attr-defined]
        # Short sums in float32, their sum in float64: long sums in float32 lose digits.
        x = x.flatten(2) if x.ndim > 2 else x.unsqueeze(1)
        total += torch.linalg.vector_norm(x, dim=2).double().square().sum(1)
    return total


def weighted(instances: Tensor, coefficient: Tensor, broken: Tensor | None) -> Tensor:
    """einsum("i,i...->...", coefficient, instances), without those who are broken."""
    if broken is not None:
        instances = instances.clone()
        instances[broken] = 0.0
    total = torch.zeros(instances[0].numel())
    for low, some in in_float32(instances):
        total += torch.mv(some.flatten(1).T, coefficient[low : low + len(some)])
    return total.view(instances.shape[1:])


def in_float32(instances: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Parts of (people, ...) in float32, each with its position; one that is turned stays in the cache."""
    at_once = len(instances)
    if instances.dtype != torch.float32:
        at_once = max(1, _FLOATS_AT_ONCE // max(1, instances[0].numel()))
    for low in range(0, len(instances), max(1, at_once)):
        yield low, instances[low : low + at_once].float()
