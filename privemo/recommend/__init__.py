"""Re-ranking what a shop recommends by how a shopper looks, for those who agreed to it and nobody else.

    recommender = Recommender(registry, Context(setting="retail", jurisdiction="IE"), "recommend")
    ranking = recommender.rank(items, person="p-41", emotion=EmotionEstimate.read(probabilities))
    show(ranking.items, ranking.sentence("de"))
    recommender.learn(ranking, 1.0)  # they took something

Without consent, without a reading and whenever anything fails, the shop's own order comes back exactly as
it was. No torch and no pandas; learning is Vowpal Wabbit's (`privemo[recommend]`, no dependencies of its
own).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .estimate import EmotionEstimate
    from .offers import Appeal, Offer, Pressure, Sensitive
    from .offpolicy import Estimate, Evaluation
    from .policy import AdaptationPolicy, default_policy, load_adaptation_policy
    from .ranking import Ranking, Why
    from .recommender import Recommender
    from .words import LANGUAGES

_WHERE = {
    "estimate": ("EmotionEstimate",),
    "offers": ("Appeal", "Offer", "Pressure", "Sensitive"),
    "offpolicy": ("Estimate", "Evaluation"),
    "policy": ("AdaptationPolicy", "default_policy", "load_adaptation_policy"),
    "ranking": ("Ranking", "Why"),
    "recommender": ("Recommender",),
    "words": ("LANGUAGES",),
}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "LANGUAGES",
    "AdaptationPolicy",
    "Appeal",
    "EmotionEstimate",
    "Estimate",
    "Evaluation",
    "Offer",
    "Pressure",
    "Ranking",
    "Recommender",
    "Sensitive",
    "Why",
    "default_policy",
    "load_adaptation_policy",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
