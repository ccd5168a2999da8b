"""Was this person in this step? Asked of many steps, by somebody who knows everything else.

The adversary that differential privacy is defined against knows all people but one, and what each of them
adds. Here too: of every step they take off what everybody who was drawn adds, by gradients of their own,
look along the target's own gradient for what is left, and say "in" where it is more than half of what the
target would add.

Targets of one step are looked for along directions at right angles to each other. Along these, Gaussian noise
is independent; so every answer is a trial of its own, and the counts of right and wrong ones are binomial.

Two adversaries, since noise may be too small, or not new:

* *against all*: as above.
* *between steps*: takes off also what was left over of the step before. New noise doubles their trouble;
  the same noise again vanishes.

Whether noise came back in any other step is asked by `privemo.attacks.reuse`, of what is left over here.

After Nasr, Hayes, Steinke, Balle, Tramer, Jagielski, Carlini & Terzis 2023, "Tight Auditing of Differentially
Private Machine Learning" (arXiv 2302.07956), whose adversary inserts one gradient of their own making.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from privemo import weights as w
from privemo.attacks.canaries import Canaries
from privemo.attacks.gradients import clipped_gradients
from privemo.attacks.rehearsal import Seen
from privemo.attacks.reuse import Sketches

__all__ = ["ADVERSARIES", "Counts", "StepAdversary"]

ADVERSARIES = ("against_all", "between_steps")

TARGETS = 32
"""Targets of one step: with more, what is left of a gradient at right angles to all others grows shorter."""


_JITTER = 1e-9  # for a target without a gradient of its own, which then adds nothing


@dataclass
class Counts:
    """Answers: of so many targets that were in a step, so many were called in; and of those that were not."""

    inside: int = 0
    inside_called_in: int = 0
    outside: int = 0
    outside_called_in: int = 0

    def add(self, drawn: NDArray[np.bool_], called_in: NDArray[np.bool_]) -> None:
        """Count the answers of one step."""
        self.inside += int(drawn.sum())
        self.inside_called_in += int((drawn & called_in).sum())
        self.outside += int((~drawn).sum())
        self.outside_called_in += int((~drawn & called_in).sum())


@dataclass
class StepAdversary:
    """Looks at every step of one rehearsal.

    Args:
        canaries: everybody who may be drawn.
        model: name of the architecture.
        clip: the clipping norm.
        rng: chooses the targets of each step.
        sketches: of the noise of all steps, of all rehearsals.
        rehearsal: number of this one.
    """

    canaries: Canaries
    model: str
    clip: float
    rng: np.random.Generator
    sketches: Sketches
    rehearsal: int = 0
    counts: dict[str, Counts] = field(default_factory=lambda: {a: Counts() for a in ADVERSARIES})
    draws: dict[float, list[int]] = field(default_factory=dict)
    _left_over: Tensor | None = None

    def look(self, seen: Seen) -> None:
        """Say of each target of a step whether it was in, and count."""
        self.draws.setdefault(seen.rate, []).append(int(seen.drawn.sum()))
        who = self._targets(seen.drawn)
        model, names = w.model_for(self.model, seen.before).train(), seen.names
        inputs, labels = self.canaries.inputs, self.canaries.labels
        mine = clipped_gradients(model, inputs[who], labels[who], names, clip=self.clip)
        drawn = seen.drawn[who]
        left_over = torch.from_numpy(seen.noisy_sum) - mine[torch.from_numpy(drawn)].sum(0)
        rest = np.setdiff1d(np.flatnonzero(seen.drawn), who)
        for at in range(0, len(rest), TARGETS):
            part = rest[at : at + TARGETS]
            left_over -= clipped_gradients(
                model, inputs[part], labels[part], names, clip=self.clip
            ).sum(0)
        self.sketches.add(self.rehearsal, seen.number, left_over.numpy())
        along, adds = _at_right_angles(mine)
        noise = along(left_over)
        self._count("against_all", drawn, noise, adds)
        if self._left_over is not None:
            self._count("between_steps", drawn, noise - along(self._left_over), adds)
        self._left_over = left_over

    def _targets(self, drawn: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Half of them were in, where so many were; each kind is counted by itself."""
        inside, outside = (self.rng.permutation(np.flatnonzero(kind)) for kind in (drawn, ~drawn))
        some = inside[: TARGETS // 2]
        return self.rng.permutation(np.concatenate([some, outside[: TARGETS - len(some)]]))

    def _count(
        self,
        adversary: str,
        drawn: NDArray[np.bool_],
        noise: NDArray[np.float64],
        adds: NDArray[np.float64],
    ) -> None:
        """What a target adds is not taken off: a target that was in is back in here."""
        self.counts[adversary].add(drawn, noise + drawn * adds > adds / 2)


def _at_right_angles(
    gradients: Tensor,
) -> tuple[Callable[[Tensor], NDArray[np.float64]], NDArray[np.float64]]:
    """Of each target a direction of length 1, at right angles to those of the targets before it.

    Returns:
        how long a vector is along each direction, and how much each target adds along its own.
    """
    # Gram & Schmidt by way of inner products: the k vectors are long, and k is small.
    inner = (gradients @ gradients.T).double()
    lower = torch.linalg.cholesky(inner + _JITTER * torch.eye(len(inner)))

    def along(vector: Tensor) -> NDArray[np.float64]:
        ways = torch.linalg.solve_triangular(
            lower, (gradients @ vector).double()[:, None], upper=False
        )
        return np.asarray(ways[:, 0].numpy())

    return along, np.asarray(lower.diagonal().numpy())
