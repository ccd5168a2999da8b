"""`privemo attack`: rehearse a run some times, attack each, try to see a face in an update, write it down.

Every attack is written down before it is made, and again with what it found (`privemo.attacks.history`).
"""

from __future__ import annotations

import math
import secrets
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from privemo.attacks import inversion, membership, model
from privemo.attacks.canaries import Canaries
from privemo.attacks.history import attacks_on
from privemo.attacks.rehearsal import Rehearsal, Seen, rehearsal_settings, rehearse
from privemo.attacks.reuse import Sketches
from privemo.attacks.steps import ADVERSARIES, Counts, StepAdversary
from privemo.config import RunSettings
from privemo.errors import SettingsError
from privemo.machine import tuned
from privemo.releases import Mechanism, Release, Stated
from privemo.runs import Run
from privemo.schedules import steps_at_each_rate
from privemo_consent import SigningKey

__all__ = ["FEWEST_CANARIES", "FEWEST_REHEARSALS", "attack"]

FEWEST_CANARIES, FEWEST_REHEARSALS = 50, 2
"""With fewer of either no attack says much: a bound of epsilon from a few guesses is near 0, and a last model
needs another to be held against."""

FEWEST_OF_A_STORE = 20

_COINS = 2**48

FloatArray = NDArray[np.float64]


def attack(
    run: Run,
    *,
    canaries: int = 200,
    rehearsals: int = 2,
    data: Path | None = None,
    sign: SigningKey | None = None,
    listener: Callable[[int, int], None] = lambda done, of: None,
) -> dict[str, Any]:
    """Attack what a run did, and add what was found to `attacks.jsonl` in its folder.

    Nothing of the run is changed or read but its settings and facts, and nobody's face. An attack takes
    about as long as training 200 people does. Made again, it stands beside those before: no attack that was
    made, or begun, is forgotten, and the more were finished, the surer each has to be.

    Args:
        run: prepared; finished or not.
        canaries: people who do not exist, of whom about half take part.
        rehearsals: how many times the run is rehearsed.
        data: the file of faces that the run was given, to attack its very model: people who do not exist.
        sign: the auditor's key, to sign how far the history of attacks goes; a store's key that lies in the
            run folder signs as well.
        listener: called with steps done and steps in all.

    Returns:
        What was found, its `number` among the attacks that were finished, and how far the `history` goes.

    Raises:
        SettingsError: the run is not private, or there are too few canaries or rehearsals; or the people in
            `data` may exist, or are not those of the run.
        DataError: `data` cannot be read.
        RunError: a rehearsal did not go through, or there is no model yet to attack.
        LedgerError: attacks made before were changed or taken out, or the file cannot be written.
    """
    settings = _settings(run, canaries, rehearsals)
    on_model = None if data is None else model.prepared(run, data)
    history = attacks_on(run, sign=sign)
    facts = {"run_id": run.run_id, "canaries": canaries, "rehearsals": rehearsals}
    begun = history.append(event="begun", **facts)
    found = _found(run, settings, canaries, rehearsals, listener)
    if on_model is not None:
        with tuned(settings.threads):
            found["model"] = on_model.scores(np.random.default_rng())
    entry = history.append(event="found", of=begun.seq, found=found, **facts)
    # In the order in which they were finished, as the audit counts: two processes may attack at once.
    finished = [
        each.seq
        for each in history.entries
        if each.event == "found"
        and each.canaries >= FEWEST_CANARIES
        and each.rehearsals >= FEWEST_REHEARSALS
    ]
    return {**found, "number": finished.index(entry.seq) + 1, "history": history.facts()}


def _found(
    run: Run,
    settings: RunSettings,
    canaries: int,
    rehearsals: int,
    listener: Callable[[int, int], None],
) -> dict[str, Any]:
    everybody = Canaries.drawn(
        canaries, channels=run.facts["model"]["channels"], rng=np.random.default_rng()
    )
    before = _releases(run.facts["privacy"].get("spent_before", ()))
    counts = {adversary: Counts() for adversary in ADVERSARIES}
    sketches = Sketches(np.random.default_rng())
    total = rehearsals * settings.rounds
    done = [
        _attacked(
            settings,
            everybody,
            partial(StepAdversary, counts=counts, sketches=sketches, rehearsal=number + 1),
            before,
            lambda step, at=number * settings.rounds: listener(at + step, total),  # type: ignore[misc]
        )
        for number in range(rehearsals)
    ]
    with tuned(settings.threads):
        last = membership.last_model([a.whole.model for a in done], everybody, settings.model)
        pictures = inversion.attempts(run, done[0].whole.privacy["noise_multiplier"])
    took_part = [a.whole.took_part for a in done]
    return {
        "schema": "privemo.attack/2",
        "run_id": run.run_id,
        "made": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "mechanism": _mechanism(settings, done[0].whole),
        "canaries": canaries,
        "rehearsals": rehearsals,
        "steps": {name: asdict(each) for name, each in counts.items()},
        "draws": _draws(done),
        "noise": sketches.most_alike(),
        "membership": {
            "every_step": _scored([a.every_step for a in done], took_part),
            "last_model": _scored(last, took_part),
        },
        "inversion": pictures,
        "versions": {
            n: metadata.version(n) for n in ("privemo", "torch", "opacus", "flwr", "numpy")
        },
    }


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


class _Attacked(NamedTuple):
    """One rehearsal, and what was seen of it: scores of everybody, and how many were drawn, by rate."""

    whole: Rehearsal
    every_step: FloatArray
    draws: dict[float, list[int]]


def _attacked(
    settings: RunSettings,
    everybody: Canaries,
    adversary_of: Callable[..., StepAdversary],
    before: Sequence[Release],
    listener: Callable[[int], None],
) -> _Attacked:
    """Rehearse once, with coins of its own, and look at every step."""
    assert settings.privacy is not None  # noqa: S101 - rehearsal_settings has looked
    clip = settings.privacy.max_grad_norm
    adversary = adversary_of(everybody, settings.model, clip, np.random.default_rng())
    watcher = membership.EveryStep(everybody, settings.model)

    def look(seen: Seen) -> None:
        adversary.look(seen)
        watcher.look(seen)
        listener(seen.number)

    asked = settings.model_copy(update={"split_seed": secrets.randbelow(_COINS)})
    with tempfile.TemporaryDirectory(prefix="privemo-attack-") as folder:
        whole = rehearse(asked, everybody, Path(folder), look, before=before)
    return _Attacked(whole, watcher.scores, adversary.draws)


def _draws(done: Sequence[_Attacked]) -> list[dict[str, float | int]]:
    """How many were drawn, of how many who were to be drawn at a rate."""
    drawn: Counter[float] = Counter()
    of: Counter[float] = Counter()
    for one in done:
        for rate, steps in one.draws.items():
            drawn[rate] += sum(steps)
            of[rate] += int(one.whole.took_part.sum()) * len(steps)
    return [{"rate": rate, "of": of[rate], "drawn": drawn[rate]} for rate in sorted(of)]


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
    scores: Sequence[FloatArray], took_part: Sequence[NDArray[np.bool_]]
) -> list[dict[str, list[float] | list[bool]]]:
    return [
        {"scores": [round(float(s), 6) for s in score], "took_part": part.tolist()}
        for score, part in zip(scores, took_part, strict=True)
    ]
