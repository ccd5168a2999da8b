"""What `run.json` says of a run, set before anything is trained: nothing that was learned from a face.

The size of the table stands in it and is taken to be public; so do numbers that follow from it where no
number of people is declared.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import numpy as np

from privemo import weights as w
from privemo.config import RunSettings
from privemo.dp import Mechanism, calibrate_noise, calibrate_scale
from privemo.dp.accounting import check_delta
from privemo.faces import FaceTable
from privemo.models import build_model, count_parameters
from privemo.personal import own_parameters
from privemo.recipes import default_lr
from privemo.releases import Release
from privemo.schedules import steps_at_each_rate
from privemo.secagg.session import needed

__all__ = [
    "new_federation_id",
    "new_run_id",
    "noise_of_a_store",
    "planned",
    "privacy_facts",
    "run_facts",
    "table_facts",
]


def privacy_facts(
    settings: RunSettings, people: int, past: Sequence[Release] = ()
) -> dict[str, Any]:
    """What is promised, and the noise that it takes.

    Args:
        settings: of the run.
        people: public number of people that each store expects to admit.
        past: what the people lost before this run.

    Raises:
        BudgetUnreachable, BudgetExhausted: no noise holds the promise.
        SettingsError: a delta so large that it promises nothing to so many people.
    """
    p = settings.privacy
    if p is None:
        return {"private": False, "unit": "person"}
    check_delta(p.delta, people * settings.stores)
    if settings.counts is not None:
        settings.counts.check_cost(
            epsilon=p.epsilon,
            delta=p.delta,
            accountant=p.accountant,
            past=past,
            times=p.max_stores_per_person,
        )
    return {
        "private": True,
        "unit": "person",
        "epsilon_budget": p.epsilon,
        "delta": p.delta,
        "accountant": p.accountant,
        "neighbouring": "add_or_remove_one_person",
        "sampler": "poisson_over_persons",
        "noise_multiplier": _noise(settings, past),
        **_sharing(settings),
        "sample_rate": p.sample_rate,
        "steps_per_round": settings.steps_per_round,
        # [rate, steps of one store], smallest first; more than one where batches grow.
        "steps_at_each_rate": steps_at_each_rate(settings),
        "max_grad_norm": p.max_grad_norm,
        # A public constant: the batch that the *declared* number of people gives on average.
        "normaliser": p.sample_rate * people,
        "declared_people": people,
        "noise_source": "os_entropy" if settings.seed is None else "seeded",
        "max_stores_per_person": p.max_stores_per_person,
        "spent_before": [asdict(release) for release in past],
    }


def _sharing(settings: RunSettings) -> dict[str, Any]:
    """Who adds the noise, where it is not each store by itself."""
    p = settings.privacy
    if p is None or p.noise == "local":
        return {}
    enough, _ = needed(settings.stores, p.may_drop)
    return {
        "noise": p.noise,
        "noise_stores": enough,
        "assumes": "the server learns sums over stores alone, and noise_stores of them add their share",
    }


def noise_of_a_store(privacy: Mapping[str, Any]) -> float:
    """Noise multiplier of what one store adds to a sum: its share, where stores share the noise."""
    return float(privacy["noise_multiplier"]) / math.sqrt(privacy.get("noise_stores", 1))


def _noise(settings: RunSettings, past: Sequence[Release]) -> float:
    """The one noise multiplier of the whole run."""
    p = settings.privacy
    assert p is not None  # noqa: S101 - for the type checker: the only caller has looked
    promise: dict[str, Any] = {
        "epsilon": p.epsilon,
        "delta": p.delta,
        "accountant": p.accountant,
        "compositions": p.max_stores_per_person,
        "past": past,
    }
    discrete = p.noise == "distributed"
    plan = [Mechanism(1.0, rate, steps, discrete) for rate, steps in steps_at_each_rate(settings)]
    if len(plan) == 1:
        return calibrate_noise(
            sample_rate=plan[0].sample_rate,
            steps=plan[0].steps,
            discrete=discrete,
            **promise,
        )
    return calibrate_scale(plan, **promise)


def planned(settings: RunSettings, privacy: dict[str, Any]) -> list[Mechanism]:
    """Everything that one store will release, if every round is run."""
    return [
        Mechanism(privacy["noise_multiplier"], rate, steps, privacy.get("noise") == "distributed")
        for rate, steps in steps_at_each_rate(settings)
    ]


def new_run_id(table: FaceTable, settings: RunSettings) -> str:
    """A name for the run; of a seeded run it follows from data and settings, as everything does."""
    if settings.seed is None:
        return secrets.token_hex(8)
    named = f"{table.digest}/{settings.model_dump_json()}"
    return hashlib.sha256(named.encode()).hexdigest()[:16]


def new_federation_id(settings: RunSettings) -> str:
    """A name for a run whose faces are with the stores."""
    if settings.seed is None:
        return secrets.token_hex(8)
    return hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:16]


def table_facts(table: FaceTable) -> dict[str, Any]:
    """What `run.json` says of the faces that a simulation was given."""
    return {
        "name": table.name,
        "digest": table.digest,
        "faces": len(table),
        "persons": len(np.unique(table.person)),
        "origin": table.origin or "not stated by the table",
        "person_source": table.person_source,
    }


def run_facts(
    settings: RunSettings,
    *,
    names: Sequence[str],
    data: dict[str, Any],
    channels: int,
    simulated: bool,
    engine: str,
    run_id: str,
    people: int,
    privacy: dict[str, Any],
    weights: w.Weights,
    origin: str,
) -> dict[str, Any]:
    """The whole of `run.json`.

    Raises:
        SettingsError: the network has no layers of the kind that is to stay in the stores.
    """
    from privemo.labels import EMOTIONS

    network = build_model(settings.model, channels=channels)
    parameters = count_parameters(network)
    own = sorted(own_parameters(network, settings.personal))
    return {
        "schema": "privemo.run/1",
        "run_id": run_id,
        "created": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "engine": engine,
        "simulated": simulated,
        "data": data,
        "stores": list(names),
        "declared_people": people,
        "rounds": settings.rounds,
        # Stores sign the end: so whoever takes rounds/closing.json away is found.
        "closes": True,
        "sensitive": list(settings.sensitive),
        "label_names": list(EMOTIONS),
        "privacy": privacy,
        "lr": default_lr(
            settings,
            noise_multiplier=noise_of_a_store(privacy) if privacy["private"] else 0.0,
            normaliser=privacy.get("normaliser", 1.0),
            parameters=parameters,
        ),
        # Everything of a person goes to one store, so nobody is in two.
        "store_sets": [[name] for name in names],
        "challenge_age": settings.challenge_age,
        "context": {"setting": "retail", "jurisdiction": settings.jurisdiction},
        "model": {
            "name": settings.model,
            "parameters": parameters,
            "channels": channels,
            "initial": w.sha256(weights),
            "initial_origin": origin,
            # Stay in the stores; made by the same noised steps, so the same epsilon covers them.
            **({"personal": own} if own else {}),
        },
        "versions": {
            name: metadata.version(name) for name in ("privemo", "torch", "opacus", "flwr", "numpy")
        },
        "settings": settings.model_dump(mode="json"),
    }
