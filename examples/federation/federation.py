"""Three stores and a server as processes of their own, over TLS, of which the server is killed on the way.

    python examples/federation/federation.py OUT

In the end each store reads its own held-out people with the finished model, and the server learns how well it
works for whom: from the sum of all stores' counts, noised, and of no store by itself.

All on one machine and on people who do not exist. Each step is a command that an operator would type; what
is special here is only that the stores' folders are made by a simulation, consents and all, and that they lie
in the server's folder at the end, so that one audit can read everything. Needs the extras `train`, `synth`
and `audit`.
"""

# ruff: noqa: T201 - an example talks to whoever runs it
from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

NAMES = ("store-01", "store-02", "store-03")
ROUNDS = 3
GROUPS = """\
schema = "privemo.groups/1"
[groups]
skin_tone_group = ["monk_1_3", "monk_4_7", "monk_8_10"]
"""


def privemo(*arguments: str | Path, check: bool = True) -> int:
    """Run a command as an operator would."""
    print("$ privemo", *arguments, flush=True)
    command = [sys.executable, "-m", "privemo", *map(str, arguments)]
    return subprocess.run(command, check=check).returncode  # noqa: S603 - our own arguments


def started(log: Path, *arguments: str | Path) -> subprocess.Popen[bytes]:
    """Start a command that goes on; what it says goes to a file."""
    print("$ privemo", *arguments, "&", flush=True)
    command = [sys.executable, "-m", "privemo", *map(str, arguments)]
    with log.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)  # noqa: S603


def wait_for(what: str, met: Callable[[], bool], seconds: float = 900) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not met():
        if time.monotonic() > end:
            sys.exit(f"Waited {seconds:.0f} s in vain: {what}")
        time.sleep(0.5)


def all_online(chain: Path) -> bool:
    """Whether the server sees all stores; a run that begins before counts them out."""
    command = [sys.executable, "-m", "privemo", "federation", "status", str(chain), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    return done.returncode == 0 and json.loads(done.stdout)["online"] == len(NAMES)


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def simulated_stores(out: Path) -> Path:
    """Folders of three stores with consents and faces, as each would have them on its machine."""
    from privemo import PrivacySettings, RunSettings, simulation
    from privemo.faces import load_faces

    faces = out / "people.npz"
    privemo("synth", "--people", "150", "--images", "2", "--seed", "1", "--out", faces)
    settings = RunSettings.of(
        stores=3,
        rounds=ROUNDS,
        steps_per_round=1,
        declared_people=20,
        privacy=PrivacySettings(),
        sensitive=("skin_tone_group",),
    )
    prepared = simulation.prepare(load_faces(faces), out / "machines", settings)
    return prepared.folder / "stores"


def superlink_of(server: subprocess.Popen[bytes]) -> int:
    """Process id of Flower's SuperLink, a child of `privemo federation start`."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text()
    return int(children.split()[0])


def main(out: Path) -> int:
    """Draw up, serve, kill, serve again, audit; returns the audit's exit code."""
    if out.exists():
        print(f"{out} exists; choose another folder.", file=sys.stderr)
        return 1
    out.mkdir(parents=True)
    stores, chain, port = simulated_stores(out), out / "chain", free_port()
    for name in NAMES:
        privemo("federation", "enroll", stores / name, "--name", name)
    (out / "groups.toml").write_text(GROUPS)
    cards = [argument for name in NAMES for argument in ("--card", stores / name / "card.json")]
    privemo(
        *("federation", "init", chain, *cards, "--host", "127.0.0.1", "--port", str(port)),
        *("--declared-people", "20", "--rounds", str(ROUNDS), "--sample-rate", "0.5"),
        *("--may-drop", "0.4", "--seed", "1", "--sensitive", "skin_tone_group"),
        *("--groups", out / "groups.toml", "--count-epsilon", "4"),
    )
    for name in NAMES:
        invitation = chain / "invitations" / f"{name}.json"
        privemo("federation", "join", stores / name, "--invitation", invitation, "--no-start")
    processes = [started(out / "server.log", "federation", "start", chain)]
    try:
        wait_for("the server", lambda: (chain / "server.pid").exists())
        processes += [
            started(out / f"{name}.log", "federation", "join", stores / name) for name in NAMES
        ]
        wait_for("the stores", lambda: all_online(chain))
        running = started(out / "run.log", "federation", "run", chain)
        processes.append(running)
        wait_for("the first round", (chain / "rounds" / "0001.json").exists)
        print("The server is killed in the middle of a round.", flush=True)
        os.kill(superlink_of(processes[0]), signal.SIGKILL)
        print(f"The run ended with exit code {running.wait(300)}.", flush=True)
        processes[0].wait(300)
        processes.append(started(out / "server.log", "federation", "start", chain))
        wait_for("the stores are back", lambda: all_online(chain))
        privemo("federation", "run", chain)
        privemo("federation", "status", chain)
        privemo("federation", "counts", chain)
        privemo("federation", "stop", chain)
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(300)
    return audited(chain, stores)


def audited(chain: Path, stores: Path) -> int:
    """The audit of all that stores and server wrote, by somebody whom all of them let see it."""
    stores.rename(chain / "stores")
    return privemo("audit", chain, check=False)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/federation/federation.py OUT")
    sys.exit(main(Path(sys.argv[1])))
