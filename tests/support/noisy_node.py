"""A store's node that says again what it said before, with each new answer; and all that it sends is kept.

Not the answer that it is about to give: whose head comes twice is a new one to Flower, and never whole.

Put on the path of Python as `sitecustomize`, it changes Flower's node and no other process.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["noisy", "requests"]

_SCRIPT = """
import os, struct, sys

if {"privemo.federation.daemons", "supernode"} <= set(sys.orig_argv):
    from flwr.supernode.fleet_http_client import FleetHttpClient

    send, said = FleetHttpClient._unary_unary, []

    def tell(path, request, status):
        body = request.SerializeToString()
        name = f"{status} {path}".encode()
        with open(os.environ["NOISY_NODE"], "ab") as file:
            file.write(struct.pack("<II", len(name), len(body)) + name + body)

    def again(self, what):
        try:
            send(self, **what)
        except Exception as error:
            response = getattr(error, "response", None)
            return "again " + str(getattr(response, "status_code", type(error).__name__))
        return "again 200"

    def loud(self, **what):
        answer = send(self, **what)
        tell(what["path"], what["request"], "first")
        if what["path"].endswith("/push-messages"):
            for each in said[-20:]:
                tell(each["path"], each["request"], again(self, each))
        if what["path"].endswith(("/push-messages", "/push-object")):
            said.append(what)
        return answer

    FleetHttpClient._unary_unary = loud
"""


def noisy(folder: Path, name: str) -> dict[str, str]:
    """Variables for `federation join` of such a store.

    Args:
        folder: for the script, and for what the node sends.
        name: of the store.
    """
    path = folder / "noisy"
    path.mkdir(exist_ok=True)
    (path / "sitecustomize.py").write_text(_SCRIPT)
    return {"PYTHONPATH": f"{path}:{Path.cwd()}", "NOISY_NODE": str(path / name)}


def requests(folder: Path, name: str) -> Iterator[tuple[str, bytes]]:
    """All that a node sent, in its order: how it went and where to, and what.

    Args:
        folder: as for `noisy`.
        name: of the store.
    """
    data, at = (folder / "noisy" / name).read_bytes(), 0
    while at < len(data):
        named, length = (int.from_bytes(data[i : i + 4], "little") for i in (at, at + 4))
        at += 8
        yield data[at : at + named].decode(), data[at + named : at + named + length]
        at += named + length
