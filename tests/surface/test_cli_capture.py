"""`privemo capture` as whoever sits at the camera's machine meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from privemo import weights as w
from privemo.config import PrivacySettings, RunSettings
from privemo.federation.identity import enroll
from privemo.federation.invitation import Invitation, join
from privemo.federation.server import init_federation
from privemo_consent import AgeBand, ConsentRegistry, Purpose
from privemo_consent.kiosk.codes import draw_code, person_of
from tests.support.kiosk import kiosk_registry
from tests.support.kiosks import cast, frame
from tests.support.small_runs import first_model
from tests.surface.test_cli import privemo, refused

cv2 = pytest.importorskip("cv2")
pytest.importorskip("onnxruntime")

CODE, MEASURED = draw_code(), draw_code()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that joined, with somebody who agreed; beside it what a camera would see of them."""
    root = tmp_path_factory.mktemp("capture")
    card = enroll(root / "store", "amber")
    with kiosk_registry(root / "store" / "consent.sqlite", ["en"]) as registry:
        for code in (CODE, MEASURED):
            registry.answer(
                person_of(code),
                {Purpose.TRAINING: code == CODE, Purpose.FAIRNESS_AUDIT: code == MEASURED},
                age_band=AgeBand.FROM_35,
                jurisdiction="IE",
                notice=registry.notices()[0],
            )
    settings = RunSettings.of(
        stores=1,
        rounds=1,
        privacy=PrivacySettings(epsilon=8.0, sample_rate=0.9),
        declared_people=2,
        model="gray-cnn",
        init="scratch",
    )
    run = init_federation(root / "chain", [card], settings, hosts=["127.0.0.1"], port=4711)
    (root / "model.safetensors").write_bytes(w.to_bytes(first_model(run)))
    (root / "measured.txt").write_text(MEASURED)
    join(root / "store", Invitation.read(root / "chain" / "invitations" / "amber.json"))
    (root / "code.txt").write_text(f"{CODE.lower()}\n")
    (root / "pictures").mkdir()
    for number in range(3):
        picture = frame(at_kiosk=cast().looks_grown[0])
        cv2.imwrite(str(root / "pictures" / f"{number}.png"), picture[:, :, ::-1])
    return root


def sitting(root: Path, **changes: str) -> list[str | Path]:
    options = {
        "--receipt": str(root / "code.txt"),
        "--label": "happy",
        "--age-band": "35_44",
        "--source": str(root / "pictures"),
        "--region": "320,90,300,300",
    } | {f"--{name.replace('_', '-')}": value for name, value in changes.items()}
    return [
        "capture",
        "sitting",
        root / "store",
        *(part for pair in options.items() for part in pair),
    ]


def test_somebody_with_a_receipt_is_photographed(store: Path) -> None:
    done = privemo(*sitting(store, faces="2"))
    assert (done.returncode, done.stdout) == (0, "kept: 2\n")
    more = privemo(*sitting(store), "--json")
    assert json.loads(more.stdout)["kept"] == 3
    with ConsentRegistry.open(store / "store" / "consent.sqlite", mode="production") as registry:
        assert len(registry.export(person_of(CODE))["items"]) == 5
        assert [each.permit for each in registry.decisions()] == [True, True]


def test_nobody_is_in_both_parts(store: Path) -> None:
    assert privemo(*sitting(store, faces="1")).returncode == 0
    done = privemo(*sitting(store, part="test"), "--json")
    refused(done, "for train already")


def test_a_yes_that_was_taken_back_is_said_with_exit_code_1(store: Path) -> None:
    with ConsentRegistry.open(store / "store" / "consent.sqlite", mode="production") as registry:
        registry.withdraw(person_of(CODE))
    done = privemo(*sitting(store))
    assert done.returncode == 1
    assert done.stdout == "refused: withdrawn; the camera was not opened\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "bored"}, "happy, sad, neutral, surprise"),
        ({"age_band": "old"}, "age-band"),
        ({"region": "1,2,3"}, "LEFT,TOP,WIDTH,HEIGHT"),
        ({"region": "0,0,9,9"}, "32 pixels"),
        ({"receipt": "no/such/file"}, "cannot be read"),
        ({"faces": "0"}, "1 face"),
        ({"said": "gender"}, "NAME=VALUE"),
    ],
    ids=str,
)
def test_wrong_input_is_one_sentence(store: Path, changes: dict[str, str], message: str) -> None:
    refused(privemo(*sitting(store, **changes)), message)


def test_a_receipt_of_nobody_is_one_sentence(store: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text(draw_code())
    refused(
        privemo(*sitting(store, receipt=str(tmp_path / "other.txt"))),
        "no record under this receipt",
    )


def test_a_folder_that_is_no_store_is_told_what_to_do(tmp_path: Path) -> None:
    refused(
        privemo("capture", "table", tmp_path, "--data", tmp_path / "x.npz"),
        "privemo federation join",
    )
