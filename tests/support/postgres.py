"""A real PostgreSQL for the tests."""

from __future__ import annotations

from privemo.bench.postgres import PostgresServer, find_binaries, running_postgres

__all__ = ["PostgresServer", "find_binaries", "running_postgres"]
