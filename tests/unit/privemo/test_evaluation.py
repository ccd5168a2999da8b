"""Which faces a model is read on: none of those it was trained on, where that can be told."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from privemo import simulation
from privemo.evaluation import evaluate_file
from privemo.faces import load_faces
from privemo.runs import Run
from privemo_consent import Purpose
from tests.conftest import noise_faces
from tests.support.small_runs import small_run, used_people


def whole(folder: Path, seed: int | None) -> Run:
    run = small_run(
        folder, model="gray-cnn", seed=seed, rounds=1, steps_per_round=1, consents="everyone"
    )
    simulation.run(run)
    simulation.finish(run)
    return run


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return whole(tmp_path_factory.mktemp("seeded"), 5)


def trained_on(run: Run) -> set[str]:
    found: set[str] = set()
    for name in run.stores:
        store = run.store(name)
        found |= used_people(store, Purpose.TRAINING)
        store.close()
    return found


def test_of_a_runs_own_table_nobody_is_read_whom_it_trained_on(
    seeded: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from privemo import evaluation

    read: list[str] = []
    frame = evaluation._frame

    def seen(faces, probabilities):  # type: ignore[no-untyped-def]
        read.extend(faces.person)
        return frame(faces, probabilities)

    monkeypatch.setattr(evaluation, "_frame", seen)
    data = seeded.folder.parent / "faces.npz"
    for weights in (seeded.folder, seeded.model_path):
        read.clear()
        result = evaluate_file(weights, data)
        assert result["part"] == "held_out"
        assert read
        assert trained_on(seeded)
        assert not set(read) & trained_on(seeded)
        table = load_faces(data)
        _, held_out = table.split(seeded.settings.test_fraction, seed=5)
        assert result["asked"] == len(held_out)


def test_a_model_that_left_its_run_is_read_on_the_whole_file(seeded: Run, tmp_path: Path) -> None:
    data = seeded.folder.parent / "faces.npz"
    moved = shutil.copy(seeded.model_path, tmp_path / "model.safetensors")
    result = evaluate_file(Path(moved), data, model="gray-cnn")
    assert (result["part"], result["asked"]) == ("file", len(load_faces(data)))


def test_another_table_is_read_whole(seeded: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "others.npz", **noise_faces(20, 9))
    result = evaluate_file(seeded.folder, tmp_path / "others.npz")
    assert (result["part"], result["asked"]) == ("file", len(load_faces(tmp_path / "others.npz")))


def test_a_run_without_a_seed_says_that_it_was_trained_on_some_of_them(tmp_path: Path) -> None:
    run = whole(tmp_path, None)
    result = evaluate_file(run.folder, tmp_path / "faces.npz")
    assert result["part"] == "partly_trained_on"
