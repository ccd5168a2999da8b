from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from privemo_consent import (
    AgeBand,
    ConsentGate,
    ConsentMix,
    ConsentRegistry,
    Context,
    MalformedError,
    ModeMismatchError,
    Party,
    Purpose,
    Reason,
    SealedFaces,
    simulate_consents,
)

NAMES = [f"p{i:05d}" for i in range(4000)]
TRAINING = Purpose.TRAINING


def admitted(registry: ConsentRegistry, shop: Context, purpose: Purpose, bands: Any) -> Any:
    faces = SealedFaces(
        NAMES, [str(i) for i in range(len(NAMES))], lambda rows: rows, attested_age_band=bands
    )
    return ConsentGate(registry).admit(faces, purpose, shop)


def test_the_mix_meets_the_gate_as_it_was_drawn(simulation: ConsentRegistry, shop: Context) -> None:
    made = simulate_consents(simulation, NAMES, seed=1)
    counts = admitted(simulation, shop, TRAINING, made.attested_age_band).counts
    kinds = made.kinds
    assert counts.admitted_persons == kinds["granted"] + kinds["will_withdraw"]
    assert counts.refused_persons == {
        Reason.NO_RECORD: kinds["no_record"],
        Reason.REFUSED: kinds["refused"],
        Reason.WITHDRAWN: kinds["withdrawn"],
        Reason.EXPIRED: kinds["expired"],
        Reason.WRONG_PURPOSE: kinds["other_purpose"],
        Reason.MINOR: kinds["minor"],
        Reason.UNKNOWN_AGE: kinds["unknown_age"],
        Reason.STAFF: kinds["staff"],
    }
    assert all(kinds.values()), "every refusal of the mix has somebody to refuse"
    assert 0.75 < counts.admitted_persons / len(NAMES) < 0.80
    audits = admitted(simulation, shop, Purpose.FAIRNESS_AUDIT, made.attested_age_band)
    assert 0.60 < audits.counts.admitted_persons / len(NAMES) < 0.72
    assert simulation.verify().events == simulation.log_seq


def test_minors_by_age_all_say_so_and_leave_no_name(
    simulation: ConsentRegistry, shop: Context
) -> None:
    bands = np.array([band.value for band in AgeBand])[np.arange(len(NAMES)) % len(AgeBand)]
    made = simulate_consents(simulation, NAMES, seed=1, true_age_band=bands)
    minors = {n for n, band in zip(NAMES, bands, strict=True) if AgeBand(band).is_minor}
    unknown = {n for n, band in zip(NAMES, bands, strict=True) if band == "unknown"}
    assert not (minors | unknown) & set(simulation.persons())
    counts = admitted(simulation, shop, TRAINING, made.attested_age_band).counts
    assert counts.refused_persons[Reason.MINOR] == len(minors) == made.kinds["minor"]
    assert counts.refused_persons[Reason.UNKNOWN_AGE] >= len(unknown)
    assert (
        sum(simulation.age_refusals().values()) == made.kinds["minor"] + made.kinds["unknown_age"]
    )
    adults = np.isin(bands, [band.value for band in AgeBand if band.is_adult])
    told = made.attested_age_band[adults]
    assert ((told == bands[adults]) | (told == "unknown")).all()


def test_who_does_what_depends_on_the_seed_alone(
    party: Party, tmp_path: Any, shop: Context
) -> None:
    def run(seed: int, name: str) -> tuple[Any, ...]:
        with ConsentRegistry.create(
            tmp_path / name, mode="simulation", controller=party
        ) as registry:
            made = simulate_consents(registry, NAMES, seed=seed)
            rows = admitted(registry, shop, TRAINING, made.attested_age_band).rows.tolist()
            return rows, made.attested_age_band.tolist(), made.will_withdraw, dict(made.kinds)

    assert run(3, "a") == run(3, "b")
    assert run(3, "c") != run(4, "d")


def test_those_who_will_withdraw_are_admitted_until_they_do(
    simulation: ConsentRegistry, shop: Context
) -> None:
    made = simulate_consents(simulation, NAMES, seed=2)
    gate = ConsentGate(simulation)
    later = list(made.will_withdraw)
    assert len(later) == made.kinds["will_withdraw"] > 40
    assert gate.still_permitted(later, TRAINING, shop).all()
    assert simulation.withdraw_many(later) >= len(later)
    assert not gate.still_permitted(later, TRAINING, shop).any()


def test_every_record_is_marked(simulation: ConsentRegistry) -> None:
    simulate_consents(simulation, NAMES[:50], seed=2)
    for seq in range(simulation.log_seq):
        assert b'"simulated":true' in simulation.leaf(seq)


def test_production_takes_no_simulation(registry: ConsentRegistry) -> None:
    before = registry.head()
    with pytest.raises(ModeMismatchError, match="production"):
        simulate_consents(registry, NAMES, seed=1)
    assert registry.head() == before


@pytest.mark.parametrize(
    ("persons", "bands"),
    [
        (["a", "a"], None),
        (["a", "b"], ["18_24"]),
        (["a", "b"], ["18_24", "young"]),
        (["a", ""], None),
    ],
)
def test_people_that_are_none_are_refused(
    simulation: ConsentRegistry, persons: list[str], bands: list[str] | None
) -> None:
    mix = ConsentMix(
        granted=1.0,
        will_withdraw=0,
        refused=0,
        withdrawn=0,
        expired=0,
        other_purpose=0,
        unknown_age=0,
        staff=0,
        no_record=0,
        minor=0,
    )
    with pytest.raises(MalformedError):
        simulate_consents(simulation, persons, seed=1, true_age_band=bands, mix=mix)
    assert simulation.persons() == ()


@pytest.mark.parametrize("change", [{"granted": 0.9}, {"refused": -0.1}, {"also_audit": 1.5}])
def test_a_mix_adds_up(change: dict[str, float]) -> None:
    with pytest.raises(MalformedError):
        ConsentMix(**change)
