"""From the kiosk to vault, training and measuring on a store's own machine, with people who do not exist."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from privemo.booth import Booth, Captured
from privemo.capture import capture
from privemo.config import PrivacySettings, RunSettings
from privemo.errors import DataError, RunError, SettingsError
from privemo.faces import FaceTable, load_faces
from privemo.federation.identity import enroll
from privemo.federation.invitation import Invitation, join
from privemo.federation.server import init_federation
from privemo.files import changing
from privemo.labels import EMOTIONS
from privemo.measured import MeasureOrder, measure
from privemo.runs import Run
from privemo.store import Store
from privemo_consent import (
    AgeBand,
    ConsentRegistry,
    Context,
    Purpose,
    Reason,
    UnknownPersonError,
    Vault,
)
from privemo_consent.kiosk.codes import draw_code, person_of
from tests.support.kiosk import Shopper, kiosk_registry, running, settings_for
from tests.support.kiosks import KIOSK, cast, frame
from tests.support.small_runs import first_model, used_people
from tests.unit.privemo.measuring.parts import before_the_rounds

pytest.importorskip("onnxruntime")
pytest.importorskip("cv2")


@pytest.fixture
def chain(tmp_path: Path) -> Run:
    """A store of real people that joined; its registry is the kiosk's."""
    folder = tmp_path / "store"
    card = enroll(folder, "amber")
    kiosk_registry(folder / "consent.sqlite", ["en"]).close()
    settings = RunSettings.of(
        stores=1,
        rounds=1,
        steps_per_round=2,
        privacy=PrivacySettings(epsilon=8.0, sample_rate=0.9),
        declared_people=2,
        model="gray-cnn",
        init="scratch",
    )
    made = init_federation(tmp_path / "chain", [card], settings, hosts=["127.0.0.1"], port=4711)
    join(folder, Invitation.read(tmp_path / "chain" / "invitations" / "amber.json"))
    return made


@pytest.fixture
def folder(chain: Run, tmp_path: Path) -> Path:
    return tmp_path / "store"


def adults(n: int) -> Iterator[NDArray[np.uint8]]:
    """What the camera sees of n people who look grown up."""
    grown = cast().looks_grown
    assert len(grown) >= n
    return (frame(at_kiosk=picture) for picture in grown[:n])


def sit(
    booth: Booth, person: str, *pictures: NDArray[np.uint8], label: str = "happy", **how: Any
) -> Captured:
    options: dict[str, Any] = {"part": "train", "age_band": AgeBand.FROM_35} | how
    return booth.sit(person, pictures, label=label, **options)


def agree(folder: Path, tmp_path: Path, *answers: tuple[str, str]) -> list[str]:
    """Shoppers answer at the kiosk, training and fairness audit; their codes."""
    codes = []
    with (
        ConsentRegistry.open(folder / "consent.sqlite", mode="production") as registry,
        running(registry, settings_for(tmp_path)) as url,
    ):
        for training, fairness in answers:
            with Shopper(url) as shopper:
                codes.append(shopper.decide(training, "no", fairness))
    return codes


def test_from_the_kiosk_over_camera_and_vault_to_a_round_and_its_measure(
    chain: Run, folder: Path, tmp_path: Path
) -> None:
    yes, no = ("yes", "no"), ("no", "yes")
    ann, bob, cleo, dan, eve = agree(folder, tmp_path, yes, yes, yes, no, ("no", "no"))
    faces = list(adults(5))
    with Booth(folder) as booth:
        for code, face in zip((ann, bob, cleo), faces, strict=False):
            assert sit(booth, booth.holder(code), face, face).kept == 2
        for label, face in (("happy", faces[3]), ("sad", faces[4])):
            assert sit(booth, booth.holder(dan), face, label=label, part="test").kept == 1
        refused = sit(booth, booth.holder(eve), faces[4])
        assert (refused.kept, refused.refused) == (0, Reason.REFUSED)
    with ConsentRegistry.open(folder / "consent.sqlite", mode="production") as registry:
        registry.withdraw(person_of(cleo), [Purpose.TRAINING])  # at the kiosk, say
    store = Store(folder)
    try:
        result = store.train_round(first_model(chain), chain.order_for(1))
        assert result.reason is None
        assert result.update is not None
        assert used_people(store) <= {person_of(ann), person_of(bob)}
        [admitted] = map(json.loads, (folder / "admissions.jsonl").read_text().splitlines())
        assert admitted["admitted"]["persons"] == 2
        assert admitted["refused"]["faces"] == {"withdrawn": 2}
        with before_the_rounds(store):  # the run has no end yet that it could have signed
            measure(store, first_model(chain), MeasureOrder(chain.run_id, "gray-cnn", flip=True))
    finally:
        store.close()
    read = pd.read_csv(folder / "predictions.csv")
    assert set(read["person"]) == {person_of(dan)}
    assert sorted(EMOTIONS[number] for number in read["label"]) == ["happy", "sad"]


# -- who is not taken ------------------------------------------------------------------------------


def no_camera() -> Iterator[NDArray[np.uint8]]:
    raise AssertionError("the camera was opened")
    yield  # a generator: raises with its first picture


@pytest.mark.parametrize(
    ("answer", "age_band", "reason"),
    [
        ("no", AgeBand.FROM_35, Reason.REFUSED),
        ("yes", AgeBand.FROM_16, Reason.MINOR),
        ("yes", AgeBand.UNKNOWN, Reason.UNKNOWN_AGE),
    ],
)
def test_consent_comes_before_the_camera(
    folder: Path, tmp_path: Path, answer: str, age_band: AgeBand, reason: Reason
) -> None:
    [code] = agree(folder, tmp_path, (answer, "no"))
    with Booth(folder) as booth:
        done = booth.sit(
            booth.holder(code), no_camera(), label="happy", part="train", age_band=age_band
        )
        assert done == Captured(refused=reason)
        if reason is Reason.MINOR:  # nothing of a minor is kept
            with pytest.raises(UnknownPersonError):
                booth.holder(code)


def test_who_looks_too_young_is_not_taken_and_leaves_a_count(folder: Path, tmp_path: Path) -> None:
    [code] = agree(folder, tmp_path, ("yes", "no"))
    young = frame(at_kiosk=cast().looks_young[0])
    with Booth(folder) as booth:
        for _ in range(2):
            done = sit(booth, booth.holder(code), young, region=KIOSK)
            assert done.kept == 0
            assert done.turned_away == {"suspected_minor": 1}
        assert booth.registry.history(person_of(code))
    kept = json.loads((folder / "store.json").read_text())["turned_away"]
    assert kept == {"train": {"suspected_minor": {"faces": 2, "persons": 2}}}


def test_a_picture_with_somebody_else_or_nobody_is_of_no_use(folder: Path, tmp_path: Path) -> None:
    [code] = agree(folder, tmp_path, ("yes", "no"))
    grown = cast().looks_grown
    pictures = [
        frame(),
        frame(at_kiosk=grown[0], beside=grown[1]),
        np.zeros((4, 4), dtype=np.uint8),
        np.zeros((480, 640, 3), dtype=np.float32),
    ]
    with Booth(folder) as booth:
        done = sit(booth, booth.holder(code), *pictures)  # type: ignore[arg-type]
        assert done.unusable == {"no_face": 1, "several_faces": 1, "bad_frame": 2}
        assert done.kept == 0
        beside = frame(at_kiosk=grown[0], beside=grown[1])
        assert sit(booth, booth.holder(code), beside, region=KIOSK).kept == 1
        empty = sit(booth, booth.holder(code), *[frame()] * 60)
        assert empty.unusable == {"no_face": 50}  # nobody sits there


def test_a_receipt_of_nobody_leads_to_nobody(folder: Path) -> None:
    with Booth(folder) as booth:
        for presented in ("", draw_code(), "x"):
            with pytest.raises(UnknownPersonError):
                booth.holder(presented)


def test_nobody_is_measured_on_what_they_trained(folder: Path, tmp_path: Path) -> None:
    [code] = agree(folder, tmp_path, ("yes", "yes"))
    [face] = adults(1)
    with Booth(folder) as booth:
        assert sit(booth, booth.holder(code), face).kept == 1
        with pytest.raises(DataError, match="for train already"):
            sit(booth, booth.holder(code), face, part="test")


def test_nor_where_two_booths_photograph_somebody_at_once(folder: Path, tmp_path: Path) -> None:
    [code] = agree(folder, tmp_path, ("yes", "yes"))
    [face] = adults(1)
    with Booth(folder) as booth, Booth(folder) as other:
        person = booth.holder(code)

        def meanwhile() -> Iterator[NDArray[np.uint8]]:
            assert sit(other, person, face, part="test").kept == 1
            yield face

        with pytest.raises(DataError, match="for test already"):
            booth.sit(person, meanwhile(), label="happy", part="train", age_band=AgeBand.FROM_35)
        assert len(Vault(booth.registry).sealed()) == 1


# -- tables ----------------------------------------------------------------------------------------


def test_a_table_of_the_stores_own_program_is_taken_person_by_person(
    folder: Path, tmp_path: Path
) -> None:
    ann, bob = agree(folder, tmp_path, ("yes", "no"), ("no", "no"))
    people = [person_of(ann), person_of(ann), person_of(bob), "a stranger"]
    images = np.random.default_rng(1).integers(0, 256, (4, 48, 48), dtype=np.uint8)
    fields: dict[str, Any] = {
        "images": images,
        "label": np.arange(4),
        "label_names": np.array(NAMES),
    }
    np.savez(tmp_path / "own.npz", identity=np.array(people), est_age=np.full(4, 40.0), **fields)
    np.savez(tmp_path / "nobody.npz", **fields)
    with Booth(folder) as booth:
        done = booth.take(load_faces(tmp_path / "own.npz"), "train")
        assert (done.kept, done.noted, done.turned_away) == (2, 1, {"no_record": 1})
        assert not list((tmp_path / "store").glob("*.npz"))
        with pytest.raises(DataError, match="identity"):
            booth.take(load_faces(tmp_path / "nobody.npz"), "train")


@pytest.mark.parametrize(
    ("ages", "missing"),
    [(None, 2), ([40.0, np.nan], 1), ([np.nan, np.nan], 2)],
    ids=["no column", "one face", "no face has one"],
)
def test_a_table_that_does_not_say_how_old_a_face_looks_is_not_taken(
    folder: Path, tmp_path: Path, ages: list[float] | None, missing: int
) -> None:
    [code] = agree(folder, tmp_path, ("yes", "no"))
    said = {} if ages is None else {"est_age": np.array(ages)}
    table = two_faces(tmp_path, person_of(code), **said)
    with Booth(folder) as booth:
        with pytest.raises(DataError, match=f"how old {missing} of 2 faces look"):
            booth.take(table, "train")
        place = Context(setting="retail", jurisdiction="IE")
        with pytest.raises(DataError, match="est_age"):  # nor by a program of the store's own
            capture(booth.registry, table, np.arange(2), part="train", context=place)
        assert len(Vault(booth.registry).sealed()) == 0


@pytest.mark.parametrize("age", [24.9, 0.0, -1.0, np.inf])
def test_one_face_that_looks_too_young_keeps_a_person_out_also_from_a_table(
    folder: Path, tmp_path: Path, age: float
) -> None:
    [code] = agree(folder, tmp_path, ("yes", "no"))
    with Booth(folder) as booth:
        table = two_faces(tmp_path, person_of(code), est_age=np.array([40.0, age]))
        done = booth.take(table, "train")
        assert (done.kept, done.turned_away) == (0, {"suspected_minor": 2})


def two_faces(tmp_path: Path, person: str, **columns: Any) -> FaceTable:
    np.savez(
        tmp_path / "two.npz",
        images=np.random.default_rng(2).integers(0, 256, (2, 48, 48), dtype=np.uint8),
        label=np.array([0, 1]),
        label_names=np.array(NAMES),
        identity=np.array([person] * 2),
        **columns,
    )
    return load_faces(tmp_path / "two.npz")


NAMES = ("happy", "sad", "neutral", "surprise")


# -- a booth and a store that joins anew -----------------------------------------------------------


def _take(folder: Path, table: Path, ready: Any) -> None:
    with Booth(folder) as booth:
        faces = load_faces(table)
        ready.set()
        assert booth.take(faces, "train").turned_away == {"no_record": 1}


def _join(folder: Path, invitation: Path, ready: Any) -> None:
    invited = Invitation.read(invitation)
    ready.set()
    join(folder, invited)


def test_a_store_that_joins_anew_and_a_booth_that_counts_lose_nothing_of_each_other(
    folder: Path, tmp_path: Path
) -> None:
    """Processes of their own; whoever does not wait for the lock has its word overwritten below."""
    images = np.zeros((1, 48, 48), dtype=np.uint8)
    columns = {"label": np.array([0]), "label_names": np.array(NAMES), "est_age": np.array([40.0])}
    np.savez(tmp_path / "one.npz", images=images, identity=np.array(["a stranger"]), **columns)
    invited = json.loads((tmp_path / "chain" / "invitations" / "amber.json").read_text())
    invited["agreement"]["epsilon_budget"] = 5.0
    (tmp_path / "again.json").write_text(json.dumps(invited))
    context = multiprocessing.get_context("spawn")
    ready = [context.Event(), context.Event()]
    work = [
        context.Process(target=_take, args=(folder, tmp_path / "one.npz", ready[0])),
        context.Process(target=_join, args=(folder, tmp_path / "again.json", ready[1])),
    ]
    with changing(folder / "store.json"):
        before = json.loads((folder / "store.json").read_text())
        for process in work:
            process.start()
        assert all(event.wait(120) for event in ready)
        for process in work:
            process.join(1)  # they wait for us
        before["turned_away"] = {"train": {"minor": {"faces": 3, "persons": 2}}}
        (folder / "store.json").write_text(json.dumps(before))
    for process in work:
        process.join(120)
        assert process.exitcode == 0
    after = json.loads((folder / "store.json").read_text())
    assert after["epsilon_budget"] == 5.0
    assert after["turned_away"]["train"] == {
        "minor": {"faces": 3, "persons": 2},
        "no_record": {"faces": 1, "persons": 1},
    }


# -- wrong input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"label": "bored"}, "happy, sad"),
        ({"most": 0}, "1 face"),
        ({"channels": 2}, "channels"),
        ({"said": {"gender": "woman"}}, "said"),
    ],
    ids=str,
)
def test_wrong_wishes_are_named_before_anybody_is_photographed(
    folder: Path, tmp_path: Path, how: dict[str, Any], message: str
) -> None:
    [code] = agree(folder, tmp_path, ("yes", "no"))
    with Booth(folder) as booth, pytest.raises(SettingsError, match=message):
        sit(booth, booth.holder(code), **how)


def test_a_folder_that_joined_nothing_is_told_how(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="privemo federation join"):
        Booth(tmp_path)
