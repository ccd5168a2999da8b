"""A server that says it is up lets its stores in: whoever waits for that word is turned away by nobody."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from privemo.config import PrivacySettings, RunSettings
from privemo.federation.identity import enroll
from privemo.federation.server import init_federation
from privemo.federation.superlink import online_nodes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NAMES = ("amber", "birch", "cedar")


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """The folder of a server, drawn up for three stores on this machine."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    settings = RunSettings.of(
        stores=3,
        privacy=PrivacySettings(epsilon=8.0, sample_rate=0.5),
        declared_people=10,
        model="gray-cnn",
        init="scratch",
    )
    cards = [enroll(tmp_path / name, name) for name in NAMES]
    made = init_federation(tmp_path / "chain", cards, settings, hosts=["127.0.0.1"], port=port)
    return made.folder


def serve_and_ask(chain: Path) -> int:
    """Serve a folder until it says that it is up, and end it; returns how many stores it lets in."""
    command = [sys.executable, "-m", "privemo", "federation", "start", str(chain)]
    server = subprocess.Popen(command)
    try:
        while not (chain / "server.pid").exists():
            assert server.poll() is None
            time.sleep(0.02)
        assert int((chain / "server.pid").read_text()) == server.pid
        registered = len(online_nodes(chain))
    finally:
        server.terminate()
        ended = server.wait(120)
    assert ended == 0
    assert not (chain / "server.pid").exists()
    return registered


def test_a_server_is_up_once_all_its_stores_may_come(chain: Path) -> None:
    assert serve_and_ask(chain) == len(NAMES)


def test_a_chain_that_was_moved_is_served_where_it_is_now(chain: Path, tmp_path: Path) -> None:
    """As one that was drawn up on a host and mounted into a container."""
    assert serve_and_ask(chain.rename(tmp_path / 'an other "place"')) == len(NAMES)
