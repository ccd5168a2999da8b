"""`privemo attack`: rehearse a run some times, attack each, try to see a face in an update, write it down."""

from __future__ import annotations

import math
import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from privemo.attacks import inversion, membership
from privemo.attacks.canaries import Canaries
from privemo.attacks.rehearsal import Rehearsal, Seen, rehearsal_settings, rehearse
from privemo.attacks.steps import ADVERSARIES, Counts, StepAdversary
from privemo.config import RunSettings
from privemo.errors import SettingsError
from privemo.files import write_json
from privemo.machine import tuned
from privemo.releases import Mechanism, Release, Stated
from privemo.runs import Run
from privemo.schedules import steps_at_each_rate

__all__ = ["ATTACK_FILE", "FEWEST_CANARIES", "FEWEST_REHEARSALS", "attack"]

ATTACK_FILE = "attack.json"

FEWEST_CANARIES, FEWEST_REHEARSALS = 50, 2
"""With fewer of either no attack says much: a bound of epsilon from a few guesses is near 0, and a last model
needs another to be held against."""

FEWEST_OF_A_STORE = 20

_COINS = 2**48


def attack(
    run: Run,
    *,
    canaries: int = 200,
    rehearsals: int = 2,
    listener: Callable[[int, int], None] = lambda done, of: None,
) -> dict[str, Any]:
    """Attack what a run did, and write what was found to `attack.json` in its folder.

    Nothing of the run is changed or read but its settings and facts, and nobody's face. An attack takes about
    as long as training 200 people does; made again it replaces the one before.

    Args:
        run: prepared; finished or not.
        canaries: people who do not exist, of whom about half take part.
        rehearsals: how many times the run is rehearsed.
        listener: called with steps done and steps in all.

    Returns:
        What was written.

    Raises:
        SettingsError: the run is not private, or there are too few canaries or rehearsals.
        RunError: a rehearsal did not go through, or the file cannot be written.
    """
    settings = _settings(run, canaries, rehearsals)
    everybody = Canaries.drawn(
        canaries, channels=run.facts["model"]["channels"], rng=np.random.default_rng()
    )
    assert settings.privacy is not None  # noqa: S101 - rehearsal_settings has looked
    clip = settings.privacy.max_grad_norm
    before = _releases(run.facts["privacy"].get("spent_before", ()))
    counts = {adversary: Counts() for adversary in ADVERSARIES}
    draws: dict[float, list[int]] = {}
    done, took_part, every_step = [], [], []
    total = rehearsals * settings.rounds
    for number in range(rehearsals):
        adversary = StepAdversary(everybody, settings.model, clip, np.random.default_rng(), counts)
        watcher = membership.EveryStep(everybody, settings.model)

        def look(seen: Seen, at: int = number) -> None:
            adversary.look(seen)  # noqa: B023 - called within this turn of the loop alone
            watcher.look(seen)  # noqa: B023
            listener(at * settings.rounds + seen.number, total)

        coins = secrets.randbelow(_COINS)
        with tempfile.TemporaryDirectory(prefix="privemo-attack-") as folder:
            asked = settings.model_copy(update={"split_seed": coins})
            one = rehearse(asked, everybody, Path(folder), look, before=before)
        _add_draws(draws, adversary, int(one.took_part.sum()))
        done.append(one)
        took_part.append(one.took_part)
        every_step.append(watcher.scores)
    with tuned(settings.threads):
        last = membership.last_model([one.model for one in done], everybody, settings.model)
        seen_faces = inversion.attempts(run, done[0].privacy["noise_multiplier"])
    found = {
        "schema": "privemo.attack/1",
        "run_id": run.run_id,
        "made": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "mechanism": _mechanism(settings, done[0]),
        "canaries": canaries,
        "rehearsals": rehearsals,
        "steps": {name: asdict(each) for name, each in counts.items()},
        "draws": [{"rate": rate, "of": of, "drawn": n} for rate, (n, of) in sorted(draws.items())],
        "membership": {
            "every_step": _scored(every_step, took_part),
            "last_model": _scored(last, took_part),
        },
        "inversion": seen_faces,
        "versions": {
            n: metadata.version(n) for n in ("privemo", "torch", "opacus", "flwr", "numpy")
        },
    }
    write_json(run.folder / ATTACK_FILE, found)
    return found


def _settings(run: Run, canaries: int, rehearsals: int) -> RunSettings:
    if canaries < FEWEST_CANARIES:
        raise SettingsError(f"An attack takes {FEWEST_CANARIES} canaries or more, not {canaries}.")
    asked = rehearsal_settings(run.settings, canaries, coins=0)
    if canaries < FEWEST_OF_A_STORE * asked.stores:
        raise SettingsError(
            f"{asked.stores} stores share the noise: that takes {FEWEST_OF_A_STORE * asked.stores} canaries "
            f"or more, not {canaries}."
        )
    if rehearsals < FEWEST_REHEARSALS:
        raise SettingsError(
            f"An attack takes {FEWEST_REHEARSALS} rehearsals or more, not {rehearsals}: the last model of "
            "one is held against that of another."
        )
    return asked


def _releases(told: Sequence[Mapping[str, Any]]) -> list[Release]:
    """What people lost before, as `run.json` has it."""
    return [Stated(**each) if "epsilon" in each else Mechanism(**each) for each in told]


def _add_draws(draws: dict[float, list[int]], adversary: StepAdversary, took_part: int) -> None:
    """How many were drawn, of how many that were to be drawn at a rate."""
    for rate, drawn in adversary.draws.items():
        total = draws.setdefault(rate, [0, 0])
        total[0] += sum(drawn)
        total[1] += took_part * len(drawn)


def _mechanism(settings: RunSettings, one: Rehearsal) -> dict[str, Any]:
    return {
        "noise_multiplier": one.privacy["noise_multiplier"],
        "steps_at_each_rate": [list(each) for each in steps_at_each_rate(settings)],
        "delta": one.privacy["delta"],
        "noise": one.privacy.get("noise", "local"),
        # All stores were there, and each added a share: more noise than is claimed by so much.
        "noise_over_claim": math.sqrt(settings.stores / one.privacy.get("noise_stores", 1)),
    }


def _scored(
    scores: list[np.ndarray[Any, Any]], took_part: list[np.ndarray[Any, Any]]
) -> list[dict[str, list[float] | list[bool]]]:
    return [
        {"scores": [round(float(s), 6) for s in score], "took_part": part.tolist()}
        for score, part in zip(scores, took_part, strict=True)
    ]
