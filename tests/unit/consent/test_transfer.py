"""A registry moved whole: the same trees, other keys; and nothing that was tampered with gets in."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privemo_consent import (
    AgeBand,
    ConsentGate,
    ConsentRegistry,
    ConsentStatus,
    Context,
    Grant,
    ModeMismatchError,
    Notice,
    Party,
    Purpose,
    Reason,
    RegistryExistsError,
    RegistryMissingError,
    TamperedError,
    leaves,
)
from privemo_consent.copies.backup import restore
from privemo_consent.copies.transfer import TransferRead, read_transfer, write_transfer
from privemo_consent.copies.transferfile import LineWriter
from privemo_consent.errors import (
    ClockBackwardsError,
    ConsentError,
    KeyFileError,
    MalformedError,
    RegistryError,
    RegistryFullError,
    SignatureError,
)
from privemo_consent.keyfolder import KeyFolder
from privemo_consent.keyfolder.roots import PassphraseRoot
from privemo_consent.keys import SigningKey, VerifyingKey
from privemo_consent.logexport.check import verify_export
from privemo_consent.state import KeyState
from privemo_consent.vault import ItemKind, NewItem, Vault
from tests.support.notices import whole_notice
from tests.support.postgres import PostgresServer
from tests.unit.consent.conftest import MovableClock, Yes

TRAINING = Purpose.TRAINING
SHOP = Context(setting="retail", jurisdiction="IE")
USE: dict[str, Any] = {"run": "r", "round": 1, "store": "s", "log_seq": 1}


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


@pytest.mark.parametrize("passphrase", [None, b"correct horse"])
def test_everything_arrives(
    full: ConsentRegistry,
    clock: MovableClock,
    tmp_path: Path,
    yes: Yes,
    passphrase: bytes | None,
) -> None:
    with move(full, tmp_path / "new.sqlite", clock, passphrase) as moved:
        assert "cy" not in moved.persons()
        assert moved.decide("anna", TRAINING, SHOP).permit
        assert moved.decide("dora", TRAINING, SHOP).reason is Reason.WITHDRAWN
        moved.grant("eve", [TRAINING], **yes())  # type: ignore[arg-type]
        moved.erase("anna")
        moved.rotate_person_keys()
        moved.record_use(["ben"], TRAINING, batch=3, **USE)
        moved.verify()


def test_between_servers_and_files(
    full: ConsentRegistry, clock: MovableClock, postgres: PostgresServer, tmp_path: Path
) -> None:
    with (
        move(full, postgres.fresh(), clock) as there,
        move(there, postgres.fresh(), clock) as on,
        move(on, tmp_path / "back.sqlite", clock) as back,
    ):
        assert back.origin.endswith("/4")
        assert back.log_root(full.head().seq) == full.head().root


def test_people_are_sealed_under_other_keys(
    full: ConsentRegistry, clock: MovableClock, tmp_path: Path
) -> None:
    with move(full, tmp_path / "new.sqlite", clock) as moved:
        old, new = full.keys, moved.keys
        assert new.epoch == old.epoch == 2
        assert new.epochs == (2,), "epochs that never sealed anything are not kept"
        assert new.lookup_key(2) != old.lookup_key(2)
        assert new.wrap_key(2, 0) != old.wrap_key(2, 0)
        assert new.punctured(2), "an erased person's key does not exist there either"
        assert new.registry_key == old.registry_key
        assert not set(new.signers) & set(old.signers)


def test_a_sealed_file_shows_nothing(full: ConsentRegistry, tmp_path: Path) -> None:
    write_transfer(full, tmp_path / "open.jsonl", passphrase=None)
    write_transfer(full, tmp_path / "shut.jsonl", passphrase=b"secret words")
    secret = [b"anna", full.registry_id.encode(), full.keys.registry_key.hex().encode()]
    shown, hidden = (tmp_path / "open.jsonl").read_bytes(), (tmp_path / "shut.jsonl").read_bytes()
    assert [value in shown for value in secret] == [True] * 3
    assert [value in hidden for value in secret] == [False] * 3
    assert b"cy" not in shown.split(b'"line":"event"')[0].split(b'"line":"person"', 1)[1]
    for line in hidden.splitlines():
        json.loads(line)


# -- refused -------------------------------------------------------------------------------------


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


@pytest.fixture
def sent(full: ConsentRegistry, tmp_path: Path, clock: MovableClock) -> Sent:
    return Sent(full, tmp_path, clock)


def test_every_damaged_line_is_named(sent: Sent) -> None:
    for number, line in enumerate(sent.lines):
        at = len(line) // 2
        broken = line[:at] + bytes([line[at] ^ 1]) + line[at + 1 :]
        sent.file.write_bytes(b"".join([*sent.lines[:number], broken, *sent.lines[number + 1 :]]))
        error = sent.refuse(TamperedError, f"^line {number + 1}: ")
        assert "anna" not in str(error)


@pytest.mark.parametrize("kind", ["notice", "person", "event", "use", "checkpoint", "item"])
@pytest.mark.parametrize("how", ["dropped", "doubled", "swapped", "cut off"])
def test_lines_stand_as_they_were_written(sent: Sent, kind: str, how: str) -> None:
    first = sent.numbers(kind)[0]
    lines = list(sent.lines)
    if how == "dropped":
        del lines[first]
    elif how == "doubled":
        lines.insert(first, lines[first])
    elif how == "swapped":
        lines[first], lines[first + 1] = lines[first + 1], lines[first]
    else:
        del lines[first:]
    sent.file.write_bytes(b"".join(lines))
    error = sent.refuse(TamperedError, None)
    assert isinstance(error, TamperedError)
    assert error.entry in (f"line {first + 1}", f"line {first + 2}")


@pytest.mark.parametrize(
    ("data", "entry"),
    [
        (b"", "line 1"),
        (b"\n", "line 1"),
        (b"[]\n", "line 1"),
        (b"\xff\xfe\n", "line 1"),
        (b'{"line":"registry"}\n', "line 1"),
    ],
)
def test_no_transfer_is_refused(sent: Sent, data: bytes, entry: str) -> None:
    sent.file.write_bytes(data)
    sent.refuse(TamperedError, f"^{entry}: ")


@pytest.mark.parametrize("opening", [b"[", b'{"schema":', b'{"schema":"privemo.transfer/1","x":['])
def test_a_line_nested_too_deep_is_refused(sent: Sent, opening: bytes) -> None:
    sent.file.write_bytes(opening * 200_000 + b"\n")
    sent.refuse(MalformedError, "nested too deep")


def test_nothing_follows_the_end(sent: Sent) -> None:
    sent.file.write_bytes(b"".join(sent.lines) + b"{}\n")
    sent.refuse(TamperedError, f"^line {len(sent.lines) + 1}: stands after the end")


def first_of(kind: str, /, **fields: Any) -> Callable[[list[dict[str, Any]]], object]:
    def change(values: list[dict[str, Any]]) -> None:
        next(value for value in values if value["line"] == kind).update(fields)

    return change


def swap_people(values: list[dict[str, Any]]) -> None:
    people = [value for value in values if value["line"] == "person"]
    people[0]["person"], people[1]["person"] = people[1]["person"], people[0]["person"]


def revive(values: list[dict[str, Any]]) -> None:
    people = [value for value in values if value["line"] == "person"]
    people[2].update(person="cy", subject_key="ab" * 32)


def bury(values: list[dict[str, Any]]) -> None:
    people = [value for value in values if value["line"] == "person"]
    people[3].update(person=None, subject_key=None)


def drop_last_event(values: list[dict[str, Any]]) -> None:
    last = max(i for i, value in enumerate(values) if value["line"] == "event")
    del values[last]
    values[0]["counts"]["events"] -= 1


def drop_item(values: list[dict[str, Any]]) -> None:
    del values[next(i for i, value in enumerate(values) if value["line"] == "item")]
    values[0]["counts"]["items"] -= 1


def claim_a_move(values: list[dict[str, Any]]) -> None:
    """Make an old copy look like a registry that was closed: consents in it would be live."""
    last = max(i for i, value in enumerate(values) if value["line"] == "event")
    begun = json.loads(values[last]["leaf"])
    leaf = begun | {"op": "moved", "key": begun["key"].partition("+")[0], "ends_others": None}
    text = json.dumps(leaf, sort_keys=True, separators=(",", ":"))
    values.insert(last + 1, {"line": "event", "pid": None, "leaf": text})
    values[0]["counts"]["events"] += 1


def give_consent(values: list[dict[str, Any]]) -> None:
    for value in values:
        if value["line"] == "event" and "ConsentWithdrawn" in value["leaf"]:
            value["leaf"] = value["leaf"].replace("ConsentWithdrawn", "ConsentGiven")
            return


@pytest.mark.parametrize(
    ("change", "entry"),
    [
        (swap_people, "event"),
        (revive, "event"),
        (bury, "person row 3"),
        (drop_last_event, "events checkpoint"),
        (give_consent, "event"),
        (claim_a_move, "event"),
        (drop_item, "line"),  # in no log: the signature at the end tells
        (first_of("item", body="AAAA"), "line"),
        (first_of("item", facts={"estimated_age": 99}), "line"),
        (first_of("item", facts=[]), "line"),
        (first_of("item", pid=2), "line"),
        (first_of("item", pid=99), "line"),
        (first_of("item", kind="hair"), "line"),
        (first_of("item", body="*"), "line"),
        (first_of("event", leaf="{}"), "line"),
        (first_of("event", pid=True), "line"),
        (first_of("event", pid=1), "event 0"),
        (first_of("event", more=1), "line"),
        (first_of("use", persons=[3, 1]), "use 0"),
        (first_of("use", persons=[-1]), "line"),
        (first_of("use", persons=2), "line"),
        (first_of("checkpoint", size=3), "events checkpoint"),
        (first_of("checkpoint", log=7), "event 0"),
        (first_of("checkpoint", note="x"), "events checkpoint"),
        (first_of("notice", body="{}"), "line"),
        (first_of("person", subject_key="00"), "line"),
        (first_of("person", subject_key="00" * 32), "event"),
        (first_of("person", person=7), "line"),
        (first_of("registry", schema="privemo.transfer/9"), "line 1"),
        (first_of("registry", registry_id="0" * 32), "meta registry_id"),
        (first_of("registry", registry_key="00" * 32), "use 0"),
        (first_of("registry", epoch=1), "person row 0"),
        (first_of("registry", epoch=0), "line 1"),
        (first_of("registry", epoch="2"), "line 1"),
        (first_of("registry", counts={}), "line 1"),
        (first_of("registry", controller="{}"), "meta controller"),
        (first_of("end", note="x"), "line"),
    ],
)  # fmt: skip
def test_whoever_writes_the_sums_anew_is_found_out(
    sent: Sent, change: Callable[[list[dict[str, Any]]], object], entry: str
) -> None:
    sent.forge(change)
    error = sent.refuse(TamperedError, None)
    assert isinstance(error, TamperedError)
    assert error.entry.startswith(entry), error.entry
    assert "anna" not in str(error)


def test_mode_place_clock_and_keys(
    sent: Sent, full: ConsentRegistry, clock: MovableClock, simulation: ConsentRegistry
) -> None:
    sent.refuse(ModeMismatchError, "production registry, read as simulation", mode="simulation")
    sent.refuse(MalformedError, "mode", mode="both")
    sent.refuse(KeyFileError, "exists: keys are never overwritten", keys=full.keys.path)
    sent.refuse(KeyFileError, "is another registry's, or in use", keys=full.keys)
    sent.refuse(KeyFileError, "is another registry's, or in use", keys=simulation.keys)
    sent.refuse(KeyFileError, "is not sealed", passphrase=b"words")
    clock.forward(hours=-1)
    sent.refuse(ClockBackwardsError, "set the clock")
    clock.forward(hours=1)
    with pytest.raises(RegistryExistsError):
        read_transfer(
            sent.file, full.path, keys=sent.folder / "to.keys", mode="production", clock=clock
        )
    assert not (sent.folder / "to.keys").exists()
    with pytest.raises(RegistryMissingError, match="no transfer at"):
        read_transfer(sent.folder / "none", sent.folder / "to.sqlite", keys="k", mode="production")
    with pytest.raises(RegistryExistsError):
        write_transfer(full, sent.file, passphrase=None)
    sent.read()


def test_new_keys_may_have_a_root(sent: Sent, clock: MovableClock) -> None:
    root = PassphraseRoot(b"another")
    sent.read(root=root)
    with pytest.raises(KeyFileError):
        KeyFolder.open(sent.folder / "to.keys")
    with ConsentRegistry.open(
        sent.folder / "to.sqlite", mode="production", root=root, clock=clock
    ) as moved:
        moved.verify()


@pytest.mark.parametrize("word", [b"", "text"])
def test_an_empty_passphrase_seals_nothing(
    full: ConsentRegistry, tmp_path: Path, word: Any
) -> None:
    with pytest.raises(MalformedError, match="passphrase"):
        write_transfer(full, tmp_path / "x.jsonl", passphrase=word)
    assert not (tmp_path / "x.jsonl").exists()


def sealed_lines(registry: ConsentRegistry, path: Path) -> list[bytes]:
    vault = Vault(registry)
    noise = hashlib.shake_256(b"noise").digest(60_000)
    vault.put([NewItem(person="anna", item_id=f"big{i}", body=noise) for i in range(4)], SHOP)
    write_transfer(registry, path, passphrase=b"words")
    return path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize(
    ("change", "kind", "told"),
    [
        (lambda lines: lines, KeyFileError, "give its passphrase"),
        (lambda lines: lines, KeyFileError, "another passphrase"),
        (lambda lines: [lines[0], *lines[2:]], KeyFileError, "does not open"),
        (lambda lines: [*lines[:2], *lines[3:]], TamperedError, "^line 3: does not open"),
        (lambda lines: [*lines[:3], lines[2], *lines[3:]], TamperedError, "^line 4: "),
        (lambda lines: lines[:-1], TamperedError, "does not open: changed, moved, or cut off"),
        (lambda lines: [*lines, lines[-1]], TamperedError, "does not open"),
        (lambda lines: lines[:1], TamperedError, "^line 2: missing"),
        (lambda lines: [lines[0].replace(b"131072", b"16"), *lines[1:]], TamperedError, "^line 1: "),
        (lambda lines: [*lines[:2], b"{}\n", *lines[3:]], TamperedError, "^line 3: is no sealed block"),
    ],
)  # fmt: skip
def test_sealed_blocks_stand_as_they_were_written(
    full: ConsentRegistry,
    tmp_path: Path,
    clock: MovableClock,
    change: Callable[[list[bytes]], list[bytes]],
    kind: type[ConsentError],
    told: str,
) -> None:
    path = tmp_path / "shut.jsonl"
    path.write_bytes(b"".join(change(sealed_lines(full, path))))
    word = {"give its passphrase": None, "another passphrase": b"others"}.get(told, b"words")
    with pytest.raises(kind, match=told):
        read_transfer(
            path,
            tmp_path / "to.sqlite",
            keys=tmp_path / "to.keys",
            mode="production",
            clock=clock,
            passphrase=word,
        )
    assert not [path for path in tmp_path.iterdir() if "to." in path.name]


# -- one of the two goes on ----------------------------------------------------------------------


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


@pytest.fixture
def two(full: ConsentRegistry, tmp_path: Path, clock: MovableClock) -> Any:
    """A registry that was closed, and another handle on it that was open before."""
    with ConsentRegistry.open(full.path, mode="production", clock=clock) as other:
        assert other.decide("anna", TRAINING, SHOP).permit
        made = write_transfer(full, tmp_path / "closed.jsonl", passphrase=None, close=True)
        assert made.closed
        yield full, other


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


def test_a_known_key_must_have_signed(
    sent: Sent, full: ConsentRegistry, simulation: ConsentRegistry, clock: MovableClock
) -> None:
    ours = [period.key for period in full.ring.periods]
    theirs = [period.key for period in simulation.ring.periods]
    told = "signed by keys of its own log, and by none of those that you gave"
    sent.refuse(SignatureError, told, known=theirs)
    sent.refuse(SignatureError, told, known=[])
    same_id = VerifyingKey(ours[-1].name, theirs[0].public)
    sent.refuse(SignatureError, told, known=[same_id])
    assert sent.read(known=[*theirs, ours[-1]]).pinned
    # Whoever has the file goes on with it, closes that, and offers it as the registry it was.
    with sent.open() as thief:
        thief.verify()
        write_transfer(thief, sent.folder / "forged.jsonl", passphrase=None, close=True)
    sent.file = sent.folder / "forged.jsonl"
    sent.clear()
    sent.refuse(SignatureError, told, known=ours)
    assert not sent.read().pinned, "without a key its own word is taken, and it says so"


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


# -- any small registry --------------------------------------------------------------------------

PARTY = Party(id="c", name="Shop", address="1 Street", contact="c@example.org")
WHO = st.sampled_from(["p0", "p1", "p2", "é 漢"])
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("grant"), WHO, st.sampled_from(list(Purpose))),
        st.tuples(st.sampled_from(["withdraw", "erase", "use", "face", "renew"]), WHO, st.none()),
        st.tuples(st.sampled_from(["epoch", "signer", "minor", "notice"]), st.none(), st.none()),
    ),
    max_size=14,
)


def act_of(
    registry: ConsentRegistry, act: str, who: str, purpose: Purpose, notice: Notice, number: int
) -> None:
    row: dict[str, Any] = {"age_band": AgeBand.FROM_25, "jurisdiction": "IE", "notice": notice}
    acts: dict[str, Callable[[], object]] = {
        "grant": lambda: registry.grant(who, [purpose], **row),
        "minor": lambda: registry.grant("m", [TRAINING], **(row | {"age_band": AgeBand.FROM_13})),
        "notice": lambda: registry.notice(whole_notice(PARTY, notice.version + 1)),
        "use": lambda: registry.record_use([who], TRAINING, batch=number, **USE),
        "face": lambda: Vault(registry).put(
            [NewItem(person=who, item_id=str(number), body=bytes([number]))], SHOP
        ),
        "renew": lambda: registry.renew(who, notice=notice),
        "epoch": registry.rotate_person_keys,
        "signer": registry.rotate_signing_key,
        "withdraw": lambda: registry.withdraw(who),
        "erase": lambda: registry.erase(who),
    }
    acts[act]()


def perform(registry: ConsentRegistry, acts: list[tuple[str, Any, Any]]) -> None:
    """Do what can be done; what the rules refuse is left out."""
    for number, (act, who, purpose) in enumerate(acts):
        notice = registry.notices()[-1]
        with contextlib.suppress(ConsentError):
            act_of(registry, act, who, purpose, notice, number)


def round_trip(acts: list[tuple[str, Any, Any]], to: str | None, close: bool) -> None:
    folder = Path(tempfile.mkdtemp())
    now = [datetime(2026, 3, 1, tzinfo=UTC)]

    def clock() -> datetime:
        now[0] += timedelta(seconds=1)
        return now[0]

    try:
        with ConsentRegistry.create(
            folder / "r.sqlite", mode="production", controller=PARTY, clock=clock
        ) as registry:
            registry.notice(whole_notice(PARTY, 1))
            perform(registry, acts)
            with move(registry, to or folder / "new.sqlite", clock, close=close) as moved:
                perform(moved, acts)
                moved.verify()
    finally:
        shutil.rmtree(folder)


@given(ACTS, st.booleans())
@settings(max_examples=25, deadline=None)
def test_any_registry_arrives_whole(acts: list[tuple[str, Any, Any]], close: bool) -> None:
    round_trip(acts, None, close)


@given(ACTS, st.booleans())
@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_registry_arrives_whole_on_a_server(
    postgres: PostgresServer, acts: list[tuple[str, Any, Any]], close: bool
) -> None:
    round_trip(acts, postgres.fresh(), close)
