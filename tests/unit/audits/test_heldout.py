"""The ledger of the people measured, recomputed by other accountants; what was tampered with is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from privemo_audits import Report, build_report
from privemo_audits.accounting import Release, epsilon_dp_accounting, epsilon_rdp
from privemo_audits.errors import RunFilesError
from privemo_audits.heldout import FILE
from privemo_audits.privacy import measure_privacy
from privemo_audits.report_privacy import Privacy
from privemo_audits.runfiles import load_run
from tests.support.audit_runs import RUN_ID, RunMaker, chain, iso, sha
from tests.unit.audits.test_privacy import check

Row = dict[str, Any]
NOISE = {"tables": 4, "resolution": 16, "scale": 69, "noise_stores": 1}


def row(done: int = 1, **changes: Any) -> Row:
    """The entry of release number `done` of this noise; two columns of the run make 4 tables."""
    from datetime import UTC, datetime

    made = {**NOISE, **changes}
    multiplier = (made["noise_stores"] / made["tables"]) ** 0.5 * made["scale"] / made["resolution"]
    cost = epsilon_rdp([Release(multiplier, 1.0, 1, discrete=True)] * done, 1e-5)
    return {
        "schema": "privemo.heldout-ledger/1",
        "at": iso(datetime.now(UTC)),
        "store": "store-01",
        "run_id": RUN_ID,
        "mechanism": "discrete_gaussian" if made["noise_stores"] == 1 else "discrete_gaussian_sum",
        "unit": "person",
        "noise_multiplier": multiplier,
        "delta": 1e-5,
        "epsilon_rdp": cost,
        "epsilon_prv": cost,
        "release_sha256": sha(f"release {done}"),
        **made,
    }


def write(run: RunMaker, rows: list[Row], *, head: bool = True) -> None:
    lines = chain(rows)
    path = run.path(0, FILE)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if head:
        said = {"entries": len(lines), "hash": lines[-1]["hash"]}
        path.with_suffix(".head").write_text(json.dumps(said))


def failed(run: RunMaker) -> tuple[Report, set[str]]:
    report = build_report(run.directory)
    return report, set(report.failed_checks)


def privacy_of(run: RunMaker) -> Privacy:
    return measure_privacy(load_run(run.directory))[0]


def wrong_with(run: RunMaker, kind: str) -> list[str]:
    """What is found of that kind, without the rest of an audit."""
    _, found = measure_privacy(load_run(run.directory))
    return [violation.detail for violation in found if violation.kind == kind]


def test_without_such_a_ledger_a_report_is_as_it_was(truthful: RunMaker) -> None:
    content = json.loads(build_report(truthful.directory).to_json())
    assert "held_out" not in content["privacy"]
    assert not any("held_out_within" in c["id"] for c in content["checks"])


def test_releases_are_recomputed_and_stand_apart_from_training(run: RunMaker) -> None:
    before = build_report(run.directory).privacy
    write(run, [row(1), row(2)])
    report, wrong = failed(run)
    assert not wrong
    block = report.privacy.held_out
    assert block is not None
    (store,) = block.stores
    done = [Release(69 / 32, 1.0, 1, discrete=True)] * 2
    assert store.recomputed_rdp == pytest.approx(epsilon_rdp(done, 1e-5))
    assert store.recomputed_pld is not None
    # The discrete Gaussian itself, by dp-accounting: below the bound from its Renyi divergence, and near it.
    assert 0.8 < store.recomputed_pld / epsilon_dp_accounting(done, 1e-5, "pld") < 1
    assert block.epsilon_max_person == store.epsilon_rdp
    assert report.privacy.epsilon_max_person == before.epsilon_max_person  # of other people
    passed, evidence = check(report, "privacy.held_out_within_budget")
    assert passed
    assert "2 releases" in evidence
    assert report.privacy.ledger_chain.entries == before.ledger_chain.entries + 2


def test_a_wide_discrete_gaussian_costs_what_the_gaussian_does(run: RunMaker) -> None:
    """An independent figure: dp-accounting's PLD of the continuous Gaussian of that noise."""
    from dp_accounting import GaussianDpEvent
    from dp_accounting.pld import PLDAccountant

    write(run, [row()])
    block = privacy_of(run).held_out
    assert block is not None
    accountant = PLDAccountant(value_discretization_interval=1e-3)
    accountant.compose(GaussianDpEvent(69 / 32))
    assert block.stores[0].recomputed_pld == pytest.approx(accountant.get_epsilon(1e-5), rel=0.01)


def test_over_the_budget_fails_the_audit(run: RunMaker) -> None:
    write(run, [row(k) for k in range(1, 31)])
    _, wrong = failed(run)
    assert wrong == {"privacy.held_out_within_budget"}


def test_what_was_spent_before_the_run_counts_for_them_as_well(run: RunMaker) -> None:
    write(run, [row()])
    earlier = {"noise_multiplier": 0.6, "sample_rate": 1.0, "steps": 1}
    run.edit_json("run.json", lambda r: r["privacy"].update(spent_before=[earlier]))
    report, wrong = failed(run)
    block = report.privacy.held_out
    assert block is not None
    assert block.epsilon_max_person is not None
    assert block.epsilon_max_person > epsilon_rdp([Release(0.6, 1.0, 1)], 1e-5)
    assert "privacy.held_out_within_budget" in wrong


def test_in_several_stores_a_person_is_counted_several_times(run: RunMaker) -> None:
    write(run, [row()])
    one = privacy_of(run).held_out
    run.edit_json("run.json", lambda r: r["privacy"].update(max_stores_per_person=2))
    two = privacy_of(run).held_out
    assert one is not None
    assert two is not None
    assert two.epsilon_max_person == pytest.approx(
        epsilon_rdp([Release(69 / 32, 1.0, 1, discrete=True)] * 2, 1e-5)
    )
    write(run, [row(noise_stores=2)])
    three = privacy_of(run).held_out
    assert three is not None
    assert three.epsilon_max_person is None  # one sum, moved twice: nothing bounds that


def raised(what: str, value: Any) -> Callable[[Row], Row]:
    return lambda r: {**r, what: value}


@pytest.mark.parametrize(
    ("spoil", "kind", "words"),
    [
        (raised("noise_multiplier", 9.0), "ledger_entry", "its noise makes"),
        (raised("epsilon_rdp", 0.1), "epsilon_underclaimed", "claims 0.1000 by rdp"),
        (raised("epsilon_prv", 0.1), "epsilon_underclaimed", "claims 0.1000 by prv"),
        (raised("scale", 30), "epsilon_underclaimed", "claims"),
        (raised("mechanism", "laplace"), "ledger_entry", "cannot be recomputed"),
        (raised("mechanism", "discrete_gaussian_sum"), "ledger_entry", "1 stores' noise"),
        (raised("unit", "image"), "ledger_entry", "protects a 'image'"),
        (raised("store", "store-02"), "ledger_entry", "belongs to store 'store-02'"),
        (raised("delta", 1e-3), "ledger_entry", "the run promises"),
        (raised("tables", 1), "ledger_entry", "counts a person in 1 tables"),
    ],
)
def test_an_entry_that_lies_is_named_though_its_hash_is_right(
    run: RunMaker, spoil: Callable[[Row], Row], kind: str, words: str
) -> None:
    write(run, [spoil(row())])
    assert any(words in detail for detail in wrong_with(run, kind))


def test_what_is_wrong_with_an_entry_fails_the_audit(run: RunMaker) -> None:
    write(run, [{**row(), "noise_multiplier": 9.0, "epsilon_rdp": 0.1}])
    assert failed(run)[1] == {"ledger.covers_updates", "privacy.recomputed_agrees"}
    flip(run.path(0, FILE))
    assert "ledger.chain" in failed(run)[1]


def flip(path: Any) -> None:
    path.write_bytes(path.read_bytes().replace(b'"scale": 69', b'"scale": 96', 1))


def cut(path: Any) -> None:
    path.write_text(path.read_text().splitlines(keepends=True)[0])


def gone(path: Any) -> None:
    path.unlink()


def swapped(path: Any) -> None:
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (flip, "does not match its hash"),
        (cut, "ends before entry 1"),
        (gone, "ends before entry 1"),
        (swapped, "does not follow the entry before it"),
    ],
)
def test_one_changed_byte_and_one_missing_line_are_found(
    run: RunMaker, tamper: Callable[[Any], None], words: str
) -> None:
    write(run, [row(1), row(2)])
    tamper(run.path(0, FILE))
    assert any(words in detail for detail in wrong_with(run, "ledger_chain"))


def test_a_torn_line_is_named(run: RunMaker) -> None:
    write(run, [row()])
    path = run.path(0, FILE)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RunFilesError, match="heldout-ledger"):
        measure_privacy(load_run(run.directory))


def test_a_run_without_privacy_has_its_chains_checked_all_the_same(
    make_run: Callable[..., RunMaker],
) -> None:
    run = make_run(private=False, trained=12, held_out=12, stores=1)
    write(run, [row()])
    flip(run.path(0, FILE))
    assert wrong_with(run, "ledger_chain")


def test_whoever_was_measured_in_another_run_may_be_trained_on_in_this_one(run: RunMaker) -> None:
    before = privacy_of(run).epsilon_max_person
    write(run, [{**row(), "run_id": "an earlier run"}])
    now = privacy_of(run)
    training = [Release(2.0, 0.2, 5)] * 2
    both = epsilon_rdp([*training, Release(69 / 32, 1.0, 1, discrete=True)], 1e-5)
    assert now.epsilon_max_person == pytest.approx(both)
    assert before is not None
    assert both > before


def test_a_ledger_whose_head_is_gone_is_named(run: RunMaker) -> None:
    write(run, [row(1), row(2)])
    assert "stores/store-01/heldout-ledger.head" in build_report(run.directory).evidence.files
    write(run, [row(1)])  # cut, and the head with it
    run.path(0, FILE).with_suffix(".head").unlink()
    (detail,) = wrong_with(run, "ledger_chain")
    assert "heldout-ledger.head is missing" in detail


CHOSEN = {"tables": 1, "resolution": 500, "scale": 2000, "mechanism": "exponential"}


def test_a_choice_is_recomputed_and_composed_with_counts(run: RunMaker) -> None:
    """Epsilon 0.5, pure: at most the divergence of a Gaussian of twice its inverse."""
    write(run, [row(**CHOSEN)])
    report, wrong = failed(run)
    assert not wrong
    block = report.privacy.held_out
    assert block is not None
    (store,) = block.stores
    assert store.mechanisms == ("exponential",)
    assert store.recomputed_rdp == pytest.approx(
        epsilon_rdp([Release(4.0, 1.0, 1, discrete=True)], 1e-5)
    )
    assert store.recomputed_pld is not None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tables": 3, "scale": 6000}, "speak 3 times"),
        ({"noise_multiplier": 9.0}, "states a noise multiplier of 9"),
        ({"noise_stores": 3}, "3 stores' noise"),
        ({"mechanism": "laplace"}, "cannot be recomputed"),
        ({"delta": 1e-3}, "the run promises"),
    ],
)
def test_a_choice_that_is_none_is_named(run: RunMaker, changes: Row, told: str) -> None:
    write(run, [row(**{**CHOSEN, **changes})])
    assert any(told in detail for detail in wrong_with(run, "ledger_entry"))


def test_a_choice_that_claims_too_little_is_named(run: RunMaker) -> None:
    write(run, [row(**CHOSEN, epsilon_rdp=0.5, epsilon_prv=0.5)])
    assert wrong_with(run, "epsilon_underclaimed")
