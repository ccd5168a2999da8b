"""The benchmark of deployed rounds: real processes, held against the same rounds in one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from privemo.bench import deployed as bench
from privemo.config import RunSettings
from privemo.errors import RunError
from privemo.runs import Run
from tests.support.deployed import until


@pytest.mark.slow
def test_deployed_rounds_are_measured_for_both_kinds_of_noise() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "privemo", "bench", "deployed", "--json"],
        capture_output=True,
        text=True,
        timeout=2000,  # more than it waits itself
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = {f["figure"]: f for f in map(json.loads, done.stdout.splitlines())}
    for noise in ("local", "distributed"):
        name = f"{noise}_3"
        there, here = found[f"{name}_deployed_round_s"], found[f"{name}_inprocess_round_s"]
        assert there["value"] > here["value"] > 0
        besides = found[f"{name}_besides_s"]
        assert besides["value"] == pytest.approx(there["value"] - here["value"], abs=0.02)
        assert besides["goal"] == "<= 5"
        assert besides["met"] == (besides["value"] <= 5)
        assert found[f"{name}_apart"]["value"] == 0, "one seed, one model"
    assert len(found) == 8


def two_stores(folder: Path) -> tuple[Path, Path]:
    settings = RunSettings.of(
        stores=2, rounds=2, steps_per_round=1, declared_people=10, consents="everyone",
        init="scratch", model="gray-cnn", seed=0,
    )  # fmt: skip
    return bench.laid_out(folder, settings, 30)


def test_both_run_the_same_stores_and_the_round_in_the_middle_counts(tmp_path: Path) -> None:
    chain, twin = two_stores(tmp_path)
    assert Run(chain).stores == Run(twin / "chain").stores
    assert Run(chain).facts == Run(twin / "chain").facts
    with pytest.raises(RunError, match="0 of 2 rounds"):
        bench._round_s(twin)
    bench._in_one_process(twin)
    assert Run(chain).manifests() == [], "two copies"
    assert 0 < bench._round_s(twin) < 60


def test_a_round_that_a_store_was_not_in_is_no_figure(tmp_path: Path) -> None:
    """It would be a faster one."""
    _, twin = two_stores(tmp_path)
    (twin / "stores" / Run(twin / "chain").stores[0] / "store.json").unlink()
    bench._in_one_process(twin)
    with pytest.raises(RunError, match=r"went without store-\d+: no figure"):
        bench._round_s(twin)


def test_a_server_that_does_not_come_up_is_said_in_its_own_words(tmp_path: Path) -> None:
    chain, _ = two_stores(tmp_path)
    (chain / "server.json").write_text("{}")
    with pytest.raises(
        RunError, match=r"federation start chain ended with 2\. It said: .*server\.json"
    ):
        bench._deployed(chain)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_whoever_stops_it_leaves_no_process_behind(tmp_path: Path, how: signal.Signals) -> None:
    chain, _ = two_stores(tmp_path)
    script = (
        "import signal, sys\n"
        "from pathlib import Path\n"
        "from privemo.bench import deployed as bench\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's & ignores it
        "with bench._ended_by_signals():\n"
        "    bench._deployed(Path(sys.argv[1]))\n"
    )
    running = subprocess.Popen([sys.executable, "-c", script, str(chain)])
    until("a store is there", (tmp_path / "deployed" / "stores" / "store-02-join.log").exists)
    time.sleep(5)
    running.send_signal(how)
    assert running.wait(300) != 0
    until("all of it is gone", lambda: not processes_about(tmp_path), 90)


def processes_about(folder: Path) -> list[str]:
    """Command lines of processes that name a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(folder) in line:
                found.append(line)
    return found
