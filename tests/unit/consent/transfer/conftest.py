"""A registry with something in every table, its transfer, and the same registry closed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from privemo_consent import (
    AgeBand,
    ConsentRegistry,
    Purpose,
)
from privemo_consent.copies.transfer import write_transfer
from privemo_consent.vault import ItemKind, NewItem, Vault
from tests.unit.consent.conftest import MovableClock, Yes
from tests.unit.consent.transfer.moves import SHOP, TRAINING, USE, Sent, grant_of


@pytest.fixture
def full(registry: ConsentRegistry, yes: Yes, clock: MovableClock) -> ConsentRegistry:
    """A registry with something in every table, an erased person, two epochs and two signers."""
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
    clock.forward(minutes=1)
    return registry


@pytest.fixture
def sent(full: ConsentRegistry, tmp_path: Path, clock: MovableClock) -> Sent:
    return Sent(full, tmp_path, clock)


@pytest.fixture
def two(full: ConsentRegistry, tmp_path: Path, clock: MovableClock) -> Any:
    """A registry that was closed, and another handle on it that was open before."""
    with ConsentRegistry.open(full.path, mode="production", clock=clock) as other:
        assert other.decide("anna", TRAINING, SHOP).permit
        made = write_transfer(full, tmp_path / "closed.jsonl", passphrase=None, close=True)
        assert made.closed
        yield full, other
