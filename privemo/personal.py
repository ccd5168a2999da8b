"""Layers that stay in their store: its own head, or its own normalisation.

Stores that see other people, in other light, may be served better by a model of which a part is theirs. Two
parts are offered: the *head*, the last linear layer (FedPer, Arivazhagan et al. 2019, arXiv 1912.00818), and
the *normalisation*, scale and shift of every group norm (as FedBN does with batch norm, Li et al. 2021, arXiv
2102.07623).

What that means for privacy: a store takes the same clipped and noised steps as ever, on the whole network,
and the part that is its own is made by them too. So one epsilon covers both, the budget is the same, and it
holds against whoever reads the store's disk as well; the server does not get that part at all. Training it
without noise, because it stays, would break the promise for the rest: the gradients of the shared layers,
which do leave, hang on it.

| edge case | what happens |
|---|---|
| the first round, or a store that lost `personal/` | it goes by what the run began with |
| a run that keeps no layers in its stores | nothing is read, whatever lies in `personal/` |
| layers of an earlier run, also of the same network | kept in a folder of their own, never read in this run |
| files of an old version, loose in `personal/`, of nobody knows which run | left there, and never read |
| a round that the store was not asked in | the next one goes on from the last that it trained |
| a file that is damaged, or holds other layers than the run keeps | the store stops and names it; it stays |
| a round breaks off before it is in the ledger | it was not trained: the next goes on from the one before |
| it breaks off after that, at whatever moment | it was trained: the next goes on from there |
| a file of a round that the ledger does not know, as older versions left them | never read |
| the whole network would be a store's own, or nothing | refused |
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import nn

from privemo import weights as w
from privemo.errors import RunError, SettingsError
from privemo.orders import PersonalName, RoundOrder
from privemo.outbox import Outbox
from privemo.storeconfig import PERSONAL, StoreConfig

__all__ = ["Personal", "own_of", "own_parameters"]

_PLACED, _WAITING = ".safetensors", ".pending"
_WAITS = re.compile(r"([0-9]+)-([0-9a-f]{64})\.pending")


def own_parameters(model: nn.Module, layers: PersonalName) -> frozenset[str]:
    """Names of the parameters that stay in a store.

    Args:
        model: the network.
        layers: which of its layers.

    Raises:
        SettingsError: the network has none of that kind, or no other.
    """
    if layers == "none":
        return frozenset()
    names = frozenset(_head(model) if layers == "head" else _normalisation(model))
    if not names or len(names) == len(list(model.parameters())):
        raise SettingsError(
            f"personal {layers}: {type(model).__name__} has no such layers, or no others."
        )
    return names


def _head(model: nn.Module) -> Iterator[str]:
    linear = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    for last in linear[-1:]:
        for name, _ in model.get_submodule(last).named_parameters():
            yield f"{last}.{name}"


def _normalisation(model: nn.Module) -> Iterator[str]:
    for layer, module in model.named_modules():
        if isinstance(module, nn.GroupNorm | nn.LayerNorm):
            for name, _ in module.named_parameters():
                yield f"{layer}.{name}"


def own_of(order: RoundOrder, weights: w.Weights) -> frozenset[str]:
    """Names of the parameters that stay in the stores by an order.

    Raises:
        SettingsError: the network has none of that kind, or no other.
        RunError: the weights are not of the order's network.
    """
    if order.recipe.personal == "none":
        return frozenset()
    return own_parameters(w.model_for(order.model, weights), order.recipe.personal)


class Personal:
    """A store's own part of the model, on its own disk.

    A store outlives its runs, and its layers fit the shared part that they were trained with alone. So each
    run has a folder of its own, and what the store agreed to says whether there is anything to read in it.

    What the next round starts from shows in what it releases. So layers count only once their round is paid
    for: until then they wait under a name with the hash of the update that they were trained with, and the
    ledger entry of that update is what makes them the store's, not the moving of a file, which may fail.

    Args:
        folder: of the store; files go into `personal/RUN/` in it, one for each round.
        config: of the store: which run it takes part in, and which layers stay here.
        outbox: of the store: what was released, and paid for.
    """

    def __init__(self, folder: Path, config: StoreConfig, outbox: Outbox) -> None:
        self._folder, self._config = folder / PERSONAL / config.run_id, config
        self._outbox = outbox

    def onto(
        self, weights: w.Weights, *, model: str, run_id: str, before: int | None = None
    ) -> w.Weights:
        """The model as this store has it: shared weights, and its own where it has any.

        Args:
            weights: shared ones, of the whole network.
            model: name of the network.
            run_id: of the run that they are of.
            before: only what was kept in rounds before this one; all by default.

        Raises:
            SettingsError: the network has no such layers.
            RunError: the weights are of another network, or a file is damaged or holds other layers.
            LedgerError: the ledger, which says what counts, is damaged.
        """
        layers = self._config.personal
        if layers == "none" or run_id != self._config.run_id:
            return weights
        kept = self._rounds(before)
        if not kept:
            return weights
        path = kept[max(kept)]
        names = own_parameters(w.model_for(model, weights), layers)
        try:
            own = w.load_weights(path)
            if _shapes(own) != _shapes({name: weights[name] for name in names}):
                raise RunError(f"{path} holds other layers than the {layers} of {model!r}.")
        except RunError as error:
            raise RunError(
                f"{error} Restore it from a backup, or delete it: {self._config.name} then goes on from its "
                "round before, or from what the run began with."
            ) from error
        return {name: own.get(name, array) for name, array in weights.items()}

    def split(self, model: nn.Module, update: w.Weights, order: RoundOrder) -> w.Weights:
        """Write down what stays in the store, and return what may leave: the update, 0 in its place.

        Nothing reads what stays before what leaves is released (`settle`).

        Args:
            model: after training.
            update: what training changed.
            order: of the round, as agreed to.

        Raises:
            SettingsError: the network has no such layers.
            RunError: the file cannot be written; the update must not leave.
        """
        names = own_parameters(model, order.recipe.personal)
        if not names:
            return update
        own = {name: array for name, array in w.from_model(model).items() if name in names}
        shared = {n: np.zeros_like(a) if n in names else a for n, a in update.items()}
        w.save_weights(self._folder / f"{order.round:04d}-{w.sha256(shared)}{_WAITING}", own)
        return shared

    def settle(self) -> None:
        """Put layers whose update was released in their place, and delete those of which none was.

        Only for whoever has the store alone: to others, what waits may be about to be paid for. The round
        before is kept as well: this one may be trained anew, from there.

        Raises:
            RunError: a file cannot be moved or deleted; the layers stay, and count, where they wait.
            LedgerError: the ledger is damaged.
        """
        for torn in self._folder.glob(f".*{_WAITING}.*"):  # killed in the middle
            _delete(torn)
        for number, digest, path in self._waiting():
            if digest not in self._outbox.left(number):
                _delete(path)
                continue
            before = self._rounds(number)
            last = before[max(before)] if before else None
            for earlier, old in self._placed().items():
                if earlier < number and old != last:
                    _delete(old)
            target = self._folder / f"{number:04d}{_PLACED}"
            try:
                os.replace(path, target)
            except OSError as error:
                raise RunError(f"{path} cannot be renamed to {target.name} ({error}).") from error

    def _rounds(self, before: int | None) -> dict[int, Path]:
        """What counts of this run, by round."""
        private = self._config.epsilon_budget is not None
        found = {n: p for n, p in self._placed().items() if not private or self._outbox.left(n)}
        found |= {n: p for n, digest, p in self._waiting() if digest in self._outbox.left(n)}
        return {n: path for n, path in found.items() if before is None or n < before}

    def _placed(self) -> dict[int, Path]:
        files = [p for p in self._folder.glob(f"*{_PLACED}") if p.stem.isdecimal()]
        return {int(path.stem): path for path in files}

    def _waiting(self) -> list[tuple[int, str, Path]]:
        """(Round, hash of the update, file) of what waits to be paid for, or to be moved after that."""
        found = [(_WAITS.fullmatch(path.name), path) for path in self._folder.glob(f"*{_WAITING}")]
        return [(int(match[1]), match[2], path) for match, path in found if match]


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"{path} cannot be deleted ({error.strerror}).") from error


def _shapes(weights: w.Weights) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in weights.items()}
