"""The recommender of a store: consent first, then the reading, then what was learned.

The order of questions is the promise. Whoever has no session, no consent or no reading is answered before
anything that was learned is touched, with the shop's own list; so their treatment cannot depend on it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random, SystemRandom
from threading import RLock

from privemo.errors import DataError, PrivemoError, RunError
from privemo.files import write_bytes
from privemo_consent import ConsentRegistry, Context, Decision, Purpose

from .bandit import Bandit, cell_name
from .chooser import choose
from .estimate import EmotionEstimate
from .events import Events
from .offers import Offer
from .offpolicy import Evaluation, evaluate
from .policy import AdaptationPolicy, default_policy
from .rails import check_items
from .ranking import Choice, Learned, Ranking, Why
from .sums import HALVES, SumsFile, randomised

__all__ = ["Recommender"]

_LOGGER = logging.getLogger("privemo.recommend")


class Recommender:
    """Re-ranks what a shop recommends, for those who agreed to it.

    Args:
        registry: who agreed to what; asked anew before each ranking and each lesson.
        context: where the store is.
        folder: what was learned, and the log of events; made when it is not there. Several recommenders may
        share it.
        policy: what may be done; `default_policy()` by default.
        seed: of the exploration, for simulations; drawn from the operating system by default.

    Raises:
        DataError: what was learned was changed.
        RunError: the folder cannot be read or written.
        MissingExtra: Vowpal Wabbit is not installed (`privemo[recommend]`).
    """

    def __init__(
        self,
        registry: ConsentRegistry,
        context: Context,
        folder: Path | str,
        *,
        policy: AdaptationPolicy | None = None,
        seed: int | None = None,
    ) -> None:
        self._registry, self._context = registry, context
        self._policy = policy or default_policy()
        self._rng = SystemRandom() if seed is None else Random(seed)  # noqa: S311 - simulations
        self._lock = RLock()
        folder = Path(folder)
        # Simulated and real consents never mix, in what is learned from them neither.
        simulated = registry.mode == "simulation"
        self._file = SumsFile(folder, self._policy, simulated=simulated)
        self._events = Events(folder, self._policy, simulated=simulated)
        copy = folder / f"policy-{self._policy.sha256[:16]}.toml"
        if not copy.exists():  # so that the hash in a decision can be looked up later
            write_bytes(copy, self._policy.source)
        sums = self._file.read()
        self._fitted = sums.reactions
        self._bandit = Bandit(self._policy, sums.whole())

    @property
    def policy(self) -> AdaptationPolicy:
        """What may be done."""
        return self._policy

    @property
    def events(self) -> Events:
        """The log."""
        return self._events

    def rank(
        self,
        items: Sequence[Offer],
        *,
        person: str | None,
        emotion: EmotionEstimate | None = None,
        circumstances: Mapping[str, str] | None = None,
        attested_age_band: str | None = None,
        estimated_age: float | None = None,
    ) -> Ranking:
        """Order items for somebody, or hand them back as they came.

        Never raises: whatever fails, the shop's own order comes back, and the reason with it.

        Args:
            items: n of them, in the shop's order.
            person: whose session it is; None for nobody's.
            emotion: what the recognizer said; None when nobody was read.
            circumstances: of the shop: `daypart`, `weekpart`, `basket`; each may be left out.
            attested_age_band: as for `ConsentRegistry.decide`.
            estimated_age: likewise.

        Returns:
            The same n objects.
        """
        shop = tuple(items)
        choice: Choice | None = None
        model: str | None = None
        try:
            why, detail = self._refused(person, attested_age_band, estimated_age)
            if why is None:
                why, detail = _unread(emotion)
            if why is None and emotion is not None:
                check_items(shop)
                choice, model = self._chosen(shop, emotion, circumstances or {})
                why = choice.why
        except Exception as error:  # a store goes on, unpersonalised, whatever fails
            _LOGGER.warning("re-ranking failed, shop's order: %s", _kind_of(error))
            why, detail, choice, model = Why.FAILED, type(error).__name__, None, None
        why = why or Why.FAILED
        try:
            told = detail if why is Why.NOT_PERMITTED and detail else why.value
            self._events.add("ranked", told, model)
        except Exception as error:  # AI Act 12: what is not logged does not happen
            _LOGGER.warning("not logged, shop's order: %s", _kind_of(error))
            if choice is not None:
                why, detail, choice, model = Why.NOT_LOGGED, None, None, None
        return _ranking(
            shop, why, detail, choice, model=model, policy=self._policy.sha256, person=person
        )

    def learn(self, ranking: Ranking, reward: float) -> Learned:
        """Add a reaction to the sums, if the person still agrees: learning is a use of its own.

        A withdrawal since the ranking acts here already. One ranking teaches once.

        Args:
            ranking: as `rank` returned it.
            reward: from 0 (nothing) to 1; whether something was taken, for instance.

        Raises:
            DataError: the reward is not from 0 to 1. Nothing else is raised.
        """
        if isinstance(reward, bool) or not isinstance(reward, int | float):
            raise DataError(f"got reward {reward!r}, want a number from 0 to 1")
        if not math.isfinite(reward) or not 0 <= reward <= 1:
            raise DataError(f"got reward {reward!r}, want a number from 0 to 1")
        try:
            with self._lock:
                learned = self._learn(ranking, float(reward))
                if not learned.kept:
                    self._events.add("not_learned", learned.reason, None)
        except Exception as error:  # a store goes on without the lesson
            _LOGGER.warning("nothing was learned: %s", _kind_of(error))
            return Learned(False, "failed")
        return learned

    def evaluate(self) -> Evaluation:
        """What the learned policy would earn beside the shop's order, from the sums.

        Raises:
            DataError: there are too few reactions.
            RunError: the sums cannot be read.
        """
        return evaluate(self._policy, self._file.read())

    # -- inside ------------------------------------------------------------------------------------

    def _decide(self, person: str, band: str | None, age: float | None) -> Decision:
        return self._registry.decide(
            person,
            Purpose.PERSONALISATION,
            self._context,
            estimated_age=age,
            attested_age_band=band,
        )

    def _refused(
        self, person: str | None, band: str | None, age: float | None
    ) -> tuple[Why | None, str | None]:
        if person is None:
            return Why.NO_SESSION, None
        decision = self._decide(person, band, age)
        return (None, None) if decision.permit else (Why.NOT_PERMITTED, decision.reason.value)

    def _chosen(
        self, shop: tuple[Offer, ...], emotion: EmotionEstimate, circumstances: Mapping[str, str]
    ) -> tuple[Choice, str | None]:
        with self._lock:
            bandit = self._bandit
            choice = choose(
                shop, emotion, circumstances, policy=self._policy, bandit=bandit, rng=self._rng
            )
        return choice, None if choice.kind is None else bandit.sha256

    def _learn(self, ranking: Ranking, reward: float) -> Learned:
        if ranking._kind is None or ranking.arm is None or ranking._person is None:
            return Learned(False, "nothing_chosen")
        if ranking.policy != self._policy.sha256:
            return Learned(False, "other_policy")
        if ranking._once:
            return Learned(False, "twice")
        decision = self._decide(ranking._person, None, None)
        if not decision.permit:
            return Learned(False, decision.reason.value)
        kept = randomised(reward, self._policy.learning.reaction_epsilon, self._rng)
        cell = cell_name(ranking._kind, ranking.arm)
        # Written down first: a crash may count a lesson that never was, and hides none.
        self._events.add("learned", "kept", ranking.model)
        half = self._rng.randrange(HALVES)
        sums = self._file.add(cell, float(ranking.probability or 0.0), kept, half)
        ranking._once.append(True)
        every = max(self._policy.learning.refit_every, self._fitted // 10)
        if sums.reactions - self._fitted >= every:
            self._bandit = Bandit(self._policy, sums.whole())
            self._fitted = sums.reactions
        return Learned(True, "kept")


def _unread(emotion: EmotionEstimate | None) -> tuple[Why | None, str | None]:
    if emotion is None:
        return Why.NOT_READ, None
    if not isinstance(emotion, EmotionEstimate):
        raise DataError(f"got {type(emotion).__name__} for emotion, want an EmotionEstimate")
    if emotion.refusal is not None:
        return Why.READING_REFUSED, emotion.refusal
    return (Why.ABSTAINED, None) if emotion.probabilities is None else (None, None)


def _ranking(
    shop: tuple[Offer, ...],
    why: Why,
    detail: str | None,
    choice: Choice | None,
    *,
    model: str | None,
    policy: str,
    person: str | None,
) -> Ranking:
    if choice is None or choice.arm is None:
        return Ranking(items=shop, why=why, detail=detail, policy=policy, model=model)
    return Ranking(
        items=tuple(shop[was] for was in choice.order),
        why=why,
        arm=choice.arm,
        emotion=choice.emotion,
        probability=choice.probabilities[choice.arm],
        places=max((was - place for place, was in enumerate(choice.order)), default=0),
        policy=policy,
        model=model,
        _person=person,
        _kind=choice.kind,
    )


def _kind_of(error: Exception) -> str:
    """What may be said of an error in a log: its kind; and its words where they are ours."""
    known = isinstance(error, PrivemoError) and not isinstance(error, RunError)
    return f"{type(error).__name__}: {error}" if known else type(error).__name__
