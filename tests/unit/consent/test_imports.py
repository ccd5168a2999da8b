"""The package's public names, and what importing them costs."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import privemo_consent

MODULES = [
    importlib.import_module(f"privemo_consent.{found.name}")
    for found in pkgutil.iter_modules(privemo_consent.__path__)
]


@pytest.mark.parametrize("name", privemo_consent.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(privemo_consent, name) is not None
    assert name in dir(privemo_consent)


def test_an_unknown_name_is_none() -> None:
    with pytest.raises(AttributeError, match="no attribute 'pixels'"):
        privemo_consent.pixels  # noqa: B018


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_modules_say_what_is_public_and_document_it(module: ModuleType) -> None:
    assert module.__doc__
    for name in module.__all__:
        value = getattr(module, name)
        if callable(value) and getattr(value, "__module__", "") == module.__name__:
            assert value.__doc__, name


def test_every_error_is_public_and_stands_in_the_tree() -> None:
    errors = importlib.import_module("privemo_consent.errors")
    assert errors.__doc__
    for name in errors.__all__:
        assert name in errors.__doc__
        assert name in privemo_consent.__all__
        assert issubclass(getattr(errors, name), errors.ConsentError)


def imported_after(code: str) -> set[str]:
    script = f"{code}\nimport sys; print(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = imported_after("import privemo_consent")
    assert not loaded & {"sqlalchemy", "numpy", "pydantic", "rfc8785", "cryptography", "torch"}


def test_a_proof_is_verified_without_a_database() -> None:
    loaded = imported_after("from privemo_consent import merkle; merkle.verify_inclusion")
    assert not loaded & {"sqlalchemy", "numpy", "pydantic"}


def test_the_registry_needs_no_machine_learning() -> None:
    loaded = imported_after("from privemo_consent import *")
    assert not loaded & {"torch", "pandas", "flwr", "opacus", "sklearn", "privemo"}
