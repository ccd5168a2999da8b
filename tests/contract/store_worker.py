"""A process of its own on a store: ``python store_worker.py ACT PLACE NAME COUNT``.

Each acknowledged commit prints a line, flushed, so that a test may kill the process at any time
and know what had been promised.
"""

from __future__ import annotations

import sys
import time

from privemo_consent.storage import open_store
from tests.contract.store_rows import add_use, size_of


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(act: str, place: str, name: str, count: str) -> None:
    store = open_store(place)
    say("ready")
    sys.stdin.readline()
    if act == "hold":
        with store.write() as connection:
            add_use(connection, size_of(connection), name)
            say("holding")
            time.sleep(60)
    for _ in range(int(count)):
        with store.write(durable=act == "durable") as connection:
            seq = size_of(connection)
            add_use(connection, seq, name)
        say(f"{seq} {name}")
    store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
