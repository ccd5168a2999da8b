"""Flower's simulation engine, Ray, on this machine alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from privemo.errors import PrivemoError, RunError
from privemo.flower import ClientApp, ServerApp

__all__ = ["serve_on_ray"]

_NO_WAY_OUT = {
    "http_proxy": "http://127.0.0.1:9",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "no_proxy": "",
    "NO_PROXY": "",
}
"""Ray's usage statistics ask the cloud's metadata service where they run, also where they are switched off.
Its processes get a proxy that nobody serves; none of them has to reach anything over HTTP."""


def serve_on_ray(
    server_app: ServerApp, client_app: ClientApp, *, nodes: int, told: Mapping[str, str]
) -> None:
    """Run an app to its end, with one thread for each node at work and no more of them than cores.

    Args:
        server_app: runs in this process.
        client_app: runs in Ray's actors.
        nodes: how many there are.
        told: variables that the actors find in their environment.

    Raises:
        RunError: the engine stopped.
        PrivemoError: what the server app raised.
    """
    from flwr.simulation import run_simulation

    cores = len(os.sched_getaffinity(0))
    try:
        with _environment({**told, **_NO_WAY_OUT}):
            run_simulation(
                server_app=server_app,
                client_app=client_app,
                num_supernodes=nodes,
                backend_config={
                    "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
                    "init_args": {
                        "num_cpus": cores,
                        "include_dashboard": False,
                        # Else Ray asks the network which address this machine has.
                        "_node_ip_address": "127.0.0.1",
                    },
                },
            )
    except PrivemoError:
        raise
    except RuntimeError as error:
        raise RunError(
            f"Flower's simulation engine stopped ({error.__cause__ or error})."
        ) from error


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Variables as they are to be for processes started meanwhile."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
