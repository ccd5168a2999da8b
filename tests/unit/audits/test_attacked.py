"""Bounds from what attacks counted: known answers, rates of error, and files that are not what they say."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, norm

from privemo_audits import RunFilesError, build_report
from privemo_audits.attacked import (
    Answers,
    AttackInfo,
    bounds,
    separation,
)
from privemo_audits.guesses import chance_of_guessing, epsilon_of_guesses
from tests.support.audit_runs import RUN_ID, RunMaker

NOISE = 2.0  # of the truthful run


def answers(
    noise: float, trials: int, rng: np.random.Generator, *, lift: float = 1.0
) -> dict[str, int]:
    """Of an adversary who says "in" above one half, where a person adds `lift` to such noise."""
    inside = trials // 4
    found = int((lift + noise * rng.normal(size=inside) > 0.5).sum())
    mistaken = int((noise * rng.normal(size=trials - inside) > 0.5).sum())
    return {
        "inside": inside,
        "inside_called_in": found,
        "outside": trials - inside,
        "outside_called_in": mistaken,
    }


def attack(
    rng: np.random.Generator, *, noise: float = NOISE, apart: float = 0.0, trials: int = 2000
) -> dict[str, Any]:
    """An attack on a mechanism that claims NOISE and has `noise`; scores of members are `apart` higher."""
    part = rng.random((2, 200)) < 0.5
    scores = rng.normal(size=part.shape) + apart * part
    tries = [
        {"scores": s.tolist(), "took_part": p.tolist()} for s, p in zip(scores, part, strict=True)
    ]
    return {
        "schema": "privemo.attack/1",
        "run_id": RUN_ID,
        "made": "2026-11-29T12:00:00Z",
        "mechanism": {
            "noise_multiplier": NOISE,
            "noise": "local",
            "steps_at_each_rate": [[0.2, 10]],
            "delta": 1e-5,
        },
        "canaries": 200,
        "rehearsals": 2,
        "steps": {"against_all": answers(noise, trials, rng)},
        "draws": [{"rate": 0.2, "of": 4000, "drawn": int(rng.binomial(4000, 0.2))}],
        "membership": {"every_step": tries},
        "inversion": {"pictures": 50, "without_noise": 0.9, "with_noise": 0.01},
    }


def read(content: dict[str, Any]) -> AttackInfo:
    return AttackInfo.model_validate(content)


# -- single steps ----------------------------------------------------------------------------------


def test_the_separation_is_hardly_ever_overstated_and_close_with_many_answers() -> None:
    rng = np.random.default_rng(1)
    over = [
        separation(Answers(**answers(NOISE, 2000, rng)), 0.05)[0] > 1 / NOISE for _ in range(400)
    ]
    assert np.mean(over) <= 0.05
    least, most = separation(Answers(**answers(NOISE, 2_000_000, rng)), 0.05)
    assert least < 1 / NOISE < most
    assert least == pytest.approx(1 / NOISE, abs=0.02)


def test_the_separation_is_that_of_the_quantiles() -> None:
    exact = Answers(
        inside=10**9,
        inside_called_in=round(1e9 * norm.cdf(0.7)),
        outside=10**9,
        outside_called_in=round(1e9 * norm.cdf(-0.4)),
    )
    assert separation(exact, 0.05)[0] == pytest.approx(1.1, abs=1e-3)


@pytest.mark.parametrize(
    "counts", [(0, 0, 100, 0), (10, 0, 100, 100), (10, 10, 0, 0), (100, 50, 100, 50)]
)
def test_who_felt_nothing_proves_nothing(counts: tuple[int, int, int, int]) -> None:
    content = attack(np.random.default_rng(2))
    names = ("inside", "inside_called_in", "outside", "outside_called_in")
    content["steps"] = {"against_all": dict(zip(names, counts, strict=True))}
    (step,) = bounds(read(content)).in_steps
    assert (step.noise_at_most, step.epsilon_at_least) == (None, 0.0)


def test_the_noise_that_is_claimed_passes_and_half_of_it_does_not() -> None:
    rng = np.random.default_rng(3)
    fair = bounds(read(attack(rng)))
    assert fair.within
    assert 0 < fair.epsilon_at_least < fair.epsilon_claimed
    halved = bounds(read(attack(rng, noise=NOISE / 2)))
    assert not halved.within
    assert halved.in_steps[0].noise_at_most is not None
    assert NOISE / 2 < halved.in_steps[0].noise_at_most < NOISE


def test_no_noise_at_all_is_bounded_and_over_the_claim() -> None:
    found = bounds(read(attack(np.random.default_rng(4), noise=1e-9)))
    assert not found.within
    assert math.isfinite(found.epsilon_at_least)


def test_audits_of_correct_code_raise_no_alarm_more_often_than_they_say() -> None:
    rng = np.random.default_rng(5)
    alarms = 0
    for _ in range(200):
        content = attack(rng, trials=500)
        claimed = 1 / NOISE
        (step,) = bounds(read(content)).in_steps
        alarms += step.separation_at_least > claimed
    assert alarms <= 200 * 0.05


def test_more_noise_than_is_claimed_is_not_held_to_the_credit_of_the_claim() -> None:
    """All stores were there in the rehearsal, where fewer were enough: missing noise hides behind it."""
    content = attack(np.random.default_rng(13), trials=200_000)
    content["mechanism"]["noise_over_claim"] = 1.3
    assert not bounds(read(content)).within
    honest = attack(np.random.default_rng(13), noise=1.3 * NOISE, trials=200_000)
    honest["mechanism"]["noise_over_claim"] = 1.3
    assert bounds(read(honest)).within


@pytest.mark.parametrize("noise", [0.1, 0.2, 0.29])
def test_little_noise_is_held_against_its_own_claim(noise: float) -> None:
    content = attack(np.random.default_rng(14), noise=noise / 4)
    content["mechanism"] |= {"noise_multiplier": noise, "steps_at_each_rate": [[0.01, 2]]}
    assert not bounds(read(content)).within


def test_people_who_are_drawn_too_often_are_found_out() -> None:
    content = attack(np.random.default_rng(15))
    content["draws"] = [{"rate": 0.25, "of": 4000, "drawn": 1200}]
    found = bounds(read(content))
    assert found.epsilon_at_least < found.epsilon_claimed
    assert not found.within


def test_an_attack_that_is_blind_says_so() -> None:
    content = attack(np.random.default_rng(16))
    content["steps"]["against_all"] = answers(NOISE, 4000, np.random.default_rng(17), lift=0.0)
    found = bounds(read(content))
    assert found.within
    assert not found.conclusive
    assert bounds(read(attack(np.random.default_rng(16)))).conclusive


# -- whole runs ------------------------------------------------------------------------------------


def by_sums(persons: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """The bound as the paper writes it, term by term."""
    truth = 1 / (1 + math.exp(-epsilon))
    most = 0.0
    for i in range(1, right + 1):
        between = sum(binom.pmf(k, guesses, truth) for k in range(right - i, right))
        most = max(most, between / i)
    return min(1.0, float(binom.sf(right - 1, guesses, truth)) + 2 * persons * delta * most)


@pytest.mark.parametrize(
    ("persons", "guesses", "right", "epsilon", "delta"),
    [
        (100, 100, 70, 0.5, 1e-5),
        (100, 40, 40, 2.0, 1e-3),
        (30, 30, 0, 1.0, 0.0),
        (50, 10, 9, 0.0, 0.01),
    ],
)
def test_the_chance_of_guessing_is_that_of_the_paper(
    persons: int, guesses: int, right: int, epsilon: float, delta: float
) -> None:
    assert chance_of_guessing(persons, guesses, right, epsilon, delta) == pytest.approx(
        by_sums(persons, guesses, right, epsilon, delta)
    )


def test_randomised_response_is_bounded_by_its_epsilon() -> None:
    """The mechanism that the bound is made after: a coin told truly with chance e^eps / (1 + e^eps)."""
    rng = np.random.default_rng(6)
    truth = 1 / (1 + math.exp(-2.0))
    found = [
        epsilon_of_guesses(1000, 1000, int(rng.binomial(1000, truth)), 0.0, 0.05)
        for _ in range(300)
    ]
    assert np.mean(np.array(found) > 2.0) <= 0.05
    assert np.median(found) > 1.75


def test_a_delta_makes_bounds_smaller_and_more_right_guesses_larger() -> None:
    assert epsilon_of_guesses(200, 200, 150, 1e-3, 0.05) < epsilon_of_guesses(
        200, 200, 150, 0.0, 0.05
    )
    assert epsilon_of_guesses(200, 200, 100, 1e-5, 0.05) == 0.0
    assert (
        0
        < epsilon_of_guesses(200, 200, 130, 1e-5, 0.05)
        < epsilon_of_guesses(200, 200, 190, 1e-5, 0.05)
    )


def test_members_who_stand_out_are_found() -> None:
    rng = np.random.default_rng(7)
    none, some = (bounds(read(attack(rng, apart=apart))).in_runs[0] for apart in (0.0, 4.0))
    assert none.epsilon_at_least == 0.0
    assert none.auc == pytest.approx(0.5, abs=0.08)
    assert some.epsilon_at_least > 2
    assert some.auc > 0.98
    assert some.found > 0.8
    assert some.found_ci[0] <= some.found <= some.found_ci[1]
    assert none.found < 0.1
    assert some.false_alarms < 0.05


def test_a_run_that_remembers_everybody_is_over_a_small_claim() -> None:
    content = attack(np.random.default_rng(8), apart=50.0)
    content["mechanism"]["steps_at_each_rate"] = [[0.01, 10]]
    assert not bounds(read(content)).within


# -- in a report -----------------------------------------------------------------------------------


def test_the_report_sets_claimed_recomputed_and_attacked_side_by_side(run: RunMaker) -> None:
    content = attack(np.random.default_rng(9))
    (run.directory / "attack.json").write_text(json.dumps(content))
    report = build_report(run.directory)
    attacked = report.privacy.attacked
    assert attacked is not None
    assert attacked.epsilon_at_least <= attacked.epsilon_claimed
    (check,) = [c for c in report.checks if c.id == "privacy.attack_within_claim"]
    assert check.passed
    assert check.required
    assert "attack.json" in report.evidence.files
    assert any("do not contradict" in sentence for sentence in report.summary)


def test_an_attack_that_found_too_much_fails_the_audit(run: RunMaker) -> None:
    content = attack(np.random.default_rng(10), noise=NOISE / 2)
    (run.directory / "attack.json").write_text(json.dumps(content))
    report = build_report(run.directory)
    assert "privacy.attack_within_claim" in report.failed_checks
    assert any("not as it was accounted" in sentence for sentence in report.summary)


def test_a_run_that_nobody_attacked_says_so(run: RunMaker) -> None:
    report = build_report(run.directory)
    assert report.privacy.attacked is None
    assert not [c for c in report.checks if c.id == "privacy.attack_within_claim"]
    assert any("no attack was made" in limit for limit in report.limits)


def other_run(content: dict[str, Any]) -> None:
    content["run_id"] = "another"


def more_than_asked(content: dict[str, Any]) -> None:
    content["steps"]["against_all"]["inside_called_in"] = 10**6


def too_few_coins(content: dict[str, Any]) -> None:
    content["membership"]["every_step"][0]["took_part"].pop()


def everybody_took_part(content: dict[str, Any]) -> None:
    one = content["membership"]["every_step"][0]
    one["took_part"] = [True] * len(one["took_part"])


def other_noise(content: dict[str, Any]) -> None:
    content["mechanism"]["noise_multiplier"] = 99.0


def no_rehearsal(content: dict[str, Any]) -> None:
    content["membership"]["every_step"] = []


def too_many(content: dict[str, Any]) -> None:
    content["steps"]["against_all"]["inside"] = 10**30


def more_drawn_than_there_were(content: dict[str, Any]) -> None:
    content["draws"][0]["drawn"] = 4001


def no_noise(content: dict[str, Any]) -> None:
    content["mechanism"]["noise_multiplier"] = 0


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (other_run, "is of run 'another'"),
        (more_than_asked, "more were called in"),
        (too_few_coins, "as many scores as people"),
        (everybody_took_part, "all or none"),
        (no_noise, "noise_multiplier"),
        (other_noise, "and the run's is"),
        (no_rehearsal, "every_step"),
        (too_many, "inside"),
        (more_drawn_than_there_were, "more were drawn"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_named(
    run: RunMaker, spoil: Callable[[dict[str, Any]], None], words: str
) -> None:
    content = attack(np.random.default_rng(11))
    spoil(content)
    (run.directory / "attack.json").write_text(json.dumps(content))
    with pytest.raises(RunFilesError, match=words) as error:
        build_report(run.directory)
    assert "attack.json" in str(error.value)


def test_a_torn_file_is_named(run: RunMaker) -> None:
    (run.directory / "attack.json").write_text(json.dumps(attack(np.random.default_rng(12)))[:-20])
    with pytest.raises(RunFilesError, match=r"attack\.json"):
        build_report(run.directory)
