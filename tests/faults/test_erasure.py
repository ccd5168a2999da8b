"""Erasure is real (REQUIREMENTS 22; GDPR 17): in the files, in every older copy, in other processes.

What may still be around when a person is erased: the database with its WAL and free pages, copies of
them made before, backups, mirrors of the keys, other processes with the registry open, a receipt.
Each test below keeps one of these and looks for the person in it.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from privemo_consent import (
    ConsentGate,
    ConsentRegistry,
    Context,
    ErasedKeyError,
    KeyFolder,
    MalformedError,
    NewItem,
    Purpose,
    Reason,
    TamperedError,
    UnknownPersonError,
    Vault,
    leaves,
    merkle,
    schema,
    verify_receipt,
)
from privemo_consent.items import ItemKind
from privemo_consent.sealing import open_person
from tests.support.consent import PARTY, consent_notice, grant

SHOP = Context(setting="retail", jurisdiction="IE")
TRAINING = Purpose.TRAINING
ANN, BEN = "ann-7f3a9c51", "ben-0e6d2b84"  # no byte of the keys will look like these by chance
PIXELS = {ANN: b"the face of ann " * 8, BEN: b"the face of ben " * 8}


def opened(path: Path, **how: object) -> ConsentRegistry:
    return ConsentRegistry.open(path, mode="production", busy_timeout_ms=200, **how)  # type: ignore[arg-type]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Two people with a face, a use and a decision each; closed."""
    path = tmp_path / "consent.sqlite"
    with ConsentRegistry.create(path, mode="production", controller=PARTY) as registry:
        registry.notice(consent_notice())
        registry.grant_many([grant(ANN), grant(BEN)])
        faces = [NewItem(person=p, item_id=f"{p}-1", body=PIXELS[p]) for p in (ANN, BEN)]
        assert Vault(registry).put(faces, SHOP).stored == 2
        registry.record_use([ANN, BEN], TRAINING, run="r", round=1, store="s", batch=0, log_seq=2)
        for person in (ANN, BEN):
            assert registry.decide(person, TRAINING, SHOP).permit
    return path


def raw(path: Path, query: str, *values: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:
        return file.execute(query, values).fetchall()


def traces(path: Path, pid: int) -> dict[str, bytes]:
    """Return what would give away, or open, the person of a row."""
    row = raw(path, "SELECT handle, sealed, wrapped FROM persons WHERE pid = ?", pid)[0]
    item = raw(path, "SELECT head, body FROM items WHERE pid = ?", pid)[0]
    names = ("handle", "sealed", "wrapped", "head", "body")
    found = dict(zip(names, (bytes(value) for value in (*row, *item)), strict=True))  # type: ignore[arg-type]
    return found | {"id": (ANN, BEN)[pid].encode()}


def where_found(folder: Path, traces: dict[str, bytes]) -> set[str]:
    """Return the traces that stand anywhere in the files of a folder."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert files
    content = [file.read_bytes() for file in files]
    return {name for name, value in traces.items() if any(value in data for data in content)}


# -- in the registry's own files -------------------------------------------------------------------


@pytest.mark.parametrize("how", ["closed", "open", "in the wal"])
def test_nothing_of_the_person_is_left_in_the_files(shop: Path, how: str) -> None:
    stolen, kept = traces(shop, 0), traces(shop, 1)
    assert where_found(shop.parent, stolen) == set(stolen) - {"id"}, "an id never stands there"
    seeds = (shop.parent / "consent.keys" / "persons-0001.key").read_bytes()
    with opened(shop) as registry:
        if how == "in the wal":
            # The person's row and face stand in the WAL as well when the erasure begins.
            registry.rotate_person_keys()
            registry.withdraw(BEN)
        assert registry.erase(ANN).pending == ()
        if how != "closed":
            assert where_found(shop.parent, stolen) == set()
    assert where_found(shop.parent, stolen) == set()
    if how != "in the wal":
        assert where_found(shop.parent, kept) == set(kept) - {"id"}, "nobody else's went with it"
    root_seed = seeds[-32 - 32 : -32]  # before the checksum: the one seed of a tree not punctured
    assert where_found(shop.parent / "consent.keys", {"seed": root_seed}) == set()


def test_what_an_erased_row_and_its_items_leave_is_a_number(shop: Path) -> None:
    with opened(shop) as registry:
        erased = registry.erase(ANN)
    assert (erased.people, erased.items) == (1, 1)
    assert raw(shop, "SELECT * FROM persons WHERE pid = 0") == [(0, None, None, None, None)]
    assert raw(shop, "SELECT pid FROM items") == [(1,)]


def test_nobody_can_be_named_and_everything_else_still_verifies(shop: Path) -> None:
    with opened(shop) as registry:
        before = registry.head()
        mine, theirs = registry.receipt(ANN), registry.receipt(BEN)
        proofs = {seq: registry.inclusion_proof(seq, before.seq) for seq in range(before.seq)}
        registry.erase(ANN)
        registry.verify()
        head = registry.head()
        # The log only grew: what was promised before still holds (RFC 9162).
        merkle.verify_consistency(
            before.seq,
            head.seq,
            registry.consistency_proof(before.seq),
            bytes.fromhex(before.root),
            bytes.fromhex(head.root),
        )
        for seq, proof in proofs.items():
            value = merkle.leaf_hash(registry.leaf(seq))
            merkle.verify_inclusion(value, seq, before.seq, proof, bytes.fromhex(before.root))
        keys = [period.key for period in registry.ring.periods]
        # A receipt is its owner's: it goes on to prove what was agreed, though nobody here knows them.
        assert verify_receipt(mine, keys, origin=registry.origin).person == ANN
        assert verify_receipt(theirs, keys, origin=registry.origin).person == BEN
        assert registry.persons() == (BEN,)
        assert registry.history(ANN) == ()
        assert [use.persons for use in registry.uses()] == [(None, BEN)]
        assert [decision.person for decision in registry.decisions()] == [None, BEN]
        assert registry.withdrawn_since(0) == ()
        assert Vault(registry).of_person(ANN) == []
        for ask in (registry.receipt, registry.export, registry.withdraw, registry.erase):
            with pytest.raises(UnknownPersonError) as caught:
                ask(ANN)
            assert ANN not in str(caught.value)
        assert registry.decide(ANN, TRAINING, SHOP).reason is Reason.NO_RECORD
        assert registry.decide(BEN, TRAINING, SHOP).permit


def test_the_log_tells_of_an_ending_before_the_erasure(shop: Path) -> None:
    with opened(shop) as registry:
        registry.erase(ANN, cause="retention")
        ending, erasure = (leaves.parse(registry.leaf(registry.log_seq - n)) for n in (2, 1))
    assert (ending["kind"], ending["status"]) == ("consent", "ConsentWithdrawn")
    assert (erasure["kind"], erasure["cause"]) == ("erasure", "retention")
    assert ending["subject"] != erasure["subject"], "and no two leaves share a name"


def test_whoever_comes_back_is_somebody_new(shop: Path) -> None:
    with opened(shop) as registry:
        registry.erase(ANN)
        registry.grant_many([grant(ANN)])
        assert registry.decide(ANN, TRAINING, SHOP).permit
        assert len(registry.history(ANN)) == 1
        assert [use.persons for use in registry.uses()] == [(None, BEN)]
        assert Vault(registry).of_person(ANN) == []
        registry.verify()
    with opened(shop) as registry:
        assert registry.persons() == (BEN, ANN)


# -- in copies made before ---------------------------------------------------------------------------


def copy_of_the_file(shop: Path, to: Path) -> Path:
    for file in shop.parent.glob("consent.sqlite*"):
        shutil.copy(file, to / file.name)
    return to / shop.name


def copy_with_its_wal(shop: Path, to: Path) -> Path:
    """A copy of file and WAL while the registry is used: the newest rows stand in the WAL alone."""
    with opened(shop) as registry:
        registry.rotate_person_keys()
        registry.grant_many([grant("cat-1")])
        copied = copy_of_the_file(shop, to)
    assert (to / f"{shop.name}-wal").stat().st_size > 0
    return copied


@pytest.mark.parametrize("copy", [copy_of_the_file, copy_with_its_wal])
def test_an_older_copy_opens_for_everyone_but_the_erased(
    shop: Path, tmp_path: Path, copy: Callable[[Path, Path], Path]
) -> None:
    (tmp_path / "thief").mkdir()
    stolen = copy(shop, tmp_path / "thief")
    with opened(shop) as registry:
        assert registry.erase(ANN).pending == ()
    keys = KeyFolder.open(shop.parent / "consent.keys")
    assert raw(stolen, "SELECT count(*) FROM items") == [(2,)], "all of it is in the copy"
    with opened(stolen, keys=keys) as registry:
        assert ANN not in registry.persons()
        assert BEN in registry.persons()
        assert Vault(registry).of_person(ANN) == []
        assert [item.body for item in Vault(registry).of_person(BEN)] == [PIXELS[BEN]]
        gate = ConsentGate(registry)
        admitted = gate.admit(Vault(registry).sealed(), TRAINING, SHOP)
        assert [item.person for item in admitted.faces] == [BEN]
        # Knowing the id helps nobody: no consent comes back to life out of an old copy.
        assert registry.decide(ANN, TRAINING, SHOP).reason is Reason.NO_RECORD
        assert not gate.still_permitted([ANN], TRAINING, SHOP).any()
        assert registry.history(ANN) == ()
        assert registry.decide(BEN, TRAINING, SHOP).permit
        with pytest.raises(TamperedError, match="its key was destroyed, and its row was not"):
            registry.verify()


def test_subject_tags_cannot_be_recomputed_even_with_the_id(shop: Path, tmp_path: Path) -> None:
    """Whoever knows the id, and has the copy and the keys of today, still ties no leaf to it."""
    (tmp_path / "thief").mkdir()
    stolen = copy_of_the_file(shop, tmp_path / "thief")
    with opened(shop) as registry:
        registry_id = registry.registry_id
        with registry._store.read() as connection:
            secrets = registry._journal.state.people.secrets(connection, [0, 1])
        tags = {p: leaves.parse(registry.leaf(2 + n)) for n, p in enumerate((ANN, BEN))}
        for n, person in enumerate((ANN, BEN)):
            tag = leaves.subject_tag(secrets[n].subject_key, tags[person]["record_id"], person)
            assert tag == tags[person]["subject"], "before: the key ties the leaf to the person"
        registry.erase(ANN)
    with closing(sqlite3.connect(stolen)) as file:
        file.row_factory = sqlite3.Row
        rows = [dict(row) for row in file.execute("SELECT * FROM persons ORDER BY pid")]
    keys = KeyFolder.open(shop.parent / "consent.keys")
    assert open_person(keys, registry_id, rows[1]).person == BEN
    with pytest.raises(ErasedKeyError):
        open_person(keys, registry_id, rows[0])
    # Nor does any key that is left in the folder open the row: not a neighbour's, not the registry's.
    left = [keys.registry_key, keys.lookup_key(1), *(keys.wrap_key(1, pid) for pid in range(1, 40))]
    for key in left:
        keyring = _OneKey(key)
        with pytest.raises(TamperedError, match="does not open"):
            open_person(keyring, registry_id, rows[0])


class _OneKey:
    """Tries one key for everything."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def wrap_key(self, epoch: int, pid: int) -> bytes:
        return self._key

    def lookup_key(self, epoch: int) -> bytes:
        return self._key


def test_a_backup_made_before_holds_nobody_who_was_erased_since(shop: Path, tmp_path: Path) -> None:
    from privemo_consent.copies.restoring import restore

    with opened(shop) as registry:
        registry.backup(tmp_path / "monday.backup")
        head, uses = registry.head(), registry.uses_head()
        stolen = traces(shop, 0)
        registry.erase(ANN)
    backup = (tmp_path / "monday.backup").read_bytes()
    assert stolen["sealed"] in backup, "what is sealed is there"
    assert stolen["handle"] not in backup, "and nothing by which a known id is found"
    shop.unlink()
    done = restore(
        tmp_path / "monday.backup",
        shop,
        keys=shop.parent / "consent.keys",
        mode="production",
        newest=head,
        newest_uses=uses,
    )
    assert done.erased == 1
    with opened(shop) as registry:
        registry.verify()
        assert registry.persons() == (BEN,)
        assert registry.decide(ANN, TRAINING, SHOP).reason is Reason.NO_RECORD
        assert Vault(registry).counts()[ItemKind.FACE] == 1
    assert where_found(shop.parent / "consent.keys", stolen) == set()
    assert not any(stolen[name] in shop.read_bytes() for name in ("sealed", "body", "wrapped"))


# -- in other processes and other places -------------------------------------------------------------


def test_a_reader_in_the_way_is_told_and_the_rest_is_done(shop: Path) -> None:
    stolen = traces(shop, 0)
    with opened(shop) as registry, opened(shop) as other:
        with other._store.read() as reading:
            assert len(reading.execute(sa.select(schema.persons)).all()) == 2
            erased = registry.erase(ANN)
            assert len(erased.pending) == 1
            assert "being read by another process" in erased.pending[0]
            assert ANN not in erased.pending[0]
            assert registry.keys.punctured(0), "what lingers opens no more"
            assert "sealed" in where_found(shop.parent, stolen)
            assert registry.finish_erasures() == erased.pending, "it is in the way still"
        assert registry.finish_erasures() == ()
        assert where_found(shop.parent, stolen) == set()
        registry.verify()


def test_every_process_that_has_the_registry_open_forgets_the_person(shop: Path) -> None:
    with opened(shop) as registry, opened(shop) as other:
        old = other.snapshot(TRAINING)
        past = other.snapshot(TRAINING, log_seq=3)
        assert other.persons() == (ANN, BEN)  # looked up, and remembered
        registry.erase(ANN)
        # whichever is asked first, without anything that would bring `other` up to date
        assert [use.persons for use in other.uses()] == [(None, BEN)]
        assert other.decide(ANN, TRAINING, SHOP).reason is Reason.NO_RECORD
        assert other.persons() == (BEN,)
        now = other.now()
        for snapshot in (old, past, other.snapshot(TRAINING, log_seq=3)):
            verdicts = snapshot.decide_many([ANN, BEN], SHOP, at=now)
            assert verdicts.reasons[0] == Reason.NO_RECORD, "unknown to every moment of the past"
        assert other.snapshot(TRAINING).decide_many([BEN], SHOP, at=now).permit.all()
        with pytest.raises(UnknownPersonError):
            other.record_use([ANN], TRAINING, run="r", round=1, store="s", batch=1, log_seq=3)


def test_a_table_of_faces_read_before_the_erasure_opens_no_more(shop: Path) -> None:
    with opened(shop) as registry, opened(shop) as other:
        sealed = Vault(other).sealed()
        registry.erase(ANN)
        admitted = ConsentGate(other).admit(sealed, TRAINING, SHOP)
        assert [item.person for item in admitted.faces] == [BEN]


def test_a_mirror_that_is_away_is_listed_and_finished_later(shop: Path, tmp_path: Path) -> None:
    stick, drawer = tmp_path / "stick", tmp_path / "drawer"
    with opened(shop) as registry:
        registry.keys.add_mirror(stick)
        stick.rename(drawer)  # unplugged
        erased = registry.erase(ANN)
        assert len(erased.pending) == 1
        assert str(stick) in erased.pending[0]
        assert registry.keys.punctured(0), "here it is done"
        assert registry.finish_erasures() == erased.pending
    with opened(shop) as registry:  # whoever opens is not kept from it
        assert registry.keys.pending == (stick,)
        drawer.rename(stick)
        assert registry.finish_erasures() == ()
        assert registry.keys.pending == ()
    mirror = KeyFolder.open(stick)
    assert mirror.punctured(0)
    assert not mirror.punctured(1)


def test_a_mirror_plugged_in_again_is_finished_by_whoever_opens(shop: Path, tmp_path: Path) -> None:
    stick, drawer = tmp_path / "stick", tmp_path / "drawer"
    with opened(shop) as registry:
        registry.keys.add_mirror(stick)
        stick.rename(drawer)
        registry.erase(ANN)
    drawer.rename(stick)
    with opened(shop) as registry:
        assert registry.keys.pending == ()
    assert KeyFolder.open(stick).punctured(0)


def test_keys_that_cannot_be_written_are_pending_and_the_erasure_stands(shop: Path) -> None:
    # Somebody left a folder where the new file of the seeds is to be written.
    blocked = shop.parent / "consent.keys" / "persons-0001.key.new"
    with opened(shop) as registry:
        blocked.mkdir()
        erased = registry.erase(ANN)
        assert erased.people == 1
        assert len(erased.pending) == 1
        assert "the keys still stand" in erased.pending[0]
        blocked.rmdir()
        assert not registry.keys.refresh() or not registry.keys.punctured(0)
        assert registry.finish_erasures() == ()
        assert registry.keys.punctured(0)
        registry.verify()


# -- who, and how many -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("persons", "error"),
    [
        ([ANN, "nobody"], UnknownPersonError),
        (["nobody"], UnknownPersonError),
        ([""], UnknownPersonError),
        ([ANN, ANN], MalformedError),
    ],
)
def test_one_wrong_id_erases_nobody(shop: Path, persons: list[str], error: type[Exception]) -> None:
    with opened(shop) as registry:
        before = registry.head()
        with pytest.raises(error):
            registry.erase_many(persons)
        assert registry.head() == before
        assert registry.decide(ANN, TRAINING, SHOP).permit
        assert not registry.keys.punctured(0)


def test_an_unknown_cause_erases_nobody(shop: Path) -> None:
    with opened(shop) as registry, pytest.raises(MalformedError, match="want one of request"):
        registry.erase(ANN, cause="spite")


def test_erasing_nobody_writes_nothing(shop: Path) -> None:
    with opened(shop) as registry:
        before = registry.head()
        assert registry.erase_many([]).people == 0
        assert registry.head() == before


def test_a_hundred_of_a_thousand_go_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "consent.sqlite"
    everyone = [f"person-{n:04d}" for n in range(1000)]
    gone = everyone[3::10]
    with ConsentRegistry.create(path, mode="production", controller=PARTY) as registry:
        registry.notice(consent_notice())
        registry.grant_many([grant(person, valid_for=timedelta(days=30)) for person in everyone])
        faces = [
            NewItem(person=p, item_id="f", body=p.encode() * 4) for p in everyone[::2] + gone[:9]
        ]
        Vault(registry).put(faces, SHOP)
        erased = registry.erase_many(gone)
        assert (erased.people, erased.items, erased.pending) == (100, 9, ())
        registry.verify()
    with opened(path) as registry:
        assert registry.persons() == tuple(p for p in everyone if p not in set(gone))
        permitted = ConsentGate(registry).still_permitted(everyone, TRAINING, SHOP)
        assert permitted.sum() == 900
        assert not permitted[3::10].any()
        assert Vault(registry).counts()[ItemKind.FACE] == 500
        assert sum(registry.keys.punctured(pid) for pid in range(1000)) == 100
        registry.verify()


@pytest.mark.slow
def test_erased_one_after_another_until_nobody_is_left(tmp_path: Path) -> None:
    path = tmp_path / "consent.sqlite"
    everyone = [f"person-{n:04d}" for n in range(200)]
    with ConsentRegistry.create(path, mode="production", controller=PARTY) as registry:
        registry.notice(consent_notice())
        registry.grant_many([grant(person) for person in everyone])
        for count, person in enumerate(everyone, start=1):
            registry.erase(person)
            if count % 40 == 0:
                registry.verify()
                assert registry.persons() == tuple(everyone[count:])
        assert registry.decide(everyone[0], TRAINING, SHOP).reason is Reason.NO_RECORD
