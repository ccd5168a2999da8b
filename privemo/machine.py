"""Getting the most out of a small CPU: threads and the C allocator.

Per-image gradients are hundreds of megabytes, taken and given back at every step. The C library
returns such blocks to the kernel each time and pays for fresh zeroed pages at the next step, which
was measured to cost up to half of a private step. Telling it to keep them is one call.
"""

from __future__ import annotations

import ctypes
import os
import platform

__all__ = ["keep_freed_memory", "quiet_environment", "use_threads"]

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # <malloc.h>


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed memory for the next step; true when it did, false on other systems."""
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL("libc.so.6")
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 << 20))
    return all(libc.mallopt(option, value) for option, value in settings)


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
    another store's process needs. Values the user set are kept only where they are as strict.
    """
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # numpy's products here are small: its waiting threads were measured to halve the drawing of people.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
