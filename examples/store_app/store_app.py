"""A store's app: the kiosk where shoppers answer, a camera beside it, a list that adapts to whoever agreed.

    privemo demo && privemo audit key exporter.key --name chain
    privemo export runs/demo --out model.onnx --sign exporter.key
    python store_app.py FOLDER --model model.onnx --key KEY

plays a day with shoppers who do not exist, and ends by itself; with `--camera 0` it waits for you, your
browser and your camera, until Ctrl-C, whether the camera is there or not. The registry is a simulated one and
says so on every page. Needs `pip install 'privemo[edge,kiosk,recommend,synth]'`, and no torch.
"""

# ruff: noqa: T201 - an example talks to whoever runs it

from __future__ import annotations

import argparse
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import privemo
from privemo.recognizer import Session
from privemo.recommend import Offer
from privemo_consent import MalformedError, VerifyingKey
from privemo_consent.kiosk import KioskSettings, Listening, create_app, serve
from privemo_consent.kiosk.demonstration import DEMO_NOTICE, make_demo_registry
from privemo_consent.kiosk.desk import Desk

HERE = privemo.Context(setting="retail", jurisdiction="IE")
DOOR = "by the door"
WHERE_THEY_STAND = privemo.Region(170, 90, 300, 300)

OFFERS = [
    Offer(id="lamp", score=0.95, appeals={"practical"}, price=40, pressures=set(), sensitive=set()),
    Offer(id="tea", score=0.94, appeals={"comfort"}, price=9, pressures=set(), sensitive=set()),
    Offer(id="kite", score=0.93, appeals={"discovery"}, price=9, pressures=set(), sensitive=set()),
    Offer(id="mug", score=0.92, appeals={"practical"}, price=9, pressures=set(), sensitive=set()),
    Offer(id="rug", score=0.40, appeals={"comfort"}, price=90, pressures=set(), sensitive=set()),
]


class Shop:
    """Everything that runs in one store, around one registry.

    Args:
        folder: for registry, visits, and what the recommender learned.
        model: that `privemo export` wrote.
        key: of whoever signed it.
    """

    def __init__(self, folder: Path, model: Path, key: str) -> None:
        self.registry = make_demo_registry(folder)
        self.settings = KioskSettings(
            jurisdiction=HERE.jurisdiction,
            notice_id=DEMO_NOTICE,
            place=DOOR,
            sessions=folder / "visits",
        )
        self.reader = privemo.Recognizer.start(
            model,
            keys=[key],
            registry=self.registry,
            jurisdiction=HERE.jurisdiction,
            mode=self.registry.mode,
            on_event=lambda event: print(f"staff: {event.text}"),
        )
        self.visits = privemo.Visits(
            self.reader, privemo.SessionBook(folder / "visits"), DOOR, region=WHERE_THEY_STAND
        )
        self.here: Session | None = None
        self.recommender = privemo.Recommender(
            self.registry,
            HERE,
            folder / "recommend",
            policy=privemo.load_adaptation_policy(Path(__file__).with_name("policy.toml")),
            seed=2,  # so that this example tells the same each time; leave it out in a store
        )

    def look(self, frame: object) -> tuple[privemo.Reading, privemo.Ranking]:
        """What the camera saw, and the list that the screen shows."""
        reading = self.reader.read(frame, self.who())
        return reading, self.ranked(reading)

    def watch(self, camera: int) -> Iterator[tuple[privemo.Reading, privemo.Ranking]]:
        """The same of each frame of a camera; without one the list is the shop's, until it is plugged in."""
        for reading in self.reader.watch(lambda: privemo.frames(camera, per_second=2), self.who):
            yield reading, self.ranked(reading)

    def who(self) -> Session | None:
        """Whose session it is now; kept, for a reading and its list have to be of one person."""
        self.here = self.visits.session()
        return self.here

    def ranked(self, reading: privemo.Reading) -> privemo.Ranking:
        """The list for whoever was just read, or for nobody."""
        session = self.here
        return self.recommender.rank(
            OFFERS,
            person=None if session is None else session.person,
            emotion=privemo.EmotionEstimate.of(reading),
            attested_age_band=None if session is None else session.age_band,
        )

    def open_kiosk(self) -> None:
        """Serve the pages beside everything else, and say where."""
        app = create_app(self.registry, self.settings)
        opened = threading.Event()

        def told(url: str) -> None:
            self.url = url
            opened.set()

        threading.Thread(
            target=lambda: serve(app, Listening(port=0), told=told), daemon=True
        ).start()
        if not opened.wait(30):
            sys.exit("The kiosk did not start.")
        print(f"kiosk: {self.url}")


def show(who: str, seen: tuple[privemo.Reading, privemo.Ranking]) -> None:
    """Print what came of a frame, and what the screen says."""
    reading, ranking = seen
    print(f"{who}: {reading.emotion or reading.outcome}; ", end="")
    print(*(offer.id for offer in ranking.items), f"({ranking.why})")
    print(f"  {ranking.sentence('en')}")


# -- shoppers who do not exist -----------------------------------------------------------------------


def in_front(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame of a camera, (480, 640, 3), with one person where people stand."""
    frame = np.full((480, 640, 3), 120, np.uint8)
    frame[126:366, 200:440] = picture
    return frame


def drawn(seed: int, ages: tuple[float, float]) -> Iterator[NDArray[np.uint8]]:
    """Happy, to be seen; pictures are drawn, here with the extra `synth`."""
    people = privemo.synthesize(16, 4, seed=seed, channels=3, size=240, ages=ages)
    happy = privemo.EMOTIONS.index("happy")
    yield from (p for p, label in zip(people.images, people.label, strict=True) if label == happy)


def a_day(shop: Shop) -> None:
    """Ann agrees, is read, comes back with her receipt and withdraws; Tom says no; a child is turned away."""
    desk = Desk(shop.registry, shop.settings)  # what the pages do for whoever touches them
    notice = desk.notice("en")
    with urllib.request.urlopen(f"{shop.url}en/notice", timeout=30) as page:  # noqa: S310 - our own
        print("the notice is shown:", page.status == 200)
    grown, yes = privemo.AgeBand.FROM_35, dict.fromkeys(notice.purposes, True)
    no = dict.fromkeys(notice.purposes, False)

    ann, code = desk.record(yes, age_band=grown, notice=notice.hash)
    for picture in drawn(5, (45.0, 80.0)):
        desk.open_visit(ann, grown, DOOR)
        frame = in_front(picture)
        seen = shop.look(frame)
        if seen[0]:
            break  # the others look too young to the age network, or are not read surely
    show("Ann agreed", seen)

    tom, _ = desk.record(no, age_band=grown, notice=notice.hash)
    print("Tom said no, and no visit can be opened:", desk.open_visit(tom, grown, DOOR) is None)
    desk.end_visits(ann)
    show("Tom", shop.look(frame))

    turned = desk.turn_away(privemo.AgeBand.UNDER_13, privemo.Role.SHOPPER, notice)
    print("a child is thanked and counted, nothing else is kept:", turned)

    desk.open_visit(desk.identify(code), None, DOOR)
    show("Ann came back with her code", shop.look(frame))
    shop.registry.withdraw(ann)  # anywhere: at this kiosk, at another, by the staff
    show("Ann withdrew", shop.look(frame))
    shop.registry.verify()
    print("the log verifies:", shop.registry.head().seq, "entries")


def main() -> None:
    """Run the store."""
    asked = argparse.ArgumentParser(description="A store's app: kiosk, camera, recommendations.")
    asked.add_argument("folder", type=Path, help="a folder to make")
    asked.add_argument("--model", type=Path, required=True, help="that privemo export wrote")
    asked.add_argument("--key", required=True, help="public key of whoever signed it")
    asked.add_argument("--camera", type=int, help="number of a camera, instead of drawn shoppers")
    given = asked.parse_args()
    if given.folder.exists():
        sys.exit(f"{given.folder} exists; name a folder to make.")
    # What breaks later leaves the shop going on; what was mistyped is told before the day begins.
    if not given.model.is_file():
        sys.exit(f"{given.model} is no file; name the one that privemo export wrote.")
    try:
        VerifyingKey.parse(given.key)
    except MalformedError as error:
        sys.exit(f"--key: {error}.")
    given.folder.mkdir(parents=True)
    shop = Shop(given.folder, given.model, given.key)
    shop.open_kiosk()
    try:
        if given.camera is None:
            a_day(shop)
            return
        for seen in shop.watch(given.camera):
            show("at the kiosk", seen)
    except (KeyboardInterrupt, privemo.PrivemoError) as error:
        print(error or "closed")
    finally:
        shop.reader.close()
        shop.registry.close()


if __name__ == "__main__":
    main()
