"""Of a registry and what it was moved to, one goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from privemo_consent import (
    AgeBand,
    ConsentGate,
    ConsentRegistry,
    ConsentStatus,
    Purpose,
    Reason,
    RegistryExistsError,
    RegistryMissingError,
    leaves,
)
from privemo_consent.copies.backup import restore
from privemo_consent.copies.transfer import read_transfer, write_transfer
from privemo_consent.errors import (
    ClockBackwardsError,
    MalformedError,
    RegistryError,
    RegistryFullError,
)
from privemo_consent.keys import SigningKey
from privemo_consent.logexport.check import verify_export
from privemo_consent.state import KeyState
from privemo_consent.vault import ItemKind, NewItem, Vault
from tests.support.notices import whole_notice
from tests.unit.consent.conftest import MovableClock, Yes
from tests.unit.consent.transfer.moves import SHOP, TRAINING, USE, Sent, grant_of, move


def test_an_old_file_brings_no_yes_back(
    sent: Sent, full: ConsentRegistry, clock: MovableClock, yes: Yes
) -> None:
    head = full.head()
    full.withdraw("anna")
    full.erase("ben")
    clock.forward(days=1)
    found = sent.read()
    assert (found.closed, found.suspended, found.root) == (False, 4, head.root)
    with sent.open() as moved:
        moved.verify()
        assert moved.log_root(head.seq) == head.root
        for person in moved.persons():
            for purpose in Purpose:
                assert not moved.decide(person, purpose, SHOP).permit
        assert not ConsentGate(moved).still_permitted(["anna", "ben"], TRAINING, SHOP).any()
        assert moved.history("anna")[-1].status is ConsentStatus.INVALIDATED
        moved.grant("anna", [TRAINING], **yes())  # type: ignore[arg-type]
        assert moved.decide("anna", TRAINING, SHOP).permit, "whoever was asked again counts"
    assert full.decide("dora", TRAINING, SHOP).reason is Reason.WITHDRAWN, "the old one goes on"


FACE = NewItem(person="anna", item_id="late", body=b"pixels")
CHANGES: dict[str, Callable[[ConsentRegistry, Yes], object]] = {
    "grant": lambda registry, yes: registry.grant("eve", [TRAINING], **yes()),  # type: ignore[arg-type]
    "grant many": lambda registry, yes: registry.grant_many([grant_of(yes, "e", AgeBand.FROM_25)]),
    "a minor": lambda registry, yes: registry.grant_many([grant_of(yes, "e", AgeBand.UNDER_13)]),
    "withdraw": lambda registry, _yes: registry.withdraw("anna"),
    "renew": lambda registry, yes: registry.renew("anna", notice=yes.arguments["notice"]),  # type: ignore[arg-type]
    "erase": lambda registry, _yes: registry.erase("anna"),
    "notice": lambda registry, _yes: registry.notice(whole_notice(registry.controller, 2)),
    "announce": lambda registry, _yes: registry.announce_reading(registry.notices()[0], place="in"),
    "use": lambda registry, _yes: registry.record_use(["anna"], TRAINING, batch=9, **USE),
    "face": lambda registry, _yes: Vault(registry).put([FACE], SHOP),
    "delete": lambda registry, _yes: Vault(registry).delete(kind=ItemKind.FACE),
    "signing key": lambda registry, _yes: registry.rotate_signing_key(),
    "epoch": lambda registry, _yes: registry.rotate_person_keys(),
    "forget": lambda registry, _yes: registry.forget_person_keys(1),
    "snapshot": lambda registry, _yes: registry.snapshot(TRAINING),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_closed_registry_takes_nothing_more(
    two: tuple[ConsentRegistry, ConsentRegistry], yes: Yes, clock: MovableClock, name: str
) -> None:
    full = two[0]
    clock.forward(minutes=1)
    before = (full.head(), full.uses_head(), Vault(full).counts(), full.keys.signers)
    with ConsentRegistry.open(full.path, mode="production", clock=clock) as later:
        for registry in (*two, later):
            with pytest.raises(RegistryError, match="was moved: use the one it was moved to"):
                CHANGES[name](registry, yes)
            registry.verify()
    assert (full.head(), full.uses_head(), Vault(full).counts(), full.keys.signers) == before


def test_a_closed_registry_permits_nothing(two: tuple[ConsentRegistry, ConsentRegistry]) -> None:
    for registry in two:
        uses = registry.uses_head()
        for ask in (registry.decide, registry.preview):
            assert ask("anna", TRAINING, SHOP).reason is Reason.REGISTRY_UNREADABLE
        admitted = ConsentGate(registry).admit(Vault(registry).sealed(), TRAINING, SHOP)
        assert (len(admitted.rows), admitted.faces) == (0, [])
        assert not ConsentGate(registry).still_permitted(["anna"], TRAINING, SHOP).any()
        assert registry.uses_head() == uses


def test_a_closed_registry_still_shows_what_it_holds(
    two: tuple[ConsentRegistry, ConsentRegistry], tmp_path: Path, clock: MovableClock
) -> None:
    full = two[0]
    head = full.head()
    assert full.history("anna")[-1].status is ConsentStatus.GIVEN
    assert full.export("anna")
    assert len(Vault(full).of_person("anna")) == 2
    assert full.snapshot(TRAINING, log_seq=head.seq - 1).log_seq == head.seq - 1
    full.export_log(tmp_path / "log")
    exported = verify_export(tmp_path / "log", known=[p.key for p in full.ring.periods])
    assert (exported.root, exported.uses) == (head.root, full.uses_head().seq), "all is signed"
    full.backup(tmp_path / "copy.bak")
    # Closing is done once; the file that was lost can be written again.
    for number, close in enumerate((True, False)):
        made = write_transfer(full, tmp_path / f"{number}.jsonl", passphrase=None, close=close)
        assert (made.closed, made.root, made.events) == (True, head.root, head.seq)
    options: dict[str, Any] = {"keys": tmp_path / "to.keys", "mode": "production", "clock": clock}
    found = read_transfer(tmp_path / "1.jsonl", tmp_path / "to.sqlite", **options)
    assert (found.closed, found.suspended) == (True, 0)


def test_what_cannot_be_written_closes_nothing(full: ConsentRegistry, tmp_path: Path) -> None:
    there = tmp_path / "there.jsonl"
    there.write_bytes(b"something else")
    for path, word, kind in [
        (there, b"words", RegistryExistsError),
        (tmp_path / "no folder" / "x", b"words", RegistryMissingError),
        (tmp_path / "x", b"", MalformedError),
    ]:
        with pytest.raises(kind):
            write_transfer(full, path, passphrase=word, close=True)
    with (
        ConsentRegistry.open(full.path, mode="production", readonly=True) as shut,
        pytest.raises(RegistryFullError, match="opened for reading"),
    ):
        write_transfer(shut, tmp_path / "x", passphrase=None, close=True)
    assert not (tmp_path / "x").exists()
    assert full.decide("anna", TRAINING, SHOP).permit


def test_with_the_clock_set_back_nothing_closes(
    full: ConsentRegistry, tmp_path: Path, clock: MovableClock
) -> None:
    clock.forward(hours=-1)
    with pytest.raises(ClockBackwardsError):
        write_transfer(full, tmp_path / "x", passphrase=None, close=True)
    clock.forward(hours=1)
    assert not (tmp_path / "x").exists()
    assert full.decide("anna", TRAINING, SHOP).permit


def test_a_copy_that_goes_on_is_not_closed_by_where_it_came_from(
    full: ConsentRegistry, tmp_path: Path, clock: MovableClock
) -> None:
    with (
        move(full, tmp_path / "new.sqlite", clock) as moved,
        move(moved, tmp_path / "copy.sqlite", clock, close=False) as copy,
    ):
        assert not copy.decide("anna", TRAINING, SHOP).permit
        assert moved.decide("anna", TRAINING, SHOP).permit


@pytest.mark.parametrize(
    ("op", "key"),
    [
        ("moved", "{registry}/9"),
        ("moved", "privemo.consent/another"),
        ("moved then moved", "{registry}"),
        ("moved then begin", "{registry}"),
        ("moved then epoch", "epoch:2"),
        ("moved then revoke", "{key}"),
    ],
)
def test_nothing_follows_a_move_but_another_name(
    registry: ConsentRegistry, op: str, key: str
) -> None:
    state, origin = KeyState(), registry.origin
    state.apply(leaves.parse(registry.leaf(0)))
    old = state.ring.periods[0].key
    first, _, then = op.partition(" then ")
    words = key.format(registry=origin, key=old)
    if then:
        state.apply(key_change("moved", origin))
    if then == "begin":
        words = str(SigningKey.generate(origin).verifying)
    with pytest.raises(MalformedError, match="moved"):
        state.apply(key_change(then or first, words))
    if then:
        state.apply(key_change("begin", str(SigningKey.generate(f"{origin}/2").verifying)))
        assert (state.moved, state.origin) == (False, f"{origin}/2")


def key_change(op: str, key: str) -> dict[str, Any]:
    leaf = leaves.key_leaf(op=op, key=key, ends_others=None, recorded=10**15, simulated=False)
    return leaves.parse(leaf)


@pytest.mark.parametrize(
    ("shown", "suspend", "outcome"),
    [
        (("events", "uses"), False, "closed"),
        (("events",), False, "refused"),
        (("events",), True, "suspended"),
        ((), False, "suspended"),
    ],
)
def test_a_backup_of_a_closed_registry_permits_nothing(
    two: tuple[ConsentRegistry, ConsentRegistry],
    tmp_path: Path,
    clock: MovableClock,
    shown: tuple[str, ...],
    suspend: bool,
    outcome: str,
) -> None:
    full, place = two[0], tmp_path / "restored.sqlite"
    full.backup(tmp_path / "copy.bak")
    heads = {"events": ("newest", full.head()), "uses": ("newest_uses", full.uses_head())}
    options: dict[str, Any] = {"keys": full.keys.path, "mode": "production", "clock": clock}
    given: dict[str, Any] = dict(heads[name] for name in shown)

    def bring_back() -> object:
        return restore(tmp_path / "copy.bak", place, suspend=suspend, **given, **options)

    if outcome == "refused":
        with pytest.raises(RegistryError, match="--suspend"):
            bring_back()
        assert not place.exists()
        return
    bring_back()
    with ConsentRegistry.open(place, **options) as restored:
        restored.verify()
        reason = restored.decide("anna", TRAINING, SHOP).reason
        closed = reason is Reason.REGISTRY_UNREADABLE
        assert closed is (outcome == "closed")
        assert reason is not Reason.PERMITTED
