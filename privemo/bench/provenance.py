"""What every result of a benchmark carries: which versions and what kind of machine; no names, no paths."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

__all__ = ["versions_and_machine"]


def versions_and_machine() -> dict[str, Any]:
    """`versions` of what computes, and the `machine`: system, processor, and the cores this process has."""
    return {
        "versions": {
            name: metadata.version(name) for name in ("privemo", "torch", "opacus", "numpy")
        },
        "machine": {
            "system": platform.system(),
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
        },
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            found = next(line for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()
    return found.partition(":")[2].strip()
