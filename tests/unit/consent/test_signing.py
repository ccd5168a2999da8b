"""Signed heads: with every durable change, only over a log that extends the one signed before."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from typing import Any

import pytest

from privemo_consent import (
    Checkpoint,
    ConsentRegistry,
    KeyFileError,
    ProofError,
    Purpose,
    Reason,
    TamperedError,
    open_checkpoint,
    schema,
)
from privemo_consent.checkpoint import uses_origin
from privemo_consent.log import MerkleLog
from privemo_consent.signing import KEPT_EVERY, Signer, latest_checkpoint
from privemo_consent.witness import Witness
from tests.support.consent import grant

TRAINING = Purpose.TRAINING


@pytest.fixture
def people(registry: ConsentRegistry) -> ConsentRegistry:
    """Twenty people: more than one tile of the tree."""
    registry.grant_many([grant(f"p{n:02d}") for n in range(20)])
    return registry


def force(registry: ConsentRegistry, statement: str, trigger: str) -> None:
    with closing(sqlite3.connect(registry.path)) as raw, raw:
        kept = raw.execute("SELECT sql FROM sqlite_master WHERE name = ?", (trigger,)).fetchone()[0]
        raw.execute(f"DROP TRIGGER {trigger}")
        assert raw.execute(statement).rowcount != 0
        raw.execute(kept)


def reopened(registry: ConsentRegistry, clock: Any) -> ConsentRegistry:
    registry.close()
    return ConsentRegistry.open(registry.path, mode="production", clock=clock)


def test_every_change_ends_with_a_signed_head(people: ConsentRegistry) -> None:
    for act in (
        lambda: people.withdraw("p01"),
        lambda: people.announce_reading(people.notices()[0].hash, place="door"),
        lambda: people.erase("p02"),
        people.rotate_person_keys,
    ):
        act()
        keys = [period.key for period in people.ring.periods]
        head, _ = open_checkpoint(people.checkpoint(), keys, origin=people.origin)
        assert (head.size, head.root.hex()) == people.head()


def test_the_log_of_uses_has_heads_of_its_own(people: ConsentRegistry, shop: Any) -> None:
    people.decide("p01", TRAINING, shop)
    with pytest.raises(Exception, match="no head of this log"):
        people.checkpoint(uses=True)  # a decision alone is signed with the next batch
    people.record_use(["p01"], TRAINING, run="r", round=1, store="s", batch=0, log_seq=5)
    keys = [period.key for period in people.ring.periods]
    origin = uses_origin(people.origin)
    head, _ = open_checkpoint(people.checkpoint(uses=True), keys, origin=origin)
    assert (head.size, head.root.hex()) == people.uses_head()
    with pytest.raises(Exception, match="of"):
        open_checkpoint(people.checkpoint(uses=True), keys, origin=people.origin)


NODES = "UPDATE nodes SET hash = zeroblob(32) WHERE log = 0 AND level = 4 AND idx = 0"
LEAF = "UPDATE events SET leaf_hash = zeroblob(32) WHERE seq = 20"


@pytest.mark.parametrize(
    ("statement", "trigger"), [(NODES, "nodes_no_update"), (LEAF, "events_no_update")]
)
def test_a_head_that_does_not_extend_the_one_before_is_never_signed(
    people: ConsentRegistry, clock: Any, shop: Any, statement: str, trigger: str
) -> None:
    before, note = people.head().seq, people.checkpoint()
    force(people, statement, trigger)
    with reopened(people, clock) as registry:
        for act in (
            lambda: registry.withdraw("p01"),
            lambda: registry.erase("p01"),
            lambda: registry.rotate_signing_key(),
            lambda: registry.grant_many([grant("new")]),
        ):
            with pytest.raises(ProofError):
                act()
            assert registry.log_seq == before, "nothing was written"
            assert registry.checkpoint() == note
        assert not registry.keys.punctured(1), "what was not logged was not destroyed"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE checkpoints SET note = replace(note, char(10) || '22', char(10) || '21')",
        "UPDATE checkpoints SET note = substr(note, 1, length(note) - 20)",
        "UPDATE checkpoints SET note = ''",
    ],
)
def test_a_forged_head_is_not_built_upon(
    people: ConsentRegistry, clock: Any, statement: str
) -> None:
    assert people.head().seq == 22
    force(people, statement, "checkpoints_no_update")
    with reopened(people, clock) as registry:
        with pytest.raises(TamperedError, match="checkpoint 0/22"):
            registry.withdraw("p01")
        assert registry.log_seq == 22
        assert registry.preview("p01", TRAINING, shop_of()).reason is Reason.PERMITTED


def shop_of() -> Any:
    from privemo_consent import Context

    return Context(setting="retail", jurisdiction="IE")


def test_a_log_that_was_cut_is_not_signed_again(people: ConsentRegistry, clock: Any) -> None:
    people.withdraw("p01")
    force(people, "DELETE FROM events WHERE seq = 22", "events_no_delete")
    with reopened(people, clock) as registry:
        with pytest.raises(TamperedError, match=r"events 22: .* the log was cut"):
            registry.withdraw("p02")  # would be as long as the log that was signed
        with pytest.raises(ProofError):
            registry.withdraw_many(["p02", "p03"])
        assert registry.log_seq == 22


def test_keys_that_the_folder_does_not_hold_do_not_sign(people: ConsentRegistry) -> None:
    state = people._journal.refresh().keys
    now = people._journal.now()
    assert [key.key_id for key in people._journal.signer.keys_at(state, now)] == [
        people.ring.periods[0].key.key_id
    ]
    with pytest.raises(KeyFileError, match="without its key folder"):
        Signer(None).keys_at(state, now)
    people.keys.drop_signer(people.ring.periods[0].key.key_id)
    with pytest.raises(KeyFileError, match="holds no key that may sign"):
        people.withdraw("p01")
    people.verify()


def test_a_head_of_the_same_size_is_signed_once(people: ConsentRegistry) -> None:
    journal = people._journal
    with people._store.write() as connection:
        state = (journal.state.keys, journal.now())
        again = Signer(people.keys).sign(connection, journal.log, people.head().seq, state)
    assert again == people.checkpoint()


def sizes(registry: ConsentRegistry) -> list[int]:
    with registry._store.read() as connection:
        query = schema.checkpoints.select().where(schema.checkpoints.c.log == schema.EVENTS_LOG)
        return sorted(row.size for row in connection.execute(query))


def test_one_head_in_so_many_entries_is_kept_besides_the_last(registry: ConsentRegistry) -> None:
    registry.grant_many([grant(f"a{n}") for n in range(500)])
    registry.grant_many([grant(f"b{n}") for n in range(500)])
    assert sizes(registry) == [1002], "a head that a later one replaced is let go"
    registry.grant_many([grant(f"c{n}") for n in range(40)])
    assert sizes(registry) == [1002, 1042], "the last before each 1024th entry stays"
    registry.withdraw("a1")
    assert sizes(registry) == [1002, 1043]
    registry.grant_many([grant(f"d{n}") for n in range(2 * KEPT_EVERY)])
    assert sizes(registry) == [1002, 1043, 1043 + 2 * KEPT_EVERY]
    registry.verify()
    with registry._store.read() as connection:
        size, note = latest_checkpoint(connection, schema.EVENTS_LOG) or (0, "")
    assert size == registry.log_seq
    assert Checkpoint.parse(note.partition("\n\n")[0] + "\n").size == size


def test_who_signs_tells_the_witness_himself(
    people: ConsentRegistry, shop: Any, tmp_path: Any
) -> None:
    """One signs and has not committed yet; another tells the witness what was committed by then."""
    people.set_witness(tmp_path / "witness")
    people.decide("p01", TRAINING, shop)
    journal, signed, told = people._journal, threading.Event(), threading.Event()
    log = MerkleLog(schema.USES_LOG, schema.uses)

    def sign() -> None:
        with people._store.write() as connection:
            journal.signer.sign(connection, log, 1, (journal.state.keys, journal.now()))
            signed.set()
            told.wait(30)
        journal.signer.publish(journal)

    thread = threading.Thread(target=sign)
    thread.start()
    assert signed.wait(30)
    journal.signer.publish(journal)
    told.set()
    thread.join(30)
    witness = Witness.open(tmp_path / "witness", known=[p.key for p in people.ring.periods])
    latest = witness.latest(uses_origin(people.origin))
    assert latest is not None
    assert latest.size == 1
