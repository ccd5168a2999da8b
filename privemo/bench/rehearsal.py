"""A run in memory: the rounds of `privemo train` and `privemo simulate`, without a run folder.

Orders, training, averaging and the server's step are a real run's own, and so are the draws: a seeded run of
the same settings, in which everyone agreed, ends in the same model bit by bit
(`test_a_rehearsal_ends_in_the_model_of_the_run`). What is left out is what keeps promises to people who exist
(ledger, vault, log of uses), so nothing that was trained here may be released.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from privemo import weights as w
from privemo.config import RunSettings
from privemo.dp import DiscreteGaussian, GaussianNoise
from privemo.errors import RunError, SettingsError
from privemo.faces import Faces
from privemo.facts import noise_of_a_store, privacy_facts
from privemo.layout import store_names
from privemo.models import count_parameters
from privemo.orders import PrivateRecipe, RoundOrder, order_digest
from privemo.recipes import default_lr
from privemo.runs import Orders
from privemo.secagg.gradients import flat, lattice_of, step_against, trained_names
from privemo.serverstep import ServerStep
from privemo.training import PermittedNow, Randomness, clipped_sum, train_plain, train_private

__all__ = ["Rehearsal", "Trained"]


@dataclass(frozen=True)
class Trained:
    """What came out.

    Attributes:
        model: with which the run would finish: the moving average, where there is one.
        last: the model after the last round.
    """

    model: w.Weights
    last: w.Weights


class Rehearsal:
    """The rounds of one run.

    Args:
        settings: of the run; with a seed.
        start: the weights it starts from.
        network: makes a model that carries weights.
        people: public number of people that each store expects to admit.
        run_id: names the run; seeded draws hang on it.
        apart: where stores share the noise, draw each one's share for itself, as a chain of stores does. By
            default all shares are drawn at once, as noise of their joint variance: as likely, and sooner
            done.

    Raises:
        SettingsError: no seed.
        BudgetUnreachable: no noise holds the promise.
    """

    def __init__(
        self,
        settings: RunSettings,
        start: w.Weights,
        network: Callable[[w.Weights], nn.Module],
        *,
        people: int,
        run_id: str,
        apart: bool = False,
    ) -> None:
        if settings.seed is None:
            raise SettingsError("A rehearsal is repeatable: give the run a seed.")
        self.privacy = privacy_facts(settings, people)
        """As in `run.json`: the promise, and the noise of the whole."""
        self._settings, self._start, self._network = settings, start, network
        self._apart = apart
        self.lr = default_lr(
            settings,
            noise_multiplier=noise_of_a_store(self.privacy) if self.privacy["private"] else 0.0,
            normaliser=self.privacy.get("normaliser", 1.0),
            parameters=count_parameters(network(start)),
        )
        """Learning rate of the first round."""
        facts = {"privacy": self.privacy, "lr": self.lr, "declared_people": people}
        self._orders = Orders(settings, facts, run_id)
        self._orders.check()
        self._names = store_names(settings.stores)

    def order_for(self, number: int) -> RoundOrder:
        """What each store is asked in round `number` (from 1)."""
        return self._orders.order_for(number)

    def run(
        self,
        stores: Sequence[Faces],
        permitted_now: PermittedNow,
        on_round: Callable[[int], None] = lambda _: None,
    ) -> Trained:
        """Run all rounds.

        Args:
            stores: the faces that each store may use, one after the other.
            permitted_now: asked before every batch of every store.
            on_round: called with the number of each round that is done.

        Raises:
            RunError: a round drove the model to infinity.
        """
        number, now = 0, Trained(self._start, self._start)
        for trained in self.turns(stores, permitted_now):
            if trained:
                number, now = number + 1, trained
                on_round(number)
        return now

    def turns(
        self, stores: Sequence[Faces], permitted_now: PermittedNow
    ) -> Iterator[Trained | None]:
        """The same, a store each time it is asked for the next; None until a round is whole, then its models.

        Where stores share the noise they are one turn together.

        Raises:
            RunError: a round drove the model to infinity.
        """
        server, weights = ServerStep(self._settings), self._start
        for number in range(1, self._settings.rounds + 1):
            update = yield from self._round(number, weights, stores, permitted_now)
            weights = server(number, weights, update)
            if not all(np.isfinite(array).all() for array in weights.values()):
                raise RunError(
                    f"Round {number} drove the model to infinity; lower the learning rate."
                )
            yield Trained(server.average or weights, weights)

    def _round(
        self, number: int, weights: w.Weights, stores: Sequence[Faces], permitted_now: PermittedNow
    ) -> Generator[None, None, w.Weights]:
        """The average update, summed up as the server of a run does: in the order of the stores' names."""
        order, model_in = self.order_for(number), w.sha256(weights)
        if isinstance(order.recipe, PrivateRecipe) and order.recipe.noise == "distributed":
            return self._shared(order, order.recipe, weights, stores, permitted_now)
        size = np.float32(self._orders.facts["declared_people"])
        total = {name: np.zeros_like(array) for name, array in weights.items()}
        for name, faces in zip(self._names, stores, strict=True):
            chance = self._chance(name, order_digest(order, model_in))
            model = self._network(weights)
            if isinstance(order.recipe, PrivateRecipe):
                train_private(model, faces, order.recipe, chance, permitted_now)
            else:
                train_plain(model, faces, order.recipe, chance, permitted_now)
            for key, after in w.from_model(model).items():
                total[key] += size * (after - weights[key])
            yield
        share = np.float32(1.0 / (float(size) * len(stores)))
        return {key: share * array for key, array in total.items()}

    def _shared(
        self,
        order: RoundOrder,
        recipe: PrivateRecipe,
        weights: w.Weights,
        stores: Sequence[Faces],
        permitted_now: PermittedNow,
    ) -> w.Weights:
        """The server's step against the sum that a secure sum would tell it."""
        digest = order_digest(order, w.sha256(weights))
        names = trained_names(self._network(weights))
        lattice = lattice_of(recipe, len(stores), {name: weights[name] for name in names})
        total = np.zeros(lattice.parameters, np.int64)
        keys = []
        for name, faces in zip(self._names, stores, strict=True):
            chance = self._chance(name, digest)
            sums = clipped_sum(self._network(weights), faces, recipe, chance, permitted_now)
            total += lattice.encode(flat(sums))
            keys.append(chance.noise.key())
        for key in keys if self._apart else keys[:1]:
            joint = 1.0 if self._apart else math.sqrt(len(stores))
            noise = DiscreteGaussian(math.ceil(lattice.share * joint), key)
            total += noise.draw(lattice.parameters)
        known = lattice.decode((total & 0xFFFFFFFF).astype(np.uint32))
        return step_against(known, recipe, len(stores), weights, names)

    def _chance(self, store: str, order: str) -> Randomness:
        """A seeded store's draws (`privemo.store`)."""
        named = f"{self._settings.seed}/{store}/{order}"
        keys = [
            hashlib.sha256(f"{part}/{named}".encode()).digest() for part in ("sampling", "noise")
        ]
        return Randomness(np.random.default_rng(int.from_bytes(keys[0])), GaussianNoise(keys[1]))
