"""The benchmark of the store's computer measures what it says."""

from __future__ import annotations

import pytest

from privemo.bench.edge import figures


@pytest.mark.slow
def test_every_figure_is_measured_and_frames_are_read() -> None:
    found = {figure["figure"]: figure for figure in figures(times=12)}
    assert {name for name, figure in found.items() if figure["goal"]} == {
        "classify_ms_p50",
        "road_ms_p95",
        "start_s",
        "memory_mb",
    }
    assert all(figure["value"] > 0 for figure in found.values())
    assert found["read_share"]["value"] > 0.4  # it times readings, and not refusals
    both = (found["classify_fp32_ms_p50"], found["classify_int8_ms_p50"])
    assert found["classify_ms_p50"]["value"] == min(figure["value"] for figure in both)
    assert found["road_ms_p50"]["value"] <= found["road_ms_p95"]["value"]
    # Memory does not depend on who else is busy; torch alone would take more.
    assert 100 < found["memory_mb"]["value"] < 250
    assert found["memory_mb"]["met"] is True
