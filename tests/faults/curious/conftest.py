"""The runs that are heard: made once, however many tests look at them."""

from __future__ import annotations

import pytest

from tests.faults.curious.scene import MODES, Scene, overhear


@pytest.fixture(scope="session")
def scenes() -> dict[str, Scene]:
    return {}


# A run with exact counts differs from a distributed one in its last message alone.
@pytest.fixture(
    params=[pytest.param(m, marks=pytest.mark.slow) if m == "exact" else m for m in MODES]
)
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
