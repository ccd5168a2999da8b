"""A federation in a process of its own: how long it takes to be ready, imports included, and its memory."""

from __future__ import annotations

import time
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from privemo.bench.memory import peak
from privemo.errors import RunError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from privemo.config import RunSettings

__all__ = ["ready_and_peak"]


def ready_and_peak(data: Path, folder: Path, settings: RunSettings) -> tuple[float, float]:
    """Seconds until a new process is ready for its first round, and MiB that one round takes at its peak.

    The seconds are those of a new interpreter, its imports, reading the faces, and laying out all stores. The
    memory is beyond that of the imports; each store takes one step only, which is as large as any other.

    Args:
        data: the faces, a file.
        folder: of the run, to be made.
        settings: of the run, of which one round is run.

    Raises:
        RunError: the process ended by itself.
    """
    context = get_context("spawn")  # a fresh interpreter: torch does not survive a fork
    ours, theirs = context.Pipe()
    facts = {**settings.model_dump(mode="json"), "rounds": 1, "steps_per_round": 1}
    began = time.monotonic()
    process = context.Process(target=_serve, args=(data, folder, facts, theirs), daemon=True)
    process.start()
    theirs.close()
    with closing(ours):
        try:
            ours.recv()
            ready = time.monotonic() - began
            return ready, ours.recv() / 2**20
        except EOFError:
            process.join()
            raise RunError(
                f"The run in a process of its own ended with {process.exitcode}."
            ) from None
        finally:
            process.join()


def _serve(data: Path, folder: Path, facts: dict[str, Any], pipe: Connection) -> None:
    from privemo import server_app, simulation  # noqa: F401 - else the first round would import it
    from privemo.config import RunSettings
    from privemo.faces import load_faces

    before = peak()
    run = simulation.prepare(load_faces(data), folder, RunSettings.of(**facts))
    pipe.send("ready")
    simulation.run(run)
    pipe.send(peak() - before)
