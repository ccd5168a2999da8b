"""The examples run, as their users run them, on people who do not exist."""

from __future__ import annotations

import configparser
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from privemo_consent import ConsentRegistry, Purpose, Reason, SigningKey
from tests.support.kiosks import signed

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = "--stores 2 --rounds 1 --steps 2 --seed 3 --init scratch --declared-people 10"
HANDED_OVER = (
    "consent.sqlite",
    "ledger.jsonl",
    "admissions.jsonl",
    "statements.jsonl",
    "predictions.csv",
)


def python(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def example(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return python(EXAMPLES / name, *arguments, cwd=cwd)


def test_a_stores_own_training_loop(tmp_path: Path) -> None:
    done = example("store_training.py", "store", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "minors away" in done.stdout
    assert "has just withdrawn" in done.stdout
    assert "Nobody lost more than epsilon" in done.stdout
    (line,) = (tmp_path / "store/ledger.jsonl").read_text().splitlines()
    assert 7.5 < json.loads(line)["epsilon_rdp"] <= 8
    with closing(sqlite3.connect(tmp_path / "store/consent.sqlite")) as database:
        assert database.execute("SELECT count(*) FROM uses").fetchone() == (3,)


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    result = example("store_training.py", str(tmp_path), cwd=tmp_path)
    assert result.returncode == 1
    assert "exists" in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_store_that_adapts_to_those_who_agreed(tmp_path: Path) -> None:
    done = example("recommend_store.py", "store", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    tom, told, bob, why, withdrawn, after, _, learned = done.stdout.splitlines()
    assert tom == "tom  lamp loan mug novel lens towel wine (not_permitted)"
    assert "you have not agreed" in told
    # The novel rises past the mug, and not past what costs less; loan, towel and wine stay where they are.
    assert bob == "bob  lamp loan novel mug lens towel wine (adapted)"
    assert "comfortable things" in why
    assert withdrawn.endswith("withdrawn")
    assert after == tom.replace("tom", "bob")
    assert learned.startswith("After 300 reactions: +")
    assert not list((tmp_path / "store/recommend").glob("*ann*"))


APP = "store_app/store_app.py"


@pytest.fixture(scope="module")
def signed_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A signed model of the bundled weights, and the key to know it by."""
    key = SigningKey.generate("chain")
    path = tmp_path_factory.mktemp("app") / "model.onnx"
    path.write_bytes(signed(key))
    return str(path), str(key.verifying)


def test_kiosk_camera_and_recommendations_in_one_app(
    signed_model: tuple[str, str], tmp_path: Path
) -> None:
    path, key = signed_model
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['store_app.py', 'shop', '--model', {path!r}, '--key', {key!r}]\n"
        f"runpy.run_path({str(EXAMPLES / APP)!r}, run_name='__main__')\n"
        "print('LOADED', *sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    done = python("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    *told, loaded = done.stdout.splitlines()
    lists = [line for line in told if line.endswith(")")]
    assert lists == [
        "Ann agreed: happy; kite lamp tea mug rug (adapted)",
        "Tom: no_session; lamp tea kite mug rug (no_session)",
        "Ann came back with her code: happy; kite lamp tea mug rug (adapted)",
        "Ann withdrew: refused; lamp tea kite mug rug (not_permitted)",
    ]
    for told_so in ("shown: True", "can be opened: True", "nothing else is kept: True"):
        assert any(line.endswith(told_so) for line in told)
    assert told[-1].startswith("the log verifies")
    assert not {"torch", "pandas", "flwr"} & set(loaded.split())
    with ConsentRegistry.open(tmp_path / "shop/demo.sqlite", mode="simulation") as registry:
        registry.verify()
        asked = [d for d in registry.decisions() if d.purpose is Purpose.PERSONALISATION]
    assert {d.reason for d in asked} >= {Reason.PERMITTED, Reason.WITHDRAWN}


def test_an_app_whose_model_is_not_trusted_goes_on_and_reads_nobody(
    signed_model: tuple[str, str], tmp_path: Path
) -> None:
    stranger = str(SigningKey.generate("chain").verifying)
    done = example(APP, "shop", "--model", signed_model[0], "--key", stranger, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "staff: " in done.stdout
    lists = [line for line in done.stdout.splitlines() if line.endswith(")")]
    assert len(lists) == 4
    assert all("lamp tea kite mug rug" in line for line in lists)
    assert "happy" not in done.stdout


def test_a_mistyped_model_or_key_is_told_before_the_day_begins(
    signed_model: tuple[str, str], tmp_path: Path
) -> None:
    model, key = signed_model
    for given, why in (
        (("--model", "nowhere.onnx", "--key", key), "nowhere.onnx is no file"),
        (("--model", model, "--key", "chain+1a2b3c4d+Ae..."), "--key: a public key is one line"),
    ):
        done = example(APP, "shop", *given, cwd=tmp_path)
        assert done.returncode == 1
        assert why in done.stderr
        assert done.stdout == ""
        assert not (tmp_path / "shop").exists()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished run, of which only what an auditor needs is left."""
    folder = tmp_path_factory.mktemp("regulator")
    for command in (
        "synth --people 60 --images 3 --seed 1 --out people.npz",
        f"simulate --data people.npz --out whole --json {SMALL}",
    ):
        done = python("-m", "privemo", *command.split(), cwd=folder)
        assert done.returncode == 0, done.stderr
    shutil.copytree(folder / "whole/rounds", folder / "run/rounds")
    for name in ("run.json", "model.safetensors", "report.json"):
        shutil.copy(folder / "whole" / name, folder / "run")
    for store in ("store-01", "store-02"):
        (folder / "run/stores" / store).mkdir(parents=True)
        for name in HANDED_OVER:
            shutil.copy(folder / "whole/stores" / store / name, folder / "run/stores" / store)
        keys = f"stores/{store}/consent.keys"
        shutil.copytree(folder / "whole" / keys, folder / "run" / keys)
    return folder / "run"


def test_a_regulator_comes_to_the_same_report_without_torch(run: Path) -> None:
    code = (
        "import runpy, sys; sys.argv = ['regulator_audit.py', 'run', 'check']\n"
        f"try: runpy.run_path({str(EXAMPLES / 'regulator/regulator_audit.py')!r}, run_name='__main__')\n"
        "except SystemExit as done: assert done.code == 0, done.code\n"
        "print('LOADED', *sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    done = python("-c", code, cwd=run.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "byte for byte" in done.stdout
    assert "The audit passed." in done.stdout
    made = run.parent / "check"
    assert (made / "report.json").read_bytes() == (run / "report.json").read_bytes()
    assert (made / "report.html").exists()
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    assert "privemo_audits" in loaded
    assert not loaded & {"torch", "opacus", "flwr", "ray"}


def test_whatever_was_touched_up_is_found(run: Path, tmp_path: Path) -> None:
    forged = tmp_path / "run"
    shutil.copytree(run, forged)
    report = json.loads((run / "report.json").read_bytes())
    report["exclusions"]["minors"]["total"] += 1
    (forged / "report.json").write_text(json.dumps(report))
    ledger = forged / "stores/store-01/ledger.jsonl"
    ledger.write_text(ledger.read_text().replace('"steps":2', '"steps":1'))
    done = example("regulator/regulator_audit.py", str(forged), cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "- exclusions.minors.total" in done.stdout
    assert "FAIL The privacy ledgers are whole" in done.stdout
    assert "The audit failed." in done.stdout


def test_a_folder_that_is_no_run_is_said_in_one_sentence(tmp_path: Path) -> None:
    done = example("regulator/regulator_audit.py", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "run.json" in done.stderr


@pytest.mark.parametrize(("unit", "command"), [("server", "start"), ("store", "join")])
def test_the_units_of_systemd_run_commands_that_are_there(unit: str, command: str) -> None:
    path = EXAMPLES / "federation" / f"privemo-{unit}.service"
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read(path)
    service = parsed["Service"]
    program, *arguments, folder = service["ExecStart"].split()
    assert Path(program).name == "privemo"
    assert arguments == ["federation", command]
    assert service["ReadWritePaths"] == folder, "not the code that it runs"
    done = python("-m", "privemo", *arguments, "--help", cwd=EXAMPLES)
    assert done.returncode == 0, done.stderr
    # What ends by itself is a failure to be tried again, and `federation stop` is none.
    assert service["Restart"] == "on-failure"
    assert service["User"] != "root"
    verify = shutil.which("systemd-analyze")
    if verify:
        done = subprocess.run([verify, "verify", path], capture_output=True, text=True, check=False)
        wrong = [line for line in done.stderr.splitlines() if "not executable" not in line]
        assert not wrong
