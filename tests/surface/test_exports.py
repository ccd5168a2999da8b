"""What may be imported, what it costs to import it, and who may import whom."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import privemo
import privemo_audits
import privemo_consent

ROOT = Path(__file__).parents[2]
PACKAGES = (privemo, privemo_consent, privemo_audits)
HEAVY = {"torch", "pandas", "flwr", "opacus", "ray", "matplotlib", "fairlearn", "scipy", "sklearn"}


def public_names() -> list[tuple[ModuleType, str]]:
    return [(package, name) for package in PACKAGES for name in package.__all__]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.__name__)
def test_public_names_are_listed_once_and_shown_by_dir(package: ModuleType) -> None:
    assert len(set(package.__all__)) == len(package.__all__)
    assert set(package.__all__) <= set(dir(package))
    assert package.__doc__


@pytest.mark.parametrize(
    ("package", "name"), public_names(), ids=lambda v: getattr(v, "__name__", v)
)
def test_a_public_name_is_there_and_says_what_it_is(package: ModuleType, name: str) -> None:
    value = getattr(package, name)
    if callable(value) or isinstance(value, ModuleType):
        # Python gives every dataclass and enumeration a docstring; one of ours has to be there.
        text = value.__doc__ or ""
        assert len(text.split()) >= 3, f"{name} has no docstring"
        assert not text.startswith(f"{getattr(value, '__name__', name)}("), (
            f"{name}: a generated one"
        )


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'pixels'"):
        privemo.pixels  # noqa: B018


def test_the_facade_gives_the_very_same_objects() -> None:
    assert privemo.ConsentRegistry is privemo_consent.ConsentRegistry
    assert privemo.build_report is privemo_audits.build_report


def loaded_after(code: str, **environment: str) -> set[str]:
    """Top-level modules that a fresh process has loaded after `code`."""
    script = f"{code}\nimport sys; print(*{{m.partition('.')[0] for m in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_no_public_name_is_a_modules_name() -> None:
    """Whatever imports `privemo.x` makes a module of the name `x`, and a program that calls it ends."""
    modules = {path.stem for path in (ROOT / "privemo").iterdir() if not path.name.startswith("_")}
    assert not set(privemo.__all__) & modules


def test_a_registry_comes_without_machine_learning() -> None:
    loaded = loaded_after("import privemo; privemo.ConsentRegistry")
    assert "privemo_consent" in loaded
    assert not loaded & HEAVY


def test_the_recognizer_comes_without_torch_and_the_tools_that_export() -> None:
    loaded = loaded_after("import privemo; privemo.Recognizer; privemo.frames")
    assert "privemo" in loaded
    assert not loaded & (HEAVY | {"onnx", "onnxruntime", "cv2"})  # these at its first use


@pytest.mark.parametrize("package", ["privemo", "privemo_consent"])
def test_importing_a_package_loads_nothing_else(package: str) -> None:
    loaded = loaded_after(f"import {package}")
    assert not loaded & (HEAVY | {"numpy", "pydantic", "sqlalchemy", "rfc8785", "typer", "rich"})


def test_importing_the_audits_loads_nothing_heavy() -> None:
    assert not loaded_after("import privemo_audits") & HEAVY


def test_help_needs_no_machine_learning() -> None:
    assert not loaded_after("import privemo.cli") & HEAVY


def test_phoning_home_is_off_whatever_the_environment_says() -> None:
    on = {
        "FLWR_TELEMETRY_ENABLED": "1",
        "FLWR_DISABLE_UPDATE_CHECK": "0",
        "RAY_USAGE_STATS_ENABLED": "1",
    }
    code = """
import os, sys
import privemo.cli
assert "flwr" not in sys.modules  # so there is still time
privemo.cli.quiet_environment()
from flwr.supercore import telemetry
assert telemetry.FLWR_TELEMETRY_ENABLED == "0"
assert os.environ["FLWR_DISABLE_UPDATE_CHECK"] == "1"
from ray._common.usage import usage_lib
assert usage_lib.usage_stats_enabled() is False
"""
    assert {"flwr", "ray"} <= loaded_after(code, **on)


def test_flower_is_quiet_even_when_it_was_imported_before() -> None:
    code = """
import flwr.supercore.telemetry as telemetry
assert telemetry.FLWR_TELEMETRY_ENABLED == "1"
import privemo.client_app
assert telemetry.FLWR_TELEMETRY_ENABLED == "0"
"""
    loaded_after(code, FLWR_TELEMETRY_ENABLED="1")


def test_nothing_but_one_module_imports_flower() -> None:
    """Whoever imports Flower elsewhere may do so before the switches are set."""
    pattern = re.compile(r"^\s*(from|import) flwr", re.MULTILINE)
    found = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "privemo").rglob("*.py")
        if pattern.search(path.read_text())
    }
    # The second once it needs Ray, the others in processes of their own, whose first line sets the switches.
    assert found == {
        "privemo/flower.py",
        "privemo/federation/orphans.py",
        "privemo/ray_engine.py",
        "privemo/federation/daemons.py",
        "privemo/federation/doorkeeper.py",
        "privemo/federation/longpoll.py",
        "privemo/federation/nodes.py",
    }


def test_layers_hold() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_every_module_can_be_imported_alone() -> None:
    """No module leans on another one having been imported before it."""
    for name in ("privemo.errors", "privemo.labels", "privemo.config", "privemo.ledger"):
        assert importlib.import_module(name).__doc__
        assert not loaded_after(f"import {name}") & HEAVY
