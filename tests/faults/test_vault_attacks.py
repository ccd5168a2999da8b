"""The vault against someone with the disk: each row is one attempt, and what comes of it.

The thief has the database file, its write-ahead log and old copies of both. The forger can write to them
besides. Neither has the key folder.
"""

from __future__ import annotations

import contextlib
import copy
import pickle
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from privemo_consent import (
    ConsentGate,
    ConsentRegistry,
    Context,
    ItemKind,
    KeyFileError,
    MalformedError,
    NewItem,
    Purpose,
    TamperedError,
    Vault,
)
from privemo_consent.storage import guards
from tests.support.consent import PARTY, consent_notice, grant, in_child

SHOP = Context(setting="retail", jurisdiction="IE")
TRAINING, AUDIT = Purpose.TRAINING, Purpose.FAIRNESS_AUDIT
PEOPLE = ("ann-person", "bob-person", "cid-person")


def picture(person: str, number: int) -> bytes:
    seed = [*person.encode(), number]
    return np.random.default_rng(seed).integers(0, 256, 2304, dtype=np.uint8).tobytes()


def faces(person: str) -> list[NewItem]:
    return [
        NewItem(
            person=person,
            item_id=f"secret-face-{n}",
            body=picture(person, n),
            facts={"label": "secret-label", "estimated_age": 41.25},
        )
        for n in (1, 2)
    ]


def fill(path: Path) -> ConsentRegistry:
    registry = ConsentRegistry.create(path, mode="production", controller=PARTY)
    registry.notice(consent_notice())
    registry.grant_many(grant(person, purposes=(TRAINING, AUDIT)) for person in PEOPLE)
    vault = Vault(registry)
    for person in PEOPLE:
        vault.put(faces(person), SHOP)
        label = NewItem(person=person, item_id="secret-face-1", body=b"secret-group")
        vault.put([label], SHOP, kind=ItemKind.DEMOGRAPHIC)
    return registry


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[ConsentRegistry]:
    with fill(tmp_path / "consent.sqlite") as opened:
        yield opened


def admitted(registry: ConsentRegistry, kind: ItemKind = ItemKind.FACE) -> list[tuple[str, bytes]]:
    purpose = AUDIT if kind is ItemKind.DEMOGRAPHIC else TRAINING
    found = ConsentGate(registry).admit(Vault(registry).sealed(kind=kind), purpose, SHOP).faces
    return [(item.person, item.body) for item in found]


def everything(path: Path) -> bytes:
    """All bytes of the database, its write-ahead log among them."""
    return b"".join(part.read_bytes() for part in sorted(path.parent.glob("consent.sqlite*")))


# -- the forger ------------------------------------------------------------------------------------


def forge(registry: ConsentRegistry, statement: str) -> None:
    """Edit as someone with the file can: guards away, edit, guards back."""
    with closing(sqlite3.connect(registry.path, isolation_level=None)) as db:
        for name in guards.triggers():
            db.execute(f"DROP TRIGGER {name}")
        assert db.execute(statement.replace("$ONE", ONE)).rowcount > 0, statement
        for sql in guards.triggers().values():
            db.execute(sql)


ONE = "iid = (SELECT min(iid) FROM items WHERE kind = 0)"
FORGERIES = {
    "another's picture": """UPDATE items SET body = (SELECT body FROM items o
        WHERE o.kind = 0 AND o.pid <> items.pid) WHERE $ONE""",
    "another's whole face": """UPDATE items SET (head, body) = (SELECT head, body FROM items o
        WHERE o.kind = 0 AND o.pid <> items.pid) WHERE $ONE""",
    "the person's other picture": """UPDATE items SET body = (SELECT body FROM items o
        WHERE o.kind = 0 AND o.pid = items.pid AND o.iid <> items.iid) WHERE $ONE""",
    "the person's other face twice": """UPDATE items SET (head, body) = (SELECT head, body
        FROM items o WHERE o.kind = 0 AND o.pid = items.pid AND o.iid <> items.iid) WHERE $ONE""",
    "given to another person": "UPDATE items SET pid = (pid + 1) % 3 WHERE $ONE",
    "given to nobody": "UPDATE items SET pid = 77 WHERE $ONE",
    "given to a word": "UPDATE items SET pid = 'nobody' WHERE $ONE",
    "renumbered": "UPDATE items SET iid = 5 WHERE $ONE",
    "copied under another number": """INSERT INTO items SELECT 5, pid, kind, head, body
        FROM items WHERE $ONE""",
    "a face called a label": "UPDATE items SET kind = 1 WHERE $ONE",
    "a label called a face": "UPDATE items SET kind = 0 WHERE kind = 1",
    "of no kind": "UPDATE items SET kind = 9 WHERE $ONE",
    "cut short": "UPDATE items SET body = substr(body, 1, 900) WHERE $ONE",
    "emptied": "UPDATE items SET body = x'' WHERE $ONE",
    "facts emptied": "UPDATE items SET head = x'' WHERE $ONE",
    "a text for bytes": "UPDATE items SET body = 'hello' WHERE $ONE",
    "a number for bytes": "UPDATE items SET head = 2304 WHERE $ONE",
    "made up": "UPDATE items SET head = randomblob(80), body = randomblob(900) WHERE $ONE",
    "people's keys swapped": """UPDATE persons SET wrapped = (SELECT wrapped FROM persons o
        WHERE o.pid = (persons.pid + 1) % 3)""",
    "people's ids swapped": """UPDATE persons SET sealed = (SELECT sealed FROM persons o
        WHERE o.pid = (persons.pid + 1) % 3)""",
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forgery_is_named_and_nothing_of_it_is_ever_opened(
    registry: ConsentRegistry, forgery: str
) -> None:
    forge(registry, FORGERIES[forgery])
    with pytest.raises(TamperedError, match=r"^(item \d+|person row \d+): "):
        registry.verify()
    truth = {(person, picture(person, n)) for person in PEOPLE for n in (1, 2)}
    labels = {(person, b"secret-group") for person in PEOPLE}
    for kind, allowed in ((ItemKind.FACE, truth), (ItemKind.DEMOGRAPHIC, labels)):
        with contextlib.suppress(TamperedError):
            assert set(admitted(registry, kind)) <= allowed  # whole and true, or nothing


def test_a_face_of_another_registry_does_not_open_here(
    registry: ConsentRegistry, tmp_path: Path
) -> None:
    """Same person, same face, same row number; other keys."""
    (tmp_path / "other").mkdir()
    fill(tmp_path / "other" / "consent.sqlite").close()
    with closing(sqlite3.connect(tmp_path / "other" / "consent.sqlite")) as db:
        query = "SELECT hex(head), hex(body) FROM items WHERE $ONE"
        head, body = db.execute(query.replace("$ONE", ONE)).fetchone()
    statement = "UPDATE items SET head = x'HEAD', body = x'BODY' WHERE $ONE"
    forge(registry, statement.replace("HEAD", head).replace("BODY", body))
    with pytest.raises(TamperedError, match="item"):
        admitted(registry)
    with pytest.raises(TamperedError, match="item"):
        registry.verify()


def test_no_error_names_a_person_or_a_face(registry: ConsentRegistry) -> None:
    forge(registry, "UPDATE items SET body = x'00' WHERE $ONE")
    with pytest.raises(TamperedError) as caught:
        admitted(registry)
    with pytest.raises(MalformedError) as twice:
        Vault(registry).put(faces("ann-person"), SHOP)
    for told in (str(caught.value), str(twice.value)):
        assert "person" not in told
        assert "secret" not in told


# -- the thief -------------------------------------------------------------------------------------


def test_a_stolen_disk_without_the_keys_shows_sizes(registry: ConsentRegistry) -> None:
    stolen = everything(registry.path)
    for person in PEOPLE:
        assert person.encode() not in stolen
        for n in (1, 2):
            pixels = picture(person, n)
            assert not any(pixels[at : at + 12] in stolen for at in range(0, len(pixels), 12))
    for word in (b"secret", b"label", b"41.25", b"estimated_age"):
        assert word not in stolen


def test_a_stolen_disk_opens_under_no_other_keys(registry: ConsentRegistry, tmp_path: Path) -> None:
    thief = tmp_path / "thief"
    thief.mkdir()
    fill(thief / "consent.sqlite").close()  # the keys of a registry of the thief's own
    for part in tmp_path.glob("consent.sqlite*"):
        shutil.copy(part, thief)
    with pytest.raises(KeyFileError, match="registry's own keys"):
        ConsentRegistry.open(thief / "consent.sqlite", mode="production")


def test_the_erased_open_in_no_old_copy_and_everyone_else_does(
    registry: ConsentRegistry, tmp_path: Path
) -> None:
    """GDPR 17: a copy from before, write-ahead log and all, under the keys as they are now."""
    before = tmp_path / "before"
    before.mkdir()
    for part in tmp_path.glob("consent.sqlite*"):
        shutil.copy(part, before)
    registry.erase("bob-person")
    shutil.copytree(tmp_path / "consent.keys", before / "consent.keys")
    with ConsentRegistry.open(before / "consent.sqlite", mode="production", readonly=True) as old:
        assert Vault(old).counts()[ItemKind.FACE] == 6  # still on the disk, and shut for good
        people = {person for person, _ in admitted(old)}
        assert people == {"ann-person", "cid-person"}
        assert Vault(old).of_person("bob-person") == []
        with pytest.raises(TamperedError, match="key was destroyed"):
            old.verify()


@pytest.mark.parametrize("act", ["erase", "delete"])
def test_what_is_gone_is_in_no_free_page_and_no_write_ahead_log(
    registry: ConsentRegistry, act: str
) -> None:
    """Even the ciphertext goes from the file in use."""
    with closing(sqlite3.connect(f"file:{registry.path}?mode=ro", uri=True)) as db:
        rows = db.execute(
            "SELECT head, body FROM items WHERE pid = 1 AND kind IN (0, 1)"
        ).fetchall()
    pieces = [
        cell[at : at + 16] for row in rows for cell in row for at in range(0, len(cell) - 16, 64)
    ]
    assert all(piece in everything(registry.path) for piece in pieces[:3])
    if act == "erase":
        registry.erase("bob-person")
    else:
        for kind in (ItemKind.FACE, ItemKind.DEMOGRAPHIC):
            Vault(registry).delete(kind=kind, persons=["bob-person"])
    left = everything(registry.path)
    assert not any(piece in left for piece in pieces)
    registry.verify()


# -- the same process ------------------------------------------------------------------------------


def test_there_is_no_way_round_the_gate(registry: ConsentRegistry) -> None:
    sealed = Vault(registry).sealed()
    known = [getattr(sealed, name) for name in dir(sealed) if not name.startswith("__")]
    assert not any(isinstance(value, bytes) or callable(value) for value in known)
    assert not hasattr(sealed, "__dict__")
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="neither copied nor sent"):
            attempt(sealed)
    assert ConsentGate(registry).admit(sealed, Purpose.PERSONALISATION, SHOP).faces == []


def test_nothing_is_shown_of_what_is_held(registry: ConsentRegistry) -> None:
    vault = Vault(registry)
    (item, *_) = vault.of_person("ann-person")
    (new, *_) = faces("ann-person")
    for thing in (vault, vault.sealed(), item, new, vault.turned_away()):
        told = repr(thing)
        assert "ann-person" not in told
        assert "secret" not in told
        assert "41.25" not in told


# -- races -----------------------------------------------------------------------------------------


def test_two_processes_bring_the_same_face_and_one_is_told(registry: ConsentRegistry) -> None:
    def bring() -> None:
        with ConsentRegistry.open(registry.path, mode="production") as other:
            item = NewItem(person="ann-person", item_id="third", body=b"px")
            Vault(other).put([item], SHOP)

    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(in_child(bring))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [0, 99]  # 99: the child ended with an error
    assert Vault(registry).counts()[ItemKind.FACE] == 7
    registry.verify()


def test_a_withdrawal_of_another_process_shuts_the_door_and_the_table(
    registry: ConsentRegistry,
) -> None:
    vault = Vault(registry)
    sealed = vault.sealed()

    def withdraw() -> None:
        with ConsentRegistry.open(registry.path, mode="production") as kiosk:
            kiosk.withdraw("ann-person")

    assert in_child(withdraw) == 0
    late = NewItem(person="ann-person", item_id="late", body=b"px")
    assert vault.put([late], SHOP).stored == 0
    opened = ConsentGate(registry).admit(sealed, TRAINING, SHOP).faces
    assert {item.person for item in opened} == {"bob-person", "cid-person"}
