"""A wrong clock for one process: the time of day is off, and nothing else.

Not libfaketime: as it moves the monotonic clock too, no wait of Python's with a time limit ends any more, and
told to leave that clock alone (`--exclude-monotonic`) it makes `time.sleep` fail (0.9.10, Python 3.11). So a
store under it falls silent, which no store with a wrong clock does.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

__all__ = ["COMPILER", "wrong_clock"]

COMPILER = shutil.which("cc")

_SOURCE = r"""
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/time.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static time_t off(void) {
    const char *said = getenv("CLOCK_OFF_BY");
    return said ? atol(said) : 0;
}

int clock_gettime(clockid_t which, struct timespec *at) {
    int failed = syscall(SYS_clock_gettime, which, at);
    if (!failed && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) at->tv_sec += off();
    return failed;
}

int gettimeofday(struct timeval *at, void *zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
"""


def wrong_clock(folder: Path, seconds: int) -> dict[str, str]:
    """Variables for a process, and all that it starts, whose clock is off.

    Args:
        folder: where the library is put.
        seconds: ahead; behind where negative.
    """
    assert COMPILER is not None
    source, library = folder / "clock.c", folder / "clock.so"
    if not library.exists():
        source.write_text(_SOURCE)
        command = [COMPILER, "-shared", "-fPIC", "-O1", "-o", str(library), str(source)]
        subprocess.run(command, check=True, timeout=120)
    return {"LD_PRELOAD": str(library), "CLOCK_OFF_BY": str(seconds)}
