"""What a privacy budget affords: batch, noise, steps and epochs, from public numbers alone.

Every plan is held against the most that its budget can buy. With everybody in every step (sample rate 1)
T steps of noise s tell no more than one step of noise s / sqrt(T), and that is the least noise at which
(epsilon, delta) holds. Sampling at rate q tells q sqrt(T) / s of it, which is less for small batches:
there noise comes close to 1, where sampling protects less than in proportion (Bu et al. 2020, arXiv
1911.11607, section 3; De et al. 2022, arXiv 2204.13650, figure 3). That share is `Option.signal`.

Large batches waste none of it and take few steps; small ones take many and waste most. What is recommended
is for a number of epochs that is given: of all its batches the smallest that still gets `ENOUGH`, and so the
most steps. How well a model will read is no part of that. What was measured stands in the recipe, which takes
large batches and few steps, and which a plan holds beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from privemo.dp.accounting import calibrate_noise, check_delta, composed
from privemo.dp.crosscheck import four_bounds
from privemo.errors import BudgetUnreachable, SettingsError, TooFewPeople
from privemo.recipes import central_recipe, local_recipe
from privemo.releases import Mechanism, Release

__all__ = ["ENOUGH", "Option", "Plan", "plan"]

ENOUGH = 0.75
"""Share of the signal that a small batch has to keep to be recommended for its many steps."""

_OTHER_EPOCHS = (0.25, 0.5, 1.0, 2.0, 4.0)
_MOST_BATCHES = 64  # the smallest batch looked at lets a person join one step in 64
_MOST_STEPS = 1_000_000
_DIGITS = 6  # of a rate, so that a command that names it trains exactly so


@dataclass(frozen=True)
class Option:
    """One way to spend the budget. Batches, steps and rates are those of each store.

    Attributes:
        batch: people expected in a batch.
        sample_rate: probability with which each person joins a batch.
        steps: in the whole run.
        epochs: how often each person is expected to be drawn.
        noise_multiplier: deviation of the noise over the clipping norm.
        noise_per_person: deviation of the noise in a step, averaged over batch and stores, over the
            clipping norm: how far it moves each weight, next to one person's whole gradient.
        signal: share of the most that this budget can buy, 0 to 1.
        pictures: drawn in the whole run, all stores together, before augmentation.
    """

    batch: int
    sample_rate: float
    steps: int
    epochs: float
    noise_multiplier: float
    noise_per_person: float
    signal: float
    pictures: int


@dataclass(frozen=True)
class Plan:
    """What a budget affords.

    Attributes:
        people: in the whole run.
        stores: they are spread over.
        epsilon: most a person may lose altogether.
        delta: probability with which that may fail.
        accountant: the bound held against `epsilon`.
        stores_per_person: in how many of them one person may take part.
        spent_before: epsilon of what was released before.
        recipe: what training does where nothing else is asked for, in the epochs that it takes: one place
            by `central_recipe`, stores by `local_recipe`. None where it does not come within `epsilon`.
        options: one for each batch, smallest first, in the epochs that were asked for.
        recommended: one of them.
        why: it is recommended, and for what.
        other_epochs: the recommended batch with fewer and more epochs.
        recipe_reached: as `reached`, of the recipe.
        reached: epsilon of the recommended option, with all that came before, by each accountant; see
            `privemo.dp.crosscheck.four_bounds`.
    """

    people: int
    stores: int
    epsilon: float
    delta: float
    accountant: str
    stores_per_person: int
    spent_before: float
    recipe: Option | None
    options: tuple[Option, ...]
    recommended: Option
    why: str
    other_epochs: tuple[Option, ...]
    recipe_reached: dict[str, float | None] | None
    reached: dict[str, float | None]


@dataclass(frozen=True)
class _Question:
    people: int  # of one store
    epochs: float
    epsilon: float
    delta: float
    accountant: str
    stores: int
    stores_per_person: int
    images_per_person: int
    past: tuple[Release, ...]


def plan(
    *,
    people: int,
    epsilon: float,
    epochs: float = 30,
    delta: float = 1e-5,
    stores: int = 1,
    stores_per_person: int = 1,
    images_per_person: int = 1,
    batch: int | None = None,
    sample_rate: float | None = None,
    accountant: str = "rdp",
    past: Sequence[Release] = (),
) -> Plan:
    """Say which batch, noise, steps and epochs a budget affords.

    Args:
        people: public number of people trained on, all stores together.
        epsilon: most that any of them may lose altogether.
        epochs: how often each is expected to be drawn.
        delta: probability with which the bound may fail; below 1 over `people`.
        stores: that the people are spread over evenly, each adding noise of its own.
        stores_per_person: in how many stores one person may take part.
        images_per_person: pictures drawn of each person in a step; costs time and no privacy.
        batch: look at this one alone.
        sample_rate: the same, as a rate.
        accountant: `rdp` or `prv`.
        past: what was released about these people before.

    Raises:
        BudgetExhausted: `past` leaves nothing.
        BudgetUnreachable: no batch comes within `epsilon`.
        SettingsError: a value out of range.
        TooFewPeople: a store has fewer people than `batch`.
    """
    _check(people, stores, stores_per_person, images_per_person, epochs)
    check_delta(delta, people)
    ask = _Question(
        people // stores,
        epochs,
        epsilon,
        delta,
        accountant,
        stores,
        stores_per_person,
        images_per_person,
        tuple(past),
    )
    most = _most_signal(ask)
    recipe = _by_recipe(ask, most)
    options = _affordable(ask, _rates(ask.people, batch, sample_rate), most)
    best, why = _recommended(options, epochs)
    others = [
        _option(replace(ask, epochs=epochs * x), best.sample_rate, most) for x in _OTHER_EPOCHS
    ]
    return Plan(
        people=people,
        stores=stores,
        epsilon=epsilon,
        delta=delta,
        accountant=accountant,
        stores_per_person=stores_per_person,
        spent_before=composed(ask.past, delta=delta, accountant=accountant),
        recipe=recipe,
        options=options,
        recommended=best,
        why=why,
        other_epochs=tuple(sorted({o for o in others if o is not None}, key=lambda o: o.steps)),
        recipe_reached=None if recipe is None else _reached(ask, recipe),
        reached=_reached(ask, best),
    )


def _check(people: int, stores: int, per_person: int, images: int, epochs: float) -> None:
    for name, value in (
        ("people", people),
        ("stores", stores),
        ("stores per person", per_person),
        ("images per person", images),
    ):
        if value < 1:
            raise SettingsError(f"The number of {name} is 1 or more, not {value}.")
    if people < stores:
        raise TooFewPeople(f"{people} people cannot be spread over {stores} stores.")
    if per_person > stores:
        raise SettingsError(f"Nobody can be in {per_person} of {stores} stores.")
    if not (math.isfinite(epochs) and epochs > 0):
        raise SettingsError(f"A number of epochs is above 0, not {epochs}.")


def _rates(people: int, batch: int | None, sample_rate: float | None) -> list[float]:
    if batch is not None and sample_rate is not None:
        raise SettingsError("Batch and sample rate say the same: give one of them.")
    if sample_rate is not None:
        if not 0 < sample_rate <= 1:
            raise SettingsError(f"A sample rate is above 0 and at most 1, not {sample_rate}.")
        return [sample_rate]
    if batch is not None:
        if batch < 1:
            raise SettingsError(f"A batch has 1 or more people, not {batch}.")
        if batch > people:
            raise TooFewPeople(
                f"A batch of {batch} people asks for more than the {people} of a store: lower it."
            )
        return [float(f"{batch / people:.{_DIGITS}g}")]
    powers = [2**i for i in range(people.bit_length()) if people / _MOST_BATCHES <= 2**i < people]
    return [float(f"{size / people:.{_DIGITS}g}") for size in [*powers, people]]


def _by_recipe(ask: _Question, most: float) -> Option | None:
    recipe = central_recipe(ask.people) if ask.stores == 1 else local_recipe(ask.people)
    rate = recipe.sample_rate
    return _option(ask, rate, most, steps=recipe.rounds * recipe.steps_per_round)


def _affordable(ask: _Question, rates: Sequence[float], most: float) -> tuple[Option, ...]:
    largest = max(rates)
    if ask.epochs / largest > _MOST_STEPS:
        raise SettingsError(
            f"{ask.epochs:g} epochs at sample rate {largest:g} take {ask.epochs / largest:.3g} steps, and a "
            f"plan has {_MOST_STEPS:,} at most: ask for fewer epochs"
            + (", or a larger batch." if largest < 1 else ".")
        )
    options = tuple(o for rate in rates if (o := _option(ask, rate, most)) is not None)
    if not options:
        raise BudgetUnreachable(
            f"Epsilon {ask.epsilon:g} at delta {ask.delta:g} cannot be met in {ask.epochs:g} epochs: train "
            "fewer epochs, or allow a larger epsilon."
        )
    return options


def _option(ask: _Question, rate: float, most: float, steps: int | None = None) -> Option | None:
    """One option; None where no noise reaches the budget, or it takes more steps than anybody waits for."""
    if steps is None:
        if ask.epochs / rate > _MOST_STEPS:
            return None
        steps = max(1, round(ask.epochs / rate))
    try:
        noise = calibrate_noise(
            epsilon=ask.epsilon,
            delta=ask.delta,
            sample_rate=rate,
            steps=steps,
            accountant=ask.accountant,
            compositions=ask.stores_per_person,
            past=ask.past,
        )
    except BudgetUnreachable:
        return None
    batch = rate * ask.people
    return Option(
        batch=max(1, round(batch)),
        sample_rate=rate,
        steps=steps,
        epochs=steps * rate,
        noise_multiplier=noise,
        noise_per_person=noise / (batch * math.sqrt(ask.stores)),
        signal=min(1.0, rate * math.sqrt(steps) / noise / most),
        pictures=round(steps * batch * ask.stores * ask.images_per_person),
    )


def _most_signal(ask: _Question) -> float:
    """One over the least noise of a single step with everybody in it: all that the budget can buy."""
    try:
        return 1 / calibrate_noise(
            epsilon=ask.epsilon,
            delta=ask.delta,
            sample_rate=1.0,
            steps=1,
            accountant=ask.accountant,
            compositions=ask.stores_per_person,
            past=ask.past,
        )
    except BudgetUnreachable as error:
        raise BudgetUnreachable(
            f"Epsilon {ask.epsilon:g} at delta {ask.delta:g} cannot be met in a single step, whatever the "
            "noise: allow a larger epsilon or delta."
        ) from error


def _recommended(options: Sequence[Option], epochs: float) -> tuple[Option, str]:
    if len(options) == 1:
        return options[0], "the only batch that was asked for, or that this budget affords"
    for option in options:  # smallest batch first
        if option.signal >= ENOUGH:
            return option, (
                f"the smallest batch, and so the most steps, with {ENOUGH:.0%} of the signal this budget can "
                f"buy in {epochs:g} epochs. It is for whoever wants many steps: larger batches waste less"
            )
    best = max(options, key=lambda o: o.signal)
    return best, f"no batch gets {ENOUGH:.0%} of the signal this budget can buy; this one gets most"


def _reached(ask: _Question, option: Option) -> dict[str, float | None]:
    coming = Mechanism(option.noise_multiplier, option.sample_rate, option.steps)
    return four_bounds([*ask.past, coming.times(ask.stores_per_person)], delta=ask.delta)
