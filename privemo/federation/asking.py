"""What an operator asks of a served federation: missing rounds, and counts of the people measured."""

from __future__ import annotations

from pathlib import Path

from privemo.counted import Counted, ask_for, asked, measured
from privemo.countrequest import CountRequest
from privemo.driving import check_free
from privemo.errors import RunError, RunInterrupted
from privemo.federation.superlink import is_served, run_apps
from privemo.layout import shares_noise
from privemo.runs import Run

__all__ = ["run_counts", "run_rounds"]

_NOT_SERVED = "{0} is not being served: start it with `privemo federation start {0}`."


def run_rounds(folder: Path) -> Counted | None:
    """Ask the served federation for what is missing of rounds, signatures, measuring and counts, and wait.

    Returns:
        What came of the counts that the run's settings ask for; None where they ask for none.

    Raises:
        RunError: it is not being served, it is being run already, or it ended before the last round, or
            before stores were counted.
        RunInterrupted: Ctrl-C; the server goes on by itself.
    """
    run = Run(folder)
    check_free(run)
    request = asked(run)
    missing = len(run.manifests()) < run.settings.rounds
    served = is_served(folder)
    if missing and not served:
        raise RunError(_NOT_SERVED.format(folder))
    if missing or (served and _unfinished(run, request)):
        reason = _run_apps(folder, run, request)
        whole = len(run.manifests())
        if whole < run.settings.rounds:
            raise RunError(
                f"The federation ended after {whole} of {run.settings.rounds} rounds{reason}. Bring stores "
                "back and run it again: it goes on from there."
            )
    run.finish()
    return None if request is None else _found(run, request)


def run_counts(folder: Path, request: CountRequest) -> Counted:
    """Ask the stores of a served federation for counts, and wait for them.

    What was counted before is not asked for again.

    Raises:
        RunError: rounds are missing, it is not being served, it is being run already, or the counts failed.
        RunInterrupted: Ctrl-C; the server goes on by itself.
    """
    run = Run(folder)
    check_free(run)
    whole, of = len(run.manifests()), run.settings.rounds
    if whole < of:
        raise RunError(
            f"{folder} has {whole} of {of} whole rounds, and counts are of the finished model: first "
            f"`privemo federation run {folder}`."
        )
    run.finished()
    if _uncounted(run, request):
        if not is_served(folder):
            raise RunError(_NOT_SERVED.format(folder))
        ask_for(run, request)
        _run_apps(folder, run, request)
    return _found(run, request)


def _unfinished(run: Run, request: CountRequest | None) -> bool:
    """Whether a store may still sign the end, measure, or add to the counts."""
    return bool(run.unsigned() or any(measured(run).values()) or _uncounted(run, request))


def _uncounted(run: Run, request: CountRequest | None) -> bool:
    """Whether a store may still have something to add."""
    if request is None:
        return False
    found = Counted.of(run, request)
    if found is None or found.error is not None:
        return True
    return bool(found.left_out) and not shares_noise(run.settings)  # a sum is whole as it is


def _found(run: Run, request: CountRequest) -> Counted:
    found = Counted.of(run, request)
    if found is None:
        raise RunError(
            f"{run.folder} was not counted; {run.folder / 'flower' / 'superlink.log'} has the rest."
        )
    if found.error is not None:
        raise RunError(
            f"The rounds are whole, and counting failed: {found.error} Ask again by `privemo federation "
            f"counts {run.folder}`."
        )
    return found


def _run_apps(folder: Path, run: Run, request: CountRequest | None) -> str:
    """Run the server's app and wait for its end; returns what Flower says went wrong, if anything.

    Raises:
        RunError: an app goes on: that of somebody else, or this one, of which Flower told no more.
        RunInterrupted: Ctrl-C. It ends the waiting, and not what Flower has begun.
    """
    before = None if request is None else Counted.of(run, request)
    if before is not None and before.error is not None:
        (before.folder / "told.json").unlink()  # else it would be told again
    try:
        reason = run_apps(folder)
    except KeyboardInterrupt as stop:
        raise RunInterrupted(
            f"Stopped waiting. What has begun goes on by itself: follow it with `privemo watch {folder}`, or "
            f"end it with `privemo federation stop {folder}`. After its end `privemo federation run "
            f"{folder}` does what is missing then."
        ) from stop
    check_free(run)
    return reason
