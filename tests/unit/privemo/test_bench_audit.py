"""The benchmark of the audit: both sides do their work, and the figures add up."""

from __future__ import annotations

import pytest

from privemo.bench import run_benchmark


def test_both_are_measured_on_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    import fairlearn.metrics

    asked: list[int] = []
    honest = fairlearn.metrics.MetricFrame

    def watched(**given: object) -> object:
        asked.append(int(str(given.get("n_boot", 0))))
        return honest(**given)

    from privemo.bench import audit

    monkeypatch.setattr(fairlearn.metrics, "MetricFrame", watched)
    few = {"rows": 2000, "groups": 3, "resamples": 40, "timed": 4}
    found = {f["figure"]: f for f in run_benchmark("audit", **few)}
    assert asked[-2:] == [0, 4]
    ours, theirs, ratio = (
        found[name]["value"] for name in ("ours_s", "metric_frame_s", "metric_frame_over_ours")
    )
    assert 0 < ours < 5
    assert theirs > 0
    assert ratio == pytest.approx(theirs / ours, rel=0.1)
    assert found["ours_s"]["met"] is True
    assert audit.ROWS == 1_000_000
    assert (audit.GROUPS, audit.RESAMPLES) == (24, 1000)
