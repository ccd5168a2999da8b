"""Nothing phones home: whole jobs run where there is loopback alone, and nothing tries to leave it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMESPACE = ["unshare", "--map-root-user", "--net"]


def namespaces_are_allowed() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(
    not namespaces_are_allowed(), reason="this system gives no network namespace to anyone"
)


@pytest.mark.parametrize(
    "kind",
    [
        "inprocess",
        pytest.param("workers", marks=pytest.mark.slow),
        pytest.param("ray", marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
        pytest.param("federation", marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
)
def test_no_connection_leaves_loopback(tmp_path: Path, kind: str) -> None:
    done = subprocess.run(
        [*NAMESPACE, sys.executable, "-m", "tests.faults.network_worker", kind, str(tmp_path)],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=800,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["control"] > 0, "the kernel counts what has no route"
    assert told["sent"] == 0
