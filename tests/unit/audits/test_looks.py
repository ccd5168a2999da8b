"""Where the model looks: the file is read strictly, held against the model, and shown or said to be away."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from privemo_audits import RunFilesError, build_report
from privemo_audits.gallery import plates_of
from privemo_audits.pages import render_html, render_plain
from tests.support.audit_runs import RunMaker
from tests.support.looks import looked_into, looks_of


def test_what_was_looked_into_stands_in_the_report_with_its_doubt(run: RunMaker) -> None:
    path = looked_into(run.directory)
    report = build_report(run.directory)
    assert report.passed
    assert report.looks is not None
    assert report.looks.of_this_model
    eyes = report.looks.by_emotion["sad"].share["eyes"]
    assert (eyes.mean, eyes.ci) == (pytest.approx(0.3), pytest.approx((0.28, 0.32)))
    assert report.evidence.files["looks.json"] == hashlib.sha256(path.read_bytes()).hexdigest()
    page = render_html(report)
    assert "30.0%" in page
    assert "28.0% to 32.0%" in page
    assert "too few faces" in page  # 5 men
    alt = plates_of(report)["looks:gender"].drawn.alt
    assert "women: eyes 31.0% (29.0% to 33.0%)" in alt
    assert "men" not in alt.replace("women", "")
    assert any("measured on people who do not exist" in limit for limit in report.limits)


def test_where_nobody_asked_the_report_says_so_and_how(truthful: RunMaker) -> None:
    report = build_report(truthful.directory)
    assert report.looks is None
    assert not [c for c in report.checks if c.id.startswith("looks.")]
    assert "Nobody asked where in a face this model looks" in render_html(report)
    assert "privemo explain RUN" in render_html(report)
    assert "nobody has asked yet" in render_plain(report)
    assert any("Nobody asked where in a face" in limit for limit in report.limits)


def test_looks_of_another_model_fail_a_check_and_are_not_shown(run: RunMaker) -> None:
    looked_into(run.directory, model_sha256="ab" * 32)
    report = build_report(run.directory)
    assert report.failed_checks == ("looks.of_this_model",)
    (check,) = [c for c in report.checks if c.id == "looks.of_this_model"]
    assert "privemo explain" in check.evidence
    assert report.looks is not None
    assert not report.looks.by_emotion
    assert not [key for key in plates_of(report) if key.startswith("looks")]
    page = render_html(report)
    assert "Of another model." in page
    assert "30.0%" not in page.split('id="h-looks"')[1].split("</section>")[0]


def deep(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], None]:
    def applied(value: dict[str, Any]) -> None:
        change(value["by_emotion"]["sad"])

    return applied


BAD: list[tuple[str, Callable[[dict[str, Any]], Any], str]] = [
    ("another schema", lambda v: v.update(schema="privemo.looks/2"), "looks.json: schema"),
    ("an unknown key", lambda v: v.update(picture="face.png"), "looks.json: picture"),
    ("an unknown key within", deep(lambda e: e.update(face=1)), "by_emotion.sad.face"),
    ("another method", lambda v: v.update(method="tea_leaves"), "looks.json: method"),
    ("no zone in the time", lambda v: v.update(made="2026-11-29T10:00:00"), "looks.json: made"),
    ("a hash that is none", lambda v: v.update(model_sha256="abc"), "looks.json: model_sha256"),
    ("nobody", lambda v: v.update(people=0), "looks.json: people"),
    ("a region twice", lambda v: v.update(regions=["eyes"] * 4), "a region comes twice"),
    ("a region without area", lambda v: v["area"].pop("eyes"), "area has to name each"),
    ("areas over 1", lambda v: v["area"].update(eyes=0.9), "area adds up to 1.8200"),
    ("an area below 0", lambda v: v["area"].update(eyes=-0.1), "looks.json: area.eyes"),
    ("a region without share", deep(lambda e: e["share"].pop("eyes")), "by_emotion.sad.share has"),
    ("shares under 1", deep(lambda e: e["share"]["eyes"].update(mean=0.28)), "adds up to 0.98"),
    ("a mean outside", deep(lambda e: e["share"]["eyes"].update(high=0.2)), "outside its interval"),
    ("a share over 1", deep(lambda e: e["share"]["eyes"].update(high=1.2)), "share.eyes.high"),
    ("no faces", deep(lambda e: e.update(n=0)), "by_emotion.sad.n"),
    ("no emotion", lambda v: v.update(by_emotion={}), "looks.json: by_emotion"),
    (
        "an emotion that the model does not name",
        lambda v: v["by_emotion"].update(bored=v["by_emotion"]["sad"]),
        "'bored' is none of happy",
    ),
    ("of another run", lambda v: v.update(run_id="other"), "is of run 'other'"),
]


@pytest.mark.parametrize(("spoil", "says"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_file_that_is_not_as_agreed_is_named(
    run: RunMaker, spoil: Callable[[dict[str, Any]], Any], says: str
) -> None:
    content = looks_of(run.directory)
    spoil(content)
    looked_into(run.directory, **content)
    with pytest.raises(RunFilesError) as error:
        build_report(run.directory)
    assert "looks.json" in str(error.value)
    assert says in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": NaN}', '{"people": 1e999}'])
def test_a_torn_file_is_named(run: RunMaker, text: str) -> None:
    (run.directory / "looks.json").write_text(text)
    with pytest.raises(RunFilesError, match=r"looks\.json"):
        build_report(run.directory)


def test_the_agreed_example_is_read(run: RunMaker) -> None:
    """Extra precision, either method, no groups: all are within the format."""
    content = looks_of(run.directory) | {"method": "grad_cam", "by_group": {}}
    (run.directory / "looks.json").write_text(json.dumps(content, indent=2))
    looks = build_report(run.directory).looks
    assert looks is not None
    assert (looks.method, looks.by_group) == ("grad_cam", {})
