"""Does a job in a network namespace of its own, in which there is loopback and nothing else.

    unshare --map-root-user --net python -m tests.faults.network_worker KIND FOLDER

Prints JSON: how often something was sent elsewhere, as the kernel counts what has no route. First it tries to
reach an address by itself, so that whoever reads it knows that the kernel counts.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

_SIOCSIFFLAGS, _IFF_UP, _IFF_RUNNING = 0x8914, 0x1, 0x40


def loopback_up() -> None:
    request = struct.pack("16sh14x", b"lo", _IFF_UP | _IFF_RUNNING)
    with socket.socket() as one:
        fcntl.ioctl(one, _SIOCSIFFLAGS, request)


def sent_elsewhere() -> int:
    """Packets without a route so far, of both versions of IP."""
    names, values = (
        line.split()[1:]
        for line in Path("/proc/net/snmp").read_text().splitlines()
        if line.startswith("Ip:")
    )
    four = int(dict(zip(names, values, strict=True))["OutNoRoutes"])
    path = Path("/proc/net/snmp6")
    lines = path.read_text().splitlines() if path.exists() else []
    return four + sum(int(line.split()[1]) for line in lines if line.startswith("Ip6OutNoRoutes"))


def privemo(*arguments: str | Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "privemo", *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{arguments}: {done.stderr[-2000:]}")


def simulate(folder: Path, *more: str) -> None:
    """Rounds, predictions and the audit."""
    from tests.conftest import noise_faces

    np.savez(folder / "faces.npz", **noise_faces(60))
    words = "--stores 2 --rounds 1 --steps 2 --sample-rate 0.5 --declared-people 10 --init scratch"
    privemo(
        *("simulate", "--data", folder / "faces.npz", "--out", folder / "run", *words.split()),
        *("--model", "gray-cnn", *more, "--json"),
    )


def federation(folder: Path) -> None:
    """A server and three stores as processes, with TLS."""
    from tests.support.deployed import Federation, until

    chain = Federation(folder)
    try:
        chain.serve()
        for name in chain.names:
            chain.start(name, "join", chain.stores / name)
        until("all stores are online", lambda: chain.online() == 3)
        privemo("federation", "run", chain.chain)
    finally:
        chain.end()


def main(kind: str, folder: Path) -> None:
    loopback_up()
    before = sent_elsewhere()
    with suppress(OSError):
        socket.create_connection(("192.0.2.1", 80), 2).close()  # RFC 5737: nobody's address
    control = sent_elsewhere() - before
    os.environ["HOME"] = str(folder)
    before = sent_elsewhere()
    if kind == "federation":
        federation(folder)
    elif kind == "workers":
        simulate(folder, "--workers", "2")
    else:
        simulate(folder, "--engine", kind)
    sys.stdout.write(json.dumps({"control": control, "sent": sent_elsewhere() - before}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
