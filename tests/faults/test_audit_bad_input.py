"""What an audit cannot read: one sentence that names the thing and the remedy, and nothing written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from privemo_audits import (
    AuditError,
    ConsentLogError,
    PredictionsError,
    ReportWriteError,
    RunFilesError,
    build_report,
    write_report,
)
from tests.support.audit_runs import RunMaker, copied

Spoil = Callable[[RunMaker], Any]


@pytest.fixture(scope="module")
def truthful(tmp_path_factory: pytest.TempPathFactory) -> RunMaker:
    made = RunMaker(tmp_path_factory.mktemp("bad") / "RUN", trained=10, held_out=40)
    return made.make()


@pytest.fixture
def run(truthful: RunMaker, tmp_path: Path) -> RunMaker:
    return copied(truthful, tmp_path / "RUN")


def append(name: str, text: str) -> Spoil:
    def spoil(run: RunMaker) -> None:
        with (run.directory / name).open("a") as file:
            file.write(text)

    return spoil


def replace(name: str, text: str | bytes) -> Spoil:
    raw = text.encode() if isinstance(text, str) else text
    return lambda run: (run.directory / name).write_bytes(raw)


def remove(name: str) -> Spoil:
    return lambda run: (run.directory / name).unlink()


def cut(name: str) -> Spoil:
    """Tear the last line, as a crash does that writes half of it."""

    def spoil(run: RunMaker) -> None:
        path = run.directory / name
        path.write_bytes(path.read_bytes()[:-20])

    return spoil


def key(name: str, **changes: Any) -> Spoil:
    return lambda run: run.edit_json(name, lambda value: value.update(changes))


def rows(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Spoil:
    return lambda run: [run.edit_predictions(i, change) for i in (0, 1)]


LEDGER = "stores/store-01/ledger.jsonl"
ADMISSIONS = "stores/store-01/admissions.jsonl"
REGISTRY = "stores/store-01/consent.sqlite"

BAD: list[tuple[str, Spoil, type[AuditError], str]] = [
    ("no run.json", remove("run.json"), RunFilesError, "run.json is missing"),
    ("run.json torn", cut("run.json"), RunFilesError, "run.json: not valid JSON"),
    ("run.json a list", replace("run.json", "[]"), RunFilesError, "run.json: a JSON object was due"),
    ("run.json empty", replace("run.json", ""), RunFilesError, "run.json: not valid JSON"),
    ("run.json not text", replace("run.json", b"\xff\xfe\x00"), RunFilesError, "run.json: not valid"),
    ("run.json deep", replace("run.json", "[" * 100_000), RunFilesError, "run.json: not valid JSON"),
    ("another schema", key("run.json", schema="privemo.run/9"), RunFilesError, "run.json: schema"),
    ("no stores", key("run.json", stores=[]), RunFilesError, "run.json: stores"),
    ("store climbs out", key("run.json", stores=["../../etc"]), RunFilesError, "run.json: stores.0"),
    ("store is dots", key("run.json", stores=[".."]), RunFilesError, "run.json: stores.0"),
    ("no data", key("run.json", data=None), RunFilesError, "run.json: data"),
    ("budget below zero", key("run.json", privacy={"private": True, "epsilon_budget": -1}),
     RunFilesError, "run.json: privacy.epsilon_budget"),
    ("NaN in run.json", replace("run.json", '{"schema": NaN}'), RunFilesError, "NaN is no JSON"),
    ("a round is missing", remove("rounds/0001.json"), RunFilesError, "rounds/0001.json is missing"),
    ("a round of another run", key("rounds/0002.json", run_id="other"), RunFilesError,
     "rounds/0002.json belongs to run 'other'"),
    ("a round of an unknown store", key("rounds/0001.json", stores={"x": {"status": "trained"}}),
     RunFilesError, "names stores that run.json does not"),
    ("ledger torn", cut(LEDGER), RunFilesError, f"{LEDGER} line 2: the last line is cut off"),
    ("ledger garbled", append(LEDGER, "{oops\n"), RunFilesError, f"{LEDGER} line 3: not valid JSON"),
    ("ledger blank line", append(LEDGER, "\n"), RunFilesError, f"{LEDGER} line 3: not valid JSON"),
    ("ledger infinite", append(LEDGER, '{"steps": Infinity}\n'), RunFilesError, "Infinity is no JSON"),
    ("ledger entry half", append(LEDGER, '{"seq": 2}\n'), RunFilesError, f"{LEDGER} line 3: schema"),
    ("rate above one",
     lambda run: run.edit_ledger(0, lambda r: [x | {"sample_rate": 1.5} for x in r], rechain=True),
     RunFilesError, f"{LEDGER} line 1: sample_rate"),
    ("no admissions", remove(ADMISSIONS), RunFilesError, f"{ADMISSIONS} is missing"),
    ("admissions torn", cut(ADMISSIONS), RunFilesError, "the last line is cut off"),
    ("more admitted than asked",
     replace(ADMISSIONS, '{"schema":"privemo.admission/1","at":"2026-01-01T00:00:00Z","run_id":"r",'
             '"round":0,"purpose":"training","log_seq":1,"asked":{"faces":1,"persons":1},'
             '"admitted":{"faces":2,"persons":1},"refused":{"faces":{},"persons":{}}}\n'),
     RunFilesError, "more were admitted than asked"),
    ("no registry", remove(REGISTRY), ConsentLogError, "stores/store-01/consent.sqlite cannot be"),
    ("no keys of the registry", lambda run: shutil.rmtree(run.path(0, "consent.keys")),
     ConsentLogError, "its key folder consent.keys is not beside it"),
    ("registry is no database", replace(REGISTRY, "hello"), ConsentLogError, "consent.sqlite cannot"),
    ("production said of a simulation", key("run.json", simulated=False), ConsentLogError,
     "never mix"),
    ("no predictions", lambda run: [run.path(i, "predictions.csv").unlink() for i in (0, 1)],
     PredictionsError, "the run holds no predictions"),
    ("predictions of no rows", rows(lambda r: []), PredictionsError, "the run holds no predictions"),
    ("a column missing", rows(lambda r: [{k: v for k, v in x.items() if k != "label"} for x in r]),
     PredictionsError, "columns missing: label"),
    ("a sensitive column missing", key("run.json", sensitive=["gender", "skin"]), PredictionsError,
     "columns missing: skin"),
    ("one class only", rows(lambda r: [x | {"label": 2} for x in r]), PredictionsError,
     "every face is labelled 'neutral'"),
    ("an unknown emotion", rows(lambda r: [r[0] | {"label": "angry"}, *r[1:]]), PredictionsError,
     "'angry' is none of happy"),
    ("a prediction is empty", rows(lambda r: [r[0] | {"prediction": ""}, *r[1:]]), PredictionsError,
     "'' is none of happy"),
    ("a probability is NaN", rows(lambda r: [r[0] | {"p_sad": "nan"}, *r[1:]]), PredictionsError,
     "no probability"),
    ("a face twice", rows(lambda r: [*r, r[0]]), PredictionsError, "twice"),
    ("a face of another store", rows(lambda r: [r[0] | {"store": "store-07"}, *r[1:]]),
     PredictionsError, "holds a face of store 'store-07'"),
    ("predictions not text", replace("stores/store-01/predictions.csv", b"\xff\xfe\x00\x81"),
     RunFilesError, "predictions.csv cannot be read"),
    ("predictions empty", replace("stores/store-01/predictions.csv", b""), RunFilesError,
     "predictions.csv cannot be read"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "kind", "says"), [row[1:] for row in BAD], ids=[row[0] for row in BAD]
)
def test_bad_input_is_named_with_a_remedy(
    run: RunMaker, spoil: Spoil, kind: type[AuditError], says: str
) -> None:
    spoil(run)
    with pytest.raises(AuditError) as caught:
        build_report(run.directory)
    assert type(caught.value) is kind
    assert says in str(caught.value)
    assert len(caught.value.remedy) > 10
    assert "\n" not in str(caught.value)


def test_no_such_run(tmp_path: Path) -> None:
    with pytest.raises(RunFilesError, match="is no directory"):
        build_report(tmp_path / "nowhere")


def test_a_store_without_predictions_is_no_error(run: RunMaker) -> None:
    run.path(0, "predictions.csv").unlink()
    report = build_report(run.directory)
    assert report.passed
    assert report.performance.persons == 40


# -- writing -----------------------------------------------------------------------------------


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Let the n-th flush to the disk fail as a full disk does."""
    real, seen = os.fsync, [0]

    def fail_at(n: int) -> None:
        def fsync(fd: int) -> None:
            seen[0] += 1
            if seen[0] == n:
                raise OSError(28, "No space left on device")
            real(fd)

        monkeypatch.setattr(os, "fsync", fsync)

    return fail_at  # type: ignore[return-value]


@pytest.mark.parametrize("n", [1, 3, 6])  # report.json, a page, the model card
def test_a_full_disk_leaves_the_old_report_whole(
    run: RunMaker, tmp_path: Path, full_disk: Callable[[int], None], n: int
) -> None:
    report = build_report(run.directory)
    old = {p: p.read_bytes() for p in write_report(report, tmp_path / "out")}
    run.edit_json("run.json", lambda r: r["privacy"].update(epsilon_budget=1.0))
    new = build_report(run.directory)
    full_disk(n)
    with pytest.raises(ReportWriteError, match="No space left") as caught:
        write_report(new, tmp_path / "out")
    assert "half-written" in caught.value.remedy
    assert {p: p.read_bytes() for p in (tmp_path / "out").iterdir()} == old


def test_a_page_that_fails_to_render_leaves_the_old_report_whole(
    run: RunMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are rendered before one is written: never a new report beside an old page."""
    report = build_report(run.directory)
    old = {p: p.read_bytes() for p in write_report(report, tmp_path / "out")}
    monkeypatch.setattr("privemo_audits.pages.TEMPLATES", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        write_report(report.model_copy(update={"limits": ()}), tmp_path / "out")
    assert {p: p.read_bytes() for p in (tmp_path / "out").iterdir()} == old


def test_a_page_that_is_a_folder_is_said_and_no_other_is_written(
    run: RunMaker, tmp_path: Path
) -> None:
    (tmp_path / "out" / "report-plain.html").mkdir(parents=True)
    with pytest.raises(ReportWriteError, match=r"report-plain\.html is a folder"):
        write_report(build_report(run.directory), tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["report-plain.html"]


def test_a_directory_that_is_a_file(run: RunMaker, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ReportWriteError, match="cannot be written"):
        write_report(build_report(run.directory), tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"
