"""A store with a camera: a signed model, a registry, people who do not exist, and what the camera sees."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from privemo import weights as w
from privemo.bench.edge import unmeasured_card
from privemo.exporting.graph import Reads, graph, plain
from privemo.exporting.packing import packed
from privemo.labels import EMOTIONS
from privemo.recognizer import Recognizer, Region
from privemo.recognizer.age import AgeEstimator
from privemo.recognizer.card import ModelCard
from privemo.recognizer.faces import FaceFinder
from privemo.synthetic import SyntheticPeople, synthesize
from privemo_consent import (
    AgeBand,
    ConsentRegistry,
    Party,
    Purpose,
    SigningKey,
)
from tests.support.notices import whole_notice

PARTY = Party(id="shop-1", name="A Shop", address="1 Main Street", contact="privacy@example.org")
KIOSK = Region(320, 90, 300, 300)
"""Where the person of a session stands; everybody else stands left of it."""

SIDE = 240
AT_KIOSK, BESIDE = (350, 120), (30, 120)


@cache
def nobody_body(channels: int = 1) -> bytes:
    """The graph of the bundled weights, for gray faces or for colour ones."""
    weights, _ = w.initial_weights("nobody", model="emotion-cnn", channels=channels, seed=0)
    return graph(Reads(plain(w.model_for("emotion-cnn", weights).eval())).eval(), channels)


def card(body: bytes, **changes: Any) -> ModelCard:
    """A card of a body, of no run; the model says nothing below 0.4."""
    made = unmeasured_card(body, "fp32")
    unsure = made.abstention.model_copy(update={"threshold": 0.4})
    return made.model_copy(update={"run_id": "run-1", "abstention": unsure} | changes)


def signed(key: SigningKey, **changes: Any) -> bytes:
    """A signed model of the bundled weights."""
    body = nobody_body()
    return packed(body, card(body, **changes), key)


def signed_colour(key: SigningKey) -> bytes:
    """The same for colour faces."""
    body = nobody_body(3)
    return packed(body, unmeasured_card(body, "fp32", 3), key)


def new_registry(path: Path, *, announced: bool = True, **options: Any) -> ConsentRegistry:
    """A registry whose notice hangs at the door."""
    registry = ConsentRegistry.create(path, mode="production", controller=PARTY, **options)
    notice = whole_notice(PARTY)
    registry.notice(notice)
    if announced:
        registry.announce_reading(notice, place="at the door")
    return registry


def agree(registry: ConsentRegistry, person: str, *purposes: Purpose, **changes: Any) -> None:
    """Somebody says yes; to personalisation, unless other purposes are named."""
    fields: dict[str, Any] = {"age_band": AgeBand.FROM_35, "jurisdiction": "IE"} | changes
    notice = registry.notices()[0].hash
    registry.grant(person, list(purposes or (Purpose.PERSONALISATION,)), notice=notice, **fields)


@dataclass(frozen=True)
class Cast:
    """Colour pictures (k, 192, 192, 3) of people who do not exist, by how old they look to the estimator."""

    looks_grown: NDArray[np.uint8]
    looks_young: NDArray[np.uint8]
    children: NDArray[np.uint8]
    emotions: tuple[str, ...]


@cache
def cast() -> Cast:
    """Drawn, and sorted by what the real detector and the real estimator say of them."""
    finder, ages = FaceFinder(), AgeEstimator()
    adults: SyntheticPeople = synthesize(16, 1, seed=5, channels=3, size=192, ages=(30.0, 90.0))
    grown, young, names = [], [], []
    for picture, label in zip(adults.images, adults.label, strict=True):
        scene = frame(at_kiosk=picture)
        here = KIOSK.of(scene)
        assert here is not None
        faces = finder.find(np.ascontiguousarray(here))
        if len(faces) != 1 or faces[0].score < 0.6:
            continue
        years = ages.years(here, faces[0])
        if years > 28:
            grown.append(picture)
            names.append(EMOTIONS[label])
        elif years < 23:
            young.append(picture)
    children = synthesize(2, 1, seed=6, channels=3, size=192, ages=(6.0, 12.0))
    return Cast(np.array(grown), np.array(young), children.images, tuple(names))


def frame(
    *, at_kiosk: NDArray[np.uint8] | None = None, beside: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """What the camera sees: (480, 640, 3) RGB, a wall and at most two people."""
    rng = np.random.default_rng(7)
    wall = rng.integers(60, 200, (6, 8, 3)).astype(np.uint8)
    scene = cv2.resize(wall, (640, 480), interpolation=cv2.INTER_CUBIC)
    for picture, (x, y) in ((at_kiosk, AT_KIOSK), (beside, BESIDE)):
        if picture is not None:
            small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
            scene[y : y + SIDE, x : x + SIDE] = small
    return np.asarray(scene, dtype=np.uint8)


class Seen:
    """What each network of a recognizer was given; the networks themselves do the work."""

    def __init__(self, recognizer: Recognizer) -> None:
        self.detector = _spy(recognizer._finder)
        self.ages = _spy(recognizer._ages)
        self.classifier = _spy(recognizer._classifier)

    @property
    def counts(self) -> tuple[int, int, int]:
        """How often detector, age network and classifier were asked."""
        return len(self.detector), len(self.ages), len(self.classifier)


def _spy(owner: Any) -> list[NDArray[Any]]:
    session, given = owner._session, []

    class Spy:
        def run(self, names: Any, feed: dict[str, NDArray[Any]]) -> Any:
            given.extend(array.copy() for array in feed.values())
            return session.run(names, feed)

    owner._session = Spy()
    return given
