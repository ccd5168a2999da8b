"""An attack on the very model of a run: of people who do not exist, and of nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from privemo import models, simulation
from privemo import weights as w
from privemo.attacks import ATTACK_FILE, attack
from privemo.attacks.canaries import Canaries
from privemo.attacks.model import _fair, prepared, sides
from privemo.config import PrivacySettings, RunSettings
from privemo.errors import RunError, SettingsError
from privemo.faces import load_faces
from privemo.runs import Run
from privemo.synthetic.table import ORIGIN
from privemo_audits import build_report
from privemo_audits.on_model import ModelInfo, judge_model
from privemo_consent import Purpose

PEOPLE = 200
MINORS = 40


def tiny(channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 16, 8, stride=8), nn.ReLU(), nn.Flatten(), nn.Linear(576, 4)
    )


@pytest.fixture(autouse=True, scope="module")
def small_models() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "MODELS", {**models.MODELS, "tiny": tiny})
        yield


def run_of(
    folder: Path, *, origin: str = ORIGIN, finished: bool = True, **changes: Any
) -> tuple[Run, Path]:
    """A run on patterns drawn by chance, which can only be learned by heart; and its file of faces."""
    drawn = Canaries.drawn(PEOPLE, channels=1, rng=np.random.default_rng(1))
    data = folder / "faces.npz"
    np.savez(
        data,
        images=drawn.images,
        label=drawn.label.astype(np.int8),
        label_names=np.array(["happy", "sad", "neutral", "surprise"]),
        identity=np.array([f"p{at:04d}" for at in range(PEOPLE)]),
        age_band=np.array(["13_15"] * MINORS + ["25_34"] * (PEOPLE - MINORS)),
        origin=np.array(origin),
    )
    settings = {
        "stores": 2,
        "rounds": 1,
        "steps_per_round": 2,
        "privacy": PrivacySettings(epsilon=8.0, sample_rate=0.5),
        "declared_people": 10,
        "init": "scratch",
        "threads": 1,
        "model": "tiny",
        "test_fraction": 0.5,
        "consents": "everyone",
        "seed": 5,  # so that chance does not decide whether a test passes
        **changes,
    }
    run = simulation.prepare(load_faces(data), folder / "run", RunSettings.of(**settings))
    if finished:
        simulation.run(run)
        simulation.finish(run)
    return run, data


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, small_models: None) -> tuple[Run, Path]:
    """Read it, do not change it."""
    return run_of(tmp_path_factory.mktemp("made"))


def judged(run: Run, data: Path) -> Any:
    scores = prepared(run, data).scores(np.random.default_rng(3))
    return judge_model(ModelInfo.model_validate(scores), 1e-5, 0.05)


def learn_by_heart(run: Run, data: Path) -> None:
    """What training without a clip and without noise would have made of those who took part."""
    members, _ = sides(run)
    with np.load(data) as columns:
        inside = np.isin(columns["identity"], members)
        inputs = models.to_input(torch.from_numpy(columns["images"][inside]))
        labels = torch.from_numpy(columns["label"][inside]).long()
    torch.manual_seed(0)
    network = tiny(1)
    both, twice = torch.cat([inputs, inputs.flip(-1)]), torch.cat([labels, labels])
    steps = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(150):
        steps.zero_grad()
        nn.functional.cross_entropy(network(both), twice).backward()
        steps.step()
    w.save_weights(run.model_path, w.from_model(network))


# -- what it finds ---------------------------------------------------------------------------------


def test_a_private_model_gives_nobody_away_and_a_report_says_so(made: tuple[Run, Path]) -> None:
    run, data = made
    vaults = sorted(run.folder.rglob("consent.sqlite"))
    before = [p.read_bytes() for p in vaults]
    found = attack(run, canaries=50, data=data)
    assert [p.read_bytes() for p in vaults] == before  # no use was recorded, for no face was read
    assert "p0" not in (run.folder / ATTACK_FILE).read_text()  # no pseudonym
    report = build_report(run.folder)
    assert report.privacy.attacked is not None
    on_model = report.privacy.attacked.on_model
    assert on_model is not None
    assert on_model.took_part + on_model.others == PEOPLE - MINORS == found["model"]["faces"]
    assert on_model.auc == pytest.approx(0.5, abs=0.12)
    assert report.privacy.attacked.within


def test_a_model_that_learned_people_by_heart_gives_them_away(tmp_path: Path) -> None:
    run, data = run_of(tmp_path)
    learn_by_heart(run, data)
    found = judged(run, data)
    assert found.auc > 0.9
    assert found.epsilon_at_least > 0.5
    assert found.found_at[1].found > 0.1


# -- who is told apart -----------------------------------------------------------------------------


def test_the_two_sides_differ_by_nothing_but_the_coin(tmp_path: Path) -> None:
    """Both agreed to both purposes, and still do; a minor is on neither."""
    run, data = run_of(tmp_path, consents="realistic", finished=False)
    members, others = sides(run)
    assert not set(members) & set(others)
    assert not {f"p{at:04d}" for at in range(MINORS)} & {*members, *others}
    agreed = {Purpose.TRAINING: set[str](), Purpose.FAIRNESS_AUDIT: set[str]()}
    for name in run.stores:
        store = run.store(name)
        for purpose, people in agreed.items():
            everybody = load_faces(data).person
            people |= set(everybody[store.gate.still_permitted(everybody, purpose, store.context)])
        store.close()
    assert {*members, *others} == agreed[Purpose.TRAINING] & agreed[Purpose.FAIRNESS_AUDIT]
    assert agreed[Purpose.TRAINING] - agreed[Purpose.FAIRNESS_AUDIT]


def test_guesses_are_made_about_people_of_whom_fair_coins_decided() -> None:
    part = np.arange(100) < 80
    rng = np.random.default_rng(0)
    tries = [part[_fair(part, rng)] for _ in range(2000)]
    assert {len(each) for each in tries} == {20}
    took = np.array([each.sum() for each in tries])
    assert took.mean() == pytest.approx(10, abs=0.2)
    assert took.var() == pytest.approx(5, rel=0.15)  # of 20 coins; of as many of each it would be 0


# -- who is not attacked ---------------------------------------------------------------------------


def test_people_who_may_exist_are_not_attacked(tmp_path: Path) -> None:
    run, data = run_of(tmp_path, origin="photographs", finished=False)
    with pytest.raises(SettingsError, match="people do not exist"):
        attack(run, canaries=50, data=data)
    assert not (run.folder / ATTACK_FILE).exists()


def test_a_file_that_says_nobody_exists_does_not_speak_for_another(
    made: tuple[Run, Path], tmp_path: Path
) -> None:
    run, data = made
    with np.load(data) as columns:
        content = dict(columns)
    np.savez(tmp_path / "real.npz", **{**content, "origin": np.array("photographs")})
    with pytest.raises(SettingsError, match="people do not exist"):
        prepared(run, tmp_path / "real.npz")
    content["images"] = content["images"].copy()
    content["images"][0, 0, 0] ^= 1
    np.savez(tmp_path / "other.npz", **content)
    with pytest.raises(SettingsError, match="does not hold the faces"):
        prepared(run, tmp_path / "other.npz")


def test_an_unfinished_run_has_no_model_to_attack(tmp_path: Path) -> None:
    run, data = run_of(tmp_path, finished=False)
    with pytest.raises(RunError, match="no model yet"):
        prepared(run, data)


def test_too_few_people_prove_nothing(tmp_path: Path) -> None:
    run, data = run_of(tmp_path, test_fraction=0.06)
    with pytest.raises(SettingsError, match="20 of each or more"):
        prepared(run, data)


def test_stores_with_layers_of_their_own_have_no_one_model(tmp_path: Path) -> None:
    run, data = run_of(tmp_path, finished=False, model="emotion-cnn", personal="head")
    with pytest.raises(SettingsError, match="no one model to attack"):
        prepared(run, data)
