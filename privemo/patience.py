"""How long the server of a federation waits for its stores in a round.

That is the server's own: it is no part of what stores agree to, and whoever was too late for a round is left
out of it as any other store that is not there. So it stands in `server.json`, not in the run's settings, and
may be changed between two calls of `federation run`. What a store trained too late is paid for: its ledger
was written before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from privemo.errors import RunError, SettingsError
from privemo.files import read_json

if TYPE_CHECKING:
    from privemo.runs import Run

__all__ = ["IN_ALL_S", "ROUND_TIMEOUT_S", "STEP_S", "checked", "round_timeout"]

ROUND_TIMEOUT_S = 3600.0
"""That a store has for the training of a round, in seconds, where nothing else was chosen."""

STEP_S = 600.0
"""That a store has for a step of a secure sum which is not training, at most."""

IN_ALL_S = 24 * 3600.0
"""That a simulation takes for a round at most: its stores take turns, and nobody is late."""

_LEAST_S, _MOST_S = 10.0, 7 * 24 * 3600.0


def checked(seconds: float) -> float:
    """The same, if a round can be that long.

    Raises:
        SettingsError: it cannot.
    """
    if not _LEAST_S <= seconds <= _MOST_S:
        raise SettingsError(
            f"A round waits {_LEAST_S:.0f} to {_MOST_S:.0f} seconds for its stores, not {seconds:g}: set "
            "round_timeout."
        )
    return float(seconds)


def round_timeout(run: Run) -> float:
    """Seconds that a round of this run waits for a store that trains.

    Raises:
        RunError: `server.json` names no number of seconds that a round can wait.
    """
    if run.facts["engine"] != "federation":
        return IN_ALL_S
    path = run.folder / "server.json"
    found = read_json(path, schema="privemo.server/1").get("round_timeout", ROUND_TIMEOUT_S)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise RunError(f"{path}: round_timeout is a number of seconds, not {found!r}.")
    try:
        return checked(found)
    except SettingsError as error:
        raise RunError(f"{path}: {error}") from error
