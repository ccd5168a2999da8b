"""Whether a model keeps people apart: one person's output and gradient must not depend on another's rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from opacus.validators import ModuleValidator
from torch import Tensor, nn

from privemo.dp.bookkeeping.uses import refuse_uses_outside
from privemo.errors import SettingsError

__all__ = ["probe", "refuse_layers_that_mix"]

_REMEDY = (
    "Use a layer that works on each row alone: GroupNorm or LayerNorm instead of batch statistics, attention "
    "within a picture (batch_first=True) instead of across the batch."
)


def refuse_layers_that_mix(model: nn.Module) -> None:
    """Refuse layers that Opacus knows to mix people, and those that overwrite what is kept of them.

    Raises:
        SettingsError: naming the layer and what to use instead.
    """
    for name, layer in model.named_modules():
        named = f"Layer {name or 'model'!r} ({type(layer).__name__})"
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            raise SettingsError(f"{named} mixes people: its statistics are the batch's. {_REMEDY}")
        validator = ModuleValidator.VALIDATORS.get(type(layer))
        problems = validator(layer) if validator is not None else []
        if problems:
            raise SettingsError(f"{named} mixes people or keeps statistics of them: {problems[0]}")
        if getattr(layer, "inplace", False) is True:
            raise SettingsError(
                f"{named} overwrites what the layer before it gave: set inplace=False."
            )


@torch.no_grad()
def probe(model: nn.Module, shape: torch.Size) -> None:
    """Change the second of three random pictures; the outputs of the first and third must stay.

    Catches what no list of types can: attention over the batch, centring on the batch, sorting. And what no
    gradient of a person would cover: a parameter that is used outside its layer, a layer in a checkpoint.

    Args:
        model: in training mode; its random state (dropout) is the same in both passes.
        shape: of one picture, (channels, height, width).

    Raises:
        SettingsError: naming the innermost layer that mixes rows, that writes down something of them, or that
            gives no finite number; naming a parameter that is used outside its layer, or a layer in a
            checkpoint; or the model reads no pictures of that shape.
    """
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(3, *shape, generator=generator)
    other = one.clone()
    other[1] = 2 * torch.randn(shape, generator=generator) + 1
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with refuse_uses_outside(model):
        before = _outer_rows(model, one)
    after = _outer_rows(model, other)
    changed = [n for n, b in model.named_buffers() if not torch.equal(kept[n], b)]
    for name, buffer in model.named_buffers():
        buffer.detach_().copy_(kept[name])
    for name, outer in before.items():
        again = after.get(name)
        if not bool(outer.isfinite().all()):
            layer = model.get_submodule(name)
            raise SettingsError(
                f"Layer {name or 'model'!r} ({type(layer).__name__}) gives no finite number for a random "
                "picture: its weights are broken or far too large."
            )
        if again is None or not torch.allclose(outer, again, rtol=1e-4, atol=1e-5):
            layer = model.get_submodule(name)
            raise SettingsError(
                f"Layer {name or 'model'!r} ({type(layer).__name__}) mixes people: the output of one row "
                f"depends on another row. {_REMEDY}"
            )
    if changed:
        raise SettingsError(
            f"Buffer {changed[0]!r} changes with the pictures, and no noise covers it. {_REMEDY}"
        )


def _outer_rows(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """First and third row of what each layer gave, by name, in the order in which they finished."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_layer: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim and len(output) == len(images):
                found[name] = output.detach()[::2].float()

        return hook

    handles = [layer.register_forward_hook(keep(name)) for name, layer in model.named_modules()]
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model(images)
    except RuntimeError as error:
        shape = "x".join(map(str, images.shape[1:]))
        raise SettingsError(
            f"The model does not read pictures of shape {shape}: {str(error).splitlines()[0]}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return found
