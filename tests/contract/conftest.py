from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.postgres import PostgresServer, find_binaries, running_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real server on loopback, one for the whole session."""
    if find_binaries() is None:
        if os.environ.get("PRIVEMO_REQUIRE_POSTGRES"):
            pytest.fail("no PostgreSQL is installed, and PRIVEMO_REQUIRE_POSTGRES asks for one")
        pytest.skip("no PostgreSQL is installed: apt install postgresql")
    with running_postgres() as server:
        yield server
