from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from privemo_consent import ConsentRegistry, Context, MalformedError, Purpose

TRAINING = Purpose.TRAINING


def permitted(registry: ConsentRegistry, snapshot: Any, shop: Context, *names: str) -> list[bool]:
    return snapshot.decide_many(list(names), shop, at=registry.now()).permit.tolist()


def test_a_snapshot_does_not_change(registry: ConsentRegistry, yes: Any, shop: Context) -> None:
    registry.grant("ann", [TRAINING], **yes())
    before = registry.snapshot(TRAINING)
    registry.withdraw("ann")
    registry.grant("bob", [TRAINING], **yes())
    after = registry.snapshot(TRAINING)
    assert permitted(registry, before, shop, "ann", "bob") == [True, False]
    assert permitted(registry, after, shop, "ann", "bob") == [False, True]
    assert before.log_seq < after.log_seq
    with pytest.raises(ValueError, match="read-only"):
        before.view.status[0] = 4


def test_the_same_snapshot_serves_until_something_changes(
    registry: ConsentRegistry, yes: Any
) -> None:
    first = registry.snapshot(TRAINING)
    assert registry.snapshot(TRAINING) is first
    registry.grant("ann", [TRAINING], **yes())
    assert registry.snapshot(TRAINING) is not first


def test_the_past_can_be_asked(registry: ConsentRegistry, yes: Any, shop: Context) -> None:
    seqs = [registry.log_seq]
    for person in ("ann", "bob", "kim"):
        registry.grant(person, [TRAINING], **yes())
        seqs.append(registry.log_seq)
    registry.withdraw("ann")
    seqs.append(registry.log_seq)
    want = [
        [False, False, False],
        [True, False, False],
        [True, True, False],
        [True, True, True],
        [False, True, True],
    ]
    for order in (range(5), range(4, -1, -1)):
        for i in order:
            snapshot = registry.snapshot(TRAINING, log_seq=seqs[i])
            assert permitted(registry, snapshot, shop, "ann", "bob", "kim") == want[i]
    with pytest.raises(MalformedError, match="log_seq"):
        registry.snapshot(TRAINING, log_seq=seqs[-1] + 1)
    with pytest.raises(MalformedError, match="log_seq"):
        registry.snapshot(TRAINING, log_seq=-1)


def test_whole_tables_agree_with_single_decisions(
    simulation: ConsentRegistry, shop: Context
) -> None:
    from privemo_consent import simulate_consents

    names = [f"p{i}" for i in range(400)]
    made = simulate_consents(simulation, names, seed=5)
    rng = np.random.default_rng(0)
    ages = np.where(rng.random(400) < 0.3, rng.uniform(5, 60, 400), np.nan)
    at = simulation.now() + timedelta(hours=1)
    verdicts = simulation.snapshot(TRAINING).decide_many(
        names, shop, at=at, estimated_age=ages, attested_age_band=made.attested_age_band
    )
    for i, name in enumerate(names):
        single = simulation.decide(
            name,
            TRAINING,
            shop,
            at,
            float(ages[i]),
            attested_age_band=str(made.attested_age_band[i]),
        )
        assert single.reason.value == verdicts.reasons[i]
    assert len(set(verdicts.reasons.tolist())) >= 8


@pytest.mark.parametrize("what", ["estimated_age", "attested_age_band"])
def test_evidence_of_another_length_is_refused(
    registry: ConsentRegistry, shop: Context, what: str
) -> None:
    evidence: dict[str, Any] = {what: ["30"]}
    with pytest.raises(MalformedError, match=what):
        registry.snapshot(TRAINING).decide_many(["ann", "bob"], shop, at=registry.now(), **evidence)


def test_a_person_registered_later_is_a_stranger_to_an_older_snapshot(
    registry: ConsentRegistry, yes: Any, shop: Context
) -> None:
    old = registry.snapshot(TRAINING)
    registry.grant("ann", [TRAINING], **yes())
    registry.snapshot(TRAINING)  # the index, which both share, knows ann now
    verdicts = old.decide_many(["ann", "eve", "ann"], shop, at=registry.now())
    assert verdicts.reasons.tolist() == ["no_record"] * 3
    assert len(verdicts.person_codes) == 2
