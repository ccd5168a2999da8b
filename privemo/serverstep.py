"""What the server does with the average update of a round: a step, and a moving average of models.

All of it is post-processing of updates that stores have already released, so it costs nobody privacy.

| edge case | what happens |
|---|---|
| a fresh server | momentum and second moment start at zero, the average at the first round's model |
| a resumed run | the state is read back bit by bit: the very same models follow |
| state of another kind of server | `RunError`: settings of a run do not change on the way |
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from privemo import weights as w
from privemo.config import RunSettings
from privemo.errors import RunError
from privemo.schedules import lr_factor

__all__ = ["ServerStep"]

_SECOND_DECAY = 0.99  # few rounds: 0.999 would never forget the first ones
_EPSILON = 1e-8


@dataclass
class ServerStep:
    """The server's optimizer and its memory.

    With u the average update of round t: `sgd` is v = m v + u, model + lr v; so with one store and one step
    to a round it is SGD with momentum on that store's noised gradients. `adam` (Kingma & Ba 2015; as
    FedAdam in Reddi et al. 2021, arXiv 2003.00295) takes u for the gradient's opposite. `yogi` (FedYogi,
    there) lets the second moment s move by no more than u^2: s - (1 - b) u^2 sign(s - u^2); it starts from
    the first round's u^2.

    Args:
        settings: of the run: the server's optimizer, learning rate, momentum, average and schedule.
    """

    settings: RunSettings
    _first: w.Weights = field(default_factory=dict)
    _second: w.Weights = field(default_factory=dict)
    _average: w.Weights = field(default_factory=dict)

    def __call__(self, number: int, weights: w.Weights, update: w.Weights) -> w.Weights:
        """The model after round `number` (from 1), float32 like `weights`; the memory moves on."""
        s = self.settings
        lr = s.server_step
        if s.adaptive_server:
            step = self._adaptive(number, update)
            lr *= lr_factor(s, number)
        elif s.server_momentum:
            m = np.float32(s.server_momentum)
            step = {k: m * self._first[k] + u if self._first else u for k, u in update.items()}
            self._first = step
        else:
            step = update
        after = {k: weights[k] + np.float32(lr) * step[k] for k in weights}
        self._take(number, after)
        return after

    def _adaptive(self, number: int, update: w.Weights) -> w.Weights:
        decay, yogi = self.settings.server_momentum, self.settings.server_optimizer == "yogi"
        b1 = np.float32(decay)
        first = self._first or {k: np.zeros_like(u) for k, u in update.items()}
        self._first = {k: b1 * first[k] + (1 - b1) * u for k, u in update.items()}
        self._second = self._yogi(update) if yogi else self._squares(update)
        # Moments that start at zero; without this the first steps would be far too long or short.
        unbias = np.float32(1 / (1 - decay**number))
        unbias_second = np.float32(1 if yogi else 1 / (1 - _SECOND_DECAY**number))
        return {
            k: unbias * self._first[k] / (np.sqrt(unbias_second * self._second[k]) + _EPSILON)
            for k in update
        }

    def _squares(self, update: w.Weights) -> w.Weights:
        b2 = np.float32(_SECOND_DECAY)
        second = self._second or {k: np.zeros_like(u) for k, u in update.items()}
        return {k: b2 * second[k] + (1 - b2) * u * u for k, u in update.items()}

    def _yogi(self, update: w.Weights) -> w.Weights:
        if not self._second:
            return {k: u * u for k, u in update.items()}
        pull = np.float32(1 - _SECOND_DECAY)
        return {
            k: self._second[k] - pull * u * u * np.sign(self._second[k] - u * u)
            for k, u in update.items()
        }

    def _take(self, number: int, after: w.Weights) -> None:
        if not self.settings.ema:
            return
        # Young averages forget fast, or the model that training started from would linger in them.
        decay = np.float32(min(self.settings.ema, (1 + number) / (10 + number)))
        self._average = {
            k: a if not self._average else decay * self._average[k] + (1 - decay) * a
            for k, a in after.items()
        }

    @property
    def average(self) -> w.Weights | None:
        """The moving average of the rounds' models, or None where the run has none."""
        return self._average or None

    def state(self) -> w.Weights:
        """Everything that the next round depends on besides the model; empty for plain averaging."""
        return {
            f"{part}/{name}": array
            for part, arrays in self._parts().items()
            for name, array in arrays.items()
        }

    def restore(self, state: w.Weights) -> None:
        """Go on from what `state` returned.

        Raises:
            RunError: it is not the state of such a server.
        """
        parts: dict[str, w.Weights] = {part: {} for part in self._parts()}
        try:
            for key, array in state.items():
                part, _, name = key.partition("/")
                parts[part][name] = array
        except KeyError as error:
            raise RunError(f"The server's state holds something unknown ({error}).") from error
        self._first, self._second, self._average = parts.values()

    def _parts(self) -> dict[str, w.Weights]:
        return {"first": self._first, "second": self._second, "average": self._average}
