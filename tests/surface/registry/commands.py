"""What a user does at the registry's commands: run one, type at a terminal, read what it says in JSON."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.surface.test_cli import privemo

ROOT = Path(__file__).parents[3]
COMMAND = Path(sys.executable).with_name("privemo")
PERSON = "p-visible-nowhere"
FILES = ("", "-wal", "-shm")
ADULT = ("--age-band", "25_34", "--jurisdiction", "IE")


def told(*arguments: str | Path) -> Any:
    """Run a command that must succeed; return what it says in JSON."""
    result = privemo(*arguments, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def process(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """A process of its own, with nobody at a terminal."""
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        stdin=options.pop("stdin", subprocess.DEVNULL),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def at_a_terminal(answers: str, *arguments: str | Path) -> tuple[int, str]:
    """A process of its own with a terminal, at which someone types; its exit code and the screen."""
    master, slave = os.openpty()
    child = subprocess.Popen(
        [COMMAND, *map(str, arguments)],
        preexec_fn=lambda: os.login_tty(slave),
        env={**os.environ, "TERM": "dumb"},
    )
    os.close(slave)
    screen, typed = b"", answers.encode()
    try:
        while part := os.read(master, 4096):
            screen += part
            # The blank is written last, once what was typed before is discarded.
            if typed and re.search(rb"(folder|confirmation|\[y/N\]): $", screen):
                line, _, typed = typed.partition(b"\n")
                os.write(master, line + b"\n")
    except OSError:  # how Linux says that the other side has closed
        pass
    finally:
        os.close(master)
        if typed:
            child.kill()  # it never asked
        child.wait(timeout=60)
    return child.returncode, screen.decode()


def verdict(*arguments: str | Path) -> str:
    """The entry that `log verify` names when it exits with 1."""
    result = privemo("log", "verify", *arguments, "--json")
    assert result.returncode == 1, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    found = json.loads(result.stdout)
    assert found["verified"] is False
    assert found["entry"] in result.stderr
    return str(found["entry"])


def live(registry: Path, *keys: str | Path) -> list[str]:
    shown = told("consent", "show", "--registry", registry, "--person", PERSON, *keys)
    return [each["purpose"] for each in shown["consents"] if each["live"]]


HEAD = "person,purposes,age_band,jurisdiction,notice,valid_days\n"
