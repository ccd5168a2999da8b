"""The contextual bandit: how probable each arm is in a situation. Vowpal Wabbit learns and explores.

A model is a pure function of sums: equal sums give equal probabilities, so a decision can be checked later
from the file and the hash that stands in it. Nothing of Vowpal Wabbit's own format is kept or read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from privemo.errors import MissingExtra

from .policy import SHOP_ORDER, AdaptationPolicy
from .sums import digest, spread

if TYPE_CHECKING:
    from vowpalwabbit.pyvw import Workspace

__all__ = ["Bandit", "cell_name"]

PASSES = 4
SURE = 1000.0
"""More reactions than this weigh no more in learning: a mean of a thousand is known well enough."""

LEAST_GAIN = 0.002
"""An adaptation that promises less over the shop's order than this is not worth a change."""


def cell_name(kind: str, arm: str) -> str:
    """The name of a cell: the situation ("happy/evening") and the arm."""
    return f"{kind}/{arm}"


class Bandit:
    """Probabilities of arms, learned once from sums.

    What is learned of an adaptation is how much it gained over the shop's order in the same situation, less
    `caution` standard errors: the shop's order stands until something is shown to be better, and not merely
    looks so. Vowpal Wabbit fits one linear model of what situations share (expression, each circumstance) and
    of each situation for itself (`--cb_explore_adf`, a regression weighted by counts), and its epsilon-greedy
    exploration makes probabilities of predictions. Cells with fewer than `least_reactions` are left out.

    Args:
        policy: arms, exploration, caution, least reactions.
        cells: by cell its seven sums (`privemo.recommend.sums`), shape (7,).

    Raises:
        MissingExtra: Vowpal Wabbit is not installed.

    Source:
        Jin, Yang and Wang (2021), ICML: acting on what is surely gained where little was tried.
    """

    def __init__(
        self, policy: AdaptationPolicy, cells: Mapping[str, NDArray[np.float64]] | None = None
    ) -> None:
        self._policy, self._lock = policy, Lock()
        least = policy.learning.least_reactions
        #: by cell: count and sum of rewards
        self.learned = {
            name: (float(sums[0]), float(sums[1]))
            for name, sums in sorted((cells or {}).items())
            if sums[0] >= least
        }
        self.sha256 = digest(policy.sha256, self.learned)
        self._known: dict[str, dict[str, float]] = {}
        self._vw = _workspace(policy.learning.exploration)
        self._fit()

    @property
    def mean(self) -> float:
        """Of all rewards that were learned from; 0 for none."""
        count = sum(n for n, _ in self.learned.values())
        return sum(r for _, r in self.learned.values()) / count if count else 0.0

    def estimate(self, cell: str) -> float:
        """The mean reward of a cell that was learned; elsewhere that of all."""
        n, r = self.learned.get(cell, (0.0, 0.0))
        return r / n if n else self.mean

    def probabilities(self, kind: str) -> dict[str, float]:
        """How probable each arm of a situation is; together 1, and none is 0.

        Where nothing was learned, the shop's order is the likeliest.
        """
        with self._lock:  # one prediction at a time: Vowpal Wabbit keeps the last one inside
            if kind not in self._known:
                self._known[kind] = self._predicted(kind)
            return dict(self._known[kind])

    def _predicted(self, kind: str) -> dict[str, float]:
        arms = self._policy.arms(kind.partition("/")[0])
        if cell_name(kind, SHOP_ORDER) not in self.learned:
            share = self._policy.learning.exploration / len(arms)
            return {arm: share + (arm == SHOP_ORDER) * (1 - share * len(arms)) for arm in arms}
        told = [float(p) for p in self._vw.predict([_shared(kind), *map(_action, arms)])]
        total = sum(told)
        return {arm: p / total for arm, p in zip(arms, told, strict=True)}

    def _gain(self, kind: str, arm: str) -> float:
        """What an arm surely gains over the shop's order of the same situation."""
        if arm == SHOP_ORDER:
            return LEAST_GAIN
        (n, r), (n0, r0) = (self.learned[cell_name(kind, a)] for a in (arm, SHOP_ORDER))
        widest = spread(self._policy.learning.reaction_epsilon) / 2  # no deviation is larger
        doubt = widest * math.sqrt(1 / n + 1 / n0)
        return r / n - r0 / n0 - self._policy.learning.caution * doubt

    def _fit(self) -> None:
        for _ in range(PASSES):
            for name, (n, _sum) in self.learned.items():
                kind, _, arm = name.rpartition("/")
                if cell_name(kind, SHOP_ORDER) not in self.learned:
                    continue
                arms = self._policy.arms(kind.partition("/")[0])
                # "action:cost:probability"; `mtr` weighs a regression by 1 / probability: here, the count.
                label = f"0:{-self._gain(kind, arm):.9g}:{1 / min(n, SURE):.9g} "
                told = ((label if a == arm else "") + _action(a) for a in arms)
                self._vw.learn([_shared(kind), *told])


def _workspace(exploration: float) -> Workspace:
    try:
        from vowpalwabbit.pyvw import Workspace as Made
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "Learning needs Vowpal Wabbit: pip install 'privemo[recommend]'", name=error.name
        ) from error
    options: dict[str, Any] = {
        "cb_explore_adf": True,
        "cb_type": "mtr",
        "epsilon": exploration,
        "interactions": "sa",  # nothing but pairs of situation and arm
        "ignore_linear": "s",
        "noconstant": True,
        "bit_precision": 16,
        "random_seed": 1,
        "quiet": True,
    }
    return Made(**options)


def _shared(kind: str) -> str:
    """The situation: each of its words, and all together, so that what is rare borrows from the rest."""
    words = kind.split("/")
    told = [f"{place}={word}" for place, word in enumerate(words)]
    return "shared |s " + " ".join([*told, f"all={'_'.join(words)}"])


def _action(arm: str) -> str:
    return f"|a arm={arm}"
