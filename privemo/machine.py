"""Getting the most out of a small CPU: threads and the C allocator.

A training step takes hundreds of megabytes and gives them back. The C library returns such blocks to the
kernel each time and pays for fresh zeroed pages at the next step, which was measured to cost up to half of a
private step. Telling it to keep them is one call, and `tuned` takes it back at the end.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "give_freed_memory_back",
    "keep_freed_memory",
    "quiet_environment",
    "tuned",
    "use_threads",
]

# <malloc.h>: option, what keeps memory, glibc's default, and the variable that overrides the default.
_MALLOC = (
    (-4, 0, 65536, "MALLOC_MMAP_MAX_"),
    (-1, 2**31 - 1, 128 << 10, "MALLOC_TRIM_THRESHOLD_"),
    (-2, 64 << 20, 128 << 10, "MALLOC_TOP_PAD_"),
)
_keeping = False  # whether freed memory is kept at the moment


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed memory for the next step; true when it did, false on other systems."""
    global _keeping
    libc = _glibc()
    if libc is None:
        return False
    _keeping = all(libc.mallopt(option, value) for option, value, _, _ in _MALLOC)
    return _keeping


def give_freed_memory_back() -> None:
    """Undo `keep_freed_memory`: glibc's defaults, or those of the environment, and free pages to the kernel.

    Since `mallopt` was called, glibc no longer adapts its thresholds to what a program asks for; that alone
    stays.
    """
    global _keeping
    libc = _glibc()
    if libc is None or not _keeping:
        return
    for option, _, default, variable in _MALLOC:
        told = os.environ.get(variable, "")
        libc.mallopt(option, int(told) if told.isdecimal() else default)
    libc.malloc_trim(0)
    _keeping = False


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL("libc.so.6") if platform.libc_ver()[0] == "glibc" else None


@contextmanager
def tuned(threads: int | None = None) -> Iterator[None]:
    """Train in here: freed memory is kept and all cores compute; afterwards everything is as it was.

    Inside another `tuned`, or where `keep_freed_memory` was called before, memory goes on being kept at the
    end.

    Args:
        threads: for torch; None takes every core this process has, or as many as OMP_NUM_THREADS says.
    """
    import torch

    kept, before = _keeping, torch.get_num_threads()
    keep_freed_memory()
    if threads is not None or "OMP_NUM_THREADS" not in os.environ:
        use_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if not kept:
            give_freed_memory_back()


def use_threads(threads: int | None) -> int:
    """Set the number of threads that torch computes with; None takes every core this process has."""
    import torch

    count = threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(count)
    return count


def quiet_environment() -> None:
    """Set what must be set before Flower, Ray or OpenMP are imported.

    Flower sends usage events and asks for newer versions by default, Ray reports usage statistics;
    a privacy library does neither. Waiting OpenMP threads sleep instead of burning the core that
    another store's process needs: but only after a tenth of a millisecond or so, since waking them between
    the many short operations of a private step was measured to cost a third of it. Values the user set are
    kept only where they are as strict.
    """
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    # numpy's products here are small: its waiting threads were measured to halve the drawing of people.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
