"""Whole runs of which every message is heard, and what was secret in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privemo.config import PrivacySettings
from privemo.dp.bookkeeping.optimizer import PersonOptimizer
from privemo.secure_store import SecureStore
from privemo.store import Store
from privemo.storeconfig import KEY_FILE
from privemo_consent import Purpose
from tests.support.disclosed import Secrets
from tests.support.eavesdrop import Ear, Heard
from tests.support.federated import EXACT, TERMS, Federated
from tests.support.marked import PARTS, marked_faces

__all__ = ["MODES", "ROUNDS", "Scene", "overhear"]

ROUNDS = 2

MODES = ("local", "distributed", "exact")
"""Noise of each store's own, with counts; shared noise, with noised counts, and with exact ones."""


@dataclass
class Scene:
    """A run that was heard from end to end, and what was secret in it."""

    mode: str
    federated: Federated
    heard: list[Heard]
    secrets: Secrets
    face: np.ndarray
    labels: np.ndarray
    person: str
    count: int

    def of(self, kind: str) -> list[Heard]:
        return [one for one in self.heard if one.kind == kind]


def overhear(mode: str, folder: Path) -> Scene:
    faces, sizes = marked_faces(folder)
    shared: dict[str, Any] = {} if mode == "local" else {"noise": "distributed", "may_drop": 0.4}
    federated = Federated(
        folder,
        EXACT if mode == "exact" else TERMS,
        shared=mode != "local",
        faces=faces,
        rounds=ROUNDS,
        declared_people=40,
        privacy=PrivacySettings(epsilon=8.0, sample_rate=0.25, **shared),
        flip=False,
        zoom=0,
    )
    ear, secrets = Ear(), Secrets()
    with pytest.MonkeyPatch.context() as patch:
        unprotected = _overheard(patch)
        grid = federated.drive(ear)
    assert grid.failures == []
    for what, data in unprotected:
        secrets.add_bytes(what, data, every=max(16, len(data) // 50))
    secrets.add_pictures(faces["images"])
    secrets.add_people(sorted(set(faces["identity"].tolist())))
    labels = [
        _add_store(secrets, federated.store(name), faces, {p: sizes[index, p] for p in PARTS})
        for index, name in enumerate(federated.names)
    ]
    someone = 7
    return Scene(
        mode,
        federated,
        ear.heard,
        secrets,
        face=faces["images"][someone],
        labels=labels[0],
        person=str(faces["identity"][someone]),
        count=sizes[0, "train"][1],
    )


def _overheard(patch: pytest.MonkeyPatch) -> list[tuple[str, bytes]]:
    """Sums before their noise, and numbers before their mask, which are in memory alone."""
    kept: list[tuple[str, bytes]] = []
    add_noise, taken, numbers = (
        PersonOptimizer.add_noise,
        PersonOptimizer.taken,
        SecureStore._numbers,
    )

    def noisy(self: PersonOptimizer) -> None:
        kept.extend(("sum without noise", p.summed_grad.numpy().tobytes()) for p in self.params)
        add_noise(self)

    def bare(self: PersonOptimizer) -> Any:
        sums = taken(self)
        kept.extend(("sum without noise", each.numpy().tobytes()) for each in sums)
        return sums

    def whole(self: SecureStore, *arguments: Any) -> bytes:
        found = numbers(self, *arguments)
        kept.append(("numbers without mask", found))
        return found

    patch.setattr(PersonOptimizer, "add_noise", noisy)
    patch.setattr(PersonOptimizer, "taken", bare)
    patch.setattr(SecureStore, "_numbers", whole)
    return kept


def _add_store(
    secrets: Secrets,
    store: Store,
    faces: dict[str, np.ndarray],
    sizes: dict[str, tuple[int, int]],
) -> np.ndarray:
    """What one store must keep to itself, besides faces and names; returns the labels that it trains on."""
    labels = {}
    bands = dict(zip(faces["identity"].tolist(), faces["age_band"].tolist(), strict=True))
    try:
        for part, purpose in zip(PARTS, (Purpose.TRAINING, Purpose.FAIRNESS_AUDIT), strict=True):
            admitted = store._ask(part, purpose)  # type: ignore[arg-type]
            mine = admitted.faces
            assert (len(set(mine.person)), len(mine)) == sizes[part]
            counts = {
                f"{part} {of} {unit}": n
                for of in ("asked", "admitted")
                for unit, n in admitted.counts[of].items()
            }
            secrets.add_labels(mine.label)
            secrets.add_histogram(np.bincount(mine.label, minlength=4))
            labels[part] = mine.label
            who = [bands[p] for p in set(mine.person.tolist())]
            bands_of = [who.count(band) for band in ("25_34", "35_44", "45_54")]
            secrets.add_histogram([*bands_of, len(who)])
            secrets.add_counts({f"{store.config.name} {name}": n for name, n in counts.items()})
            for use in store.registry.uses():
                if use.purpose == purpose:
                    drawn = np.isin(mine.person, use.persons)
                    secrets.add_labels(mine.label[drawn])
        items = {f"{store.config.name} {kind}": n for kind, n in store.vault.counts().items()}
        secrets.add_counts(items | {f"{store.config.name} people": len(store.registry.persons())})
        for path in [store.folder / KEY_FILE, *(store.folder / "consent.keys").rglob("*")]:
            if path.is_file():
                data = path.read_bytes()
                secrets.add_bytes("key", data, every=16 if len(data) > 64 else 0)
    finally:
        store.close()
    return labels["train"]
