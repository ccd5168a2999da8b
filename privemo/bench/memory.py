"""How much memory a process took."""

from __future__ import annotations

import resource
from pathlib import Path

__all__ = ["peak"]


def peak() -> int:
    """Most bytes this process ever held. What `getrusage` says would begin with its parent's peak."""
    try:
        with Path("/proc/self/status").open(encoding="ascii") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
