"""All that is learned from: sums of reactions, one row for each kind of situation and arm.

No row is about a person, and none is about a single reaction. Each reaction r, to what was shown with
probability p, adds to seven sums of its cell: 1, r, 1/p, r/p, 1/p^2, r/p^2 and r^2/p^2. They are enough to
learn (a mean is a sum over a count) and to judge a policy that was never tried with an interval
(`privemo.recommend.offpolicy`), so nothing else is kept. Every cell has two halves, and a fair coin says
which a reaction goes to: what is learned from one half is judged on the other.

The cells are a closed vocabulary, so the file is bounded. What it reveals: whoever sees it before and after
one reaction learns that reaction, and in which situation it happened; not whose it was. `reaction_epsilon`
hides the reaction (not the situation) from them too.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from privemo.errors import DataError, RunError
from privemo.files import write_json

from .policy import AdaptationPolicy

__all__ = ["HALVES", "SCHEMA", "SUMS", "Sums", "SumsFile", "digest", "randomised", "spread"]

SCHEMA = "privemo.recommend-sums/1"
SUMS = ("n", "r", "1/p", "r/p", "1/p2", "r/p2", "r2/p2")
HALVES = 2

Floats = NDArray[np.float64]


class Sums:
    """Sums of one policy: by cell an array of shape (2 halves, 7 sums).

    Attributes:
        policy: SHA-256 of the policy under which the reactions came.
        reactions: how many were added, ever.
        cells: by name; read-only to callers.
    """

    def __init__(
        self, policy: str, reactions: int = 0, cells: Mapping[str, Floats] | None = None
    ) -> None:
        self.policy = policy
        self.reactions = reactions
        self.cells: dict[str, Floats] = dict(cells or {})

    def add(self, cell: str, p: float, reward: float, half: int) -> None:
        """Add a reaction to what was shown with probability `p`."""
        row = np.array([1, reward, 1 / p, reward / p, p**-2, reward / p**2, (reward / p) ** 2])
        self.cells.setdefault(cell, np.zeros((HALVES, len(SUMS))))[half] += row
        self.reactions += 1

    def fade(self, most: int) -> None:
        """Halve everything when over `most` reactions weigh: old ones fade, and no sum grows for ever."""
        if sum(float(cell[:, 0].sum()) for cell in self.cells.values()) > most:
            for cell in self.cells.values():
                cell /= 2

    def half(self, half: int) -> dict[str, Floats]:
        """By cell its seven sums, of one half."""
        return {name: cell[half] for name, cell in self.cells.items()}

    def whole(self) -> dict[str, Floats]:
        """By cell its seven sums, of both halves."""
        return {name: cell.sum(axis=0) for name, cell in self.cells.items()}

    def content(self) -> dict[str, object]:
        """As JSON."""
        cells = {name: self.cells[name].tolist() for name in sorted(self.cells)}
        return {
            "schema": SCHEMA,
            "policy": self.policy,
            "sums": list(SUMS),
            "reactions": self.reactions,
            "cells": cells,
        }


class SumsFile:
    """The file of a policy's sums, in a folder of its own; several processes may add to it.

    Args:
        folder: made when it is not there.
        policy: sums of another policy are in another file.
        simulated: learned from people whose consents were simulated; kept apart, and marked.

    Raises:
        DataError: the file holds something else: it was changed, or torn by another program.
        RunError: the folder cannot be read or written.
    """

    def __init__(self, folder: Path, policy: AdaptationPolicy, *, simulated: bool = False) -> None:
        self._folder, self._policy, self._simulated = folder, policy, simulated
        self._kinds = policy.kinds()
        self.path = folder / f"{'simulated-' * simulated}sums-{policy.sha256[:16]}.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{folder} cannot be made ({error.strerror or error}).") from error

    def read(self) -> Sums:
        """What is there; nothing learned where there is no file.

        Raises:
            DataError, RunError: as for the class.
        """
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return Sums(self._policy.sha256)
        except OSError as error:
            raise RunError(f"{self.path} cannot be read ({error.strerror or error}).") from error
        return _parsed(raw, self.path, self._policy.sha256, self._kinds, self._simulated)

    def add(self, cell: str, p: float, reward: float, half: int) -> Sums:
        """Add a reaction, durably, and return the sums with it: whole, or not at all.

        Raises:
            DataError, RunError: nothing was added.
        """
        if not 0 < p <= 1 or not math.isfinite(reward):
            raise DataError(
                f"got reaction {reward} to what was shown with {p}, want odds of 0 to 1"
            )
        if cell not in self._kinds:
            raise DataError(f"{cell} is no situation of this policy")
        with self._alone():
            sums = self.read()
            sums.add(cell, p, reward, half)
            sums.fade(self._policy.learning.most_reactions)
            write_json(self.path, sums.content() | {"simulated": self._simulated})
        return sums

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            descriptor = os.open(self._folder, os.O_RDONLY)
        except OSError as error:
            raise RunError(
                f"{self._folder} cannot be opened ({error.strerror or error})."
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _parsed(raw: bytes, path: Path, policy: str, kinds: frozenset[str], simulated: bool) -> Sums:
    try:
        content = json.loads(raw)
        if content["schema"] != SCHEMA or content["policy"] != policy:
            raise ValueError("of another schema or policy")
        if content["simulated"] is not simulated:
            raise ValueError("of simulated consents among real ones, or real among simulated")
        if content["sums"] != list(SUMS) or type(content["reactions"]) is not int:
            raise ValueError("with other sums")
        cells = {name: np.array(rows, dtype=np.float64) for name, rows in content["cells"].items()}
        if not set(cells) <= kinds:
            raise ValueError("with situations that the policy does not know")
        if content["reactions"] < 0 or not all(map(_sound, cells.values())):
            raise ValueError("with sums that no reactions add up to")
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(
            f"{path} holds no sums of this policy ({error}). Put it back from a backup, or move it away to "
            "learn from nothing."
        ) from error
    return Sums(policy, content["reactions"], cells)


def _sound(cell: Floats) -> bool:
    """Whether reactions could add up to it: finite, counts and squares not negative, and no p above 1."""
    if cell.shape != (HALVES, len(SUMS)) or not np.isfinite(cell).all():
        return False
    n, inverse, inverse2, squares = cell[:, 0], cell[:, 2], cell[:, 4], cell[:, 6]
    slack = 1e-9 * (1 + np.abs(cell).max())
    ordered = (n <= inverse + slack) & (inverse <= inverse2 + slack)
    return bool(((n >= 0) & (squares >= 0) & ordered).all())


def randomised(reward: float, epsilon: float | None, rng: Random) -> float:
    """A reaction as it is kept: itself, or a random one of the same mean.

    With `epsilon` the reaction becomes 1 with its own probability, else 0; is turned round with probability
    1 / (1 + e^epsilon); and is scaled so that its mean is the reaction. Whoever sees it can tell no two
    reactions apart by more than a factor of e^epsilon.

    Source:
        Warner (1965), JASA 60: randomised response.
    """
    if epsilon is None:
        return reward
    wrong = 1 / (1 + math.exp(epsilon))
    told = (rng.random() < reward) != (rng.random() < wrong)
    return (float(told) - wrong) / (1 - 2 * wrong)


def spread(epsilon: float | None) -> float:
    """How far apart two kept reactions can be; 1 without `epsilon`."""
    return 1.0 if epsilon is None else (1 + math.exp(-epsilon)) / (1 - math.exp(-epsilon))


def digest(policy: str, learned: Mapping[str, tuple[float, float]]) -> str:
    """SHA-256 of what a model was learned from: a name for the model, hex."""
    text = json.dumps([policy, sorted((k, *v) for k, v in learned.items())])
    return hashlib.sha256(text.encode()).hexdigest()
