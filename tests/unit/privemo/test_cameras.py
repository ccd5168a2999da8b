"""Stores that see differently: as much as asked, each in its own way, and what the gate refused never."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privemo.cameras import Camera
from tests.support.small_runs import small_run

GRAY = np.tile(np.arange(48, dtype=np.uint8) * 5, (3, 48, 1))


def test_a_camera_that_does_not_differ_changes_nothing() -> None:
    camera = Camera.drawn(0.0, seed=1, store=2)
    assert camera == Camera(angle=camera.angle)
    assert np.array_equal(camera.seen(GRAY, seed=0), GRAY)


def test_each_store_has_a_camera_of_its_own_and_keeps_it() -> None:
    cameras = [Camera.drawn(1.0, seed=1, store=number) for number in range(5)]
    assert len({camera.gamma for camera in cameras}) == 5
    assert cameras[3] == Camera.drawn(1.0, seed=1, store=3)
    assert cameras[3] != Camera.drawn(1.0, seed=2, store=3)


def test_the_more_is_asked_the_further_the_pictures_are() -> None:
    def distance(difference: float) -> float:
        seen = [Camera.drawn(difference, seed=s, store=0).seen(GRAY, seed=0) for s in range(20)]
        return float(np.mean([np.abs(x.astype(float) - GRAY).mean() for x in seen]))

    assert 0 < distance(0.1) < distance(0.5) < distance(2.0)


@given(
    difference=st.floats(0, 10),
    store=st.integers(0, 99),
    colours=st.booleans(),
    n=st.integers(0, 3),
)
def test_pictures_stay_pictures(difference: float, store: int, colours: bool, n: int) -> None:
    images = np.full((n, 48, 48, 3) if colours else (n, 48, 48), 128, np.uint8)
    seen = Camera.drawn(difference, seed=0, store=store).seen(images, seed=3)
    assert seen.shape == images.shape
    assert seen.dtype == np.uint8


def test_bright_stays_bright_and_colours_are_blurred_apart() -> None:
    colours = np.stack([GRAY, np.zeros_like(GRAY), np.full_like(GRAY, 255)], axis=-1)
    seen = Camera(gamma=1.5, blur=1.0).seen(colours, seed=0)
    assert (np.diff(seen[0, 24, :, 0].astype(int)) >= 0).all()
    assert not seen[..., 1].any()
    assert (seen[..., 2] == 255).all()


@pytest.mark.parametrize(("skew", "changes"), [(0.0, False), (1.0, True)])
def test_the_faces_of_a_simulated_store_are_what_its_camera_saw(
    tmp_path: Path, skew: float, changes: bool
) -> None:
    run = small_run(tmp_path, camera_skew=skew, consents="everyone")
    table = np.load(tmp_path / "faces.npz")
    known = {image.tobytes() for image in table["images"]}
    for name in run.stores:
        store = run.store(name)
        try:
            seen = [store._admit(part, "any", 1).faces.images for part in ("train", "test")]
        finally:
            store.close()
        for images in seen:
            assert len(images)
            assert all((image.tobytes() not in known) == changes for image in images)
