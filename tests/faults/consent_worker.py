"""A process of its own for the fault tests: ``python consent_worker.py ACT PATH ...``.

Each acknowledged act prints a line, flushed, so that a test may kill the process at any time and
know what had been promised.
"""

from __future__ import annotations

import sys
from datetime import timedelta

from privemo_consent import AgeBand, ConsentError, ConsentRegistry, Purpose


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(act: str, path: str, *arguments: str) -> None:
    with ConsentRegistry.open(path, mode="production") as registry:
        notice = registry.notices()[0]
        say("ready")
        sys.stdin.readline()
        if act == "grant":
            name, count = arguments
            for i in range(int(count)):
                registry.grant(
                    f"{name}-{i:04d}",
                    [Purpose.TRAINING],
                    age_band=AgeBand.FROM_25,
                    jurisdiction="IE",
                    notice=notice,
                    valid_for=timedelta(days=9),
                )
                say(f"{name}-{i:04d}")
        elif act == "withdraw":
            for person in arguments:
                try:
                    events = registry.withdraw(person)
                except ConsentError as error:
                    say(f"error {type(error).__name__}")
                else:
                    say(f"{person} {len(events)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
