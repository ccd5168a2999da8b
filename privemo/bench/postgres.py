"""A real PostgreSQL for benchmarks and tests: on loopback, with fsync, stopped by its pid at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg

__all__ = ["PostgresServer", "find_binaries", "running_postgres"]

_NAMES = count()


def find_binaries() -> Path | None:
    """Return the folder of initdb and postgres, or None where no PostgreSQL is installed."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda folder: int(folder.parent.name) if folder.parent.name.isdecimal() else 0,
    )
    if config := shutil.which("pg_config"):
        told = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False)
        found.insert(0, Path(told.stdout.strip()))
    if initdb := shutil.which("initdb"):
        found.insert(0, Path(initdb).resolve().parent)
    for folder in reversed(found):
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    return None


class PostgresServer:
    """A running server that this process started."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries = binaries
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        # PostgreSQL does not run as root.
        self.user: str | None = None
        if os.geteuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            self.user = "postgres" if "postgres" in names else "nobody"
            shutil.chown(folder, self.user)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])

    def _command(self, name: str, *arguments: str) -> list[str]:
        return [str(self._binaries / name), *arguments]

    def make(self) -> None:
        """Make the data folder: a superuser `tester` with no password, on loopback alone."""
        subprocess.run(
            self._command(
                "initdb",
                *("--pgdata", str(self._folder / "data"), "--username", "tester"),
                *("--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-instructions"),
            ),
            check=True,
            capture_output=True,
            user=self.user,
            extra_groups=[] if self.user else None,
            cwd=self._folder,
        )

    def start(self) -> None:
        """Start the server and wait until it answers."""
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(
                    "postgres",
                    *("-D", str(self._folder / "data"), "-p", str(self.port)),
                    *("-h", "127.0.0.1", "-k", str(self._folder)),
                    *("-c", "max_connections=60"),
                ),
                stdout=log,
                stderr=log,
                user=self.user,
                extra_groups=[] if self.user else None,
                cwd=self._folder,
            )
        for _ in range(600):
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
            except psycopg.OperationalError:
                if self._process.poll() is not None:
                    break
                time.sleep(0.05)
            else:
                return
        log_text = (self._folder / "server.log").read_text()
        raise RuntimeError(f"PostgreSQL did not start:\n{log_text}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT closes sessions in order, SIGQUIT is a crash."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(how)
        self._process.wait(timeout=60)

    def url(self, schema: str | None = None) -> str:
        """Return the URL of the database, or of one schema in it as a registry's place."""
        url = f"postgresql://tester@127.0.0.1:{self.port}/postgres"
        return url if schema is None else f"{url}?schema={schema}"

    def fresh(self) -> str:
        """Return a place nobody used before."""
        return self.url(f"t{os.getpid()}_{next(_NAMES)}")

    def connect(self, place: str, **options: object) -> psycopg.Connection:
        """Return a plain session, its search path set to a place's schema."""
        url, _, schema = place.partition("?schema=")
        options.setdefault("autocommit", True)
        return psycopg.connect(
            url,
            options=f"-c search_path={schema}",
            **options,  # type: ignore[arg-type]
        )


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Start a server in a folder of its own; stop it and remove the folder at the end."""
    binaries = find_binaries()
    if binaries is None:
        raise FileNotFoundError("no PostgreSQL is installed: apt install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="privemo-pg-"))
    folder.chmod(0o755)
    server = PostgresServer(binaries, folder)
    try:
        server.make()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)
