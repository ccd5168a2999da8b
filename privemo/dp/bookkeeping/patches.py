"""Sums over the patches that a convolution's kernel saw, by person.

For output channel o and kernel place p the gradient of one person is G[o,p] = sum_t g[t,o] a[t,p] over the T
places of all their pictures, a being the patches and g the gradients of the outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from privemo.dp.bookkeeping.layer import ROUNDING
from privemo.dp.bookkeeping.people import Block, People

__all__ = ["Geometry", "person_gradients", "person_squares", "safe_pair_sum"]

_FUSED_FROM = {torch.float32: 2304, torch.bfloat16: 400}
"""Places of a person from which the fused kernel, called for each, beats products of all people's patches."""

_FLOATS_AT_ONCE = 1 << 19  # of patches or Gram matrices: what the cache of a core keeps


@dataclass(frozen=True)
class Geometry:
    """How a kernel moves: pairs are (vertical, horizontal).

    Attributes:
        kernel: places of the kernel.
        stride: places from one patch to the next.
        dilation: places from one kernel place to the next.
        padding: zeros around the input.
        groups: into which channels are parted.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int]
    groups: int

    @classmethod
    def of(cls, layer: nn.Conv2d, x: Tensor) -> tuple[Geometry, Tensor]:
        """That of a layer, and its input, padded already where the padding is not zeros of equal width."""
        padding = layer.padding
        if isinstance(padding, str) or layer.padding_mode != "zeros":
            mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
            x = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
            padding = (0, 0)
        kernel, stride, dilation = layer.kernel_size, layer.stride, layer.dilation
        return cls(
            (kernel[0], kernel[1]),
            (stride[0], stride[1]),
            (dilation[0], dilation[1]),
            (int(padding[0]), int(padding[1])),
            layer.groups,
        ), x

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """The convolution itself, with no bias."""
        return F.conv2d(x, weight, None, self.stride, self.padding, self.dilation, self.groups)

    def gradient(self, a: Tensor, g: Tensor, weight: Tensor) -> Tensor:
        """Gradient of the weights over all rows together, by the fused kernel that plain training uses.

        A kernel of one place that skips places is given those it sees: with them all, torch 2.13's kernel for
        channels last gives wrong sums on two threads, or writes past its memory
        (`test_a_kernel_of_one_place_that_skips_places_is_exact`).
        """
        stride, padding = self.stride, self.padding
        if self.kernel == (1, 1) and stride != (1, 1):
            (high, wide), (step_y, step_x) = padding, stride
            a = F.pad(a, [wide, wide, high, high])[:, :, ::step_y, ::step_x]
            a = a.contiguous(memory_format=torch.channels_last)
            stride, padding = (1, 1), (0, 0)
        found: Tensor = torch.ops.aten.convolution_backward(
            g,
            a,
            weight,
            None,
            stride,
            padding,
            self.dilation,
            False,
            [0, 0],
            self.groups,
            [False, True, False],
        )[1]
        return found

    def pad(self, a: Tensor) -> Tensor:
        """Zeros around (n, height, width, channels)."""
        (high, wide) = self.padding
        return F.pad(a, [0, 0, wide, wide, high, high])

    def patches(self, a: Tensor, high: int, wide: int) -> Tensor:
        """A view of padded (n, h, w, channels): (n, `high`, `wide`, *kernel, channels)."""
        n, y, x, c = a.stride()
        (step_y, step_x), (apart_y, apart_x) = self.stride, self.dilation
        strides = (n, step_y * y, step_x * x, apart_y * y, apart_x * x, c)
        return a.as_strided((len(a), high, wide, *self.kernel, a.shape[3]), strides)


def person_gradients(
    geometry: Geometry, a: Tensor, g: Tensor, weight: Tensor, people: People, first: int
) -> Tensor:
    """G of each person from position `first` on.

    Args:
        geometry: of the layer.
        a: what went in, (n, channels, height, width).
        g: gradient of what came out, (n, out, height', width'), of the same type.
        weight: of the layer, likewise; only its shape counts.
        people: whose rows are which.
        first: people before it are left out.

    Returns:
        (people - first, out, kernel height, kernel width, channels of a group), of the type of `a`: channels
        last, as patches are copied fastest.
    """
    g = g.contiguous(memory_format=torch.channels_last)
    channels = a.shape[1] // geometry.groups
    out = a.new_empty(len(people) - first, g.shape[1], *geometry.kernel, channels)
    few = []
    for block in people.blocks:
        if block.each * g[0, 0].numel() < _FUSED_FROM[a.dtype]:
            few.append(block)
            continue
        for i in range(max(first, block.people.start), block.people.stop):
            rows = slice(people.bounds[i], people.bounds[i + 1])
            out[i - first] = geometry.gradient(a[rows], g[rows], weight).permute(0, 2, 3, 1)
    _by_patches(geometry, a.permute(0, 2, 3, 1), g.permute(0, 2, 3, 1), people, few, first, out)
    return out


def _by_patches(
    geometry: Geometry,
    a: Tensor,
    g: Tensor,
    people: People,
    blocks: Sequence[Block],
    first: int,
    out: Tensor,
) -> None:
    """`person_gradients` of the people of some blocks, into `out`; pictures are channels last."""
    row = g[0, :, :, 0].numel() * out[0, 0].numel() * geometry.groups  # floats of a row's patches
    for block in blocks:
        # A product for each thread, of as many rows as its cache keeps the patches of.
        together = min(block.each, max(1, _FLOATS_AT_ONCE // row))
        at_once = max(1, _FLOATS_AT_ONCE // (row * together)) * torch.get_num_threads()
        room = a.new_empty(at_once * together * row)
        for low in range(max(first, block.people.start), block.people.stop, at_once):
            high = min(low + at_once, block.people.stop)
            rows = slice(people.bounds[low], people.bounds[high])
            some_a, some_g = (torch.unflatten(x[rows], 0, (-1, block.each)) for x in (a, g))
            for j in range(0, block.each, together):
                part = slice(j, j + together)
                into = out[low - first : high - first]
                _products(geometry, some_a[:, part], some_g[:, part], room, into, add=j > 0)


def _products(
    geometry: Geometry, a: Tensor, g: Tensor, room: Tensor, out: Tensor, *, add: bool
) -> None:
    """einsum("nto,ntp->nop") of people in each group, T being the places of all their rows.

    Args:
        geometry: of the layer.
        a: (people, rows of each, height, width, channels).
        g: (people, rows of each, height', width', out).
        room: for the patches.
        out: (people, out, *kernel, channels of a group), written to, or added to.
        add: which.
    """
    groups, (people, each, high, wide, fan_out) = geometry.groups, g.shape
    seen = geometry.patches(geometry.pad(a.flatten(0, 1)).contiguous(), high, wide)
    # (n, h, w, *kernel, channels) to (people, groups, each, h, w, *kernel, channels of a group).
    seen = torch.unflatten(torch.unflatten(seen, 5, (groups, -1)), 0, (people, each))
    seen = seen.permute(0, 6, 1, 2, 3, 4, 5, 7)
    copied = room[: seen.numel()].view(seen.shape)
    copied.copy_(seen)
    patches = copied.view(people * groups, each * high * wide, -1)
    flowed = torch.unflatten(g, 4, (groups, -1)).permute(0, 4, 5, 1, 2, 3)
    flowed = flowed.reshape(people * groups, fan_out // groups, each * high * wide)
    into = out.view(people * groups, fan_out // groups, -1)
    if add:
        torch.baddbmm(into, flowed, patches, out=into)
    else:
        torch.bmm(flowed, patches, out=into)


def person_squares(geometry: Geometry, a: Tensor, g: Tensor, block: Block) -> Tensor:
    """|G|^2 of each person of a block, with no G: sum_ts <a[t],a[s]> <g[t],g[s]>, float64 (people,).

    Args:
        geometry: of the layer.
        a: what went in, the block's rows only, (n, channels, height, width).
        g: gradient of what came out, likewise, (n, out, height', width').
        block: whose rows these are.
    """
    groups = geometry.groups
    both = (geometry.pad(a.permute(0, 2, 3, 1)), g.permute(0, 2, 3, 1))
    a, g = (torch.unflatten(torch.unflatten(x, 3, (groups, -1)), 0, (-1, block.each)) for x in both)
    floats = a[0, ..., 0, 0].numel() ** 2 * groups
    at_once = max(1, _FLOATS_AT_ONCE // floats)
    parts = zip(torch.split(a, at_once), torch.split(g, at_once), strict=True)
    return torch.cat([_pair_sums(geometry, some_a, some_g) for some_a, some_g in parts])


def _pair_sums(geometry: Geometry, a: Tensor, g: Tensor) -> Tensor:
    """As `person_squares`, from (people, each, height, width, groups, channels of a group).

    The inner product of two patches is a sum over kernel places of inner products of *pixels*. So the Gram
    matrix is made of pixels, a kernel's size fewer numbers, and added up along its diagonals.
    """
    pixels, outputs = _gram(a), _gram(g)
    (step_y, step_x), (apart_y, apart_x) = geometry.stride, geometry.dilation
    high, wide = g.shape[2:4]
    patches = torch.zeros_like(outputs)
    for i in range(geometry.kernel[0]):
        y = slice(i * apart_y, i * apart_y + step_y * (high - 1) + 1, step_y)
        for j in range(geometry.kernel[1]):
            x = slice(j * apart_x, j * apart_x + step_x * (wide - 1) + 1, step_x)
            patches += pixels[:, :, :, y, x, :, y, x]
    return safe_pair_sum(patches.flatten(1), outputs.flatten(1))


def safe_pair_sum(a: Tensor, g: Tensor) -> Tensor:
    """Inner products of rows of two Gram matrices, (people, n) each, or a little more: float64 (people,)."""
    size = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(g, dim=1)
    product = torch.linalg.vecdot(a, g)
    found: Tensor = product.double() + ROUNDING * size.double()
    return found


def _gram(x: Tensor) -> Tensor:
    """Inner products over channels: (people, groups, each, h, w, each, h, w)."""
    flat = x.permute(0, 4, 1, 2, 3, 5).flatten(2, 4)
    return (flat @ flat.transpose(2, 3)).view(
        *x.shape[:1], x.shape[4], *x.shape[1:4], *x.shape[1:4]
    )
