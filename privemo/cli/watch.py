"""`privemo watch`: a run as it goes, in the terminal, as JSON, for Prometheus and for TensorBoard."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from privemo.cli import options as o
from privemo.cli.common import counted, out, say
from privemo.errors import SettingsError

if TYPE_CHECKING:
    from privemo.watching import Progress, Watch

__all__ = ["watch"]


def watch(
    run: Annotated[Path, typer.Argument(help="Run folder, or folder of a federation's server.")],
    once: Annotated[bool, typer.Option("--once", help="Say how it stands, and end.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 1.0,
    metrics: Annotated[
        int | None, typer.Option(help="Serve Prometheus's metrics on this port meanwhile.")
    ] = None,
    metrics_address: Annotated[str, typer.Option(help="Where to serve them.")] = "127.0.0.1",
    tensorboard: Annotated[
        Path | None, typer.Option(help="Folder for TensorBoard's files.")
    ] = None,
    json_: o.JsonOption = False,
) -> None:
    """Follow a run until all of its rounds are whole. Nothing is written to its folder.

    With --json a line for each round, those that are whole already first.
    """
    from privemo.watching import Watch

    watched = Watch(run)
    with ExitStack() as stack:
        hear: list[Callable[[dict[str, Any]], None]] = []
        if json_:
            hear.append(lambda event: typer.echo(json.dumps(event)))
        if metrics is not None:
            _serve(watched, metrics, metrics_address, stack)
        if tensorboard is not None:
            hear.append(_scalars(tensorboard, stack))
        see: Callable[[Progress], None] = lambda _: None  # noqa: E731
        if not json_ and once:
            see = lambda now: out.print(picture(now))  # noqa: E731
        elif not json_:
            live = stack.enter_context(Live(console=out, auto_refresh=False))
            see = lambda now: live.update(picture(now), refresh=True)  # noqa: E731
        with suppress(KeyboardInterrupt):  # whoever looks away leaves nothing half done
            while not _look(watched, hear, see) and not once:
                time.sleep(every)


def _look(
    watched: Watch,
    hear: list[Callable[[dict[str, Any]], None]],
    see: Callable[[Progress], None],
) -> bool:
    """Tell what is new; whether all rounds are whole."""
    for event in watched.events():
        for one in hear:
            one(event)
    now = watched.progress()
    see(now)
    return now.whole >= now.planned


def _scalars(folder: Path, stack: ExitStack) -> Callable[[dict[str, Any]], None]:
    from privemo.exporters import Scalars

    scalars = Scalars(folder)
    stack.callback(scalars.close)
    return scalars.write


def _serve(watched: Watch, port: int, address: str, stack: ExitStack) -> None:
    from prometheus_client import start_http_server

    from privemo.exporters import registry_of

    try:
        server, thread = start_http_server(port, address, registry_of(watched))
    except (OSError, OverflowError) as error:
        raise SettingsError(
            f"Metrics cannot be served on {address}:{port} ({error}); choose another port."
        ) from error
    say(f"Metrics for Prometheus: http://{address}:{server.server_port}/metrics")

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    stack.callback(end)


def picture(now: Progress) -> RenderableType:
    """A run as a bar and a line for each store."""
    left = now.seconds_left
    if now.whole >= now.planned:
        words = "all rounds are whole"
    elif left is None:
        words = "waiting for the first round"
    else:
        words = f"about {counted(max(1, round(left / 60)), 'minute')} left"
    if now.seconds is not None:
        words += f", {now.seconds:,.1f} s a round"
    table = Table("store", "last round", "rounds trained", "epsilon")
    for store in now.stores:
        last = store.status or "-"
        told = f"{last}: {store.reason}" if store.reason else last
        table.add_row(store.name, told, f"{store.rounds:,}", _epsilon(store.epsilon, now.budget))
    bar = Padding(ProgressBar(total=now.planned, completed=now.whole, width=40), 0)
    return Group(Text(f"Run {now.run_id}: round {now.whole} of {now.planned}, {words}"), bar, table)


def _epsilon(spent: float | None, budget: float | None) -> str:
    if budget is None:
        return "no privacy"
    return f"{spent or 0:.2f} of {budget:g}"
