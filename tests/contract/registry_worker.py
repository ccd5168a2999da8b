"""A process of its own on a registry: ``python -m ... ACT PLACE KEYS ARGUMENTS``.

Each acknowledged act prints a line, flushed, so that a test may kill the process at any time and
know what had been promised.
"""

from __future__ import annotations

import sys
import time

from privemo_consent import ConsentError, ConsentRegistry, Context, Purpose
from tests.contract.store_worker import say
from tests.support.consent import grant

SHOP = Context(setting="retail", jurisdiction="IE")


def act_on(registry: ConsentRegistry, act: str, person: str) -> str:
    if act == "grant":
        registry.grant_many([grant(person)])
        return ""
    if act == "decide":
        time.sleep(0.002)  # a camera has frames; a loop without a breath keeps others from the lock
        return registry.decide(person, Purpose.TRAINING, SHOP).reason.value
    return str(len(registry.withdraw(person)))


def main(act: str, place: str, keys: str, *people: str) -> None:
    with ConsentRegistry.open(place, mode="production", keys=keys) as registry:
        say("ready")
        sys.stdin.readline()
        for person in people:
            try:
                told = act_on(registry, act, person)
            except ConsentError as error:
                told = f"error {type(error).__name__}"
            say(f"{person} {told}".rstrip())


if __name__ == "__main__":
    main(*sys.argv[1:])
