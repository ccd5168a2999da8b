"""The page for compliance officers runs as it stands, and none of it needs machine learning."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from privemo_consent import ConsentRegistry
from tests.support.consent import consent_notice
from tests.surface.registry.commands import COMMAND, PERSON, ROOT

PAGE = ROOT / "docs/how-to/registry.md"


def page_files() -> dict[str, str]:
    """Files that the page asks its reader to save."""
    text = PAGE.read_text(encoding="utf-8")
    return dict(re.findall(r"[Ss]ave as `([\w.]+)`:\n\n```\w+\n(.*?)```", text, re.DOTALL))


def page_script() -> str:
    return "".join(re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE))


def test_the_page_runs_from_top_to_bottom(tmp_path: Path) -> None:
    for name, content in page_files().items():
        (tmp_path / name).write_text(content)
    done = subprocess.run(
        ["bash", "-euxc", page_script()],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
        env={**os.environ, "PATH": f"{COMMAND.parent}:{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert {"controller.json", "answers.csv"} <= set(page_files())
    head = (tmp_path / "head.txt").read_text()
    assert json.loads((tmp_path / "proof.json").read_text())["checkpoint"] == head
    with ConsentRegistry.open(
        tmp_path / "restored.sqlite",
        mode="production",
        keys=tmp_path / "consent.keys",
        readonly=True,
    ) as restored:
        assert set(restored.persons()) == {"p-42", "p-50", "p-51"}
    with ConsentRegistry.open(tmp_path / "new.sqlite", mode="production") as moved:
        assert set(moved.persons()) == {"p-42", "p-50", "p-51"}
        assert not any(event.person == "p-41" for event in moved.history("p-42"))


def test_every_kind_of_command_stands_on_the_page() -> None:
    used = set(re.findall(r"^privemo (\w+ \w+)", page_script(), re.MULTILINE))
    assert len(used) >= 25


_LIGHT = """
import sys
heavy = ("torch", "pandas", "opacus", "flwr", "ray", "fairlearn", "matplotlib", "privemo_audits")
for name in heavy:
    sys.modules[name] = None  # importing it raises
from privemo.cli import main
for line in sys.stdin.read().splitlines():
    sys.argv = ["privemo", *line.split()]
    try:
        main()
    except SystemExit as done:
        assert not done.code, line
"""


def test_no_command_on_a_registry_needs_machine_learning(tmp_path: Path, controller: Path) -> None:
    (tmp_path / "notice.json").write_text(consent_notice().model_dump_json(exclude_none=True))
    lines = [
        "registry new --mode production --controller controller.json --witness w",
        "notice check notice.json",
        "notice register notice.json",
        "notice announce --at door",
        f"consent grant --person {PERSON} --purpose training --age-band 25_34 --jurisdiction IE",
        f"consent decide --person {PERSON} --purpose training --jurisdiction IE --age-band 25_34",
        f"consent show --person {PERSON}",
        f"consent receipt --person {PERSON} --svg code.svg",
        f"consent export --person {PERSON}",
        f"consent withdraw --person {PERSON}",
        "consent uses",
        "consent overdue",
        "log verify",
        "log prove 0",
        "log export out",
        "log verify out",
        "keys rotate --what signing",
        "keys rotate --what persons",
        "keys list",
        "registry show",
        f"consent erase --person {PERSON} --yes",
    ]
    done = subprocess.run(
        [sys.executable, "-c", _LIGHT],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        timeout=120,
        env={**os.environ, "PRIVEMO_REGISTRY": "consent.sqlite"},
    )
    assert done.returncode == 0, done.stderr
