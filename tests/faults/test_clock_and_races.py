"""A clock that was set back, and two processes that want the same person at the same moment.

Whatever wins a race: the log verifies, nobody is half erased, and nothing permits any more once a
withdrawal or an erasure was acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from pathlib import Path

import pytest
import sqlalchemy as sa

from privemo_consent import (
    ClockBackwardsError,
    ConsentError,
    ConsentGate,
    ConsentRegistry,
    Context,
    NewItem,
    Purpose,
    Reason,
    SealedFaces,
    TransitionRefused,
    UnknownPersonError,
    Vault,
    leaves,
    schema,
)
from tests.faults.test_consent_processes import finish, go, start
from tests.support.consent import PARTY, consent_notice, grant

SHOP = Context(setting="retail", jurisdiction="IE")
TRAINING = Purpose.TRAINING
NOW = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


# -- the clock -----------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shop(tmp_path: Path, clock: Clock) -> Iterator[ConsentRegistry]:
    """Five people who said yes for ten days; then the clock is set back by three."""
    path = tmp_path / "consent.sqlite"
    with ConsentRegistry.create(path, mode="production", controller=PARTY, clock=clock) as registry:
        registry.notice(consent_notice())
        registry.announce_reading(consent_notice().hash, place="the entrance")
        registry.grant_many([grant(f"p{n}", valid_for=timedelta(days=10)) for n in range(5)])
        face = NewItem(person="p0", item_id="f", body=b"pixels")
        assert Vault(registry).put([face], SHOP).stored == 1
        clock.time += timedelta(days=1)
        registry.withdraw("p4")
        clock.time -= timedelta(days=3)
        yield registry


NEEDS_THE_CLOCK: dict[str, Callable[[ConsentRegistry], object]] = {
    "grant": lambda r: r.grant_many([grant("new")]),
    "renew": lambda r: r.renew("p1"),
    "grant again": lambda r: r.grant_many([grant("p4")]),
    "notice": lambda r: r.notice(consent_notice(2)),
    "announcement": lambda r: r.announce_reading(consent_notice().hash, place="the door"),
    "use": lambda r: r.record_use(
        ["p1"], TRAINING, run="r", round=1, store="s", batch=0, log_seq=1
    ),
    "face": lambda r: Vault(r).put([NewItem(person="p1", item_id="g", body=b"pixels")], SHOP),
    "rotate signing": lambda r: r.rotate_signing_key(),
    "rotate persons": lambda r: r.rotate_person_keys(),
}


@pytest.mark.parametrize("name", NEEDS_THE_CLOCK)
def test_what_needs_the_clock_waits_for_it(shop: ConsentRegistry, clock: Clock, name: str) -> None:
    before = shop.head(), shop.uses_head(), Vault(shop).counts()
    with pytest.raises(ClockBackwardsError, match="set the clock"):
        NEEDS_THE_CLOCK[name](shop)
    assert (shop.head(), shop.uses_head(), Vault(shop).counts()) == before
    shop.verify()
    clock.time += timedelta(days=4)
    NEEDS_THE_CLOCK[name](shop)
    shop.verify()


NEVER_WAITS: dict[str, Callable[[ConsentRegistry], object]] = {
    "withdraw": lambda r: r.withdraw("p1"),
    "refuse": lambda r: r.refuse("p1"),
    "revoke": lambda r: r.revoke("p1"),
    "erase": lambda r: r.erase("p1"),
}


@pytest.mark.parametrize("name", NEVER_WAITS)
def test_a_no_waits_for_nothing(shop: ConsentRegistry, clock: Clock, name: str) -> None:
    seq = shop.log_seq
    NEVER_WAITS[name](shop)
    assert shop.log_seq > seq
    shop.verify()
    # Its moment is the log's last, not the clock's: the order of the log stays that of time.
    kinds = ("consent", "erasure")
    told = [leaves.parse(shop.leaf(n)) for n in range(seq, shop.log_seq)]
    assert {leaf["recorded_at"][:10] for leaf in told if leaf["kind"] in kinds} == {"2026-03-02"}
    clock.time += timedelta(days=4)
    assert not shop.decide("p1", TRAINING, SHOP).permit
    assert shop.decide("p2", TRAINING, SHOP).permit
    shop.verify()


def test_no_decision_permits_while_the_clock_is_behind(shop: ConsentRegistry, clock: Clock) -> None:
    before = shop.uses_head()
    for person in ("p0", "p1", "p4", "nobody"):
        assert shop.decide(person, TRAINING, SHOP).reason is Reason.CLOCK_BACKWARDS
        assert shop.preview(person, TRAINING, SHOP).reason is Reason.CLOCK_BACKWARDS
    # Nor does a moment that the caller names, before the log's end.
    assert not shop.decide("p1", TRAINING, SHOP, at=NOW).permit
    gate = ConsentGate(shop)
    faces = SealedFaces(["p1", "p2"], ["f1", "f2"], lambda rows: rows)
    assert not len(gate.admit(faces, TRAINING, SHOP).rows)
    assert not gate.still_permitted(["p1"], TRAINING, SHOP).any()
    clock.time += timedelta(days=4)
    assert shop.decide("p1", TRAINING, SHOP).permit
    assert shop.uses_head().seq > before.seq


def test_a_consent_that_ran_out_does_not_come_back_with_the_clock(
    shop: ConsentRegistry, clock: Clock
) -> None:
    clock.time = NOW + timedelta(days=11)
    assert shop.decide("p1", TRAINING, SHOP).reason is Reason.EXPIRED
    clock.time = NOW + timedelta(days=5)  # after the log's end, before what this process has seen
    assert shop.decide("p1", TRAINING, SHOP).reason is Reason.CLOCK_BACKWARDS


# -- races of processes --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """What a worker said of one act."""

    act: str
    person: str
    asked: int
    answered: int
    came: str


def race(path: Path, *programs: list[str]) -> list[list[Line]]:
    """Run programs at the same time, each in a process of its own."""
    racers = [start("timed", path, *program) for program in programs]
    for racer in racers:
        go(racer)
    found = []
    for racer in racers:
        words = [line.split(" ") for line in finish(racer)]
        found.append([Line(a, p, int(t0), int(t1), came) for a, p, t0, t1, came in words])
    return found


PEOPLE = [f"p{n:02d}" for n in range(3, 15)]
#: what may come of an act whose person is being erased, before and after it
RIVALS: dict[str, set[str]] = {
    "grant": {"TransitionRefused", "done"},
    "renew": {"done", "UnknownPersonError", "TransitionRefused"},
    "decide": {"permitted", "withdrawn", "no_record"},
    "use": {"done", "UnknownPersonError"},
    "rotate": {"done"},
    "erase": {"pending0", "pending1", "UnknownPersonError"},
    "withdraw": {"0", "1", "UnknownPersonError"},
}


@pytest.mark.parametrize("rival", RIVALS)
def test_an_erasure_racing_anything_is_whole(whole: Path, rival: str) -> None:
    rounds = {"decide": 6, "rotate": 1}.get(rival, 1)
    acts = [f"{rival}={person}" for person in PEOPLE * rounds]
    if rival == "rotate":
        acts = acts[:4]
    eraser, other = race(whole, [f"erase={person}" for person in PEOPLE], acts)
    assert {line.came for line in other} <= RIVALS[rival]
    erasures = [line for line in eraser + other if line.came.startswith("pending")]
    assert sorted(line.person for line in erasures) == PEOPLE, "each erased, and erased once"
    gone = {line.person: line.answered for line in erasures}
    for line in other:
        if line.asked > gone[line.person] and rival != "rotate":
            late = ("permitted", "pending0", "pending1", "0", "1")
            assert line.came not in late, "after it was acknowledged"
    with ConsentRegistry.open(whole, mode="production") as registry:
        registry.verify()
        assert registry.finish_erasures() == (), "two that scrub at once are in each other's way"
        back = {line.person for line in other if (line.act, line.came) == ("grant", "done")}
        assert set(PEOPLE) & set(registry.persons()) == back
        for person in PEOPLE:
            permit = registry.decide(person, TRAINING, SHOP).permit
            assert permit is (person in back), "whoever said yes after it is somebody new"
            assert len(registry.history(person)) == (1 if person in back else 0)
        check_erased(registry, len(PEOPLE))


def check_erased(registry: ConsentRegistry, count: int) -> None:
    """Hold row, log and keys of everyone to each other."""
    with registry._store.read() as connection:
        rows = connection.execute(sa.select(schema.persons)).mappings().all()
        erasure = leaves.KINDS.index("erasure")
        events = sa.select(schema.events.c.pid).where(schema.events.c.kind == erasure)
        logged = list(connection.execute(events).scalars())
        items = set(connection.execute(sa.select(schema.items.c.pid)).scalars())
    empty = [row["pid"] for row in rows if row["wrapped"] is None]
    assert sorted(logged) == empty
    assert len(empty) == count
    assert empty == [row["pid"] for row in rows if registry.keys.punctured(row["pid"])]
    assert not items & set(empty)


def test_a_decision_never_permits_after_an_acknowledged_withdrawal(whole: Path) -> None:
    asking = [f"decide={person}" for person in PEOPLE * 12]
    withdrawing = [f"withdraw={person}" for person in PEOPLE]
    first, second, *askers = race(whole, withdrawing, withdrawing, asking, asking)
    for one, two in zip_longest(first, second):
        assert sorted((one.came, two.came)) == ["0", "1"], "one event, whoever was first"
    # The first of the two answers that told of an event is the acknowledgement.
    told = {line.person: line.answered for line in first + second if line.came == "1"}
    # On a busy machine the two who ask may be done before the first withdrawal is, so a third asks
    # when all are acknowledged: some questions are late however the race went.
    (afterwards,) = race(whole, [f"decide={person}" for person in PEOPLE])
    answers = [*askers[0], *askers[1], *afterwards]
    for line in answers:
        late = line.asked > told[line.person]
        assert late or line not in afterwards
        assert line.came in ("permitted", "withdrawn")
        assert not (late and line.came == "permitted")
    with ConsentRegistry.open(whole, mode="production") as registry:
        registry.verify()
        logged = [d for d in registry.decisions() if d.person in PEOPLE]
        assert len(logged) == len(answers), "every answer is in the log"
        for decision in logged:
            withdrawn_at = registry.history(str(decision.person))[-1].seq
            assert decision.permit is (decision.log_seq <= withdrawn_at)


# -- races to the statement ----------------------------------------------------------------------------


def before_its_write(registry: ConsentRegistry, act: Callable[[], object]) -> None:
    """Do ``act`` once, when ``registry`` has read the state and is about to take the write lock."""
    todo, write = [act], registry._store.write

    def writes(**how: bool) -> AbstractContextManager[sa.Connection]:
        if todo:
            todo.pop()()
        return write(**how)

    registry._store.write = writes  # type: ignore[method-assign, assignment]


Refusal = type[ConsentError] | tuple[type[ConsentError], ...] | None
#: an act about p05 that another process erases in between, and what becomes of it
IN_BETWEEN: dict[str, tuple[Callable[[ConsentRegistry], object], Refusal]] = {
    "grant": (lambda r: r.grant_many([grant("p05")]), None),
    "renew": (lambda r: r.renew("p05"), (TransitionRefused, UnknownPersonError)),
    "refuse": (lambda r: r.refuse("p05"), UnknownPersonError),
    "revoke": (lambda r: r.revoke("p05"), (TransitionRefused, UnknownPersonError)),
    "withdraw": (lambda r: r.withdraw("p05"), UnknownPersonError),
    "erase": (lambda r: r.erase("p05"), UnknownPersonError),
    "use": (
        lambda r: r.record_use(["p05"], TRAINING, run="r", round=1, store="s", batch=0, log_seq=9),
        UnknownPersonError,
    ),
    "rotate": (lambda r: r.rotate_person_keys(), None),
    "decide": (lambda r: r.decide("p05", TRAINING, SHOP), None),
    "face": (
        lambda r: Vault(r).put([NewItem(person="p05", item_id="f", body=b"pixels")], SHOP),
        None,
    ),
}


@pytest.mark.parametrize("name", IN_BETWEEN)
def test_erased_between_the_reading_and_the_writing(whole: Path, name: str) -> None:
    act, error = IN_BETWEEN[name]
    with (
        ConsentRegistry.open(whole, mode="production", busy_timeout_ms=500) as registry,
        ConsentRegistry.open(whole, mode="production", busy_timeout_ms=500) as other,
    ):
        assert registry.preview("p05", TRAINING, SHOP).permit
        before_its_write(registry, lambda: other.erase("p05"))
        if error is None:
            act(registry)
        else:
            with pytest.raises(error) as caught:
                act(registry)
            assert "p05" not in str(caught.value)
        back = name == "grant"
        for one in (registry, other):
            one.verify()
            assert ("p05" in one.persons()) is back
            assert one.decide("p05", TRAINING, SHOP).permit is back
        check_erased(registry, 1)


def test_withdrawn_between_the_reading_and_the_writing(whole: Path) -> None:
    for person, act in (
        ("p05", lambda r: r.withdraw("p05")),
        ("p06", lambda r: r.decide("p06", TRAINING, SHOP)),
        ("p07", lambda r: r.erase("p07")),
    ):
        with (
            ConsentRegistry.open(whole, mode="production") as registry,
            ConsentRegistry.open(whole, mode="production") as other,
        ):
            before_its_write(registry, lambda other=other, person=person: other.withdraw(person))  # type: ignore[misc]
            act(registry)
            registry.verify()
            assert not registry.decide(person, TRAINING, SHOP).permit
