"""Did this person take part in the run at all? Scores, the higher the likelier.

Two adversaries who are told nothing but what they see:

* *every step*: has the model after every step, as the server and each store have, and adds up how far each
  step went along the person's gradient.
* *last model*: has the last model alone, and compares the person's loss with that under reference models,
  trained on other draws of the same people (RMIA with pairs of ratios ranked; Zarifzadeh, Liu & Shokri
  2024, arXiv 2312.03262; with one reference model it is the likelihood ratio).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from privemo import weights as w
from privemo.attacks.canaries import Canaries
from privemo.attacks.gradients import losses, slopes
from privemo.attacks.rehearsal import Seen

__all__ = ["EveryStep", "last_model"]


@dataclass
class EveryStep:
    """Adds up over the steps of one rehearsal.

    Args:
        canaries: whoever may have taken part.
        model: name of the architecture.
    """

    canaries: Canaries
    model: str
    scores: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.scores = np.zeros(len(self.canaries))

    def look(self, seen: Seen) -> None:
        """Take in one step."""
        model = w.model_for(self.model, seen.before).train()
        labels = self.canaries.labels
        along = slopes(model, self.canaries.inputs, labels, seen.noisy_sum, seen.names)
        for label in np.unique(labels):  # what all of one emotion pull alike tells nobody apart
            same = self.canaries.label == label
            along[same] -= along[same].mean()
        self.scores += along


def last_model(
    models: Sequence[w.Weights], canaries: Canaries, model: str
) -> list[NDArray[np.float64]]:
    """Scores of every canary under each model, with the others as references.

    Args:
        models: of rehearsals with the same canaries and independent coins; two at least.
        canaries: the people.
        model: name of the architecture.
    """
    inputs, labels = canaries.inputs, canaries.labels
    logs = np.array([-losses(w.model_for(model, each).eval(), inputs, labels) for each in models])
    return [
        logs[at] - logsumexp(np.delete(logs, at, axis=0), axis=0) + np.log(len(models) - 1)
        for at in range(len(models))
    ]
