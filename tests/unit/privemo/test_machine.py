"""Threads and allocator: set for training, and put back as they were."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys

import pytest
import torch

from privemo import machine

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")

FAULTS = """
import contextlib, resource, sys
import torch
from privemo import machine

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
plain = faults()
with machine.tuned():
    for _ in range(4):
        faults()  # the heap finds its size
    inside = faults()
    with machine.tuned():
        pass
    still_inside = faults()
print(plain, inside, still_inside, faults())
"""


@glibc
def test_freed_memory_is_kept_inside_and_given_back_afterwards() -> None:
    """A process of its own: how an allocator behaves is the process's. Five times 40 MB are 48,830 pages."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, timeout=120, check=True
    )
    plain, inside, still_inside, after = map(int, done.stdout.split())
    assert plain > 9_000
    # On a busy machine the heap may be cut once more before it has found its size.
    assert inside < plain / 3
    assert still_inside < plain / 3
    assert after > 9_000


@glibc
def test_what_was_kept_before_stays_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_keeping", machine._keeping)
    assert machine.keep_freed_memory()
    with machine.tuned():
        assert machine._keeping
    assert machine._keeping
    machine.give_freed_memory_back()
    assert not machine._keeping


def test_threads_are_put_back_even_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()

    def fail() -> None:
        with machine.tuned(threads=before + 1):
            assert torch.get_num_threads() == before + 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.get_num_threads() == before
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with machine.tuned():
        assert torch.get_num_threads() == before  # whoever sets the variable knows why


def test_elsewhere_nothing_is_tuned_and_nothing_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_keeping", False)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not machine.keep_freed_memory()
    with machine.tuned():
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0
    assert not machine._keeping
