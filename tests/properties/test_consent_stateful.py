"""Any sequence of operations by many people keeps: no decision permits without a live record.

Whoever was erased is unknown everywhere, their items are gone, and their keys destroyed; every logged
decision can be read back; two processes with one registry open answer alike. The model is a dict
written from the rules, not from the code; after every step each person's decision, the whole table's,
and the gate's are held to it.
"""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from privemo_consent import (
    AgeBand,
    ConsentGate,
    ConsentRegistry,
    Context,
    Grant,
    MinorRefused,
    NewItem,
    Notice,
    NoticeRefused,
    Party,
    Purpose,
    Role,
    SealedFaces,
    StaffRefused,
    TransitionRefused,
    UnknownAgeRefused,
    UnknownPersonError,
    Vault,
    merkle,
)
from tests.support.notices import whole_notice

PEOPLE = [f"p{i}" for i in range(5)]
PURPOSES = list(Purpose)
SHOP = Context(setting="retail", jurisdiction="IE")
PARTY = Party(id="c", name="Shop", address="1 Street", contact="c@example.org")
WHO = st.sampled_from(PEOPLE)
WHAT = st.lists(st.sampled_from(PURPOSES), min_size=1, max_size=3, unique=True)
TERM = st.integers(1, 30).map(lambda days: timedelta(days=days))


def notice(version: int) -> Notice:
    return whole_notice(PARTY, version, notice_id="n", retention_days=30)


class Registry(RuleBasedStateMachine):
    """Operations as people and time bring them."""

    @initialize()
    def create(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.path = self.folder / "r.sqlite"
        self.registry = ConsentRegistry.create(
            self.path, mode="production", controller=PARTY, clock=lambda: self.now
        )
        self.version = 1
        self.registry.notice(notice(1))
        self.second: ConsentRegistry | None = None
        self.announced = False
        #: what a person was last asked for and has not answered
        self.asked: set[tuple[str, Purpose]] = set()
        self.faces: dict[tuple[str, str], bytes] = {}
        self.erasures = 0
        self.logged: list[tuple[str, Purpose, bool]] = []
        # (person, purpose) -> (until when, on which notice); only live or lapsed yeses
        self.yes: dict[tuple[str, Purpose], tuple[datetime, int]] = {}
        self.known: set[str] = set()
        self.staff: set[str] = set()
        self.heads: list[tuple[int, str]] = []

    def live(self, person: str, purpose: Purpose) -> bool:
        until, version = self.yes.get((person, purpose), (self.now, 0))
        told = self.announced or purpose is not Purpose.PERSONALISATION
        return self.now < until and version == self.version and person not in self.staff and told

    def in_term(self, person: str, purpose: Purpose) -> bool:
        return self.yes.get((person, purpose), (self.now, 0))[0] > self.now

    @rule(person=WHO, purposes=WHAT, term=TERM, bulk=st.booleans())
    def grant(self, person: str, purposes: list[Purpose], term: timedelta, bulk: bool) -> None:
        row = {
            "age_band": AgeBand.FROM_45,
            "jurisdiction": "IE",
            "notice": notice(self.version),
            "valid_for": term,
        }

        def act() -> None:
            if bulk:
                self.registry.grant_many([Grant(person=person, purposes=tuple(purposes), **row)])  # type: ignore[arg-type]
            else:
                self.registry.grant(person, purposes, **row)  # type: ignore[arg-type]

        if any(self.in_term(person, purpose) for purpose in purposes):
            with pytest.raises(TransitionRefused):
                act()
            return
        act()
        self.known.add(person)
        self.staff.discard(person)  # the last answer says shopper
        for purpose in purposes:
            self.yes[person, purpose] = (self.now + term, self.version)
            self.asked.discard((person, purpose))

    @rule(person=WHO, purposes=WHAT)
    def request(self, person: str, purposes: list[Purpose]) -> None:
        def act() -> None:
            self.registry.request(
                person,
                purposes,
                age_band=AgeBand.FROM_45,
                jurisdiction="IE",
                notice=notice(self.version),
            )

        if any(self.in_term(person, purpose) for purpose in purposes):
            with pytest.raises(TransitionRefused):
                act()
            return
        act()
        self.known.add(person)
        for purpose in purposes:
            self.yes.pop((person, purpose), None)
            self.asked.add((person, purpose))

    @rule(person=WHO, purposes=WHAT)
    def defer(self, person: str, purposes: list[Purpose]) -> None:
        if person not in self.known:
            with pytest.raises(UnknownPersonError):
                self.registry.defer(person, purposes)
        elif not all((person, purpose) in self.asked for purpose in purposes):
            with pytest.raises((TransitionRefused, UnknownPersonError)):
                self.registry.defer(person, purposes)
        else:
            self.registry.defer(person, purposes)
            self.asked -= {(person, purpose) for purpose in purposes}

    @rule(person=WHO, cause=st.sampled_from(["request", "retention", "controller"]))
    def erase(self, person: str, cause: str) -> None:
        if person not in self.known:
            with pytest.raises(UnknownPersonError):
                self.registry.erase(person, cause=cause)
            return
        erased = self.registry.erase(person, cause=cause)
        mine = [key for key in self.faces if key[0] == person]
        assert (erased.people, erased.items, erased.pending) == (1, len(mine), ())
        self.gone(person)

    def gone(self, person: str) -> None:
        """Take a person out of what is expected."""
        self.erasures += 1
        self.known.discard(person)
        self.staff.discard(person)
        self.logged = [entry for entry in self.logged if entry[0] != person]
        for key in [key for key in self.faces if key[0] == person]:
            del self.faces[key]
        for purpose in PURPOSES:
            self.yes.pop((person, purpose), None)
            self.asked.discard((person, purpose))

    @rule(person=WHO, name=st.sampled_from(["f1", "f2"]), body=st.binary(max_size=20))
    def keep_a_face(self, person: str, name: str, body: bytes) -> None:
        item = NewItem(person=person, item_id=name, body=body)
        if (person, name) in self.faces:
            return
        stored = Vault(self.registry).put([item], SHOP).stored
        assert stored == any(self.live(person, purpose) for purpose in PURPOSES)
        if stored:
            self.faces[person, name] = body

    @rule(person=WHO)
    def take_out_what_is_kept(self, person: str) -> None:
        found = {i.item_id: i.body for i in Vault(self.registry).of_person(person)}
        assert found == {name: body for (who, name), body in self.faces.items() if who == person}

    @rule()
    def announce(self) -> None:
        self.registry.announce_reading(notice(self.version), place="the entrance")
        self.announced = True

    @rule(days=st.integers(0, 5))
    def rotate_signing_key(self, days: int) -> None:
        self.registry.rotate_signing_key(overlap=timedelta(days=days))

    @rule(forget=st.booleans())
    def rotate_person_keys(self, forget: bool) -> None:
        epoch = self.registry.rotate_person_keys()
        if forget:
            self.registry.forget_person_keys(epoch - 1)

    @rule(person=WHO, purpose=st.sampled_from(PURPOSES))
    def ask_the_second_process(self, person: str, purpose: Purpose) -> None:
        if self.second is None:
            self.second = ConsentRegistry.open(self.path, mode="production", clock=lambda: self.now)
        assert self.second.preview(person, purpose, SHOP).permit is self.live(person, purpose)
        assert set(self.second.persons()) == self.known

    @rule(person=WHO, purposes=WHAT, term=TERM)
    def renew(self, person: str, purposes: list[Purpose], term: timedelta) -> None:
        possible = (
            person in self.known
            and person not in self.staff
            and all((person, purpose) in self.yes for purpose in purposes)
        )
        try:
            self.registry.renew(person, purposes, notice=notice(self.version), valid_for=term)
        except (UnknownPersonError, StaffRefused, TransitionRefused, NoticeRefused):
            assert not possible
            return
        assert possible
        for purpose in purposes:
            self.yes[person, purpose] = (self.now + term, self.version)
            self.asked.discard((person, purpose))

    @rule(person=WHO, purposes=st.none() | WHAT, back=st.integers(0, 3))
    def withdraw(self, person: str, purposes: list[Purpose] | None, back: int) -> None:
        truth = self.now
        self.now -= timedelta(days=back)  # even with the clock set back
        if person not in self.known:
            with pytest.raises(UnknownPersonError):
                self.registry.withdraw(person, purposes)
        else:
            self.registry.withdraw(person, purposes)
            for purpose in purposes or PURPOSES:
                self.yes.pop((person, purpose), None)
        self.now = truth

    @rule(person=WHO)
    def refuse(self, person: str) -> None:
        self.registry.refuse(
            person, age_band=AgeBand.FROM_25, jurisdiction="IE", notice=notice(self.version)
        )
        self.known.add(person)
        for purpose in PURPOSES:
            self.yes.pop((person, purpose), None)
            self.asked.discard((person, purpose))

    @rule(person=WHO, band=st.sampled_from([b for b in AgeBand if not b.is_adult]))
    def turn_out_a_minor(self, person: str, band: AgeBand) -> None:
        with pytest.raises((MinorRefused, UnknownAgeRefused)):
            self.registry.grant(
                person, PURPOSES, age_band=band, jurisdiction="FR", notice=notice(self.version)
            )
        if band.is_minor and person in self.known:
            self.gone(person)  # what is kept of a minor is a count
        for purpose in PURPOSES:
            self.yes.pop((person, purpose), None)

    @rule(person=WHO, role=st.sampled_from([Role.EMPLOYEE, Role.STUDENT]))
    def start_working_there(self, person: str, role: Role) -> None:
        with pytest.raises(StaffRefused):
            self.registry.grant(
                person,
                [Purpose.TRAINING],
                age_band=AgeBand.FROM_35,
                jurisdiction="IE",
                notice=notice(self.version),
                role=role,
            )
        self.known.add(person)
        self.staff.add(person)
        self.yes.pop((person, Purpose.TRAINING), None)
        self.asked.discard((person, Purpose.TRAINING))

    @rule()
    def change_the_notice(self) -> None:
        self.version += 1
        self.registry.notice(notice(self.version))

    @rule(days=st.integers(0, 20))
    def wait(self, days: int) -> None:
        self.now += timedelta(days=days)

    @precondition(lambda self: self.known)
    @rule()
    def reopen(self) -> None:
        self.registry.close()
        self.registry = ConsentRegistry.open(self.path, mode="production", clock=lambda: self.now)

    @rule(person=WHO)
    def ask_in_the_past(self, person: str) -> None:
        for purpose in PURPOSES:
            at = self.now - timedelta(days=2000)
            assert not self.registry.decide(person, purpose, SHOP, at=at).permit
            self.log(person, purpose, False)

    def log(self, person: str, purpose: Purpose, permit: bool) -> None:
        if person in self.known:  # of a stranger the log keeps the answer, and not who asked
            self.logged.append((person, purpose, permit))

    @invariant()
    def permits_exactly_the_living(self) -> None:
        for purpose in PURPOSES:
            want = [self.live(person, purpose) for person in PEOPLE]
            got = [self.registry.decide(p, purpose, SHOP) for p in PEOPLE]
            assert [decision.permit for decision in got] == want
            for person, permit in zip(PEOPLE, want, strict=True):
                self.log(person, purpose, permit)
            gate = ConsentGate(self.registry)
            faces = SealedFaces(PEOPLE, PEOPLE, lambda rows: rows)
            admitted = gate.admit(faces, purpose, SHOP)
            assert admitted.rows.tolist() == np.flatnonzero(want).tolist()
            assert gate.still_permitted(PEOPLE, purpose, SHOP).tolist() == want

    @invariant()
    def the_erased_are_unknown(self) -> None:
        strangers = [person for person in PEOPLE if person not in self.known]
        assert set(self.registry.persons()) == self.known
        assert all(self.registry.history(person) == () for person in strangers)
        assert sum(Vault(self.registry).counts().values()) == len(self.faces)
        rows = len(self.known) + self.erasures
        assert sum(self.registry.keys.punctured(pid) for pid in range(rows)) == self.erasures

    @invariant()
    def log_only_ever_grew(self) -> None:
        head = self.registry.head()
        for size, root in self.heads[-3:]:
            proof = self.registry.consistency_proof(size)
            merkle.verify_consistency(
                size, head.seq, proof, bytes.fromhex(root), bytes.fromhex(head.root)
            )
        self.heads.append((head.seq, head.root))

    def teardown(self) -> None:
        if hasattr(self, "registry"):
            try:
                verified = self.registry.verify()
                assert (verified.events, verified.root) == tuple(self.registry.head())
                assert set(self.registry.persons()) == self.known
                found = [(d.person, d.purpose, d.permit) for d in self.registry.decisions()]
                assert [entry for entry in found if entry[0] is not None] == self.logged
            finally:
                self.registry.close()
                if self.second is not None:
                    self.second.close()
                shutil.rmtree(self.folder)


TestRegistry = Registry.TestCase
TestRegistry.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)
