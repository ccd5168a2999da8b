"""Clipped sums over people are those of the definition, whatever the net and however people are cut."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from privemo.dp import PersonBatch
from privemo.dp.bookkeeping import patches
from privemo.models.layers import WSConv2d
from tests.support.people import (
    clipped_sum,
    distance,
    naive_clipped_sum,
    people,
    person_gradient,
)

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")

SIDE = 8
SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=6)
CLIPS = st.floats(0.01, 10.0)
SEEDS = st.integers(0, 2**20)


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    stride = draw(st.integers(1, 2))
    return {
        "kind": draw(st.sampled_from([nn.Conv2d, WSConv2d])),
        "kernel_size": draw(st.sampled_from([1, 2, 3, (3, 2)])),
        "stride": stride,
        "padding": draw(st.sampled_from([0, 1, (1, 2)] + ["same"] * (stride == 1))),
        "padding_mode": draw(st.sampled_from(["zeros", "zeros", "reflect"])),
        "dilation": draw(st.integers(1, 2)),
        "groups": draw(st.sampled_from([1, 1, 2, 4])),
        "bias": draw(st.booleans()),
        "width": draw(st.sampled_from([4, 8, 24])),
    }


@st.composite
def nets(draw: st.DrawFn) -> nn.Module:
    """Some convolutions, normalised or not, and a head. Smooth: at a kink float32 and float64 part ways."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw(SEEDS))
        layers: list[nn.Module] = []
        wide = 4
        for conv in draw(st.lists(convolutions(), min_size=1, max_size=3)):
            width, kind = conv.pop("width"), conv.pop("kind")
            layer = kind(wide, width, **conv)
            if layer.weight[0].numel() < 8:
                # Standardising so few weights leaves next to nothing of a gradient but rounding.
                layer = nn.Conv2d(wide, width, **conv)
            layers += [nn.AdaptiveAvgPool2d(SIDE), layer]
            layers += [nn.GroupNorm(draw(st.sampled_from([1, 2, 4])), width)] * draw(st.booleans())
            layers.append(nn.Tanh())
            wide = width
        hidden = draw(st.sampled_from([3, 40]))
        layers += [nn.AdaptiveAvgPool2d(draw(st.sampled_from([1, 3]))), nn.Flatten(2)]
        # (n, channels, places): a linear layer with a dimension more.
        layers += [nn.LazyLinear(5), nn.Flatten(), nn.LazyLinear(hidden)]
        layers += [nn.LayerNorm(hidden)] * draw(st.booleans())
        layers += [nn.Tanh(), nn.Linear(hidden, 4)]
        net = nn.Sequential(*layers)
        net(torch.zeros(1, 4, SIDE, SIDE))  # the lazy layers see their sizes
        # A fresh norm layer's scale is 1 and its offset 0, which would hide a mistake.
        with torch.no_grad():
            for p in net.parameters():
                p.add_(0.1 * torch.randn_like(p))
        return net


def batch(sizes: list[int], seed: int) -> PersonBatch:
    return people(sizes, seed, size=SIDE, channels=4)


@contextmanager
def fused_from(places: int) -> Iterator[None]:
    """People with so many places go through the fused kernel; in training, more than these nets have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patches, "_FUSED_FROM", dict.fromkeys(patches._FUSED_FROM, places))
        yield


@settings(max_examples=40, deadline=None)
@given(net=nets(), sizes=SIZES, clip=CLIPS, seed=SEEDS, fused=st.sampled_from([1, 100, 10**6]))
def test_the_clipped_sum_equals_the_naive_loop(
    net: nn.Module, sizes: list[int], clip: float, seed: int, fused: int
) -> None:
    drawn = batch(sizes, seed)
    with fused_from(fused):
        ours = clipped_sum(net, [drawn], clip)
    assert distance(ours, naive_clipped_sum(net, drawn, clip)) < 1e-5


@settings(max_examples=15, deadline=None)
@given(net=nets(), sizes=SIZES, clip=CLIPS, seed=SEEDS, data=st.data())
def test_virtual_batches_cut_in_any_way_give_the_same_sum(
    net: nn.Module, sizes: list[int], clip: float, seed: int, data: st.DataObject
) -> None:
    whole = batch(sizes, seed)
    part = data.draw(st.lists(st.integers(0, 2), min_size=len(sizes), max_size=len(sizes)))
    parts = []
    for k in sorted(set(part)):
        mine = [i for i, p in enumerate(part) if p == k]
        rows = torch.isin(whole.owner, torch.tensor(mine))
        owner = torch.unique(whole.owner[rows], return_inverse=True)[1]
        parts.append(PersonBatch(whole.images[rows], whole.labels[rows], owner, len(mine)))
    assert distance(clipped_sum(net, parts, clip), clipped_sum(net, [whole], clip)) < 1e-5


@settings(max_examples=15, deadline=None)
@given(net=nets(), sizes=SIZES, seed=SEEDS, broken=st.sampled_from([math.nan, math.inf, -math.inf]))
def test_a_broken_picture_is_bounded_to_its_person(
    net: nn.Module, sizes: list[int], seed: int, broken: float
) -> None:
    healthy = batch(sizes, seed)
    bad = batch([*sizes, 2], seed)
    images = torch.cat([healthy.images, bad.images[-2:]])
    images[-1] = broken
    labels = torch.cat([healthy.labels, bad.labels[-2:]])
    ours = clipped_sum(net, [PersonBatch(images, labels, bad.owner, bad.people)], 0.5)
    assert all(bool(s.isfinite().all()) for s in ours)
    assert distance(ours, clipped_sum(net, [healthy], 0.5)) < 1e-5


@settings(max_examples=25, deadline=None)
@given(
    net=nets(),
    images=st.integers(1, 9),
    loud=st.sampled_from([1.0, 100.0]),
    seed=SEEDS,
    fused=st.sampled_from([1, 10**6]),
)
def test_a_norm_is_never_found_too_short(
    net: nn.Module, images: int, loud: float, seed: int, fused: int
) -> None:
    """One person's contribution, scaled as found, is at most the clip in float64: to 1e-6 of it."""
    one = batch([images], seed)
    one = PersonBatch(one.images * loud, one.labels, one.owner, 1)
    clip = 1e-3
    with fused_from(fused):
        ours = clipped_sum(net, [one], clip)
    truth = person_gradient(net.double(), one, 0)
    net.float()
    length = math.sqrt(sum(float((g**2).sum()) for g in truth))
    # Along the true gradient, so that the error of its direction is not counted as length.
    along = sum(float((a.double() * b).sum()) for a, b in zip(ours, truth, strict=True)) / length
    assert along <= clip * (1 + 1e-6)
    assert along >= min(clip, length) * (1 - 1e-5)
