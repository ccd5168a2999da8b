"""Book-keeping of 2-d convolutions, with plain and with standardised weights."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from privemo.dp.bookkeeping.layer import (
    ROUNDING,
    Entry,
    Instances,
    in_float32,
    squares,
    weighted,
)
from privemo.dp.bookkeeping.patches import Geometry, person_gradients, person_squares
from privemo.dp.bookkeeping.people import Block, People
from privemo.models.layers import WSConv2d

__all__ = ["ConvEntry", "WSConvEntry"]


class ConvEntry(Entry):
    """`torch.nn.Conv2d` with any stride, padding, dilation and groups.

    A person's norm comes from their gradient G, which then stays for the sum, or from the ghost identity
    where that takes fewer products: T (p + d) < p d for T places, p weights of a channel and d channels (Bu
    et al. 2022, arXiv 2210.00038). T counts the places of all pictures of the person.
    """

    layer: nn.Conv2d
    _gradients: Tensor | None = None  # of the people after those with a ghost norm
    _bias: Tensor | None = None

    def receive(self, g: Tensor, people: People) -> Tensor:
        """See `Entry.receive`."""
        self._open(g, people)
        total = torch.zeros(len(people), dtype=torch.float64)
        if self.layer.weight in self.wanted:
            # Blocks come with rising rows a person, so the ghost's are first and in one piece.
            ghosts = [b for b in people.blocks if self._ghost_is_cheaper(b.each)]
            self._ghost_people = ghosts[-1].people.stop if ghosts else 0
            self._ghost_rows = ghosts[-1].rows.stop if ghosts else 0
            for block in ghosts:
                total[block.people] = self._ghost_squares(block)
            if self._ghost_people < len(people):
                self._gradients = self._of_people(self._ghost_people)
                total[self._ghost_people :] = torch.cat(
                    [self._squares_of(some) for _, some in in_float32(self._gradients)]
                )
        if self.layer.bias is not None and self.layer.bias in self.wanted:
            self._bias = people.sums(self._g.sum((2, 3), dtype=torch.float32))
            total += squares([self._bias], len(people))
        if self._gradients is not None and not self._ghost_people:
            del self._a, self._g, self._x
        return total

    def instances(self, g: Tensor, people: People) -> Instances:
        """See `Entry.instances`."""
        self._open(g, people)
        found: dict[Tensor, Tensor] = {}
        if self.layer.weight in self.wanted:
            found[self.layer.weight] = self._to_raw(_as_weights(self._of_people(0).float()))
        if self.layer.bias is not None and self.layer.bias in self.wanted:
            found[self.layer.bias] = people.sums(self._g.sum((2, 3), dtype=torch.float32))
        return found

    def summed(self, coefficient: Tensor, broken: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Entry.summed`."""
        if self.layer.weight in self.wanted:
            total = torch.zeros_like(self.layer.weight)
            if self._gradients is not None:
                rest = None if broken is None else broken[self._ghost_people :]
                total += _as_weights(
                    weighted(self._gradients, coefficient[self._ghost_people :], rest)
                )
            if self._ghost_people:
                total += self._reweighted(coefficient, broken)
            yield self.layer.weight, self._to_raw(total.unsqueeze(0)).squeeze(0)
        if self._bias is not None and self.layer.bias is not None:
            yield self.layer.bias, weighted(self._bias, coefficient, broken)

    def _open(self, g: Tensor, people: People) -> None:
        self._people = people
        # A layer that computed in bfloat16 read its input so, and its gradients are made so. What is measured
        # and summed are those very gradients, so rounding them loosens no bound.
        dtype = torch.bfloat16 if g.dtype == torch.bfloat16 else torch.float32
        self._g = g.to(dtype)
        self._geometry, self._a = Geometry.of(self.layer, self.kept.to(dtype))

    def _of_people(self, first: int) -> Tensor:
        """G of each person from position `first` on, in the numbers that the layer computed in."""
        weight = self.layer.weight.detach().to(self._a.dtype)
        return person_gradients(self._geometry, self._a, self._g, weight, self._people, first)

    def _reweighted(self, coefficient: Tensor, broken: Tensor | None) -> Tensor:
        """One weight gradient for all whose norm came from the ghost identity."""
        rows = slice(0, self._ghost_rows)
        a, g = self._a[rows].float(), self._g[rows].float()
        if broken is not None:
            whole = ~self._people.spread(broken)[rows].view(-1, 1, 1, 1)
            a, g = torch.where(whole, a, 0.0), torch.where(whole, g, 0.0)
        g = g * self._people.spread(coefficient)[rows].view(-1, 1, 1, 1)
        return self._geometry.gradient(a, g, self.layer.weight.detach())

    def _ghost_is_cheaper(self, each: int) -> bool:
        fan_in = self.layer.weight[0].numel()
        fan_out = self.layer.out_channels // self.layer.groups
        places = each * self._g[0, 0].numel()
        return places * (fan_in + fan_out) < fan_in * fan_out

    def _ghost_squares(self, block: Block) -> Tensor:
        a, g = self._a[block.rows].float(), self._g[block.rows].float()
        return person_squares(self._geometry, a, g, block)

    def _squares_of(self, gradients: Tensor) -> Tensor:
        """Squared norms of what G, channels last, becomes for the parameters."""
        return squares([gradients], len(gradients))

    def _to_raw(self, gradients: Tensor) -> Tensor:
        """From gradients of the weights as used, (n, *weight), to those of the parameters."""
        return gradients


def _as_weights(x: Tensor) -> Tensor:
    """From channels last (..., out, kh, kw, channels) to the order of weights."""
    return x.movedim(-1, -3)


class WSConvEntry(ConvEntry):
    """`privemo.models.WSConv2d`: the gradient goes on through the standardisation.

    With centred weights c = w - mean(w), r = (|c|^2 + eps)^-1/2 and v = r c of one output channel, the
    gradient G of v becomes r (G - mean(G) - v <G, v>), since dv = r dc - r^3 c <c, dc>. Its squared norm is
    r^2 (|G|^2 - sum(G)^2 / p - (2 - |v|^2) <G, v>^2 + 2 sum(G) <G, v> <v, 1> / p), p being the weights of a
    channel. <v, 1> would be 0 if nothing were rounded; but a server may send weights that lie so close
    together that what is left of them after the mean is mostly rounding.
    """

    layer: WSConv2d

    def __init__(
        self, layer: WSConv2d, wanted: frozenset[Tensor], x: Tensor, output: Tensor
    ) -> None:
        super().__init__(layer, wanted, x, output)
        self._output = output.detach(), output._version

    def _open(self, g: Tensor, people: People) -> None:
        super()._open(g, people)
        weight = self.layer.weight.detach()
        variance = torch.var(weight, dim=(1, 2, 3), keepdim=True, correction=0)
        self._rate = torch.rsqrt(weight[0].numel() * variance + self.layer.eps)
        self._used = self.layer.standardised().detach()

    def receive(self, g: Tensor, people: People) -> Tensor:
        """See `Entry.receive`."""
        found = super().receive(g, people)
        del self._output  # the pass gives memory back as it goes, and so does this
        return found

    def _to_raw(self, gradients: Tensor) -> Tensor:
        along = (gradients * self._used).sum((2, 3, 4), keepdim=True)
        mean = gradients.mean((2, 3, 4), keepdim=True)
        return self._rate * (gradients - mean - self._used * along)

    def _squares_of(self, gradients: Tensor) -> Tensor:
        flat = gradients.flatten(2)
        whole = torch.linalg.vector_norm(flat, dim=2).double().square()
        # einsum("nop,opk->nok"), k being the weights and ones.
        used = self._used.permute(0, 2, 3, 1).flatten(1)
        onto = torch.stack([used, torch.ones_like(used)], 2)
        along, total = torch.bmm(flat.transpose(0, 1), onto).transpose(0, 1).unbind(2)
        return self._squares(whole, along, total)

    def _squares(self, whole: Tensor, along: Tensor, total: Tensor) -> Tensor:
        """Squared norm from |G|^2, <G, v> and sum(G) of each channel, all (people, channels)."""
        fan_in = self._used[0].numel()
        used, along, total = self._used.double(), along.double(), total.double()
        length, rest = used.square().sum((1, 2, 3)), used.sum((1, 2, 3))
        terms = (
            -total.square() / fan_in,
            -2 * along.square(),
            length * along.square(),
            2 * total * along * rest / fan_in,
        )
        size = whole + torch.stack([term.abs() for term in terms]).sum(0)
        raw = whole + torch.stack(terms).sum(0) + ROUNDING * size
        return (raw * self._rate.flatten().double().square()).sum(1)

    def _ghost_squares(self, block: Block) -> Tensor:
        a, g = self._a[block.rows].float(), self._g[block.rows].float()
        groups = self.layer.groups
        # Sum of each patch: a convolution with ones, of the sum over the channels of a group.
        ones = torch.ones_like(self._used[:groups, :1])
        patches = self._geometry.convolve(torch.unflatten(a, 1, (groups, -1)).sum(2), ones)
        patches = patches.repeat_interleave(self.layer.out_channels // groups, 1)
        along, total = (
            torch.unflatten((g * x).sum((2, 3)), 0, (-1, block.each)).sum(1)
            for x in (self._without_bias(block, a), patches)
        )
        scaled = g * self._rate.view(1, -1, 1, 1)
        whole = person_squares(self._geometry, a, scaled, block)
        return whole + self._squares(torch.zeros_like(total).double(), along, total)

    def _without_bias(self, block: Block, a: Tensor) -> Tensor:
        """What the layer gave before the bias; computed anew where it was rounded or overwritten."""
        output, version = self._output
        if output.dtype != torch.float32 or output._version != version:
            return self._geometry.convolve(a, self._used)
        if self.layer.bias is None:
            return output[block.rows]
        bias = self.layer.bias.detach()
        found = output[block.rows] - bias.view(1, -1, 1, 1)
        # Row by row, since a person's clip must not hang on who else is there.
        loud = ~self._quiet(bias, a)
        if bool(loud.any()):
            found[loud] = self._geometry.convolve(a[loud], self._used)
        return found

    def _quiet(self, bias: Tensor, a: Tensor) -> Tensor:
        """Rows in which the bias took no digits along that the convolution had kept: bool (n,).

        A convolution is rounded in proportion to the length of the patch that it read. The brightest pixel of
        a patch is no longer than the patch; each one's must be above the bias. NaN is not.
        """
        groups, kernel, (high, wide) = (
            self.layer.groups,
            self._geometry.kernel,
            self._geometry.padding,
        )
        pixels = torch.linalg.vector_norm(torch.unflatten(a, 1, (groups, -1)), dim=2)
        pixels = F.pad(pixels, [wide, wide, high, high])
        dilation, stride = self._geometry.dilation, self._geometry.stride
        patches = F.max_pool2d(pixels, kernel, stride, 0, dilation).amin((2, 3))
        loudest = bias.abs().view(groups, -1).amax(1)
        return ((loudest < patches) | (loudest == 0)).all(1)
