"""What was decided and learned, day by day, without a trace of whom or of what was read (AI Act 12, 26(6)).

One line for each event, in a file for each month. A line holds the day and not the time: the registry's own
log knows who was asked at which moment, and two logs with times could be laid side by side. No line holds
an expression, an arm
or a probability, for the same reason: their order would be enough. Nothing here deletes a line; months that
are older than the policy keeps them are named by `overdue`.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from privemo.errors import RunError

from .policy import AdaptationPolicy

__all__ = ["SCHEMA", "Events"]

SCHEMA = "privemo.recommend-event/1"
_FILE = re.compile(r"events-(\d{4})-(\d{2})\.jsonl")


class Events:
    """The log of a folder.

    Args:
        folder: that holds the files.
        policy: its hash stands in each line, and it says how long lines are kept.
        simulated: whether consents are; stands in each line too.
        now: the clock.
    """

    def __init__(
        self,
        folder: Path,
        policy: AdaptationPolicy,
        *,
        simulated: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._folder, self._policy, self._now = folder, policy, now
        self._simulated = simulated

    def add(self, event: str, reason: str, model: str | None) -> None:
        """Write a line; several processes may.

        It survives the death of the process, and is not waited for until it is on the disk: the registry logs
        its decisions likewise.

        Raises:
            RunError: it could not be written.
        """
        today = self._now().date()
        line = {
            "schema": SCHEMA,
            "day": today.isoformat(),
            "event": event,
            "reason": reason,
            "policy": self._policy.sha256,
            "model": model,
            "simulated": self._simulated,
        }
        _append(self._folder / f"events-{today:%Y-%m}.jsonl", json.dumps(line).encode() + b"\n")

    def counts(self) -> Counter[tuple[str, str]]:
        """How many lines there are of each event and reason.

        A line that is none, torn when a machine died or changed, counts as ("torn", "").
        """
        found: Counter[tuple[str, str]] = Counter()
        for path in self._files():
            for line in filter(None, path.read_bytes().split(b"\n")):
                try:
                    told = json.loads(line)
                    found[told["event"], told["reason"]] += 1
                except (ValueError, KeyError, TypeError):
                    found["torn", ""] += 1
        return found

    def overdue(self) -> list[Path]:
        """Files whose every day is older than `keep_days`: destroy them."""
        oldest = self._now().date() - timedelta(days=self._policy.log.keep_days)
        return [path for path in self._files() if path.stem[-7:] < f"{oldest:%Y-%m}"]

    def _files(self) -> list[Path]:
        return sorted(p for p in self._folder.glob("events-*.jsonl") if _FILE.fullmatch(p.name))


def _append(path: Path, line: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":  # torn when a process died
                line = b"\n" + line
            if os.write(descriptor, line) != len(line):
                raise OSError(None, "the disk is full")
        finally:
            os.close(descriptor)
    except OSError as error:
        raise RunError(f"{path} could not be written ({error.strerror or error}).") from error
