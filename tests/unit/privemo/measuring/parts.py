"""What is done to them, and what is looked at afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from privemo.client_app import app as client_app
from privemo.closing import FINAL_FILE
from privemo.counted import Counted, asked
from privemo.flower import Context, Grid, Message, RecordDict, ServerApp
from privemo.grid import InProcessGrid
from privemo.heldoutledger import FILE, HeldOutLedger
from privemo.measuring import finish_run
from privemo.runs import Run
from privemo.statements import STATEMENTS_FILE
from privemo.store import Store
from tests.support.federated import App, Federated

KINDS = ("query.measure", "query.count", "query.advertise")


@contextmanager
def opened(federated: Federated, name: str = "store-01") -> Iterator[Store]:
    store = federated.store(name)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def before_the_rounds(store: Store) -> Iterator[None]:
    """As the store was when it had joined: nothing stated, and no end signed."""
    later = [
        path for name in (FINAL_FILE, STATEMENTS_FILE) if (path := store.folder / name).exists()
    ]
    for path in later:
        path.rename(path.with_suffix(".later"))
    try:
        yield
    finally:
        for path in later:
            path.with_suffix(".later").rename(path)


def came_of(federated: Federated) -> Counted:
    request = asked(federated.run)
    assert request is not None
    found = Counted.of(federated.run, request)
    assert found is not None
    return found


def finished(federated: Federated, run: Run, app: App) -> Counted | None:
    """What comes after the rounds alone, for a run whose settings a test changed."""
    found: list[Counted | None] = []
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        found.append(finish_run(run, grid))

    configs: list[dict[str, str | int]] = [
        {"store-dir": str(federated.stores / name)} for name in federated.names
    ]
    InProcessGrid(app, configs).serve(server, run_dir=str(run.folder))  # type: ignore[arg-type]
    return found[0]


def paid(federated: Federated) -> dict[str, int]:
    """By store how many releases stand in the ledger of the people measured."""
    paths = {name: federated.stores / name / FILE for name in federated.names}
    return {n: len(HeldOutLedger(p).entries) if p.exists() else 0 for n, p in paths.items()}


def people_of(federated: Federated, name: str = "store-01") -> set[str]:
    return people_in(federated.stores / name / "predictions.csv")


def people_in(predictions: Path) -> set[str]:
    return set(pd.read_csv(predictions, dtype=str)["person"])


def hearing(heard: list[tuple[str, RecordDict]], app: App = client_app) -> App:
    """Stores whose every answer somebody keeps."""

    def listening(message: Message, context: Context) -> Message:
        reply = app(message, context)
        heard.append((message.metadata.message_type, reply.content))
        return reply

    return listening
