"""What everybody may rely on, whatever database holds the registry."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from privemo_consent import (
    AgeBand,
    ConsentGate,
    ConsentRegistry,
    ConsentStatus,
    Context,
    MinorRefused,
    ModeMismatchError,
    Purpose,
    Reason,
    RegistryBusyError,
    RegistryExistsError,
    RegistryFullError,
    RegistryMissingError,
    SealedFaces,
    TransitionRefused,
    UnknownPersonError,
    merkle,
)
from tests.contract.processes import Worker, finish, go, kill, start
from tests.support.consent import PARTY, consent_notice, grant, in_child
from tests.support.postgres import PostgresServer
from tests.support.races import race_until_at_once

SHOP = Context(setting="retail", jurisdiction="IE")
TRAINING = Purpose.TRAINING


class Home(NamedTuple):
    """Where a registry's database and its keys are."""

    place: str
    keys: str

    def open(self, busy_timeout_ms: int = 30_000, readonly: bool = False) -> ConsentRegistry:
        return ConsentRegistry.open(
            self.place,
            mode="production",
            keys=self.keys,
            busy_timeout_ms=busy_timeout_ms,
            readonly=readonly,
        )

    def start(self, act: str, *people: str) -> Worker:
        return start("registry_worker", act, self.place, self.keys, *people)


def reason(registry: ConsentRegistry, person: str) -> Reason:
    return registry.decide(person, TRAINING, SHOP).reason


class RegistryContract(ABC):
    @pytest.fixture
    @abstractmethod
    def home(self) -> Home:
        """Where no registry stands yet."""

    @pytest.fixture
    def registry(self, home: Home) -> Iterator[ConsentRegistry]:
        with ConsentRegistry.create(
            home.place, mode="production", controller=PARTY, keys=home.keys
        ) as registry:
            registry.notice(consent_notice())
            registry.grant_many([grant(f"p{i:02d}") for i in range(20)])
            yield registry

    # -- what is recorded ----------------------------------------------------------------------

    def test_consent_lives_ends_and_lives_again(self, registry: ConsentRegistry) -> None:
        assert reason(registry, "nobody") is Reason.NO_RECORD
        assert reason(registry, "p01") is Reason.PERMITTED
        assert registry.renew("p01")[0].status is ConsentStatus.RENEWED
        assert registry.withdraw("p01")[0].status is ConsentStatus.WITHDRAWN
        assert reason(registry, "p01") is Reason.WITHDRAWN
        assert registry.withdraw("p01") == ()
        registry.grant_many([grant("p01")])
        assert reason(registry, "p01") is Reason.PERMITTED
        said = [event.status for event in registry.history("p01")]
        assert said == [
            ConsentStatus.GIVEN,
            ConsentStatus.RENEWED,
            ConsentStatus.WITHDRAWN,
            ConsentStatus.GIVEN,
        ]
        registry.verify()

    def test_a_no_is_recorded_as_easily(self, registry: ConsentRegistry) -> None:
        notice = consent_notice().hash
        registry.refuse(
            "newcomer", [TRAINING], age_band=AgeBand.FROM_25, jurisdiction="IE", notice=notice
        )
        assert reason(registry, "newcomer") is Reason.REFUSED
        registry.refuse("p02")
        assert reason(registry, "p02") is Reason.WITHDRAWN

    def test_a_kiosk_serves_it(self, registry: ConsentRegistry, tmp_path: Path) -> None:
        from privemo_consent.kiosk.codes import person_of
        from tests.support.kiosk import Shopper, running, settings_for

        with running(registry, settings_for(tmp_path)) as url, Shopper(url) as shopper:
            person = person_of(shopper.decide())
            assert reason(registry, person) is Reason.PERMITTED
            assert shopper.get("held.json").json()["person"] == person
            shopper.post("withdraw")
            assert reason(registry, person) is Reason.WITHDRAWN
            assert shopper.post("erase").status_code == 200
        assert reason(registry, person) is Reason.NO_RECORD
        registry.verify()

    def test_what_is_refused_leaves_nothing(self, registry: ConsentRegistry) -> None:
        before, people = registry.head(), registry.persons()
        with pytest.raises(UnknownPersonError):
            registry.withdraw("nobody")
        with pytest.raises(TransitionRefused):
            registry.grant_many([grant("fresh"), grant("p03")])
        assert (registry.head(), registry.persons()) == (before, people)
        with pytest.raises(MinorRefused):
            registry.grant(
                "child",
                [TRAINING],
                age_band=AgeBand.UNDER_13,
                jurisdiction="IE",
                notice=consent_notice().hash,
            )
        assert "child" not in registry.persons()
        assert registry.log_seq == before.seq + 1, "a count, and no more"
        registry.verify()

    def test_a_gate_admits_from_one_moment(self, registry: ConsentRegistry) -> None:
        registry.withdraw("p04")
        people = [f"p{i:02d}" for i in range(20)] + ["nobody"]
        faces = SealedFaces(people, [f"f{i}" for i in range(21)], lambda rows: rows)
        admitted = ConsentGate(registry).admit(faces, TRAINING, SHOP)
        assert admitted.counts.refused_faces == {Reason.WITHDRAWN: 1, Reason.NO_RECORD: 1}

    def test_uses_are_logged(self, registry: ConsentRegistry) -> None:
        for batch in range(3):
            registry.record_use(
                ["p01", "p02"], TRAINING, run="r", round=1, store="s", batch=batch, log_seq=5
            )
        assert [use.batch for use in registry.uses()] == [0, 1, 2]
        assert next(registry.uses()).persons == ("p01", "p02")
        registry.verify()

    def test_proofs_hold(self, registry: ConsentRegistry) -> None:
        old = registry.head()
        registry.grant_many([grant(f"q{i:02d}") for i in range(40)])
        new = registry.head()
        root = bytes.fromhex(new.root)
        for seq in (0, 7, old.seq, new.seq - 1):
            leaf = merkle.leaf_hash(registry.leaf(seq))
            merkle.verify_inclusion(leaf, seq, new.seq, registry.inclusion_proof(seq), root)
        merkle.verify_consistency(
            old.seq, new.seq, registry.consistency_proof(old.seq), bytes.fromhex(old.root), root
        )
        assert registry.log_root(old.seq) == old.root

    # -- opening again ---------------------------------------------------------------------------

    def test_all_is_there_after_reopening(self, registry: ConsentRegistry, home: Home) -> None:
        registry.withdraw("p05")
        said = (registry.head(), registry.uses_head(), registry.persons(), registry.history("p05"))
        registry.close()
        with home.open() as again:
            assert (
                again.head(),
                again.uses_head(),
                again.persons(),
                again.history("p05"),
            ) == said
            assert reason(again, "p05") is Reason.WITHDRAWN
            assert reason(again, "p06") is Reason.PERMITTED
            again.verify()

    def test_a_place_holds_one_registry(self, registry: ConsentRegistry, home: Home) -> None:
        with pytest.raises(RegistryExistsError):
            ConsentRegistry.create(
                home.place, mode="production", controller=PARTY, keys=f"{home.keys}.other"
            )
        with pytest.raises(ModeMismatchError):
            ConsentRegistry.open(home.place, mode="simulation", keys=home.keys)
        registry.verify()

    def test_no_registry_is_told(self, home: Home) -> None:
        with pytest.raises(RegistryMissingError, match=r"ConsentRegistry\.create"):
            home.open()

    def test_opened_for_reading_it_verifies_and_writes_nothing(
        self, registry: ConsentRegistry, home: Home
    ) -> None:
        with home.open(readonly=True) as reader:
            reader.verify()
            assert reader.head() == registry.head()
            with pytest.raises(RegistryFullError, match="may not be written"):
                reader.withdraw("p05")

    # -- many at once ----------------------------------------------------------------------------

    def test_a_withdrawal_is_seen_by_everyone_at_once(
        self, registry: ConsentRegistry, home: Home
    ) -> None:
        with home.open() as kiosk:
            assert reason(registry, "p07") is Reason.PERMITTED
            kiosk.withdraw("p07")
            assert reason(registry, "p07") is Reason.WITHDRAWN

    def test_a_lock_that_does_not_come_free_is_told_and_nothing_is_lost(
        self, registry: ConsentRegistry, home: Home
    ) -> None:
        with home.open(busy_timeout_ms=80) as kiosk:
            with registry._store.write():
                with pytest.raises(RegistryBusyError, match="try again"):
                    kiosk.withdraw("p08")
                assert kiosk.log_seq == registry.log_seq, "reading goes on"
            kiosk.withdraw("p08")
        assert reason(registry, "p08") is Reason.WITHDRAWN

    def test_kiosks_writing_at_once_lose_and_double_nothing(
        self, registry: ConsentRegistry, home: Home
    ) -> None:
        race_until_at_once(lambda race: self._race_to_write(registry, home, str(race)))

    def _race_to_write(self, registry: ConsentRegistry, home: Home, race: str) -> list[str]:
        """Let three kiosks enrol twenty people each; return who wrote each event, in the log's order."""
        before = registry.log_seq
        people = {
            kiosk: [f"{kiosk}-{race}-{i:02d}" for i in range(20)]
            for kiosk in ("east", "west", "north")
        }
        kiosks = {kiosk: home.start("grant", *names) for kiosk, names in people.items()}
        for worker in kiosks.values():
            go(worker)
        assert {kiosk: finish(worker) for kiosk, worker in kiosks.items()} == people
        assert registry.log_seq == before + 60
        registry.verify()
        order = []
        for kiosk, names in people.items():
            seqs = [registry.history(name)[0].seq for name in names]
            assert seqs == sorted(seqs), "each kiosk's events stand in the order it was told"
            order += [(seq, kiosk) for seq in seqs]
        assert len({seq for seq, _ in order}) == 60
        return [kiosk for _, kiosk in sorted(order)]

    def test_racing_the_same_withdrawal_writes_it_once(
        self, registry: ConsentRegistry, home: Home
    ) -> None:
        people = [f"p{i:02d}" for i in range(12)]
        racers = [home.start("withdraw", *people) for _ in range(3)]
        for racer in racers:
            go(racer)
        said = [finish(racer) for racer in racers]
        for i, person in enumerate(people):
            assert sorted(lines[i] for lines in said) == [
                f"{person} 0",
                f"{person} 0",
                f"{person} 1",
            ]
            assert len(registry.history(person)) == 2
        registry.verify()

    def test_who_decides_never_permits_after_a_withdrawal_was_told(
        self, registry: ConsentRegistry, home: Home
    ) -> None:
        person = "p09"
        decider = home.start("decide", *[person] * 600)  # longer than a withdrawal takes
        go(decider)
        assert decider.stdout is not None
        assert decider.stdout.readline().split()[1] == Reason.PERMITTED.value
        registry.withdraw(person)
        acknowledged = time.monotonic()
        said = [line.split()[1] for line in finish(decider)]
        assert time.monotonic() > acknowledged
        told = said.index(Reason.WITHDRAWN.value)
        assert set(said[told:]) == {Reason.WITHDRAWN.value}, "it never permits again"
        registry.verify()

    @pytest.mark.parametrize("act", ["grant", "withdraw"])
    def test_kill_9_keeps_every_promise(
        self, registry: ConsentRegistry, home: Home, act: str
    ) -> None:
        people = [f"k{i:03d}" for i in range(200)]
        if act == "withdraw":
            registry.grant_many([grant(person) for person in people])
        worker = home.start(act, *people)
        go(worker)
        assert worker.stdout is not None
        promised = [worker.stdout.readline().split()[0] for _ in range(6)]
        time.sleep(0.004)  # somewhere within the next act
        promised += [line.split()[0] for line in kill(worker)]
        assert len(promised) < len(people)
        with home.open() as again:
            again.verify()
            want = Reason.PERMITTED if act == "grant" else Reason.WITHDRAWN
            assert {reason(again, person) for person in promised} == {want}
            assert {len(again.history(person)) for person in promised} == {
                1 if act == "grant" else 2
            }
            again.withdraw("p10")
            again.verify()

    def test_a_forked_child_writes_on_connections_of_its_own(
        self, registry: ConsentRegistry
    ) -> None:
        assert reason(registry, "p05") is Reason.PERMITTED
        assert in_child(lambda: registry.withdraw("p05") and None) == 0
        assert reason(registry, "p05") is Reason.WITHDRAWN
        registry.withdraw("p06")
        registry.verify()


class TestSqliteRegistry(RegistryContract):
    @pytest.fixture
    def home(self, tmp_path: Path) -> Home:
        return Home(str(tmp_path / "consent.sqlite"), str(tmp_path / "consent.keys"))


class TestPostgresRegistry(RegistryContract):
    @pytest.fixture
    def home(self, tmp_path: Path, postgres: PostgresServer) -> Home:
        return Home(postgres.fresh(), str(tmp_path / "consent.keys"))
