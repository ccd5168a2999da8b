"""Book-keeping of linear and of normalising layers."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from privemo.dp.bookkeeping.layer import Entry, Instances, InstancesEntry, squares, weighted
from privemo.dp.bookkeeping.patches import safe_pair_sum
from privemo.dp.bookkeeping.people import People

__all__ = ["GroupNormEntry", "LayerNormEntry", "LinearEntry"]

_FLOATS_AT_ONCE = 1 << 17


class LinearEntry(Entry):
    """`torch.nn.Linear` on (n, features) or (n, ..., features).

    A person's gradient is G = sum_t g[t] a[t]^T over the T rows of all their inputs.
    """

    layer: nn.Linear

    def receive(self, g: Tensor, people: People) -> Tensor:
        """See `Entry.receive`."""
        self._people = people
        self._g, self._a = _places(g.float()), _places(self.x)
        total = torch.zeros(len(people), dtype=torch.float64)
        self._bias: Tensor | None = None
        if self.layer.weight in self.wanted:
            for block in people.blocks:
                a = block.by_person(self._a).flatten(1, 2)
                g = block.by_person(self._g).flatten(1, 2)
                total[block.people] = _linear_squares(a, g)
        if self.layer.bias is not None and self.layer.bias in self.wanted:
            self._bias = people.sums(self._g.sum(1))
            total += squares([self._bias], len(people))
        return total

    def instances(self, g: Tensor, people: People) -> Instances:
        """See `Entry.instances`."""
        g, a = _places(g.float()), _places(self.x)
        found: dict[Tensor, Tensor] = {}
        if self.layer.weight in self.wanted:
            # einsum("nto,nti->noi") over the places of each person.
            found[self.layer.weight] = torch.cat(
                [
                    block.by_person(g).flatten(1, 2).transpose(1, 2)
                    @ block.by_person(a).flatten(1, 2)
                    for block in people.blocks
                ]
            )
        if self.layer.bias is not None and self.layer.bias in self.wanted:
            found[self.layer.bias] = people.sums(g.sum(1))
        return found

    def summed(self, coefficient: Tensor, broken: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Entry.summed`."""
        if self.layer.weight in self.wanted:
            a, g = self._a, self._g
            if broken is not None:
                whole = ~self._people.spread(broken).view(-1, 1, 1)
                a, g = torch.where(whole, a, 0.0), torch.where(whole, g, 0.0)
            g = g * self._people.spread(coefficient).view(-1, 1, 1)
            yield self.layer.weight, g.flatten(0, 1).T @ a.flatten(0, 1)
        if self._bias is not None:
            yield self.layer.bias, weighted(self._bias, coefficient, broken)


def _places(x: Tensor) -> Tensor:
    """(n, features) or (n, ..., features) to (n, t, features)."""
    return x.reshape(len(x), -1, x.shape[-1])


def _linear_squares(a: Tensor, g: Tensor) -> Tensor:
    """|G|^2 of each person from a (people, T, in) and g (people, T, out): float64 (people,)."""
    places, fan_in, fan_out = a.shape[1], a.shape[2], g.shape[2]
    if places == 1:
        of_a, of_g = (torch.linalg.vector_norm(x, dim=(1, 2)).double() for x in (a, g))
        return torch.square(of_a * of_g)
    if places * (fan_in + fan_out) < fan_in * fan_out:
        of_a, of_g = (torch.bmm(x, x.transpose(1, 2)).flatten(1) for x in (a, g))
        return safe_pair_sum(of_a, of_g)
    return squares([torch.bmm(g.transpose(1, 2), a)], len(a))


class GroupNormEntry(InstancesEntry):
    """`torch.nn.GroupNorm`: scale and offset of each channel."""

    layer: nn.GroupNorm

    def __init__(
        self, layer: nn.GroupNorm, wanted: frozenset[Tensor], x: Tensor, output: Tensor
    ) -> None:
        super().__init__(layer, wanted, x, output)
        # Autograd keeps the statistics of the forward pass; asking for them copies nothing.
        made = output.grad_fn
        self._statistics: tuple[Tensor, Tensor] | None = None
        if made is not None and made.name() == "NativeGroupNormBackward0":
            # Detached: as autograd gives them they hold the whole pass, which holds this entry.
            mean, rate = made._saved_result1, made._saved_result2  # type: ignore[attr-defined]
            self._statistics = mean.detach(), rate.detach()

    def instances(self, g: Tensor, people: People) -> Instances:
        """See `Entry.instances`."""
        x, g = self.x, g.float()
        mean, rate = self._of_groups(x)
        with_x, alone = _channel_sums(g, x)
        channels = self.layer.num_channels // self.layer.num_groups
        mean, rate = (s.float().repeat_interleave(channels, 1) for s in (mean, rate))
        found: dict[Tensor, Tensor] = {}
        if self.layer.weight in self.wanted:
            # sum over places of g times (x - mean) rate.
            found[self.layer.weight] = people.sums(rate * (with_x - mean * alone))
        if self.layer.bias in self.wanted:
            found[self.layer.bias] = people.sums(alone)
        return found

    def _of_groups(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and 1 / deviation of each group: (n, groups)."""
        if self._statistics is not None:
            return self._statistics
        groups = x.reshape(len(x), self.layer.num_groups, -1)
        variance, mean = torch.var_mean(groups, dim=2, correction=0)
        return mean, torch.rsqrt(variance + self.layer.eps)


def _channel_sums(g: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over all places of g times x, and of g: both (n, channels)."""
    g, x = (t.flatten(2).transpose(1, 2) if t.ndim > 2 else t.unsqueeze(1) for t in (g, x))
    with_x = torch.empty(len(g), g.shape[2])
    at_once = max(1, _FLOATS_AT_ONCE // g[0].numel())
    product = torch.empty(at_once, *g.shape[1:])
    for low in range(0, len(g), at_once):  # the product of some rows stays in the cache
        some = g[low : low + at_once]
        torch.mul(some, x[low : low + at_once], out=product[: len(some)])
        torch.sum(product[: len(some)], 1, out=with_x[low : low + at_once])
    return with_x, g.sum(1)


class LayerNormEntry(InstancesEntry):
    """`torch.nn.LayerNorm`: scale and offset of each feature."""

    layer: nn.LayerNorm

    def instances(self, g: Tensor, people: People) -> Instances:
        """See `Entry.instances`."""
        shape, g = self.layer.normalized_shape, g.float()
        found: dict[Tensor, Tensor] = {}
        if self.layer.weight in self.wanted:
            normal = F.layer_norm(self.x, shape, None, None, self.layer.eps)
            found[self.layer.weight] = self._sums(g * normal, people)
        if self.layer.bias is not None and self.layer.bias in self.wanted:
            found[self.layer.bias] = self._sums(g, people)
        return found

    def _sums(self, x: Tensor, people: People) -> Tensor:
        return people.sums(x.reshape(len(x), -1, *self.layer.normalized_shape).sum(1))
