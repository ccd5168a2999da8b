"""A film of a store: some agreed, some did not, children and staff walk by. Who agreed is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import privemo
from privemo.recognizer import Outcome, Reading, Recognizer, Session
from privemo_consent import AgeBand, ConsentRegistry, Purpose, Reason, Role, SigningKey
from tests.support.kiosks import KIOSK, Seen, agree, cast, frame, new_registry, signed

KEY = SigningKey.generate("chain")
FRAMES = 4
"""Of each scene."""

Pictures = NDArray[np.uint8]


class Scene:
    """Who stands at the kiosk, what they said there, and who walks by."""

    def __init__(self, who: str, face: Pictures, band: str, beside: Pictures | None) -> None:
        self.who, self.face, self.band, self.beside = who, face, band, beside


def scenes() -> list[Scene]:
    people = cast()
    grown, young, children = people.looks_grown, people.looks_young, people.children
    return [
        Scene("ann", grown[0], "35_44", grown[1]),
        Scene("said-no", grown[1], "35_44", grown[0]),
        Scene("no-record", grown[2], "45_54", None),
        Scene("child", children[0], "under_13", grown[0]),
        Scene("clerk", grown[3], "35_44", grown[0]),
        Scene("looks-young", young[0], "25_34", children[1]),
        Scene("withdraws", grown[2], "55_64", grown[1]),
        Scene("bob", grown[3], "65_plus", young[0]),
    ]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "store.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (640, 480))
    for scene in scenes():
        picture = frame(at_kiosk=scene.face, beside=scene.beside)
        for _ in range(FRAMES):
            writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[ConsentRegistry]:
    with new_registry(tmp_path / "consent.sqlite") as made:
        for person in ("ann", "bob", "withdraws", "looks-young"):
            agree(made, person)
        agree(made, "said-no", Purpose.TRAINING)
        for person, changes in (
            ("child", {"age_band": AgeBand.UNDER_13}),
            ("clerk", {"role": Role.EMPLOYEE}),
        ):
            with pytest.raises(privemo.ConsentError):
                agree(made, person, **changes)
        yield made


def test_readings_exist_of_consenting_adults_alone(
    film: Path, registry: ConsentRegistry, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(signed(KEY))
    recognizer = Recognizer.load(
        tmp_path / "model.onnx", keys=[KEY.verifying], registry=registry, jurisdiction="IE"
    )
    seen, found = Seen(recognizer), defaultdict[str, list[Reading]](list)
    at: dict[str, tuple[int, int, int]] = {}
    pictures = privemo.frames(film)
    for scene in scenes():
        before = seen.counts
        with recognizer.session(scene.who, age_band=scene.band, region=KIOSK) as session:
            for number in range(FRAMES):
                if scene.who == "withdraws" and number == 2:
                    registry.withdraw("withdraws")
                found[scene.who].append(recognizer.read(next(pictures), session))
        at[scene.who] = tuple(np.subtract(seen.counts, before).tolist())
    assert next(pictures, None) is None

    readable = (Outcome.READ, Outcome.UNSURE)
    assert all(reading.outcome in readable for who in ("ann", "bob") for reading in found[who])
    assert all(reading.outcome in readable for reading in found["withdraws"][:2])
    assert {reading.reason for reading in found["withdraws"][2:]} == {Reason.WITHDRAWN}
    refused = {
        "said-no": Reason.WRONG_PURPOSE,
        "no-record": Reason.NO_RECORD,
        "child": Reason.MINOR,
        "clerk": Reason.STAFF,
        "looks-young": Reason.SUSPECTED_MINOR,
    }
    for who, reason in refused.items():
        assert found[who][0].reason is reason
        assert not any(found[who])
        assert all(reading.emotion is None for reading in found[who])

    # How often each scene asked detector, age network and classifier.
    assert at == {
        "ann": (4, 4, 4),
        "bob": (4, 4, 4),
        "withdraws": (2, 2, 2),
        "looks-young": (1, 1, 0),  # and then the session was over
        **dict.fromkeys(("said-no", "no-record", "child", "clerk"), (0, 0, 0)),
    }
    permitted = [d for d in registry.decisions() if d.permit]
    assert {d.person for d in permitted} == {"ann", "bob", "withdraws", "looks-young"}
    registry.verify()


def test_nobody_is_read_between_sessions(
    film: Path, registry: ConsentRegistry, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(signed(KEY))
    recognizer = Recognizer.load(
        tmp_path / "model.onnx", keys=[KEY.verifying], registry=registry, jurisdiction="IE"
    )
    seen = Seen(recognizer)
    nobody: Session | None = None
    found = {reading.outcome for reading in recognizer.follow(privemo.frames(film), lambda: nobody)}
    assert found == {Outcome.NO_SESSION}
    assert seen.counts == (0, 0, 0)
