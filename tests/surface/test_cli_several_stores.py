"""People who may be in several stores, as whoever sets up a chain by the command promises for them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from privemo.dp import calibrate_noise
from privemo.federation.identity import enroll
from privemo.federation.invitation import Invitation
from privemo_consent import ConsentRegistry
from tests.conftest import noise_faces
from tests.support.consent import PARTY
from tests.surface.test_cli import privemo, refused

SMALL = ("--declared-people", "10", "--rounds", "1", "--sample-rate", "0.5", "--init", "scratch")
TWO = ("--stores-per-person", "2")


@pytest.fixture(scope="module")
def noise() -> float:
    """What one round of two steps takes for somebody in two stores."""
    return calibrate_noise(epsilon=8.0, delta=1e-5, sample_rate=0.5, steps=2, compositions=2)


@pytest.fixture
def drawing_up(tmp_path: Path) -> list[str | Path]:
    cards: list[str | Path] = []
    for name in ("amber", "birch", "cedar"):
        enroll(tmp_path / name, name)
        cards += ["--card", tmp_path / name / "card.json"]
    registry = tmp_path / "amber" / "consent.sqlite"
    ConsentRegistry.create(registry, mode="production", controller=PARTY).close()
    chain = ("federation", "init", tmp_path / "chain", *cards, "--host", "a.example")
    return [*chain, *SMALL, "--model", "gray-cnn"]


def test_a_real_chain_promises_it_to_people_who_are_in_two_stores(
    drawing_up: list[str | Path], noise: float, tmp_path: Path
) -> None:
    local = ("--noise", "local", "--steps", "2", "--spare-rounds", "0")
    refused(privemo(*drawing_up, *local, "--stores-per-person", "4"), "more stores than the 3")
    refused(privemo(*drawing_up, *local, "--stores-per-person", "0"), "--stores-per-person: ")
    assert not (tmp_path / "chain").exists()
    done = privemo(*drawing_up, *local, *TWO)
    assert done.returncode == 0, done.stderr
    privacy = json.loads((tmp_path / "chain" / "run.json").read_text())["privacy"]
    assert (privacy["max_stores_per_person"], privacy["noise_multiplier"]) == (2, noise)
    invitation = tmp_path / "chain" / "invitations" / "amber.json"
    assert Invitation.read(invitation).agreement.max_stores_per_person == 2
    join = ("federation", "join", tmp_path / "amber", "--invitation", invitation, "--no-start")
    assert (joined := privemo(*join)).returncode == 0, joined.stderr
    assert json.loads((tmp_path / "amber" / "store.json").read_text())["max_stores_per_person"] == 2


def test_stores_that_share_noise_share_no_people(
    drawing_up: list[str | Path], tmp_path: Path
) -> None:
    refused(privemo(*drawing_up, *TWO), "a person is in one store", "take local noise")
    assert not (tmp_path / "chain").exists()


def test_a_simulation_rehearses_what_that_costs(noise: float, tmp_path: Path) -> None:
    np.savez(tmp_path / "faces.npz", **noise_faces(60))
    simulate = ("simulate", "--data", tmp_path / "faces.npz", "--out", tmp_path / "run", *SMALL)
    rest = ("--stores", "3", "--seed", "3", "--model", "gray-cnn")
    shared = ("--noise", "distributed", *TWO)
    refused(privemo(*simulate, *rest, *shared), "a person is in one store", "take local noise")
    done = privemo(*simulate, *rest, "--steps", "2", *TWO, "--json")
    assert done.returncode == 0, done.stderr
    privacy = json.loads((tmp_path / "run" / "run.json").read_text())["privacy"]
    assert (privacy["max_stores_per_person"], privacy["noise_multiplier"]) == (2, noise)
    # Of these people each was in one store, and lost its part.
    assert 4 < json.loads(done.stdout)["privacy"]["epsilon_max_person"] < 7
