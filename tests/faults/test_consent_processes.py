"""Several real processes on one file: no event lost, doubled or reordered; no promise broken."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from privemo_consent import ConsentGate, ConsentRegistry, Context, Purpose, Reason
from tests.support.races import race_until_at_once

WORKER = Path(__file__).with_name("consent_worker.py")
SHOP = Context(setting="retail", jurisdiction="IE")


def start(act: str, path: Path, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, str(WORKER), act, str(path), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def finish(process: subprocess.Popen[str]) -> list[str]:
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return out.split("\n")[:-1]


def test_kiosks_writing_at_once_lose_and_double_nothing(whole: Path) -> None:
    race_until_at_once(lambda race: _race_to_write(whole, str(race)))


def _race_to_write(whole: Path, race: str) -> list[str]:
    """Let three kiosks enrol sixty people each; return who wrote each event, in the log's order."""
    names = [f"east{race}", f"west{race}", f"north{race}"]
    with ConsentRegistry.open(whole, mode="production") as registry:
        before = registry.log_seq
    kiosks = [start("grant", whole, name, "60") for name in names]
    for kiosk in kiosks:
        go(kiosk)
    said = {name: finish(kiosk) for name, kiosk in zip(names, kiosks, strict=True)}
    with ConsentRegistry.open(whole, mode="production") as registry:
        assert registry.log_seq == before + 180
        registry.verify()
        for name in names:
            assert said[name] == [f"{name}-{i:04d}" for i in range(60)]
            own = [person for person in registry.persons() if person.startswith(name)]
            assert own == said[name], "each kiosk's events stand in the order it was told"
        order = sorted(
            (registry.history(person)[0].seq, name) for name in names for person in said[name]
        )
    return [name for _, name in order]


def test_racing_the_same_withdrawal_writes_it_once(whole: Path) -> None:
    people = [f"p{i:02d}" for i in range(3, 15)]
    racers = [start("withdraw", whole, *people) for _ in range(3)]
    for racer in racers:
        go(racer)
    said = [finish(racer) for racer in racers]
    for i, person in enumerate(people):
        assert sorted(lines[i] for lines in said) == [f"{person} 0", f"{person} 0", f"{person} 1"]
    with ConsentRegistry.open(whole, mode="production") as registry:
        registry.verify()
        for person in people:
            assert registry.decide(person, Purpose.TRAINING, SHOP).reason is Reason.WITHDRAWN
            assert len(registry.history(person)) == 2


def test_training_sees_a_withdrawal_of_another_process_before_its_next_batch(whole: Path) -> None:
    with ConsentRegistry.open(whole, mode="production") as registry:
        gate = ConsentGate(registry)
        kiosk = start("withdraw", whole, "p07")
        assert gate.still_permitted(["p07", "p08"], Purpose.TRAINING, SHOP).tolist() == [True, True]
        go(kiosk)
        assert finish(kiosk) == ["p07 1"]
        assert gate.still_permitted(["p07", "p08"], Purpose.TRAINING, SHOP).tolist() == [
            False,
            True,
        ]


@pytest.mark.parametrize("act", ["grant", "withdraw"])
def test_kill_9_keeps_every_promise(whole: Path, act: str) -> None:
    arguments = [f"p{i:02d}" for i in range(3, 20)] if act == "withdraw" else ["k", "500"]
    process = start(act, whole, *arguments)
    go(process)
    assert process.stdout is not None
    promised = [process.stdout.readline().split()[0] for _ in range(8)]
    time.sleep(0.004)  # somewhere within the next act
    process.kill()
    promised += [line.split()[0] for line in process.stdout.read().split("\n")[:-1]]
    process.wait()
    assert process.stdin is not None
    process.stdin.close()
    process.stdout.close()
    with ConsentRegistry.open(whole, mode="production") as registry:
        registry.verify()
        for person in promised:
            decision = registry.decide(person, Purpose.TRAINING, SHOP)
            want = Reason.PERMITTED if act == "grant" else Reason.WITHDRAWN
            assert decision.reason is want
