"""A page of attacks, of excluded ages and of what exclusion did to groups: as readable as any other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from privemo_audits import build_report, write_report
from tests.support.audit_runs import RunMaker
from tests.support.browser import A4, PHONE, accessibility_faults, browser
from tests.unit.audits.test_asked import UNEVEN
from tests.unit.audits.test_attempts import found, write
from tests.unit.audits.test_excluded import written
from tests.unit.audits.test_on_model import scores

AGES = {"under_13": (0, {"minor": 20}), "25_34": (135, {"refused": 65})}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = RunMaker(tmp_path_factory.mktemp("attacked") / "RUN").make()
    ages = written(run, wrong={"under_13": 60})
    (run.directory / "excluded.json").write_text(json.dumps(ages))
    write(run, found(1), None, {**found(2, alike=0.5), "model": scores(1.0)})
    (run.directory / "attacks.head").unlink()  # so that a fault is told as well
    run.count_by_look(0, {"gender": UNEVEN, "age_band": AGES}, apart={"minor": 20})
    out = run.directory.parent / "out"
    write_report(build_report(run.directory), out, run_dir=run.directory)
    return out / "report.html"


@pytest.mark.parametrize("size", [PHONE, A4], ids=["phone", "A4"])
def test_axe_finds_nothing_in_attacks_and_excluded_ages(report: Path, size: dict[str, int]) -> None:
    with browser() as chromium:
        page = chromium.new_page(viewport=size, bypass_csp=True)
        page.goto(report.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        text = page.inner_text("main")
        for words in (
            "under 13", "The model itself", "noise came back", "begun and not finished", "29.6%", "hash"
        ):  # fmt: skip
            assert words in text
        assert accessibility_faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


def test_the_scores_of_people_stay_in_the_file(report: Path) -> None:
    """The report holds what follows from them, and nobody's own."""
    content = json.loads(report.with_name("report.json").read_text())
    model = content["privacy"]["attacked"]["on_model"]
    assert "scores" not in model
    assert not np.isnan(model["auc"])
