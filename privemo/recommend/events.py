"""What was decided and learned, day by day, without a trace of whom or of what was read (AI Act 12, 26(6)).

One line for each event, in a file for each month. A line holds the day and not the time: the registry's own
log knows who was asked at which moment, and two logs with times could be laid side by side. No line holds
an expression, an arm
or a probability, for the same reason: their order would be enough. Nothing here deletes a line; months that
are older than the policy keeps them are named by `overdue`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from privemo.files import append_line

from .policy import AdaptationPolicy

__all__ = ["SCHEMA", "Events"]

SCHEMA = "privemo.recommend-event/1"
_FILE = re.compile(r"events-(\d{4})-(\d{2})\.jsonl")


class Events:
    """The log of a folder.

    Args:
        folder: that holds the files.
        policy: its hash stands in each line, and it says how long lines are kept.
        now: the clock.
    """

    def __init__(
        self,
        folder: Path,
        policy: AdaptationPolicy,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._folder, self._policy, self._now = folder, policy, now

    def add(self, event: str, reason: str, model: str | None) -> None:
        """Write a line, durably.

        Raises:
            LedgerError: it could not be written.
        """
        today = self._now().date()
        line = {
            "schema": SCHEMA,
            "day": today.isoformat(),
            "event": event,
            "reason": reason,
            "policy": self._policy.sha256,
            "model": model,
        }
        append_line(self._folder / f"events-{today:%Y-%m}.jsonl", line)

    def counts(self) -> Counter[tuple[str, str]]:
        """How many lines there are of each event and reason.

        Raises:
            DataError: a line is none of ours.
        """
        import json

        from privemo.errors import DataError

        found: Counter[tuple[str, str]] = Counter()
        for path in self._files():
            for line in path.read_bytes().split(b"\n")[
                :-1
            ]:  # what follows the last newline was torn
                try:
                    told = json.loads(line)
                    found[told["event"], told["reason"]] += 1
                except (ValueError, KeyError, TypeError) as error:
                    raise DataError(
                        f"{path} holds a line that is no event; it was changed."
                    ) from error
        return found

    def overdue(self) -> list[Path]:
        """Files whose every day is older than `keep_days`: destroy them."""
        oldest = self._now().date() - timedelta(days=self._policy.log.keep_days)
        return [path for path in self._files() if path.stem[-7:] < f"{oldest:%Y-%m}"]

    def _files(self) -> list[Path]:
        return sorted(p for p in self._folder.glob("events-*.jsonl") if _FILE.fullmatch(p.name))
