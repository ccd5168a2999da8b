"""Uses of a trained parameter that no hook on a layer sees, and calls of a layer that come again later."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from privemo.dp.bookkeeping.fallback import FallbackEntry
from privemo.dp.bookkeeping.kinds import kind_of
from privemo.errors import SettingsError

__all__ = ["refuse_checkpoint", "refuse_uses_outside"]

_CHECKPOINT = "torch.utils.checkpoint"


@contextmanager
def refuse_uses_outside(model: nn.Module) -> Iterator[None]:
    """Refuse what the model's forward pass in here does with a parameter outside the layer that owns it.

    A layer's gradient is made of what went into it and what flowed back; a call such as
    `F.linear(x, self.first.weight)` has a part in the weight's gradient that nobody would find.

    Raises:
        SettingsError: naming the parameter and both layers.
    """
    running: list[nn.Module] = [model]
    silent: list[nn.Module] = []  # ran without gradients
    names = {layer: name for name, layer in model.named_modules()}

    def enter(layer: nn.Module, _inputs: Any) -> None:
        running.append(layer)
        if any(p.requires_grad for p in layer.parameters(recurse=False)):
            refuse_checkpoint(names[layer], layer)
            if not torch.is_grad_enabled():
                silent.append(layer)

    def leave(layer: nn.Module, _inputs: Any, output: Any) -> None:
        running.pop()
        if layer is model and silent and isinstance(output, Tensor):
            refuse_checkpoint(names[silent[0]], silent[0], output)

    handles = [layer.register_forward_pre_hook(enter) for layer in names]
    handles += [layer.register_forward_hook(leave) for layer in names]
    try:
        with _Watch(model, running), torch.enable_grad():
            yield
    finally:
        for handle in handles:
            handle.remove()


class _Watch(TorchFunctionMode):
    """Sees every call of torch; those whose result has a gradient count as a use of what they are given."""

    def __init__(self, model: nn.Module, running: list[nn.Module]) -> None:
        super().__init__()
        self._names: dict[Tensor, str] = {
            p: name for name, p in model.named_parameters() if p.requires_grad
        }
        self._layers = {layer: name or "model" for name, layer in model.named_modules()}
        self._running = running

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        used = [x for x in _tensors((args, kwargs)) if x in self._names]
        if used and any(x.requires_grad and x not in self._names for x in _tensors(result)):
            for p in used:
                self._check(p, getattr(func, "__name__", str(func)))
        return result

    def _check(self, parameter: Tensor, what: str) -> None:
        inner = self._running[-1]
        for layer in self._running:
            own = list(layer.parameters(recurse=False))
            # A layer that falls back is followed with all that is inside it.
            if kind_of(layer) is FallbackEntry and any(p in self._names for p in own):
                own = list(layer.parameters())
            if any(p is parameter for p in own):
                return
        raise SettingsError(
            f"Parameter {self._names[parameter]!r} is used by {what} in layer {self._layers[inner]!r} "
            f"({type(inner).__name__}), outside the layer that owns it, where no person's gradient would "
            "cover it. Call that layer itself, or a second layer that shares the parameter."
        )


def _tensors(found: Any) -> Iterator[Tensor]:
    """All tensors in nested tuples, lists and dictionaries."""
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, (tuple, list)):
        for one in found:
            yield from _tensors(one)
    elif isinstance(found, dict):
        yield from _tensors(list(found.values()))


def refuse_checkpoint(name: str, layer: nn.Module, output: Tensor | None = None) -> None:
    """Refuse a layer that runs now, and once more in the backward pass.

    Args:
        name: of the layer.
        layer: which is running; or which ran without gradients, as it does in a reentrant checkpoint.
        output: of the whole model, in the latter case.

    Raises:
        SettingsError: naming the layer and what to do instead.
    """
    if output is None:
        hooks = torch._C._autograd._top_saved_tensors_default_hooks(False)
        found = hooks is not None and getattr(hooks[0], "__module__", "") == _CHECKPOINT
    else:
        found = _holds(output, "CheckpointFunctionBackward")
    if found:
        raise SettingsError(
            f"Layer {name or 'model'!r} ({type(layer).__name__}) is in a checkpoint of torch, which runs it "
            "a second time in the backward pass: take the checkpoint out. It would spare little memory, "
            "since what each layer read is kept in any case; smaller parts of people do."
        )


def _holds(output: Tensor, node: str) -> bool:
    """Whether a node of that name is in the graph of a tensor."""
    waiting = [output.grad_fn]
    seen: set[object] = set()
    while waiting:
        one = waiting.pop()
        if one is None or one in seen:
            continue
        if one.name() == node:
            return True
        seen.add(one)
        waiting.extend(before for before, _ in one.next_functions)
    return False
