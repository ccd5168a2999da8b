"""Whose face is read, whose is not, and what is looked at on the way there."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import cast as typed

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import privemo
from privemo.errors import SettingsError
from privemo.recognizer import Event, Outcome, Recognizer, Region, Session
from privemo.recognizer.exported import verify_exported
from privemo.recognizer.readings import as_picture
from privemo.recognizer.session import Limits
from privemo_consent import (
    AgeBand,
    ConsentRegistry,
    Context,
    MalformedError,
    ModeMismatchError,
    Purpose,
    Reason,
    Role,
    SigningKey,
)
from tests.support.kiosks import (
    KIOSK,
    Seen,
    agree,
    cast,
    frame,
    new_registry,
    signed,
    signed_colour,
)

KEY = SigningKey.generate("chain")
SHOP = Context(setting="retail", jurisdiction="IE")
PATIENT = Limits(away=600)  # drawing people takes longer than a session waits for a face
GROWN = {"age_band": AgeBand.FROM_35, "region": KIOSK, "limits": PATIENT}


@pytest.fixture(scope="module")
def model() -> bytes:
    return signed(KEY)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[ConsentRegistry]:
    with new_registry(tmp_path / "consent.sqlite") as made:
        agree(made, "ann")
        yield made


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def recognizer(registry: ConsentRegistry, model: bytes, events: list[Event]) -> Recognizer:
    exported = verify_exported(model, [KEY.verifying])
    return Recognizer(exported, registry, SHOP, on_event=events.append)


def test_a_face_of_somebody_who_agreed_is_read_and_named_rightly(recognizer: Recognizer) -> None:
    right = 0
    people = cast()
    for picture, emotion in zip(people.looks_grown, people.emotions, strict=True):
        with recognizer.session("ann", **GROWN) as session:
            reading = recognizer.read(frame(at_kiosk=picture), session)
        if reading:
            assert reading.probabilities is not None
            assert sum(reading.probabilities.values()) == pytest.approx(1, abs=1e-5)
            right += reading.emotion == emotion
    assert right >= 0.7 * len(people.emotions)


def test_a_model_for_colour_says_the_same_of_a_face(
    recognizer: Recognizer, registry: ConsentRegistry
) -> None:
    colour = Recognizer(verify_exported(signed_colour(KEY), [KEY.verifying]), registry, SHOP)
    for picture in cast().looks_grown[:3]:
        said = []
        for reader in (recognizer, colour):
            with reader.session("ann", **GROWN) as session:
                reading = reader.read(frame(at_kiosk=picture), session)
            said.append(list((reading.probabilities or {}).values()))
        assert said[1]
        if said[0]:  # the bundled weights read a colour picture as its gray version, up to rounding
            np.testing.assert_allclose(said[0], said[1], atol=0.05)


def test_without_a_session_nothing_is_looked_at(
    recognizer: Recognizer, registry: ConsentRegistry
) -> None:
    seen = Seen(recognizer)
    assert (
        recognizer.read(frame(at_kiosk=cast().looks_grown[0]), None).outcome is Outcome.NO_SESSION
    )
    assert seen.counts == (0, 0, 0)
    assert list(registry.decisions()) == []  # nobody was asked about: there is nobody to ask about


REFUSED = [
    ("nobody", {}, AgeBand.FROM_35, Reason.NO_RECORD),
    ("trains-only", {"purposes": (Purpose.TRAINING,)}, AgeBand.FROM_35, Reason.WRONG_PURPOSE),
    ("clerk", {"role": Role.EMPLOYEE}, AgeBand.FROM_35, Reason.STAFF),
    ("ann", None, AgeBand.FROM_13, Reason.MINOR),
    ("ann", None, AgeBand.UNKNOWN, Reason.UNKNOWN_AGE),
    ("ann", None, "forty", Reason.UNKNOWN_AGE),
]


@pytest.mark.parametrize(("person", "grant", "band", "reason"), REFUSED)
def test_who_did_not_agree_is_not_looked_at(
    recognizer: Recognizer,
    registry: ConsentRegistry,
    person: str,
    grant: dict[str, object] | None,
    band: AgeBand | str,
    reason: Reason,
) -> None:
    if grant:
        purposes = typed("tuple[Purpose, ...]", grant.pop("purposes", ()))
        with contextlib.suppress(privemo.ConsentError):  # staff are turned away, and on record
            agree(registry, person, *purposes, **dict(grant))
    seen = Seen(recognizer)
    with recognizer.session(person, age_band=band, region=KIOSK, limits=PATIENT) as session:
        reading = recognizer.read(frame(at_kiosk=cast().looks_grown[0]), session)
    assert (reading.outcome, reading.reason) == (Outcome.REFUSED, reason)
    assert reading.emotion is None
    assert seen.counts == (0, 0, 0)
    assert [d.reason for d in registry.decisions()] == [reason]


def test_nobody_is_read_before_people_were_told(tmp_path: Path, model: bytes) -> None:
    with new_registry(tmp_path / "c.sqlite", announced=False) as registry:
        agree(registry, "ann")
        told: list[Event] = []
        recognizer = Recognizer(
            verify_exported(model, [KEY.verifying]), registry, SHOP, on_event=told.append
        )
        seen = Seen(recognizer)
        with recognizer.session("ann", **GROWN) as session:
            for _ in range(3):
                reading = recognizer.read(frame(at_kiosk=cast().looks_grown[0]), session)
                assert reading.reason is Reason.NOT_ANNOUNCED
            assert seen.counts == (0, 0, 0)
            registry.announce_reading(registry.notices()[0], place="at the door")
            recognizer.read(frame(at_kiosk=cast().looks_grown[0]), session)
        assert seen.counts[0] == 1
        assert ["Hang up the notice" in event.text for event in told] == [True, False]


def test_a_withdrawal_acts_on_the_next_frame_also_from_another_process(
    recognizer: Recognizer, registry: ConsentRegistry, tmp_path: Path
) -> None:
    seen, scene = Seen(recognizer), frame(at_kiosk=cast().looks_grown[0])
    with recognizer.session("ann", **GROWN) as session:
        recognizer.read(scene, session)
        looked_at = seen.counts
        assert looked_at[0] == 1
        with ConsentRegistry.open(tmp_path / "consent.sqlite", mode="production") as kiosk:
            kiosk.withdraw("ann")
        reading = recognizer.read(scene, session)
    assert (reading.outcome, reading.reason) == (Outcome.REFUSED, Reason.WITHDRAWN)
    assert seen.counts == looked_at


def test_who_looks_too_young_is_refused_whatever_the_record_says_and_stays_refused(
    recognizer: Recognizer, registry: ConsentRegistry
) -> None:
    seen = Seen(recognizer)
    with recognizer.session("ann", **GROWN) as session:
        reading = recognizer.read(frame(at_kiosk=cast().looks_young[0]), session)
        assert (reading.outcome, reading.reason) == (Outcome.REFUSED, Reason.SUSPECTED_MINOR)
        again = recognizer.read(frame(at_kiosk=cast().looks_grown[0]), session)
    assert again.outcome is Outcome.SESSION_OVER
    assert seen.counts == (1, 1, 0)
    logged = list(registry.decisions())
    assert [d.reason for d in logged] == [Reason.PERMITTED, Reason.SUSPECTED_MINOR]
    assert [d.person for d in logged] == ["ann", None]  # who was taken for a minor is not named


def test_an_age_that_is_no_number_refuses(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recognizer._ages, "years", lambda *_: float("nan"))
    with recognizer.session("ann", **GROWN) as session:
        reading = recognizer.read(frame(at_kiosk=cast().looks_grown[0]), session)
    assert reading.reason is Reason.SUSPECTED_MINOR


def test_every_reading_is_preceded_by_a_logged_permission(
    recognizer: Recognizer, registry: ConsentRegistry
) -> None:
    at_the_moment = []
    network = recognizer._classifier.probabilities

    def noted(face: NDArray[np.uint8]) -> NDArray[np.float32]:
        at_the_moment.append([d.permit for d in registry.decisions()])
        return network(face)

    recognizer._classifier.probabilities = noted  # type: ignore[method-assign]
    with recognizer.session("ann", **GROWN) as session:
        recognizer.read(frame(at_kiosk=cast().looks_grown[0]), session)
    assert at_the_moment == [[True, True]]  # one to look, one to read
    registry.verify()


# -- whose pixels --------------------------------------------------------------------------------


def test_no_pixel_outside_the_region_reaches_any_network(recognizer: Recognizer) -> None:
    """Whatever stands outside, other people too, every network is given the very same numbers."""
    people = cast()
    inside = frame(at_kiosk=people.looks_grown[0])
    noise = np.random.default_rng(1).integers(0, 256, inside.shape).astype(np.uint8)
    seen, given = Seen(recognizer), []
    region = (slice(KIOSK.y, KIOSK.y + KIOSK.height), slice(KIOSK.x, KIOSK.x + KIOSK.width))
    scenes = [inside, noise, np.full_like(inside, 255)]
    scenes += [frame(beside=face) for face in (*people.looks_grown[1:3], people.children[0])]
    for scene in scenes:
        scene = scene.copy()
        scene[region] = inside[region]
        with recognizer.session("ann", **GROWN) as session:
            recognizer.read(scene, session)
        given.append([seen.detector.pop(), seen.ages.pop(), seen.classifier.pop()])
        assert seen.counts == (0, 0, 0)
    for other in given[1:]:
        for first, now in zip(given[0], other, strict=True):
            np.testing.assert_array_equal(first, now)


def test_that_test_would_notice_a_pixel(recognizer: Recognizer) -> None:
    scene = frame(at_kiosk=cast().looks_grown[0])
    seen, given = Seen(recognizer), []
    for change in (0, 40):
        other = scene.copy()
        other[KIOSK.y + 150, KIOSK.x + 150] ^= np.uint8(change)
        with recognizer.session("ann", **GROWN) as session:
            recognizer.read(other, session)
        given.append(seen.classifier.pop())
    assert (given[0] != given[1]).any()


def test_two_faces_in_the_region_and_nobody_is_read(recognizer: Recognizer) -> None:
    people, seen = cast(), Seen(recognizer)
    scene = frame(at_kiosk=people.looks_grown[0], beside=people.looks_grown[1])
    with recognizer.session("ann", age_band=AgeBand.FROM_35, limits=PATIENT) as session:
        assert recognizer.read(scene, session).outcome is Outcome.SEVERAL_FACES
    assert seen.counts == (1, 0, 0)


def test_forty_faces(recognizer: Recognizer) -> None:
    people = cast().looks_grown
    small = [cv2.resize(p, (80, 80), interpolation=cv2.INTER_AREA) for p in people]
    rows = [
        np.concatenate([small[(5 * r + c) % len(small)] for c in range(8)], 1) for r in range(5)
    ]
    seen = Seen(recognizer)
    with recognizer.session("ann", age_band=AgeBand.FROM_35, limits=PATIENT) as session:
        crowd = np.concatenate(rows)
        crowd = cv2.copyMakeBorder(crowd, 40, 40, 0, 0, cv2.BORDER_CONSTANT)
        assert recognizer.read(crowd, session).outcome is Outcome.SEVERAL_FACES
    assert seen.counts == (1, 0, 0)


def test_no_face_is_no_reading(recognizer: Recognizer) -> None:
    seen = Seen(recognizer)
    with recognizer.session("ann", **GROWN) as session:
        assert recognizer.read(frame(), session).outcome is Outcome.NO_FACE
    assert seen.counts == (1, 0, 0)


# -- what is kept --------------------------------------------------------------------------------


def test_nothing_of_a_face_or_a_reading_is_kept(
    recognizer: Recognizer,
    registry: ConsentRegistry,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = {path.name for path in tmp_path.rglob("*")}
    with caplog.at_level(logging.DEBUG), recognizer.session("ann", **GROWN) as session:
        for picture in cast().looks_grown[:3]:
            recognizer.read(frame(at_kiosk=picture), session)
        assert "ann" not in repr(session)
        assert "ann" not in repr(vars(recognizer))
    assert not [r for r in caplog.records if r.name.startswith("privemo.recognizer")]
    assert {path.name for path in tmp_path.rglob("*")} - before <= {
        "consent.sqlite-wal",
        "consent.sqlite-shm",
    }
    with sqlite3.connect(tmp_path / "consent.sqlite") as database:
        leaves = [bytes(row[0]) for row in database.execute("SELECT leaf FROM uses")]
    assert len(leaves) >= 4
    for leaf in leaves:
        assert b"ann" not in leaf
        assert not any(name.encode() in leaf for name in privemo.EMOTIONS)


# -- abstaining ----------------------------------------------------------------------------------


def test_unsure_is_said_and_named_nothing(registry: ConsentRegistry, model: bytes) -> None:
    exported = verify_exported(model, [KEY.verifying])
    recognizer = Recognizer(exported, registry, SHOP, abstain_below=1.0)
    with recognizer.session("ann", **GROWN) as session:
        reading = recognizer.read(frame(at_kiosk=cast().looks_grown[0]), session)
    assert reading.outcome is Outcome.UNSURE
    assert reading.emotion is None
    assert reading.probabilities is None


def test_the_threshold_can_be_raised_and_not_lowered(
    registry: ConsentRegistry, model: bytes
) -> None:
    exported = verify_exported(model, [KEY.verifying])
    assert exported.card.abstention.threshold == 0.4
    for wrong in (0.39, 0, -1, 1.1, float("nan")):
        with pytest.raises(SettingsError, match="not lowered"):
            Recognizer(exported, registry, SHOP, abstain_below=wrong)


def test_the_challenge_age_and_the_mode_are_those_of_the_gate(
    registry: ConsentRegistry, model: bytes
) -> None:
    exported = verify_exported(model, [KEY.verifying])
    with pytest.raises(MalformedError, match="may be raised, not lowered"):
        Recognizer(exported, registry, SHOP, challenge_age=17)
    with pytest.raises(ModeMismatchError):
        Recognizer(exported, registry, SHOP, mode="simulation")


@pytest.mark.parametrize("setting", ["workplace", "education"])
def test_workplaces_and_schools_are_refused(
    registry: ConsentRegistry, model: bytes, setting: str
) -> None:
    exported = verify_exported(model, [KEY.verifying])
    place = Context(setting=setting, jurisdiction="IE")  # type: ignore[arg-type]
    recognizer = Recognizer(exported, registry, place)
    seen = Seen(recognizer)
    with recognizer.session("ann", **GROWN) as session:
        reading = recognizer.read(frame(at_kiosk=cast().looks_grown[0]), session)
    assert reading.reason is Reason.WRONG_CONTEXT
    assert seen.counts == (0, 0, 0)


# -- sessions ------------------------------------------------------------------------------------


def test_a_session_ends_by_time_by_absence_and_when_it_is_closed() -> None:
    now = [100.0]

    def session() -> Session:
        now[0] = 100.0
        return Session("ann", "35_44", None, Limits(seconds=60, away=5), clock=lambda: now[0])

    late = session()
    for moment in range(101, 160, 4):
        now[0] = moment
        late.seen()
        assert late.open
    now[0] = 160.5
    late.seen()
    assert not late.open
    away = session()
    now[0] = 105.5
    assert away.person is None
    now[0] = 100.0
    assert away.person is None  # who it was is forgotten for good
    with session() as closed:
        assert closed.person == "ann"
    assert not closed.open


@pytest.mark.parametrize(("name", "value"), [("seconds", 0), ("away", -1), ("seconds", 1e9)])
def test_a_session_that_never_ends_is_none(name: str, value: float) -> None:
    with pytest.raises(SettingsError, match=name):
        Limits(**{name: value})


@pytest.mark.parametrize(
    "numbers", [(-1, 0, 64, 64), (0, 0, 8, 64), (0, 0.5, 64, 64), (0, 0, True, 64)]
)
def test_a_region_is_whole_numbers_of_pixels(numbers: tuple[int, int, int, int]) -> None:
    with pytest.raises(SettingsError, match="region"):
        Region(*numbers)


# -- frames that are none ------------------------------------------------------------------------

FRAMES = {
    "floats": np.zeros((480, 640, 3)),
    "not a number": np.full((480, 640, 3), np.nan),
    "16 bits": np.zeros((480, 640, 3), np.uint16),
    "two channels": np.zeros((480, 640, 2), np.uint8),
    "a line": np.zeros(640, np.uint8),
    "a stamp": np.zeros((8, 8, 3), np.uint8),
    "nothing": np.zeros((0, 640, 3), np.uint8),
    "a film": np.zeros((2, 480, 640, 3), np.uint8),
    "no array": "frame.png",
    "None": None,
    "smaller than the region": np.zeros((200, 200, 3), np.uint8),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_what_is_no_picture_is_not_looked_at_and_told_once(
    recognizer: Recognizer, events: list[Event], kind: str
) -> None:
    seen = Seen(recognizer)
    with recognizer.session("ann", **GROWN) as session:
        for _ in range(3):
            assert recognizer.read(FRAMES[kind], session).outcome is Outcome.BAD_FRAME
    assert seen.counts == (0, 0, 0)
    assert [event.outcome for event in events] == [Outcome.BAD_FRAME]


def test_gray_frames_and_frames_with_a_fourth_channel_are_pictures(recognizer: Recognizer) -> None:
    scene = frame(at_kiosk=cast().looks_grown[0])
    gray = cv2.cvtColor(scene, cv2.COLOR_RGB2GRAY)
    for other in (gray, gray[..., None], np.dstack([scene, gray]), scene[::-1][::-1]):
        picture = as_picture(other)
        assert picture is not None
        assert picture.shape == scene.shape
        with recognizer.session("ann", **GROWN) as session:
            assert recognizer.read(other, session).outcome is not Outcome.BAD_FRAME


def test_a_strange_size_is_read_like_any_other(recognizer: Recognizer) -> None:
    scene = frame(at_kiosk=cast().looks_grown[0])[50:411, 301:638]
    with recognizer.session("ann", age_band=AgeBand.FROM_35, limits=PATIENT) as session:
        assert recognizer.read(scene, session).outcome in (Outcome.READ, Outcome.UNSURE)


def test_an_app_that_fails_as_it_is_told_does_not_end_the_loop(
    registry: ConsentRegistry, model: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(event: Event) -> None:
        raise RuntimeError("ann stands there")

    recognizer = Recognizer(
        verify_exported(model, [KEY.verifying]), registry, SHOP, on_event=failing
    )
    with recognizer.session("ann", **GROWN) as session:
        assert recognizer.read(object(), session).outcome is Outcome.BAD_FRAME
    assert "RuntimeError" in caplog.text
    assert "ann" not in caplog.text


def test_a_session_does_not_outlive_a_sleep_of_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept = [0.0]
    monkeypatch.setattr("time.clock_gettime", lambda _: 1000.0 + slept[0])
    session = Session("ann", "35_44", None, Limits())
    assert session.open
    slept[0] = 3600
    assert not session.open
