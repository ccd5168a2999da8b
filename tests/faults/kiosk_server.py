"""A kiosk in a process of its own: `python -m tests.faults.kiosk_server REGISTRY`.

Prints its address, and ends when its standard input does.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from privemo_consent import ConsentRegistry
from privemo_consent.kiosk import KioskSettings, Listening, create_app
from privemo_consent.kiosk.serving import make_server


def main() -> None:
    with ConsentRegistry.open(Path(sys.argv[1]), mode="production") as registry:
        # Rates as a store has them: each client of the test comes from an address of its own.
        app = create_app(registry, KioskSettings(jurisdiction="IE"))
        server, door = make_server(app, Listening(port=0))
        port = door.getsockname()[1]

        def end_with_input() -> None:
            while not server.started:
                time.sleep(0.01)
            sys.stdout.write(f"{port}\n")
            sys.stdout.flush()
            sys.stdin.read()
            server.should_exit = True

        threading.Thread(target=end_with_input, daemon=True).start()
        server.run(sockets=[door])


if __name__ == "__main__":
    main()
