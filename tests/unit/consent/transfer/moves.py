"""A registry moves, and what has to be the same on both sides; a transfer's file that somebody changes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from privemo_consent import (
    AgeBand,
    ConsentRegistry,
    Context,
    Grant,
    Notice,
    Purpose,
    Reason,
)
from privemo_consent.copies.transfer import TransferRead, read_transfer, write_transfer
from privemo_consent.copies.transferfile import LineWriter
from privemo_consent.errors import ConsentError
from privemo_consent.vault import ItemKind, NewItem, Vault
from tests.unit.consent.conftest import MovableClock, Yes

TRAINING = Purpose.TRAINING
SHOP = Context(setting="retail", jurisdiction="IE")
USE: dict[str, Any] = {"run": "r", "round": 1, "store": "s", "log_seq": 1}


def grant_of(yes: Yes, person: str, band: AgeBand) -> Grant:
    notice = yes.arguments["notice"]
    assert isinstance(notice, Notice)
    return Grant(
        person=person,
        purposes=(TRAINING,),
        age_band=band,
        jurisdiction="IE",
        notice=notice,
        valid_for=timedelta(days=9),
    )


def fill(registry: ConsentRegistry, yes: Yes) -> None:
    """Something in every table, an erased person, two epochs and two signers."""
    for name in ("anna", "ben", "cy", "dora"):
        registry.grant(name, [TRAINING, Purpose.FAIRNESS_AUDIT], **yes())  # type: ignore[arg-type]
    registry.grant_many([grant_of(yes, "kid", AgeBand.UNDER_13)])
    registry.withdraw("dora")
    registry.record_use(["anna", "ben"], TRAINING, batch=0, **USE)
    registry.decide("anna", TRAINING, SHOP)
    vault = Vault(registry)
    faces = [
        NewItem(person=name, item_id=f"f{i}", body=bytes([i]) * 40, facts={"estimated_age": 30.25})
        for name in ("anna", "cy")
        for i in range(2)
    ]
    vault.put(faces, SHOP)
    vault.put([NewItem(person="ben", item_id="d", body=b"group")], SHOP, kind=ItemKind.DEMOGRAPHIC)
    registry.announce_reading(registry.notices()[0], place="at the door")
    registry.erase("cy")
    registry.rotate_person_keys()
    registry.rotate_signing_key()


def everything(registry: ConsentRegistry, events: int) -> dict[str, object]:
    """Return what a registry holds that has to be the same elsewhere."""
    vault, people = Vault(registry), registry.persons()
    return {
        "root": registry.log_root(events),
        "uses": (registry.uses_head(), list(registry.uses()), list(registry.decisions())),
        "people": people,
        "histories": [registry.history(person) for person in people],
        "leaves": [registry.leaf(seq) for seq in range(events)],
        "notices": registry.notices(),
        "refused": registry.age_refusals(),
        "decisions": [
            registry.preview(person, purpose, SHOP, at=datetime(2026, 3, 2, tzinfo=UTC)).reason
            for person in people
            for purpose in Purpose
        ],
        "items": {
            (person, kind): sorted(
                (item.item_id, sorted(item.facts.items()), item.body)
                for item in vault.of_person(person, kind=kind)
            )
            for person in people
            for kind in ItemKind
        },
    }


def move(
    registry: ConsentRegistry,
    to: str | Path,
    clock: Any,
    passphrase: bytes | None = None,
    *,
    close: bool = True,
) -> ConsentRegistry:
    """Move a registry, or a copy of it, and check that nothing is lost on the way."""
    folder = registry.keys.path.parent / "moved"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    size = registry.head().seq
    before = everything(registry, size)
    made = write_transfer(registry, folder / "whole.jsonl", passphrase=passphrase, close=close)
    assert (made.path.stat().st_mode & 0o777, made.sealed) == (0o600, passphrase is not None)
    options: dict[str, Any] = {"keys": folder / "new.keys", "mode": registry.mode, "clock": clock}
    found = read_transfer(made.path, to, passphrase=passphrase, **options)
    head = registry.head()
    assert (head.seq, made.closed, found.closed) == (size + close, close, close)
    assert (found.root, found.events, made.root) == (head.root, head.seq, head.root)
    moved = ConsentRegistry.open(to, **options)
    moved.verify()
    registry.verify()
    assert moved.log_root(head.seq) == head.root
    after = everything(moved, size)
    if not close:
        assert found.suspended == moved.head().seq - head.seq - 1
        for name in ("histories", "decisions"):  # everyone has one entry more, and no yes
            assert Reason.PERMITTED not in after.pop(name)  # type: ignore[operator]
            del before[name]
    assert after == before
    assert moved.registry_id == registry.registry_id
    assert moved.origin == found.origin != registry.origin
    return moved


class Sent:
    """A transfer's file and where it would go."""

    def __init__(self, registry: ConsentRegistry, folder: Path, clock: MovableClock) -> None:
        self.folder, self.clock = folder, clock
        self.file = folder / "sent.jsonl"
        self.made = write_transfer(registry, self.file, passphrase=None)
        self.lines = self.file.read_bytes().splitlines(keepends=True)

    def read(self, **changes: Any) -> TransferRead:
        options: dict[str, Any] = {"keys": self.folder / "to.keys", "mode": "production"}
        options["clock"] = self.clock
        return read_transfer(self.file, self.folder / "to.sqlite", **(options | changes))

    def open(self) -> ConsentRegistry:
        return ConsentRegistry.open(self.folder / "to.sqlite", mode="production", clock=self.clock)

    def clear(self) -> None:
        for path in self.folder.glob("to.sqlite*"):
            path.unlink()
        shutil.rmtree(self.folder / "to.keys")

    def refuse(self, kind: type[ConsentError], told: str | None, **changes: Any) -> ConsentError:
        with pytest.raises(kind, match=told) as caught:
            self.read(**changes)
        left = {path.name for path in self.folder.iterdir()}
        assert not [name for name in left if name.startswith(("to.", ".to"))], "nothing was made"
        return caught.value

    def numbers(self, kind: str) -> list[int]:
        return [i for i, line in enumerate(self.lines) if json.loads(line)["line"] == kind]

    def forge(self, change: Callable[[list[dict[str, Any]]], object]) -> None:
        """Change lines and write every sum anew, as somebody would who knows the format."""
        values = [json.loads(line) for line in self.lines]
        change(values)
        with self.file.open("wb") as file:
            writer = LineWriter(file)
            for value in values:
                value.pop("sum", None)
                writer.put(value.pop("line"), **value)
