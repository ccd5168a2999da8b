"""Whose session it is before a camera, as people open visits at the kiosk, leave, withdraw and take turns."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from privemo.recognizer import Limits, Outcome, Recognizer, Region, Visits
from privemo.recognizer.exported import verify_exported
from privemo.recognizer.reader import Nobody
from privemo_consent import (
    AgeBand,
    ConsentRegistry,
    Context,
    Purpose,
    Reason,
    SessionBook,
    SigningKey,
)
from tests.support.kiosks import KIOSK, Seen, agree, cast, frame, new_registry, signed

DOOR = "door"


class Clock:
    def __init__(self) -> None:
        self.time = datetime(2026, 11, 2, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.time += timedelta(microseconds=1)  # no two visits are opened at the same moment
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(tmp_path: Path, clock: Clock) -> SessionBook:
    return SessionBook(tmp_path / "visits", clock=clock)


@pytest.fixture
def visits(book: SessionBook) -> Visits:
    # Who is read is not what these ask; this reader opens the same sessions and reads nobody.
    reader = Nobody("there is no model")
    return Visits(reader, book, DOOR, region=Region(0, 0, 64, 64), limits=Limits(away=600))


def whose(visits: Visits) -> str | None:
    session = visits.session()
    return None if session is None else session.person


def test_nobody_is_there_until_a_visit_is_opened(visits: Visits, book: SessionBook) -> None:
    assert whose(visits) is None
    book.open("ann", AgeBand.FROM_35, DOOR)
    assert whose(visits) == "ann"
    session = visits.session()
    assert session is visits.session(), "one session, or nobody could ever be away for five seconds"
    assert session is not None
    assert (session.age_band, session.region) == ("35_44", Region(0, 0, 64, 64))


def test_a_visit_at_another_kiosk_is_not_this_cameras(visits: Visits, book: SessionBook) -> None:
    book.open("ann", AgeBand.FROM_35, "till")
    assert whose(visits) is None


def test_whoever_opened_a_visit_last_stands_there(
    visits: Visits, book: SessionBook, clock: Clock
) -> None:
    book.open("ann", AgeBand.FROM_35, DOOR)
    first = visits.session()
    clock.time += timedelta(seconds=20)
    second = book.open("bob", AgeBand.FROM_45, DOOR)
    assert whose(visits) == "bob"
    assert first is not None
    assert not first.open
    # Bob leaves; that Ann's visit runs on does not mean that she came back to this screen.
    book.end(second.token)
    assert visits.session() is None
    assert visits.session() is None


def test_visits_from_before_a_restart_are_not_taken_up(book: SessionBook, clock: Clock) -> None:
    book.open("ann", AgeBand.FROM_35, DOOR)
    clock.time += timedelta(minutes=3)
    visits = Visits(Nobody("there is no model"), book, DOOR)
    assert visits.session() is None
    book.open("bob", AgeBand.FROM_35, DOOR)
    assert whose(visits) == "bob"


def new_visits(book: SessionBook) -> Visits:
    return Visits(Nobody("there is no model"), book, DOOR, limits=Limits(away=600))


def test_a_visit_from_before_is_not_taken_up_when_the_clock_is_set_right(
    book: SessionBook, clock: Clock
) -> None:
    book.open("ann", AgeBand.FROM_35, DOOR)
    clock.time -= timedelta(seconds=20)  # the visit is not open by this clock
    visits = new_visits(book)
    assert visits.session() is None
    clock.time += timedelta(seconds=25)
    assert visits.session() is None
    book.open("bob", AgeBand.FROM_35, DOOR)
    assert whose(visits) == "bob"


def test_a_folder_that_could_not_be_listed_at_first_holds_nobody_new(
    book: SessionBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unlisted(*_: object) -> frozenset[str]:
        raise PermissionError

    book.open("ann", AgeBand.FROM_35, DOOR)
    with monkeypatch.context() as patch:
        patch.setattr(SessionBook, "names", unlisted)
        visits = new_visits(book)
        assert visits.session() is None
    assert visits.session() is None
    assert visits.session() is None
    book.open("bob", AgeBand.FROM_35, DOOR)
    assert whose(visits) == "bob"


@pytest.mark.parametrize(
    ("late", "taken"), [(0, True), (29, True), (31, False), (55 * 60, False), (-1, False)]
)
def test_only_a_fresh_visit_is_taken_up(
    visits: Visits, book: SessionBook, clock: Clock, late: int, taken: bool
) -> None:
    book.open("ann", AgeBand.FROM_35, DOOR)
    clock.time += timedelta(seconds=late)  # in which nobody asked
    assert (whose(visits) == "ann") is taken
    clock.time += timedelta(seconds=2)
    assert (whose(visits) == "ann") is taken


def test_a_visit_is_over_as_soon_as_the_next_person_begins_at_the_kiosk(
    visits: Visits, book: SessionBook
) -> None:
    book.open("ann", AgeBand.FROM_35, DOOR)
    session = visits.session()
    assert session is not None
    book.end_at(DOOR)  # the kiosk does, with the next notice or receipt at its screen
    assert visits.session() is None
    assert not session.open


@pytest.mark.parametrize("how", ["ended", "over", "gone", "unreadable"])
def test_a_visit_that_ends_is_over_at_the_next_frame(
    visits: Visits, book: SessionBook, clock: Clock, how: str
) -> None:
    token = book.open("ann", AgeBand.FROM_35, DOOR).token
    session = visits.session()
    if how == "ended":
        book.end(token)
    elif how == "over":
        clock.time += timedelta(hours=1)
    elif how == "gone":
        book.end_of("ann")
    else:
        for path in book.folder.iterdir():
            path.write_text("{")
    assert visits.session() is None
    assert session is not None
    assert not session.open


def test_a_session_that_ended_by_itself_takes_a_new_visit(
    visits: Visits, book: SessionBook, clock: Clock
) -> None:
    book.open("ann", AgeBand.FROM_35, DOOR)
    session = visits.session()
    assert session is not None
    session.close()  # five seconds without a face, or a face that looks too young
    assert visits.session() is None
    clock.time += timedelta(seconds=1)
    book.open("ann", AgeBand.FROM_35, DOOR)
    assert whose(visits) == "ann"


@pytest.fixture(scope="module")
def model() -> tuple[bytes, SigningKey]:
    key = SigningKey.generate("chain")
    return signed(key), key


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[ConsentRegistry]:
    with new_registry(tmp_path / "consent.sqlite") as made:
        agree(made, "ann")
        agree(made, "tim", Purpose.TRAINING)
        yield made


@pytest.mark.parametrize("band", [AgeBand.FROM_35, None], ids=["asked again", "with a receipt"])
def test_a_face_is_read_from_visit_to_withdrawal(
    registry: ConsentRegistry, model: tuple[bytes, SigningKey], tmp_path: Path, band: AgeBand | None
) -> None:
    raw, key = model
    reader = Recognizer(
        verify_exported(raw, [key.verifying]),
        registry,
        Context(setting="retail", jurisdiction="IE"),
    )
    book = SessionBook(tmp_path / "visits")
    visits = Visits(reader, book, DOOR, region=KIOSK, limits=Limits(away=600))
    scene, seen = frame(at_kiosk=cast().looks_grown[0]), Seen(reader)
    assert reader.read(scene, visits.session()).outcome is Outcome.NO_SESSION
    assert seen.counts == (0, 0, 0)
    book.open("tim", band, DOOR)
    assert reader.read(scene, visits.session()).outcome is Outcome.REFUSED
    assert seen.counts == (0, 0, 0)
    book.open("ann", band, DOOR)
    assert reader.read(scene, visits.session()).outcome in (Outcome.READ, Outcome.UNSURE)
    assert seen.counts == (1, 1, 1)
    registry.withdraw("ann")  # and nobody told the book
    refused = reader.read(scene, visits.session())
    assert (refused.outcome, refused.reason) == (Outcome.REFUSED, Reason.WITHDRAWN)
    assert seen.counts == (1, 1, 1)
