"""What the doorkeeper puts before Flower's SuperLink, without one that serves."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flwr.superlink import main as superlink
from flwr.superlink.routers.fleet import node_auth

from privemo.federation import doorkeeper

__all__ = ["Begun", "begun"]

Tell = Callable[[str], None]


@dataclass
class Begun:
    """The layers, the first one first, and what is told of broken handshakes and of the server's own end."""

    layers: list[Any]
    of_handshakes: Tell
    of_its_end: Tell


def begun(monkeypatch: pytest.MonkeyPatch, nodes: Path) -> Begun:
    """Let the doorkeeper change all of Flower's places, and change them back after the test."""
    told = dict[str, Any]()
    for place, name in (
        (superlink, "_get_middleware"),
        (superlink, "get_objectstore_linkstate_factories"),
        (node_auth, "authenticate_node"),
        (sys, "argv"),
    ):
        monkeypatch.setattr(place, name, getattr(place, name))
    for name in ("uvicorn.access", "uvicorn.error"):
        monkeypatch.setattr(logging.getLogger(name), "filters", [])
    for name in ("tell_of_broken_handshakes", "end_with_executor"):
        monkeypatch.setattr(doorkeeper, name, lambda _, tell, name=name: told.update({name: tell}))
    monkeypatch.setattr(
        doorkeeper, "to_the_end", lambda _: told.update(layers=superlink._get_middleware())
    )
    doorkeeper.main([str(nodes)])
    return Begun(told["layers"], told["tell_of_broken_handshakes"], told["end_with_executor"])
