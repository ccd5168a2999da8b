"""The stores of a simulated run, each as on a machine of its own: consents, vault, configuration."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from privemo.asked import count_asked, write_asked
from privemo.cameras import Camera
from privemo.capture import Part, capture
from privemo.config import RunSettings
from privemo.faces import FaceTable
from privemo.files import write_bytes, write_json
from privemo.releases import Mechanism, Release
from privemo.secagg.session import needed
from privemo.skew import shared_out
from privemo.storeconfig import KEY_FILE, STORE_FILE, Counted, NamelessReason, StoreConfig
from privemo_consent import (
    ConsentMix,
    ConsentRegistry,
    Context,
    Party,
    Setting,
    simulate_consents,
)

__all__ = [
    "CONTROLLER",
    "EVERYONE",
    "MIXES",
    "agreed_facts",
    "lay_out_stores",
    "shares_noise",
    "store_names",
]

CONTROLLER = Party(
    id="urn:privemo:simulation",
    name="Simulated chain of stores",
    address="nowhere",
    contact="simulation@example.org",
    type="controller",
)

EVERYONE = ConsentMix(
    granted=1.0,
    will_withdraw=0.0,
    refused=0.0,
    withdrawn=0.0,
    expired=0.0,
    other_purpose=0.0,
    unknown_age=0.0,
    staff=0.0,
    no_record=0.0,
    minor=0.0,
    also_audit=1.0,
)
"""Every adult agrees to training and to the audit. Children are refused all the same."""

MIXES = {"realistic": ConsentMix(), "everyone": EVERYONE}
"""How simulated shoppers answer, by the name that settings use."""

_Door = dict[Part, tuple[NDArray[np.int64], NDArray[np.str_]]]
"""Who comes to the door, by part: rows of the table, and what age each person says."""


def store_names(stores: int) -> list[str]:
    """Names of the stores of a simulated run, in an order that sorting them keeps.

    A server adds up by name; numbers of one width make that the order of the stores.
    """
    digits = max(2, len(str(stores)))
    return [f"store-{number:0{digits}d}" for number in range(1, stores + 1)]


def lay_out_stores(
    table: FaceTable,
    folder: Path,
    settings: RunSettings,
    *,
    people: int,
    run_id: str,
    plan: Sequence[Mechanism],
    spent_before: tuple[Release, ...],
    listener: Callable[[dict[str, Any]], None] | None,
) -> dict[str, str]:
    """Make a folder for each store, with the faces of those who agreed in its vault.

    Args:
        table: the faces; everything of a person goes to one store.
        folder: of the run.
        settings: of the run.
        people: public number of people that each store expects to admit.
        run_id: of the run.
        plan: all private steps of the run; none without privacy.
        spent_before: what the people had lost before this run.
        listener: called as stores are prepared.

    Returns:
        The public key (hex) of each store.

    Raises:
        OSError, privemo_consent.ConsentError: a folder or registry cannot be written.
    """
    given = settings.seed_of_split
    seed = secrets.randbits(32) if given is None else given
    train, test = table.split(settings.test_fraction, seed=seed)
    train_parts, test_parts = (
        shared_out(table, part, settings.stores, seed=seed, settings=settings)
        for part in (train, test)
    )
    names = store_names(settings.stores)
    keys = {name: Ed25519PrivateKey.generate() for name in names}
    roster = {name: key.public_key().public_bytes_raw().hex() for name, key in keys.items()}
    for index, name in enumerate(names):
        _lay_out_store(
            table,
            folder / "stores" / name,
            _config(name, settings, people, run_id, plan, spent_before, roster),
            train_parts[index],
            test_parts[index],
            settings,
            camera=Camera.drawn(settings.camera_skew, seed=seed, store=index),
            consent_seed=seed * 10_007 + index,
        )
        write_bytes(folder / "stores" / name / KEY_FILE, keys[name].private_bytes_raw())
        if listener:
            listener({"event": "prepared", "done": index + 1, "of": len(names)})
    return roster


def _config(
    name: str,
    settings: RunSettings,
    people: int,
    run_id: str,
    plan: Sequence[Mechanism],
    spent_before: tuple[Release, ...],
    roster: dict[str, str],
) -> StoreConfig:
    return StoreConfig(
        name=name,
        registry_mode="simulation",
        spent_before=spent_before,
        seed=settings.seed,
        roster=roster if shares_noise(settings) else {},
        **agreed_facts(settings, people, run_id, plan),
    )


def shares_noise(settings: RunSettings) -> bool:
    """Whether stores add up under secure aggregation: then each holds its partners' keys."""
    return settings.privacy is not None and settings.privacy.noise == "distributed"


def agreed_facts(
    settings: RunSettings, people: int, run_id: str, plan: Sequence[Mechanism]
) -> dict[str, Any]:
    """What every store of a run agrees to, as fields of its `StoreConfig`; who else takes part comes apart.

    Args:
        settings: of the run.
        people: public number of people that each store expects to admit.
        run_id: of the run.
        plan: all private steps of the run; none without privacy.
    """
    p = settings.privacy
    private: dict[str, Any] = {"epsilon_budget": None}
    if p is not None:
        private = {
            "epsilon_budget": p.epsilon,
            "delta": p.delta,
            "accountant": p.accountant,
            "max_stores_per_person": p.max_stores_per_person,
        }
        if p.noise == "distributed":
            private["noise_stores"] = needed(settings.stores, p.may_drop)[0]
    return {
        "run_id": run_id,
        "declared_people": people,
        "largest_step": math.ceil(people * max((m.sample_rate for m in plan), default=1.0)),
        "agreed": tuple(sorted({(m.noise_multiplier, m.sample_rate) for m in plan})),
        "challenge_age": settings.challenge_age,
        "jurisdiction": settings.jurisdiction,
        "sensitive": settings.sensitive,
        "personal": settings.personal,
        "counts": settings.counts,
        **private,
    }


def _lay_out_store(
    table: FaceTable,
    folder: Path,
    config: StoreConfig,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    settings: RunSettings,
    *,
    camera: Camera,
    consent_seed: int,
) -> None:
    folder.mkdir(parents=True)
    rows = np.concatenate([train, test])
    persons, who = np.unique(table.person[rows], return_inverse=True)
    with ConsentRegistry.create(
        folder / "consent.sqlite", mode="simulation", controller=CONTROLLER
    ) as registry:
        simulated = simulate_consents(
            registry,
            persons,
            seed=consent_seed,
            true_age_band=table.band_of_people(rows),
            mix=MIXES[settings.consents],
            jurisdiction=settings.jurisdiction,
        )
        attested = simulated.attested_age_band[who]
        door: _Door = {
            "train": (train, attested[: len(train)]),
            "test": (test, attested[len(train) :]),
        }
        if config.sensitive:
            _count_whom_it_asks(registry, table, door, folder, config)
        seen = partial(camera.seen, seed=consent_seed) if settings.camera_skew else np.asarray
        turned_away = _take_in(registry, table, door, config, seen)
    withdrawals = _schedule(simulated.will_withdraw, settings, consent_seed)
    config = config.model_copy(update={"withdrawals": withdrawals, "turned_away": turned_away})
    write_json(folder / STORE_FILE, config.model_dump(mode="json", by_alias=True))


def _count_whom_it_asks(
    registry: ConsentRegistry, table: FaceTable, door: _Door, folder: Path, config: StoreConfig
) -> None:
    rows, attested = door["train"]
    counts = count_asked(
        registry,
        table,
        rows,
        columns=config.sensitive,
        context=_context(config),
        attested_age_band=attested,
        challenge_age=config.challenge_age,
    )
    write_asked(folder, counts, run_id=config.run_id, store=config.name)


def _take_in(
    registry: ConsentRegistry,
    table: FaceTable,
    door: _Door,
    config: StoreConfig,
    camera: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
) -> dict[Part, dict[NamelessReason, Counted]]:
    """Put into the vault whom the registry lets in; who was turned away, by part."""
    return {
        part: capture(
            registry,
            table,
            rows,
            part=part,
            context=_context(config),
            attested_age_band=attested,
            challenge_age=config.challenge_age,
            sensitive=config.sensitive,
            camera=camera,
        )
        for part, (rows, attested) in door.items()
    }


def _context(config: StoreConfig) -> Context:
    return Context(setting=Setting.RETAIL, jurisdiction=config.jurisdiction)


def _schedule(
    persons: tuple[str, ...], settings: RunSettings, seed: int
) -> tuple[tuple[str, int, int], ...]:
    """When each of these shoppers withdraws: some batch of some round."""
    rng = np.random.default_rng(seed)
    return tuple(
        (
            person,
            int(rng.integers(1, settings.rounds + 1)),
            int(rng.integers(0, settings.steps_per_round)),
        )
        for person in persons
    )
