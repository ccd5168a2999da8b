"""Which layers the book-keeping follows, and how."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Set

from torch import nn

from privemo.dp.bookkeeping.conv import ConvEntry, WSConvEntry
from privemo.dp.bookkeeping.dense import GroupNormEntry, LayerNormEntry, LinearEntry
from privemo.dp.bookkeeping.fallback import FallbackEntry, FallbackWarning, is_registered
from privemo.dp.bookkeeping.layer import Entry
from privemo.errors import SettingsError
from privemo.models.layers import WSConv2d

__all__ = ["kind_of", "trained_layers"]

_ENTRIES: dict[type[nn.Module], type[Entry]] = {
    nn.Conv2d: ConvEntry,
    WSConv2d: WSConvEntry,
    nn.Linear: LinearEntry,
    nn.GroupNorm: GroupNormEntry,
    nn.LayerNorm: LayerNormEntry,
}
"""By exact type: a subclass may compute something else."""


def kind_of(layer: nn.Module) -> type[Entry]:
    """How a layer that owns trained parameters is followed."""
    return _ENTRIES.get(type(layer), FallbackEntry)


def trained_layers(
    model: nn.Module, trained: Set[nn.Parameter]
) -> Iterator[tuple[str, nn.Module, type[Entry]]]:
    """The layers that own trained parameters, each once, however many parents have it.

    A layer that falls back owns what is inside it too; what of that is called from outside as well is a layer
    of its own.

    Raises:
        SettingsError: a known layer has trained parameters that its kind has not.
    """
    seen: set[nn.Module] = set()
    waiting = [("", model)]
    while waiting:
        name, layer = waiting.pop()
        if layer in seen:
            continue
        seen.add(layer)
        own = {n for n, p in layer.named_parameters(recurse=False) if p in trained}
        if own:
            kind = kind_of(layer)
            yield name, layer, kind
            if kind is FallbackEntry:
                _warn(name, layer)
                continue
            if own - {"weight", "bias"}:
                raise SettingsError(
                    f"Layer {name or 'model'!r} ({type(layer).__name__}) has trained parameters of its own "
                    f"making ({', '.join(sorted(own - {'weight', 'bias'}))}), which no person's gradient "
                    "would cover: take off what reparametrises it (weight_norm, spectral_norm)."
                )
        children = [(f"{name}.{n}".lstrip("."), child) for n, child in layer.named_children()]
        waiting.extend(reversed(children))


def _warn(name: str, layer: nn.Module) -> None:
    how = "Opacus's rule" if is_registered(layer) else "functorch"
    warnings.warn(
        f"Layer {name or 'model'!r} ({type(layer).__name__}) is unknown to the book-keeping: its "
        f"gradients are made row by row with {how}, exact but slower, with one copy of its "
        f"{sum(p.numel() for p in layer.parameters()):,} parameters for each row.",
        FallbackWarning,
        stacklevel=3,
    )
