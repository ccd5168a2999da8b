"""The runs that are heard: made once, however many tests look at them."""

from __future__ import annotations

import pytest

from tests.faults.curious.scene import MODES, Scene, overhear


@pytest.fixture(scope="session")
def scenes() -> dict[str, Scene]:
    return {}


@pytest.fixture(params=MODES)
def scene(
    request: pytest.FixtureRequest,
    scenes: dict[str, Scene],
    tmp_path_factory: pytest.TempPathFactory,
) -> Scene:
    """Read it, do not change it."""
    mode = request.param
    if mode not in scenes:
        scenes[mode] = overhear(mode, tmp_path_factory.mktemp(mode))
    return scenes[mode]
