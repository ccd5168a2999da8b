"""kill -9 at every step of every write: what was acknowledged is there, and nothing is half there.

A forked child runs one act and kills itself at the n-th step; n runs until the act gets through. A step
is a statement or commit of the database, or a call that changes a file of the key folder, and so the
points between the database and the keys are among them. A death before the commit leaves no trace; one
after it leaves the whole, and whatever was still to do is done by whoever opens the registry next.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from privemo_consent import (
    ConsentRegistry,
    Context,
    ErasedKeyError,
    KeyFileError,
    NewItem,
    Purpose,
    RegistryMissingError,
    RegistryUnreadableError,
    Vault,
)
from privemo_consent.items import ItemKind
from tests.support.consent import KILLED, PARTY, consent_notice, grant, in_child
from tests.support.interrupt import interrupt

Act = Callable[[ConsentRegistry], object]
SHOP = Context(setting="retail", jurisdiction="IE")
TRAINING = Purpose.TRAINING


def die_at(step: int) -> None:
    """Kill this process at the ``step``-th step from now on."""
    reached = interrupt(step, lambda: os.kill(os.getpid(), signal.SIGKILL))
    for name in ("before_cursor_execute", "after_cursor_execute", "commit"):
        sa.event.listen(sa.Engine, name, lambda *_: reached())


def record_use(registry: ConsentRegistry) -> None:
    registry.record_use(["p05", "p06"], TRAINING, run="r", round=2, store="s", batch=1, log_seq=3)


ACTS: dict[str, Act] = {
    "grant": lambda r: r.grant_many([grant("new-1"), grant("new-2")]),
    "withdraw": lambda r: r.withdraw("p05"),
    "notice": lambda r: r.notice(consent_notice(2)),
    "announcement": lambda r: r.announce_reading(consent_notice().hash, place="the entrance"),
    "use": record_use,
    "decision": lambda r: r.decide("p05", TRAINING, SHOP),
    "face": lambda r: Vault(r).put([NewItem(person="p05", item_id="f", body=b"pixels")], SHOP),
    "erase": lambda r: r.erase_many(["p05", "p06"]),
    "rotate signing": lambda r: r.rotate_signing_key(overlap=timedelta(days=1)),
    "revoke": lambda r: r.revoke_signing_key(r.ring.periods[0].key.key_id.hex()),
    "rotate persons": lambda r: r.rotate_person_keys(),
}


def state(path: Path) -> tuple[object, ...]:
    with ConsentRegistry.open(path, mode="production") as registry:
        registry.verify()
        return (
            registry.head().seq,
            registry.uses_head().seq,
            registry.persons(),
            len(registry.notices()),
            Vault(registry).counts()[ItemKind.FACE],
            len(registry.ring.periods),
        )


def restore(kept: Path, whole: Path) -> None:
    """Put the registry back as it was before an act."""
    for leftover in whole.parent.glob("consent.*"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    shutil.copytree(kept, whole.parent, dirs_exist_ok=True)


SLOW = ("rotate signing", "revoke", "rotate persons")
"""Rare acts of many steps; they run in `make test-all`."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in ACTS],
)
def test_killed_at_any_step_nothing_is_half_there(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    kept = tmp_path_factory.mktemp("kept") / "copy"
    shutil.copytree(whole.parent, kept)
    before = state(whole)
    outcomes: list[tuple[object, ...]] = []
    for step in range(400):

        def act(step: int = step) -> None:
            with ConsentRegistry.open(whole, mode="production") as registry:
                registry.head()
                die_at(step)
                ACTS[name](registry)

        code = in_child(act)
        outcomes.append(state(whole))
        if code != KILLED:
            assert code == 0
            break
        restore(kept, whole)
    after = outcomes[-1]
    assert step > (2 if name == "decision" else 6), "it was interrupted at several points"
    assert after != before
    assert set(outcomes) == {before, after} or set(outcomes) == {after}
    changed = [outcome == after for outcome in outcomes]
    assert changed == sorted(changed), "once it is there, it is there to stay"


def test_an_erasure_cut_short_after_its_commit_is_finished_by_whoever_opens_next(
    whole: Path,
) -> None:
    def act() -> None:
        with ConsentRegistry.open(whole, mode="production") as registry:
            registry._keys.puncture = lambda pids: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign, union-attr]
            registry.erase("p05")

    assert in_child(act) == KILLED
    with ConsentRegistry.open(whole, mode="production") as registry:
        registry.verify()
        assert "p05" not in registry.persons()
        with pytest.raises(ErasedKeyError):
            registry.keys.wrap_key(1, 5)


def test_a_rotation_cut_short_before_its_commit_leaves_the_old_keys_in_use(whole: Path) -> None:
    def act() -> None:
        with ConsentRegistry.open(whole, mode="production") as registry:
            made = registry.keys.new_epoch
            registry._keys.new_epoch = lambda: (made(), os.kill(os.getpid(), signal.SIGKILL))  # type: ignore[method-assign, union-attr, return-value]
            registry.rotate_person_keys()

    assert in_child(act) == KILLED
    with ConsentRegistry.open(whole, mode="production") as registry:
        registry.verify()
        assert registry.keys.epochs == (1, 2)
        registry.grant_many([grant("new-1")])
        assert registry.preview("new-1", TRAINING, SHOP).permit
        assert registry.rotate_person_keys() == 2, "the epoch made before is taken up"
        registry.verify()
        assert registry.preview("p05", TRAINING, SHOP).permit


@pytest.mark.parametrize("name", ["grant", "withdraw", "notice", "use", "erase"])
def test_failed_but_persisted_is_whole_and_can_be_repeated(whole: Path, name: str) -> None:
    before = state(whole)

    def act() -> None:
        with ConsentRegistry.open(whole, mode="production") as registry:
            registry.head()
            die_after_commit()
            ACTS[name](registry)

    assert in_child(act) == KILLED
    after = state(whole)
    assert after != before, "the commit was durable before anybody was told"
    if name in ("withdraw", "notice"):  # whoever was not told asks again: nothing is doubled
        with ConsentRegistry.open(whole, mode="production") as registry:
            ACTS[name](registry)
        assert state(whole) == after


def die_after_commit() -> None:
    def committed(connection: sa.Connection) -> None:
        # Commit for the caller, then die before the caller hears of it.
        raw = connection.connection.dbapi_connection
        if raw.in_transaction and raw.total_changes:  # type: ignore[union-attr]
            raw.commit()  # type: ignore[union-attr]
            os.kill(os.getpid(), signal.SIGKILL)

    sa.event.listen(sa.Engine, "commit", committed)


def test_a_registry_killed_while_being_made_is_whole_or_none(tmp_path: Path) -> None:
    outcomes = ""
    for step in range(0, 200, 3):
        path = tmp_path / f"r{step}.sqlite"

        def act(step: int = step, path: Path = path) -> None:
            die_at(step)
            ConsentRegistry.create(path, mode="production", controller=PARTY).close()

        code = in_child(act)
        assert code in (0, KILLED)
        try:
            state(path)
        except (RegistryUnreadableError, RegistryMissingError, KeyFileError):
            outcomes += "none "
        else:
            outcomes += "whole "
        if code == 0:
            break
    assert outcomes.count("none") > 5
    assert outcomes.endswith("whole ")
    assert "whole none" not in outcomes, "once whole, always whole"
