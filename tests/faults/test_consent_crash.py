"""kill -9 at every step of every write: what was acknowledged is there, and nothing is half there.

A forked child runs one act and kills itself at the n-th database step; n runs until the act gets
through. A death before the commit leaves no trace; one after it leaves the whole.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from privemo_consent import ConsentRegistry, Purpose, RegistryUnreadableError
from privemo_consent.store import Store
from tests.support.consent import KILLED, PARTY, consent_notice, grant, in_child

Act = Callable[[ConsentRegistry], object]


def die_at(registry: ConsentRegistry, step: int) -> None:
    """Kill this process at the ``step``-th statement or commit from now on."""
    left = [step]

    def count(*_arguments: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    engine = registry._store._engine
    sa.event.listen(engine, "before_cursor_execute", count)
    sa.event.listen(engine, "after_cursor_execute", count)
    sa.event.listen(engine, "commit", count)


ACTS: dict[str, Act] = {
    "grant": lambda r: r.grant_many([grant("new-1"), grant("new-2")]),
    "withdraw": lambda r: r.withdraw("p05"),
    "notice": lambda r: r.notice(consent_notice(2)),
    "use": lambda r: r.record_use(
        ["p05", "p06"], Purpose.TRAINING, run="r", round=2, store="s", batch=1, log_seq=3
    ),
}


def state(path: Path) -> tuple[object, ...]:
    with ConsentRegistry.open(path, mode="production") as registry:
        registry.verify()
        return (
            registry.head(),
            registry.uses_head(),
            registry.persons(),
            len(registry.notices()),
        )


@pytest.mark.parametrize("name", ACTS)
def test_killed_at_any_step_nothing_is_half_there(whole: Path, name: str) -> None:
    before = state(whole)
    for step in range(200):

        def act(step: int = step) -> None:
            with ConsentRegistry.open(whole, mode="production") as registry:
                die_at(registry, step)
                ACTS[name](registry)

        code = in_child(act)
        if code != KILLED:
            assert code == 0
            break
        assert state(whole) == before, f"killed at step {step}"
    assert step > 6, "the act was interrupted at several points"
    assert state(whole) != before


@pytest.mark.parametrize("name", ACTS)
def test_failed_but_persisted_is_whole_and_can_be_repeated(whole: Path, name: str) -> None:
    before = state(whole)

    def act() -> None:
        with ConsentRegistry.open(whole, mode="production") as registry:
            registry._journal.refresh()
            die_at_next_write(registry)
            ACTS[name](registry)

    assert in_child(act) == KILLED
    after = state(whole)
    assert after != before, "the commit was durable before anybody was told"
    if name in ("withdraw", "notice"):  # whoever was not told asks again: nothing is doubled
        with ConsentRegistry.open(whole, mode="production") as registry:
            ACTS[name](registry)
        assert state(whole) == after


def die_at_next_write(registry: ConsentRegistry) -> None:
    def committed(connection: sa.Connection) -> None:
        # Commit for the caller, then die before the caller hears of it.
        if connection.get_execution_options().get("privemo_begin"):
            connection.connection.dbapi_connection.commit()  # type: ignore[union-attr]
            os.kill(os.getpid(), signal.SIGKILL)

    sa.event.listen(registry._store._engine, "commit", committed)


def make_and_die(path: Path, step: int) -> None:
    def count(*_arguments: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    left, original = [step], Store._make_engine

    def make_engine(store: Store) -> sa.Engine:
        engine = original(store)
        sa.event.listen(engine, "after_cursor_execute", count)
        return engine

    Store._make_engine = make_engine  # type: ignore[method-assign] # in a forked child alone
    ConsentRegistry.create(path, mode="production", controller=PARTY).close()


def test_a_registry_killed_while_being_made_is_whole_or_none(tmp_path: Path) -> None:
    outcomes = ""
    for step in range(0, 80, 3):
        path = tmp_path / f"r{step}.sqlite"
        assert in_child(lambda step=step, path=path: make_and_die(path, step)) in (0, KILLED)  # type: ignore[misc]
        try:
            state(path)
        except RegistryUnreadableError:
            outcomes += "none "
        else:
            outcomes += "whole "
    assert outcomes.count("none") > 5
    assert outcomes.count("whole") > 1
    assert "whole none" not in outcomes, "once whole, always whole"
