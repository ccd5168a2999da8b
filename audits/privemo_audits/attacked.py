"""What an attack's counts say about epsilon: lower bounds, each with 95% certainty.

`privemo attack` writes what it counted (which attacks there were, `attempts` says); here are no models, only
counts. Kinds of evidence:

* Answers about single steps. The chance of saying "in" of somebody who was, and of somebody who was not,
  each with its exact interval (Clopper & Pearson), say how far apart steps with and without a person lie at
  least; hence how large the noise is at most, and what epsilon at least (Nasr et al. 2023, arXiv
  2302.07956; Dong, Roth & Su 2022, arXiv 1905.02383). That takes Gaussian noise for granted.
* Guesses about whole runs, in which a coin of its own decided of each person whether they take part.
  Whoever guesses right more often than (epsilon, delta) lets anybody proves a larger epsilon (Steinke, Nasr
  & Jagielski 2023, arXiv 2305.08846). That takes nothing for granted.
* Whether noise came back in another step (`reused`), and whether people were drawn too often.
* Pictures made from updates, which bound nothing, but show what is meant.

Several bounds from one attack share the 5% among them (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.stats import norm, rankdata

from .accounting import Release, epsilon_dp_accounting
from .errors import RunFilesError
from .guesses import GUESSED, LARGEST, epsilon_of_guesses, guessed
from .intervals import ALPHA, clopper_pearson
from .on_model import ModelInfo, judge_model
from .report_privacy import Attacked, DrawAttack, Inversion, MembershipAttack, StepAttack
from .reused import NoiseInfo, judge_reuse
from .runfiles import Run
from .runschema import Part

ATTACK_FILE = "attack.json"

_ANEW = "Restore the file of this run; what was found on another is no evidence here."

_LEAST_NOISE = 0.3

BLIND_BELOW = 0.5
"""An attack that cannot even feel half of what is claimed to be there proves nothing by finding nothing."""

Count = Annotated[int, Field(ge=0, le=10**12)]


class Answers(Part):
    """`attack.json: steps.ADVERSARY`."""

    inside: Count
    inside_called_in: Count
    outside: Count
    outside_called_in: Count

    @model_validator(mode="after")
    def _no_more_than_asked(self) -> Answers:
        if self.inside_called_in > self.inside or self.outside_called_in > self.outside:
            raise ValueError("more were called in than asked about")
        return self


class Scored(Part):
    """`attack.json: membership.ADVERSARY`, of one rehearsal: a higher score says "took part"."""

    scores: tuple[float, ...] = Field(min_length=10)
    took_part: tuple[bool, ...]

    @model_validator(mode="after")
    def _one_of_each(self) -> Scored:
        if len(self.scores) != len(self.took_part):
            raise ValueError("as many scores as people are due")
        if len(set(self.took_part)) == 1:
            raise ValueError("some took part and some did not; here it was all or none")
        return self


class Draws(Part):
    """`attack.json: draws`, of one sample rate: of so many who were to be drawn at it, so many were."""

    rate: float = Field(gt=0, le=1)
    of: int = Field(ge=1, le=10**12)
    drawn: Count

    @model_validator(mode="after")
    def _no_more_than_asked(self) -> Draws:
        if self.drawn > self.of:
            raise ValueError("more were drawn than there were")
        return self


class Mechanism(Part):
    """`attack.json: mechanism`: what was rehearsed."""

    noise_multiplier: float = Field(gt=0)
    steps_at_each_rate: tuple[tuple[Annotated[float, Field(gt=0, le=1)], Count], ...] = Field(
        min_length=1
    )
    delta: float = Field(gt=0, lt=1)
    noise_over_claim: float = Field(1.0, ge=1)


class InversionInfo(Part):
    """`attack.json: inversion`."""

    pictures: int = Field(ge=1)
    without_noise: float = Field(ge=-1, le=1)
    with_noise: float = Field(ge=-1, le=1)


class AttackInfo(Part):
    """What an attack found, and `attack.json` of earlier versions, which did not ask about `noise`."""

    schema_: Literal["privemo.attack/1", "privemo.attack/2"] = Field(alias="schema")
    run_id: str
    made: datetime
    mechanism: Mechanism
    canaries: int = Field(ge=1)
    rehearsals: int = Field(ge=1)
    steps: dict[str, Answers] = Field(min_length=1)
    draws: tuple[Draws, ...] = Field(min_length=1)
    membership: dict[str, Annotated[tuple[Scored, ...], Field(min_length=2)]] = Field(min_length=1)
    noise: NoiseInfo | None = None
    model: ModelInfo | None = None
    inversion: InversionInfo

    @model_validator(mode="after")
    def _asked_about_noise(self) -> AttackInfo:
        if self.schema_ == "privemo.attack/2" and self.noise is None:
            raise ValueError("whether noise came back is due")
        return self


def check_attack(run: Run, info: AttackInfo, where: str) -> None:
    """An attack is evidence of the run that it was made on, and of no other.

    Args:
        run: the run.
        info: what the attack found.
        where: name of the file it stands in.

    Raises:
        RunFilesError: it is of another run, or of another noise.
    """
    if info.run_id != run.info.run_id:
        raise RunFilesError(
            f"{where}: an attack is of run {info.run_id!r}, run.json of {run.info.run_id!r}",
            _ANEW,
        )
    due = run.info.privacy.noise_multiplier
    if due is not None and not math.isclose(due, info.mechanism.noise_multiplier, rel_tol=1e-3):
        raise RunFilesError(
            f"{where}: an attack is of a noise multiplier of {info.mechanism.noise_multiplier:g}, and the "
            f"run's is {due:g}",
            _ANEW,
        )


def strangeness(run: Run, info: AttackInfo) -> list[str]:
    """Why an attack is no evidence of a run: what it rehearsed, or on how many, is not as it should be.

    Steps and rates are held against those that `run.json` states; a run of an earlier version states none.
    """
    made, due = info.mechanism, run.info.privacy
    faults = []
    rates = sorted(made.steps_at_each_rate)
    if due.steps_at_each_rate and not _alike(rates, sorted(due.steps_at_each_rate)):
        faults.append(
            f"rehearsed {_steps(rates)}, and the run plans {_steps(due.steps_at_each_rate)}"
        )
    if due.delta is not None and not math.isclose(due.delta, made.delta, rel_tol=1e-9):
        faults.append(f"is judged at a delta of {made.delta:g}, and the run's is {due.delta:g}")
    if not {each.rate for each in info.draws} <= {rate for rate, _ in rates}:
        faults.append("holds draws against a rate that it did not rehearse")
    scored = {name: {len(each.scores) for each in got} for name, got in info.membership.items()}
    if any(sizes != {info.canaries} for sizes in scored.values()) or any(
        len(got) != info.rehearsals for got in info.membership.values()
    ):
        faults.append(
            f"states {info.canaries} people in {info.rehearsals} rehearsals, and has scores of others"
        )
    return faults


def _alike(made: Sequence[tuple[float, int]], due: Sequence[tuple[float, int]]) -> bool:
    return len(made) == len(due) and all(
        steps == planned and math.isclose(rate, stated, rel_tol=1e-9)
        for (rate, steps), (stated, planned) in zip(made, due, strict=True)
    )


def _steps(rates: Sequence[tuple[float, int]]) -> str:
    return " and ".join(f"{steps:,} steps at {rate:g}" for rate, steps in rates)


def bounds(info: AttackInfo, alpha: float = ALPHA) -> Attacked:
    """What follows from the counts, but for a chance of alpha."""
    kinds = len(info.steps) + len(info.membership) + len(info.draws)
    share = alpha / (kinds + (info.noise is not None) + (info.model is not None))
    in_steps = tuple(_of_steps(info, name, share) for name in sorted(info.steps))
    in_runs = tuple(_of_runs(info, name, share) for name in sorted(info.membership))
    in_draws = tuple(_of_draws(each, share) for each in info.draws)
    in_noise = None if info.noise is None else judge_reuse(info.noise, share)
    delta = info.mechanism.delta
    on_model = None if info.model is None else judge_model(info.model, delta, share)
    claimed = _epsilon(info, info.mechanism.noise_multiplier)
    found = max([*(s.epsilon_at_least for s in in_steps), *(r.epsilon_at_least for r in in_runs)])
    if on_model is not None:
        found = max(found, on_model.epsilon_at_least)
    felt = max(step.separation_at_most / step.separation_claimed for step in in_steps)
    return Attacked(
        made=info.made,
        persons=info.canaries,
        rehearsals=info.rehearsals,
        noise_multiplier=info.mechanism.noise_multiplier,
        steps=sum(steps for _, steps in info.mechanism.steps_at_each_rate),
        delta=delta,
        epsilon_claimed=claimed,
        epsilon_at_least=found,
        within=found <= claimed
        and all(d.rate_at_least <= d.rate_claimed for d in in_draws)
        and not (in_noise is not None and in_noise.reused),
        conclusive=felt >= BLIND_BELOW,
        in_steps=in_steps,
        in_runs=in_runs,
        in_draws=in_draws,
        in_noise=in_noise,
        on_model=on_model,
        inversion=Inversion(**info.inversion.model_dump()),
    )


def _of_draws(draws: Draws, alpha: float) -> DrawAttack:
    """Somebody who is drawn more often than at the rate gives away more than is accounted."""
    least, _ = clopper_pearson(draws.drawn, draws.of, alpha)
    return DrawAttack(rate_claimed=draws.rate, of=draws.of, drawn=draws.drawn, rate_at_least=least)


# -- single steps ----------------------------------------------------------------------------------


def separation(answers: Answers, alpha: float) -> tuple[float, float]:
    """Standard deviations between steps with and without a person: at least, and at most.

    Each holds with certainty 1 - alpha. The first is 0 where nothing was felt, and the second infinite where
    the answers do not bound it.
    """
    if not answers.inside or not answers.outside:
        return 0.0, math.inf
    found = clopper_pearson(answers.inside_called_in, answers.inside, alpha)
    mistaken = clopper_pearson(answers.outside_called_in, answers.outside, alpha)
    least = float(norm.ppf(found[0]) - norm.ppf(mistaken[1]))
    most = float(norm.ppf(found[1]) - norm.ppf(mistaken[0]))
    return (max(0.0, least) if math.isfinite(least) else 0.0), max(0.0, most)


def _of_steps(info: AttackInfo, adversary: str, alpha: float) -> StepAttack:
    answers, over = info.steps[adversary], info.mechanism.noise_over_claim
    # As it would be felt with as much noise as is claimed, and no more.
    least, most = (each * over for each in separation(answers, alpha))
    claimed = info.mechanism.noise_multiplier
    noise = 1 / least if least else None
    return StepAttack(
        adversary=adversary,
        **answers.model_dump(),
        separation_claimed=1 / claimed,
        separation_at_least=least,
        separation_at_most=min(most, LARGEST),
        noise_at_most=noise,
        # Accountants are slow for little noise, and half of what is claimed is enough to be over it.
        epsilon_at_least=0.0
        if noise is None
        else _epsilon(info, max(noise, min(_LEAST_NOISE, claimed / 2))),
    )


def _epsilon(info: AttackInfo, noise: float) -> float:
    """Of the mechanism with such noise, by the tightest accountant: a bound from below may not be loose."""
    releases = [Release(noise, rate, steps) for rate, steps in info.mechanism.steps_at_each_rate]
    return epsilon_dp_accounting(releases, info.mechanism.delta, "pld")


# -- whole runs ------------------------------------------------------------------------------------


def _of_runs(info: AttackInfo, adversary: str, alpha: float) -> MembershipAttack:
    rehearsals = info.membership[adversary]
    tries = [
        (*guessed(np.array(each.scores), np.array(each.took_part), share), len(each.scores))
        for each in rehearsals
        for share in GUESSED
    ]
    delta = info.mechanism.delta
    bound = [
        epsilon_of_guesses(persons, guesses, right, delta, alpha / len(tries))
        for guesses, right, persons in tries
    ]
    best = int(np.argmax(bound)) if max(bound) else len(GUESSED) - 1
    inside, outside = _pooled(rehearsals)
    found, alarms = _found_at(rehearsals, 0.01)
    return MembershipAttack(
        adversary=adversary,
        persons=sum(len(each.scores) for each in rehearsals),
        guesses=tries[best][0],
        right=tries[best][1],
        epsilon_at_least=bound[best],
        auc=_auc(inside, outside),
        found=found / len(inside),
        found_ci=clopper_pearson(found, len(inside)),
        false_alarms=alarms / len(outside),
    )


def _pooled(rehearsals: tuple[Scored, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    scores = np.concatenate([each.scores for each in rehearsals])
    part = np.concatenate([each.took_part for each in rehearsals])
    return scores[part], scores[~part]


def _auc(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> float:
    """Mann & Whitney's U, over all pairs."""
    ranks = rankdata(np.concatenate([inside, outside]))[: len(inside)]
    return float((ranks.sum() - len(inside) * (len(inside) + 1) / 2) / len(inside) / len(outside))


def _found_at(rehearsals: tuple[Scored, ...], mistaken: float) -> tuple[int, int]:
    """How many are found, and how many taken for such, above a threshold that other rehearsals set."""
    found = alarms = 0
    for at, each in enumerate(rehearsals):
        _, others = _pooled((*rehearsals[:at], *rehearsals[at + 1 :]))
        high = np.array(each.scores) > np.quantile(others, 1 - mistaken, method="higher")
        part = np.array(each.took_part)
        found += int((high & part).sum())
        alarms += int((high & ~part).sum())
    return found, alarms
