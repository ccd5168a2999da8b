"""The command as its user meets it: help, output, exit codes, and one sentence for each mistake."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from importlib import metadata
from io import StringIO
from pathlib import Path

import click
import numpy as np
import pytest
import typer
from rich.console import Console

from privemo.faces import load_faces
from tests.conftest import noise_faces
from tests.support.audit_runs import RunMaker

SMALL = [
    *("--stores", "2", "--rounds", "1", "--steps", "2", "--sample-rate", "0.5"),
    *("--declared-people", "10", "--init", "scratch", "--seed", "3"),
]

HEADINGS = (
    "Start here",
    "Train",
    "Question what was trained",
    "Use it in a store",
    "Ask people, and keep what they said",
    "Measure this machine",
)


@cache
def parser(app: typer.Typer) -> click.Command:
    """What typer reads off all commands whenever one is called, and then most of what a short one costs."""
    return typer.main.get_command(app)


def privemo(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command's own `main`, in this process: the imports of torch are paid once, as is the parser."""
    from privemo.cli import app, common, main

    read, stdout, stderr = parser(app), StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", lambda _app: read)
        patch.setattr(sys, "argv", ["privemo", *map(str, arguments)])
        patch.setattr(common, "_err", Console(file=stderr, width=1000))
        patch.setattr(common.out, "_file", stdout)
        with redirect_stdout(stdout), redirect_stderr(stderr), pytest.raises(SystemExit) as done:
            main()
    code = done.value.code
    assert isinstance(code, int)
    return subprocess.CompletedProcess(arguments, code, stdout.getvalue(), stderr.getvalue())


def test_the_installed_command_and_the_module_are_the_same() -> None:
    script = Path(sys.executable).with_name("privemo")
    answers = [
        subprocess.run(
            [*command, "bench", "list"], capture_output=True, text=True, timeout=120, check=True
        ).stdout
        for command in ([script], [sys.executable, "-m", "privemo"])
    ]
    assert answers[0] == answers[1]
    assert "synth" in answers[0]


def refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """One sentence, exit code 2, no traceback, nothing on standard output."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    for word in words:
        assert word in result.stderr.replace("\n", " "), result.stderr


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small finished run, made by the command itself."""
    folder = tmp_path_factory.mktemp("cli")
    np.savez(folder / "faces.npz", **noise_faces(120))
    result = privemo(
        "simulate", "--data", folder / "faces.npz", "--out", folder / "run", "--json",
        "--sensitive", "age_band", *SMALL,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    (folder / "stdout.json").write_text(result.stdout)
    return folder


def test_help_names_every_command() -> None:
    result = privemo("--help")
    assert result.returncode == 0
    for command in ("demo", "simulate", "train", "evaluate", "excluded", "audit", "synth", "bench"):
        assert command in result.stdout


def test_the_help_puts_every_command_under_a_heading_once() -> None:
    text = privemo("--help").stdout
    order = [text.index(f"─ {heading} ─") for heading in HEADINGS]
    assert order == sorted(order)
    # What has no heading of its own would stand under typer's.
    assert "─ Commands ─" not in text


def test_a_module_of_our_own_that_is_missing_is_nothing_to_install() -> None:
    from privemo.cli import _sentence

    ours, theirs = (
        ModuleNotFoundError(f"No module named '{name}'", name=name)
        for name in ("privemo.nowhere", "somepackage")
    )
    assert _sentence(ours) is None  # a mistake of ours keeps its traceback
    assert "pip install somepackage" in str(_sentence(theirs))


def test_options_of_a_chain_stand_together() -> None:
    text = privemo("simulate", "--help").stdout
    for heading, option in (
        ("What a person may lose", "--epsilon"),
        ("What a person may lose", "--budget"),
        ("Training, by a recipe where nothing else is asked", "--sample-rate"),
        ("Several stores, which no recipe decides", "--quorum"),
        ("How the stores of a simulated chain differ", "--label-skew"),
    ):
        assert text.count(f"─ {heading} ─") == 1
        under = text[text.index(heading) :]
        assert option in under[: under.index("╰─")], (heading, option)


@pytest.mark.parametrize(
    "command", ["simulate", "train", "evaluate", "excluded", "audit", "synth", "bench", "demo"]
)
def test_every_command_has_help(command: str) -> None:
    result = privemo(command, "--help")
    assert result.returncode == 0
    assert "--help" in result.stdout


def test_no_option_turns_the_gate_off() -> None:
    for command in ("simulate", "train", "evaluate"):
        text = privemo(command, "--help").stdout.lower()
        assert "--no-gate" not in text
        assert "--no-consent" not in text
        assert "skip" not in text


def test_simulate_prints_one_json_document(finished: Path) -> None:
    printed = json.loads((finished / "stdout.json").read_text())
    assert printed["privacy"]["epsilon_max_person"] <= 8
    assert printed["passed"] is True


def test_the_report_is_there_and_holds_what_was_asked_for(finished: Path) -> None:
    report = json.loads((finished / "run" / "report.json").read_text())
    assert report["lineage"]["violations"] == 0
    assert report["privacy"]["epsilon_max_person"] <= 8
    assert set(report["privacy"]["accountants"]) == {"rdp", "prv"}
    html = (finished / "run" / "report.html").read_text()
    assert "<html" in html
    for outside in ('src="http', 'href="http', "@import", "url(http"):
        assert outside not in html


def test_evaluate_prints_accuracy_interval_f1_and_n(finished: Path) -> None:
    result = privemo(
        "evaluate",
        finished / "run" / "model.safetensors",
        "--data",
        finished / "faces.npz",
        "--json",
    )
    assert result.returncode == 0, result.stderr
    out = json.loads(result.stdout)
    low, high = out["accuracy_ci"]
    assert 0 <= low <= out["accuracy"] <= high <= 1
    assert set(out["f1"]) == {"happy", "sad", "neutral", "surprise"}
    # A quarter of the people attest an age under 18: never read, here either.
    assert out["n"] == out["asked"] - out["refused"]["minor"] > 0
    assert out["refused"]["minor"] > 0
    # Of the table that it was trained on, what the run held out.
    _, held_out = load_faces(finished / "faces.npz").split(0.2, seed=3)
    assert (out["part"], out["asked"]) == ("held_out", len(held_out))
    # The folder of a run is as good, and says which architecture it is.
    folder = privemo("evaluate", finished / "run", "--data", finished / "faces.npz", "--json")
    assert json.loads(folder.stdout) == out


def test_tables_say_that_consents_are_simulated(finished: Path) -> None:
    model, data = finished / "run" / "model.safetensors", finished / "faces.npz"
    assert "simulated" in privemo("evaluate", model, "--data", data).stdout
    again = privemo("audit", finished / "run", "--out", finished / "again")
    assert "no real person gave them" in again.stdout


def test_an_audit_can_be_repeated_elsewhere(finished: Path, tmp_path: Path) -> None:
    result = privemo("audit", finished / "run", "--out", tmp_path / "again")
    assert result.returncode == 0, result.stderr
    again = json.loads((tmp_path / "again" / "report.json").read_text())
    assert again == json.loads((finished / "run" / "report.json").read_text())


def test_a_failed_audit_is_exit_code_1(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished / "run", run)
    ledger = run / "stores" / "store-01" / "ledger.jsonl"
    ledger.write_text(ledger.read_text().replace('"steps":2', '"steps":1'))
    result = privemo("audit", run, "--out", tmp_path / "report")
    assert result.returncode == 1, result.stderr
    assert "ledger" in result.stdout.lower()


def test_a_finished_run_resumes_to_itself(finished: Path) -> None:
    before = (finished / "run" / "model.safetensors").read_bytes()
    refused(
        privemo("simulate", "--resume", finished / "run", "--epsilon", "9"), "leave out --epsilon"
    )
    result = privemo("simulate", "--resume", finished / "run", "--workers", "2")
    assert result.returncode == 0, result.stderr
    assert (finished / "run" / "model.safetensors").read_bytes() == before


def test_synth_writes_people_that_simulate_can_read(tmp_path: Path) -> None:
    out = tmp_path / "people.npz"
    result = privemo(
        "synth", "--people", "6", "--images", "2", "--seed", "7", "--out", out, "--json"
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["faces"] == 12
    from privemo.faces import load_faces

    table = load_faces(out)
    assert len(set(table.person)) == 6
    assert "no person" in table.origin


def test_synth_writes_no_npz_under_another_files_name(tmp_path: Path) -> None:
    refused(privemo("synth", "--out", tmp_path / "people.csv"), "has to end in .npz")
    assert not list(tmp_path.iterdir())


def test_a_folder_may_be_called_as_the_command_that_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(privemo("explain", "run", "--out", "looks"), "Missing argument 'RUN'")
    (tmp_path / "run").mkdir()
    refused(privemo("explain", "run", "--out", "looks"), "run/run.json")
    refused(privemo("explain", "run", "--out", "looks", "other"), "other/run.json")


def test_synth_says_before_it_draws_that_a_file_cannot_be_written(tmp_path: Path) -> None:
    there = tmp_path / "people.npz"
    there.write_text("somebody's")
    few = ("synth", "--people", "4", "--images", "1", "--out")
    refused(privemo(*few, there), "exists", "--force")
    assert there.read_text() == "somebody's"
    refused(privemo(*few, tmp_path), "cannot be a file")
    refused(privemo(*few, tmp_path / "nowhere" / "people.npz"), "folder that exists")
    assert privemo(*few, there, "--force").returncode == 0
    assert there.stat().st_size > 1000


def test_the_version_is_that_of_the_package() -> None:
    said = privemo("--version")
    assert (said.returncode, said.stdout) == (0, f"privemo {metadata.version('privemo')}\n")


def test_bench_lists_and_prints_json_lines() -> None:
    assert "synth" in privemo("bench", "list").stdout
    refused(privemo("bench", "nonsense"), "No such command", "nonsense")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.npz", None, "does not exist"),
        ("cut.npz", b"PK\x03\x04 and then nothing", "cannot be read"),
        ("faces.csv", b"pixels,label\n1 2 3,sad\n", "3 pixels"),
        ("faces.csv", b"a,b\n1,2\n", "lacks the column"),
        ("faces.xyz", b"", "neither"),
    ],
)
def test_bad_input_is_one_sentence(
    tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    out = tmp_path / "run"
    refused(privemo("simulate", "--data", tmp_path / name, "--out", out), says)
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--epsilon", "0"], ["epsilon"]),
        (["--epsilon", "-3"], ["epsilon"]),
        (["--epsilon", "1e-9"], ["cannot be met", "fewer rounds"]),
        (["--stores", "0"], ["stores"]),
        (["--challenge-age", "5"], ["--challenge-age: "]),
        (["--sensitive", "shoe_size"], ["shoe_size", "age_band"]),
        (["--init", "nowhere.safetensors"], ["nowhere.safetensors"]),
        (["--declared-people", "9999"], ["too_few_people", "declare fewer people"]),
        (["--sample-rate", "1.5"], ["--sample-rate: "]),
        (["--workers", "0"], ["0 workers", "1 or more"]),
        (["--workers", "2", "--engine", "ray"], ["Ray has workers of its own", "--workers"]),
    ],
)
def test_bad_settings_are_one_sentence(npz: Path, options: list[str], words: list[str]) -> None:
    out = npz.parent / "run"
    refused(privemo("simulate", "--data", npz, "--out", out, *SMALL, *options), *words)


def test_everyone_a_child_is_zero_admitted_faces(tmp_path: Path) -> None:
    columns = noise_faces(40)
    columns["age_band"][:] = "13_15"
    np.savez(tmp_path / "children.npz", **columns)
    refused(
        privemo("simulate", "--data", tmp_path / "children.npz", "--out", tmp_path / "r", *SMALL),
        "No store could train",
        "no_faces",
    )


def test_missing_options_and_wrong_folders_are_said(tmp_path: Path, npz: Path) -> None:
    refused(privemo("simulate", "--out", tmp_path / "x"), "--data is missing")
    refused(privemo("simulate", "--data", npz), "--out is missing")
    refused(privemo("simulate", "--resume", tmp_path / "nowhere"), "run.json", "does not exist")
    refused(privemo("audit", tmp_path / "nowhere"), "nowhere")
    refused(privemo("evaluate", tmp_path / "no.safetensors", "--data", npz), "no.safetensors")
    refused(privemo("evaluate", "nobody", "--data", npz), "give a model.safetensors, or the folder")
    refused(privemo("evaluate", tmp_path, "--data", npz), "without a run.json", "model.safetensors")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("keep me")
    refused(privemo("simulate", "--data", npz, "--out", tmp_path / "full", *SMALL), "not empty")
    assert (tmp_path / "full" / "letter.txt").read_text() == "keep me"


def test_a_folder_that_cannot_be_written_is_said(npz: Path) -> None:
    refused(privemo("simulate", "--data", npz, "--out", "/proc/run", *SMALL), "/proc/run")


def denied(result: subprocess.CompletedProcess[str], *says: str) -> None:
    """The answer is no: exit code 1, and why."""
    assert result.returncode == 1, result.stderr
    assert all(words in " ".join(result.stderr.split()) for words in says), result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture
def signed(finished: Path, tmp_path: Path) -> tuple[Path, str]:
    """A signed report of the finished run, and the public key of who signed it."""
    key, out = tmp_path / "eve.key", tmp_path / "signed"
    public = privemo("audit", "key", key, "--name", "eve").stdout.strip()
    made = privemo("audit", finished / "run", "--out", out, "--sign", key)
    assert made.returncode == 0, made.stderr
    return out, public


def test_a_report_is_signed_verified_and_compared(finished: Path, tmp_path: Path) -> None:
    made = privemo("audit", "key", tmp_path / "anna.key", "--name", "anna")
    public = made.stdout.strip()
    assert public.startswith("anna+")
    again = privemo("audit", "key", tmp_path / "anna.key")
    assert again.returncode == 2, "a key is never overwritten"
    out = tmp_path / "signed"
    signing = ("--sign", tmp_path / "anna.key", "--name", "anna")
    assert privemo("audit", finished / "run", "--out", out, *signing).returncode == 0
    good = privemo("audit", "verify", out, "--key", public)
    assert good.returncode == 0, good.stderr
    assert "Signed by anna" in good.stdout
    same = privemo("audit", "diff", finished / "run", out, "--json")
    assert {moved["kind"] for moved in json.loads(same.stdout)["figures"]} == {"same"}
    report = out / "report.json"
    report.write_text(report.read_text().replace('"passed":true', '"passed":false', 1))
    denied(privemo("audit", "verify", out, "--key", public), "not the report that was signed")
    refused(privemo("audit", "verify", out, "--key", "nonsense"), "name+id+base64")


def test_verify_says_no_with_1_and_cannot_tell_with_2(signed: tuple[Path, str]) -> None:
    """As `log verify` does; a report that another command is to use is bad input, and 2."""
    out, public = signed
    verify = ("audit", "verify", out, "--key", public)
    (out / "model_card.md").unlink()
    away = privemo(*verify)
    assert away.returncode == 0
    assert "Not there, and so not looked at: model_card.md." in away.stdout
    page = out / "report-plain.html"
    page.write_text(page.read_text().replace("passed", "praised"))
    denied(
        privemo(*verify), "report-plain.html is not the page that was signed", "audit the run anew"
    )
    told = json.loads(privemo(*verify, "--json").stdout)
    assert told["verified"] is False
    assert "report-plain.html" in told["error"]
    stranger = "anna+2aabbacb+Ad0r6vk9W2aMI7qnoa0o7bqizkF/tE6rQotG03PSILwo"
    denied(privemo("audit", "verify", out, "--key", stranger), "no key that is known has signed")
    (out / "report.sig").unlink()
    refused(privemo(*verify), "report.sig cannot be read")


def test_signed_reports_stand_beside_a_new_one_and_others_are_refused(
    signed: tuple[Path, str], finished: Path, tmp_path: Path
) -> None:
    out, public = signed
    again, run = tmp_path / "again", finished / "run"
    beside = ("audit", run, "--out", again, "--beside", out)
    refused(privemo(*beside), "give --key with the public key")
    refused(privemo("audit", run, "--out", again, "--key", public), "none is named")
    refused(privemo(*beside, "--key", public), "would stand beside itself")
    other = RunMaker(tmp_path / "other", trained=6, held_out=30, rounds=1).make()
    drawn = privemo("audit", other.directory, "--out", again, "--beside", out, "--key", public)
    assert drawn.returncode == 0, drawn.stderr
    (found,) = json.loads((again / "report.json").read_text())["beside"]
    assert found["signed_by"] == ["eve"]
    assert found["sha256"] in (again / "report.html").read_text()
    shutil.rmtree(again)
    report = out / "report.json"
    report.write_text(report.read_text().replace('"passed":true', '"passed":false', 1))
    refused(privemo(*beside, "--key", public), "not the report that was signed")
    assert not again.exists(), "nothing is written where one is refused"


def test_a_policy_that_is_missed_is_exit_code_1(finished: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('schema = "privemo.policy/1"\n[performance]\nleast_accuracy = 1.0\n')
    missed = privemo("audit", finished / "run", "--policy", policy, "--out", tmp_path / "out")
    assert missed.returncode == 1, missed.stderr
    assert "as accurate as the policy asks" in " ".join(missed.stdout.split())
    assert (tmp_path / "out" / "report.html").exists()
    policy.write_text('schema = "privemo.policy/1"\n[performance]\nleast_acuracy = 1.0\n')
    out = tmp_path / "other"
    refused(privemo("audit", finished / "run", "--policy", policy, "--out", out), "least_acuracy")
    assert not out.exists()


def test_the_published_schema_is_that_of_the_report(finished: Path) -> None:
    import jsonschema

    schema = json.loads(privemo("audit", "schema").stdout)
    report = json.loads((finished / "run" / "report.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(report)
    report["passed"] = "yes"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(report)
