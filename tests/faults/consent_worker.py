"""A process of its own for the fault tests: ``python consent_worker.py ACT PATH ...``.

Each acknowledged act prints a line, flushed, so that a test may kill the process at any time and
know what had been promised. Times are of the machine's one monotonic clock: a line of one process
can be held against a line of another.
"""

from __future__ import annotations

import sys
import time
from datetime import timedelta

from privemo_consent import AgeBand, ConsentError, ConsentRegistry, Context, Notice, Purpose

TRAINING = Purpose.TRAINING
SHOP = Context(setting="retail", jurisdiction="IE")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def grant(registry: ConsentRegistry, notice: Notice, person: str) -> None:
    registry.grant(
        person,
        [TRAINING],
        age_band=AgeBand.FROM_25,
        jurisdiction="IE",
        notice=notice,
        valid_for=timedelta(days=9),
    )


def do(registry: ConsentRegistry, notice: Notice, act: str, person: str) -> str:
    """Do one act about a person; return what came of it in a word."""
    if act == "grant":
        grant(registry, notice, person)
    elif act == "renew":
        registry.renew(person)
    elif act == "withdraw":
        return str(len(registry.withdraw(person)))
    elif act == "decide":
        return registry.decide(person, TRAINING, SHOP).reason.value
    elif act == "use":
        seq = registry.snapshot(TRAINING).log_seq
        registry.record_use([person], TRAINING, run="r", round=1, store="s", batch=0, log_seq=seq)
    elif act == "rotate":
        registry.rotate_person_keys()
    elif act == "erase":
        return f"pending{len(registry.erase(person).pending)}"
    return "done"


def main(act: str, path: str, *arguments: str) -> None:
    with ConsentRegistry.open(path, mode="production") as registry:
        notice = registry.notices()[0]
        say("ready")
        sys.stdin.readline()
        if act == "grant":
            name, count = arguments
            for i in range(int(count)):
                grant(registry, notice, f"{name}-{i:04d}")
                say(f"{name}-{i:04d}")
        elif act == "withdraw":
            for person in arguments:
                try:
                    events = registry.withdraw(person)
                except ConsentError as error:
                    say(f"error {type(error).__name__}")
                else:
                    say(f"{person} {len(events)}")
        elif act == "timed":  # ACT=PERSON, one after another: when asked, when answered, the answer
            for argument in arguments:
                what, person = argument.split("=")
                asked = time.monotonic_ns()
                try:
                    came = do(registry, notice, what, person)
                except ConsentError as error:
                    came = type(error).__name__
                say(f"{what} {person} {asked} {time.monotonic_ns()} {came}")


if __name__ == "__main__":
    main(*sys.argv[1:])
