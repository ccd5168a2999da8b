"""Keeping a registry: signing keys, person keys, the announcement, the witness."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from privemo_consent import (
    ConsentGate,
    ConsentRegistry,
    Context,
    KeyFileError,
    MalformedError,
    NewItem,
    Notice,
    NoticeRefused,
    Purpose,
    Reason,
    RegistryExistsError,
    RolledBackError,
    Vault,
    WitnessMissingError,
    leaves,
    open_checkpoint,
)
from privemo_consent.note import split_note
from tests.unit.consent.conftest import make_notice

TRAINING = Purpose.TRAINING


@pytest.fixture
def people(registry: ConsentRegistry, yes: Any, shop: Any) -> ConsentRegistry:
    for name in ("ann", "ben", "cat"):
        registry.grant(name, list(Purpose), **yes())
    face = NewItem(person="ann", item_id="f", body=b"the pixels of ann")
    assert Vault(registry).put([face], shop).stored == 1
    return registry


def signers(registry: ConsentRegistry) -> list[str]:
    """Return the key ids on the last head."""
    return [line.key_id.hex() for line in split_note(registry.checkpoint())[1]]


# -- telling people (EU AI Act 50(3)) ------------------------------------------------------------------


def test_nobody_is_read_before_people_were_told(
    people: ConsentRegistry, notice: Notice, shop: Any, clock: Any
) -> None:
    def ask(at: Any = None) -> Reason:
        return people.decide("ann", Purpose.PERSONALISATION, shop, at=at).reason

    assert ask() is Reason.NOT_ANNOUNCED
    assert people.decide("ann", TRAINING, shop).permit, "training reads nobody in the shop"
    clock.forward(hours=1)
    before = people.now()
    clock.forward(hours=1)
    people.announce_reading(notice, place="the entrance")
    assert ask() is Reason.PERMITTED
    assert (
        not people.snapshot(Purpose.PERSONALISATION, log_seq=5)
        .decide_many(["ann"], shop, at=before)
        .permit.any()
    ), "and not for the time before"
    people.announce_reading(notice.hash, place="the back door")
    assert ask() is Reason.PERMITTED
    leaf = leaves.parse(people.leaf(people.log_seq - 1))
    assert (leaf["kind"], leaf["place"], leaf["notice"]) == (
        "exposure",
        "the back door",
        notice.hash,
    )
    people.verify()


def test_being_told_replaces_no_consent(people: ConsentRegistry, notice: Notice, shop: Any) -> None:
    people.announce_reading(notice, place="the entrance")
    assert people.decide("nobody", Purpose.PERSONALISATION, shop).reason is Reason.NO_RECORD
    people.withdraw("ann")
    assert people.decide("ann", Purpose.PERSONALISATION, shop).reason is Reason.WITHDRAWN


@pytest.mark.parametrize("place", ["", "   ", "the\nentrance", "\0"])
def test_a_place_is_said_as_staff_would_say_it(
    people: ConsentRegistry, notice: Notice, place: str
) -> None:
    seq = people.log_seq
    with pytest.raises(MalformedError, match="place"):
        people.announce_reading(notice, place=place)
    assert people.log_seq == seq


def test_the_notice_that_hangs_there_tells_of_it(people: ConsentRegistry, party: Any) -> None:
    silent = make_notice(party, notice_id="other", purposes=(TRAINING,))
    with pytest.raises(NoticeRefused):
        people.announce_reading(silent, place="door")
    people.notice(silent)
    with pytest.raises(NoticeRefused, match="does not name personalisation"):
        people.announce_reading(silent, place="door")


# -- signing keys --------------------------------------------------------------------------------------


def test_two_keys_sign_while_they_overlap_and_the_old_one_stops(
    people: ConsentRegistry, clock: Any
) -> None:
    old = people.ring.periods[0].key
    new = people.rotate_signing_key(overlap=timedelta(days=2))
    assert signers(people) == [old.key_id.hex(), new.key_id.hex()]
    people.withdraw("ann")
    assert len(signers(people)) == 2
    for key in (old, new):  # whoever knows one of them alone is not refused meanwhile
        open_checkpoint(people.checkpoint(), [key], origin=people.origin)
    clock.forward(days=2)
    people.withdraw("ben")
    assert signers(people) == [new.key_id.hex()]
    people.record_use(["cat"], TRAINING, run="r", round=1, store="s", batch=0, log_seq=3)
    people.verify()
    assert old.name == new.name == people.origin


def test_an_overlap_of_nothing_ends_the_old_key_at_once(people: ConsentRegistry) -> None:
    new = people.rotate_signing_key(overlap=timedelta(0))
    assert signers(people) == [new.key_id.hex()]
    people.verify()


def test_a_negative_overlap_changes_nothing(people: ConsentRegistry) -> None:
    seq, held = people.log_seq, people.keys.signers
    with pytest.raises(MalformedError, match="not negative"):
        people.rotate_signing_key(overlap=timedelta(microseconds=-1))
    assert (people.log_seq, people.keys.signers) == (seq, held)


def test_revoking_the_only_key_begins_another(people: ConsentRegistry) -> None:
    old = people.ring.periods[0].key
    people.revoke_signing_key(old.key_id.hex())
    assert old.key_id not in people.keys.signers, "its private half is destroyed"
    (now,) = signers(people)
    assert now != old.key_id.hex()
    assert people.ring.periods[0].revoked is not None
    people.withdraw("ann")
    assert signers(people) == [now]
    people.verify()


def test_revoking_one_of_two_leaves_the_other(people: ConsentRegistry) -> None:
    old = people.ring.periods[0].key
    new = people.rotate_signing_key()
    people.revoke_signing_key(new.key_id.hex())
    assert signers(people) == [old.key_id.hex()]
    assert len(people.ring.periods) == 2, "no third one was needed"
    people.verify()


@pytest.mark.parametrize("key_id", ["", "00000000", "nonsense"])
def test_a_key_that_never_was_is_not_revoked(people: ConsentRegistry, key_id: str) -> None:
    seq = people.log_seq
    with pytest.raises(MalformedError, match="knows no key"):
        people.revoke_signing_key(key_id)
    assert people.log_seq == seq


# -- keys of persons -----------------------------------------------------------------------------------


def bodies(path: Path) -> list[tuple[bytes, bytes]]:
    with closing(sqlite3.connect(path)) as raw:
        return raw.execute("SELECT head, body FROM items ORDER BY iid").fetchall()


def test_a_rotation_reads_everyone_and_decrypts_no_face(
    people: ConsentRegistry, shop: Any, clock: Any
) -> None:
    with closing(sqlite3.connect(people.path)) as raw:
        before = raw.execute("SELECT sealed, wrapped, handle FROM persons").fetchall()
    faces = bodies(people.path)
    assert people.rotate_person_keys() == 2
    assert bodies(people.path) == faces, "the ciphertext of a face stays as it is"
    with closing(sqlite3.connect(people.path)) as raw:
        after = raw.execute("SELECT sealed, wrapped, handle FROM persons").fetchall()
    for old, new in zip(before, after, strict=True):
        assert old[0] == new[0]
        assert old[1] != new[1]
        assert old[2] != new[2]
    for forgotten in (False, True):
        if forgotten:
            people.forget_person_keys(1)
        assert people.persons() == ("ann", "ben", "cat")
        assert people.decide("ann", TRAINING, shop).permit
        assert Vault(people).of_person("ann")[0].body == b"the pixels of ann"
        people.verify()
        assert people.keys.epochs == ((2,) if forgotten else (1, 2))
    with ConsentRegistry.open(people.path, mode="production", clock=clock) as other:
        assert other.persons() == ("ann", "ben", "cat")


def test_an_old_epoch_is_destroyed_on_the_disk(people: ConsentRegistry) -> None:
    file = people.keys.path / "persons-0001.key"
    seeds = file.read_bytes()[25:-32]
    people.rotate_person_keys()
    assert file.exists(), "kept, so that older backups can be restored"
    people.forget_person_keys(1)
    assert not file.exists()
    assert not any(seeds in place.read_bytes() for place in people.keys.path.iterdir())
    with pytest.raises(KeyFileError, match="was forgotten"):
        people.keys.wrap_key(1, 0)
    people.verify()


@pytest.mark.parametrize("epoch", [-1, 0, 2, 3])
def test_the_epoch_in_use_is_not_forgotten(people: ConsentRegistry, epoch: int) -> None:
    people.rotate_person_keys()
    seq = people.log_seq
    with pytest.raises(MalformedError, match="in use, or is not there"):
        people.forget_person_keys(epoch)
    assert (people.log_seq, people.keys.epochs) == (seq, (1, 2))


def test_a_reader_in_the_way_does_not_undo_a_rotation(people: ConsentRegistry, clock: Any) -> None:
    people.close()
    with (
        ConsentRegistry.open(
            people.path, mode="production", clock=clock, busy_timeout_ms=50
        ) as registry,
        ConsentRegistry.open(people.path, mode="production", clock=clock) as other,
    ):
        with other._store.read() as reading:
            reading.exec_driver_sql("SELECT * FROM persons").fetchall()
            assert registry.rotate_person_keys() == 2
        assert other.persons() == ("ann", "ben", "cat")
        other.verify()


# -- the witness ---------------------------------------------------------------------------------------


def test_a_witness_is_told_of_what_is_signed_from_now_on(
    people: ConsentRegistry, tmp_path: Path, clock: Any
) -> None:
    folder = tmp_path / "stick"
    people.set_witness(folder)
    assert people.keys.witness == folder
    (file,) = folder.glob("*.jsonl")
    assert file.read_bytes().count(b"\n") == 1, "told at once"
    people.withdraw("ann")
    assert file.read_bytes().count(b"\n") == 2
    people.set_witness(folder)  # once more changes nothing
    people.set_witness(None)
    people.withdraw("ben")
    assert file.read_bytes().count(b"\n") == 2
    people.close()
    with ConsentRegistry.open(people.path, mode="production", clock=clock) as opened:
        opened.set_witness(folder)
        assert file.read_bytes().count(b"\n") == 3


def test_a_withdrawal_waits_for_no_witness_and_the_next_one_tells_it(
    people: ConsentRegistry, tmp_path: Path, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    folder, drawer = tmp_path / "stick", tmp_path / "drawer"
    people.set_witness(folder)
    folder.rename(drawer)
    people.withdraw("ann")
    assert "the witness was not told" in caplog.text
    people.close()
    shop = Context(setting="retail", jurisdiction="IE")
    with ConsentRegistry.open(people.path, mode="production", clock=clock) as opened:
        # Without the witness nobody knows whether this is an old copy: a no is kept, no yes is.
        assert opened.withdraw("ann") == ()
        opened.withdraw("cat")
        assert not opened.decide("ben", TRAINING, shop).permit
        assert not opened.preview("ben", TRAINING, shop).permit
        gate = ConsentGate(opened)
        assert not gate.still_permitted(["ben"], TRAINING, shop).any()
        with pytest.raises(WitnessMissingError):
            opened.renew("ben")
        opened.verify()
    drawer.rename(folder)
    with ConsentRegistry.open(people.path, mode="production", clock=clock) as opened:
        opened.withdraw("ben")
        (file,) = folder.glob("*.jsonl")
        assert f"{opened.log_seq}\\n" in file.read_text().splitlines()[-1]


def test_a_folder_of_other_things_is_no_witness(people: ConsentRegistry, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.txt").write_text("a cat")
    with pytest.raises(RegistryExistsError):
        people.set_witness(tmp_path / "photos")
    assert people.keys.witness is None


def test_a_witness_that_saw_more_is_not_taken(
    people: ConsentRegistry, tmp_path: Path, clock: Any
) -> None:
    people.set_witness(tmp_path / "stick")
    people.close()
    old = people.path.read_bytes()
    with ConsentRegistry.open(people.path, mode="production", clock=clock) as opened:
        opened.withdraw("ann")
        opened.set_witness(None)
    people.path.write_bytes(old)
    with ConsentRegistry.open(people.path, mode="production", clock=clock) as opened:
        with pytest.raises(RolledBackError):
            opened.set_witness(tmp_path / "stick")
        assert opened.keys.witness is None
