"""Stores whose numbers of people and faces are primes that nothing else is, and people who are told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from privemo.faces import load_faces
from privemo.labels import EMOTIONS

__all__ = ["PARTS", "SPLIT_SEED", "STORES", "marked_faces"]

STORES, SPLIT_SEED = 3, 5
PARTS = ("train", "test")

Sizes = dict[tuple[int, str], tuple[int, int]]
"""By store and part how many people may be admitted, and how many faces of theirs."""


def marked_faces(folder: Path, people: int = 840) -> tuple[dict[str, np.ndarray], Sizes]:
    """Columns of a face table, and what each store will have of it.

    As many in each part are minors as are over a prime. Labels and pixels are chance; a pseudonym ends in 12
    random bytes.

    Args:
        folder: for a draft of the table.
        people: of all stores.
    """
    rng = np.random.default_rng(99)
    names = np.array(sorted(f"guest-{rng.bytes(12).hex()}" for _ in range(people)))
    parts = _parts(folder / "draft.npz", names)
    images, minor, sizes = np.full(people, 2), np.zeros(people, bool), {}
    persons = [n for n in range(101, 255) if _prime(n)]
    faces = [n for n in range(257, 500) if _prime(n)]
    for part, rows in parts.items():
        few = persons.pop(persons.index(max(n for n in persons if n < len(rows) - 3)))
        many = faces.pop(faces.index(min(n for n in faces if n > 2 * few)))
        minor[rows[few:]] = True
        images[rows[: many - 2 * few]] += 1
        sizes[part] = (few, many)
    who = np.repeat(np.arange(people), images)
    return {
        "images": rng.integers(0, 256, (len(who), 48, 48), dtype=np.uint8),
        "label": rng.integers(0, 4, len(who)).astype(np.int8),
        "label_names": np.array(EMOTIONS),
        "identity": names[who],
        "age_band": np.where(minor, "13_15", rng.choice(["25_34", "35_44", "45_54"], people))[who],
    }, sizes


def _parts(draft: Path, names: np.ndarray) -> dict[tuple[int, str], np.ndarray]:
    """Who goes to which store, and to which part: that hangs on nothing but the names' order."""
    np.savez(
        draft,
        images=np.zeros((len(names), 48, 48), np.uint8),
        label=np.zeros(len(names), np.int8),
        label_names=np.array(EMOTIONS),
        identity=names,
    )
    table = load_faces(draft)
    halves = dict(zip(PARTS, table.split(0.5, seed=SPLIT_SEED), strict=True))
    return {
        (store, part): rows
        for part in PARTS
        for store, rows in enumerate(table.partition(halves[part], STORES, seed=SPLIT_SEED))
    }


def _prime(n: int) -> bool:
    return all(n % d for d in range(2, int(n**0.5) + 1))
