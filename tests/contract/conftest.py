from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.postgres import PostgresServer, find_binaries, running_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real server on loopback, one for the whole session."""
    if find_binaries() is None:
        pytest.skip("no PostgreSQL is installed: apt install postgresql")
    with running_postgres() as server:
        yield server
