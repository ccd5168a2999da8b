"""Where temporary files of the suite lie: in memory, where the machine has enough of it.

Most tests make a registry, and a registry flushes every step to the disk, as it must: there the suite
waits for half of its time. In memory the same calls are made and the same bytes are written, and none of
them waits. Nothing is lost that a test here could find: a killed process leaves behind what it wrote on
either, and what a machine without power leaves behind is tried by breaking off between the calls
(`tests.support.interrupt`).
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

__all__ = ["use_memory"]

SHARED = Path("/dev/shm")  # noqa: S108 -- every user of it makes a folder for this user alone
ROOM = 8 << 30
"""Bytes to spare, there and of memory: the suite writes some 4 GB, and removes most of it on its way."""


def use_memory() -> None:
    """Let temporary files lie in memory, unless `TMPDIR` says where, or there is too little of it."""
    if "TMPDIR" in os.environ or not _has_room():
        return
    os.environ["TMPDIR"] = str(SHARED)  # for the processes of tests, too
    tempfile.tempdir = str(SHARED)


def _has_room() -> bool:
    try:
        known = Path("/proc/meminfo").read_text(encoding="ascii")
        free = shutil.disk_usage(SHARED).free
    except OSError:
        return False
    available = re.search(r"^MemAvailable: +(\d+) kB$", known, re.MULTILINE)
    return available is not None and min(free, int(available[1]) << 10) >= ROOM
