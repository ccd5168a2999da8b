"""A store that lost its ledger between two runs: the server of the second knows what the first one's knew."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from privemo.bench.deployed import laid_out
from privemo.cli import app
from privemo.client_app import app as client_app
from privemo.config import PrivacySettings, RunSettings
from privemo.errors import RunError
from privemo.federation.earlier import ledgers_before
from privemo.federation.identity import StoreCard, enroll
from privemo.federation.invitation import Invitation, join
from privemo.federation.server import init_federation
from privemo.grid import InProcessGrid
from privemo.ledger import Ledger
from privemo.runs import Run
from privemo.server_app import app as server_app

NAMES = ("store-01", "store-02", "store-03")
FORGOTTEN = NAMES[0]


def settings(*, seed: int = 0, epsilon: float = 1.0) -> RunSettings:
    return RunSettings.of(
        stores=3, rounds=1, steps_per_round=1, declared_people=10, consents="everyone",
        init="scratch", model="gray-cnn", seed=seed,
        privacy=PrivacySettings(epsilon=epsilon, sample_rate=0.5, spare_rounds=4),
    )  # fmt: skip


def run_all(chain: Path) -> Run:
    """All rounds of a federation whose stores lie beside it."""
    stores = [{"store-dir": str(chain.parent / "stores" / name)} for name in NAMES]
    InProcessGrid(client_app, stores).serve(server_app, run_dir=str(chain))  # type: ignore[arg-type]
    return Run(chain)


@pytest.fixture(scope="module")
def _once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("earlier")
    chain, _ = laid_out(folder, settings(), 30)
    run_all(chain)
    return chain.parent


@pytest.fixture
def here(_once: Path, tmp_path: Path) -> Path:
    """Stores that were in a run, which lies beside them as `chain`; `before` is a backup of before it."""
    shutil.copytree(_once.parent / "twin" / "stores", tmp_path / "here" / "before")
    return shutil.copytree(_once, tmp_path / "here", dirs_exist_ok=True)


def put_back(here: Path) -> None:
    """A store's disk is gone, and its folder comes from a backup of before the run."""
    shutil.rmtree(here / "stores" / FORGOTTEN)
    shutil.copytree(here / "before" / FORGOTTEN, here / "stores" / FORGOTTEN)


def cards(here: Path, *names: str) -> list[StoreCard]:
    return [StoreCard.read(here / "stores" / name / "card.json") for name in names or NAMES]


def next_run(here: Path, *after: Path) -> Run:
    """Another federation of the same stores, drawn up and run."""
    chain = here / "next"
    more = settings(seed=1, epsilon=8.0)  # its spare rounds leave room for the first run
    init_federation(chain, cards(here), more, hosts=["127.0.0.1"], after=after)
    for name in NAMES:
        join(here / "stores" / name, Invitation.read(chain / "invitations" / f"{name}.json"))
    return run_all(chain)


def statuses(run: Run) -> dict[str, str]:
    (manifest,) = run.manifests()
    return {name: f"{s['status']} {s['reason'] or ''}" for name, s in manifest["stores"].items()}


def test_a_ledger_that_goes_on_is_let_in_and_one_that_is_gone_is_not(here: Path) -> None:
    put_back(here)
    found = statuses(next_run(here, here / "chain"))
    assert found[FORGOTTEN].startswith("refused ledger_lost")
    assert {found[name] for name in NAMES[1:]} == {"trained "}
    assert not (here / "stores" / FORGOTTEN / "ledger.jsonl").exists(), "no fresh budget was begun"
    assert len(Ledger(here / "stores" / NAMES[1] / "ledger.jsonl").entries) == 2


def test_without_the_earlier_run_the_server_cannot_know(here: Path) -> None:
    """What `--after` is for: this store's people are charged anew from nothing."""
    put_back(here)
    assert set(statuses(next_run(here)).values()) == {"trained "}
    assert len(Ledger(here / "stores" / FORGOTTEN / "ledger.jsonl").entries) == 1


def test_what_one_server_was_told_of_before_the_next_one_knows_too(here: Path) -> None:
    """Also of a store that was not in the run between."""
    known = ledgers_before([here / "chain"], cards(here))
    assert {name: head.entries for name, head in known.items()} == dict.fromkeys(NAMES, 1)
    between = here / "between"
    init_federation(between, cards(here), settings(), hosts=["127.0.0.1"], after=[here / "chain"])
    assert ledgers_before([between], cards(here)) == known
    assert ledgers_before([between, here / "chain"], cards(here, FORGOTTEN)) == {
        FORGOTTEN: known[FORGOTTEN]
    }


def test_the_furthest_of_several_runs_counts(here: Path) -> None:
    later = next_run(here, here / "chain").folder
    for order in ([here / "chain", later], [later, here / "chain"]):
        heads = ledgers_before(order, cards(here))
        assert {head.entries for head in heads.values()} == {2}


def test_a_store_is_known_by_its_key_also_under_another_name(here: Path) -> None:
    first, *others = cards(here)
    renamed = first.model_copy(update={"name": "harbour"})
    known = ledgers_before([here / "chain"], [renamed, *others])
    assert known["harbour"].entries == 1
    assert FORGOTTEN not in known


def test_a_store_that_lost_its_keys_too_is_not_drawn_up_as_a_new_one(here: Path) -> None:
    new = enroll(here / "elsewhere", FORGOTTEN)
    with pytest.raises(RunError, match=f"{FORGOTTEN} had another signing key"):
        init_federation(
            here / "next",
            [new, *cards(here, *NAMES[1:])],
            settings(),
            hosts=["127.0.0.1"],
            after=[here / "chain"],
        )
    assert not (here / "next").exists()


def test_an_earlier_run_of_other_stores_is_a_mistake_and_so_is_no_run(here: Path) -> None:
    others = [enroll(here / name, name) for name in ("amber", "birch", "cedar")]
    with pytest.raises(RunError, match="None of these cards is of a store of"):
        ledgers_before([here / "chain"], others)
    with pytest.raises(RunError, match="nowhere"):
        ledgers_before([here / "nowhere"], others)


def test_the_command_takes_it(here: Path) -> None:
    paths = [str(here / "stores" / name / "card.json") for name in NAMES]
    common = ["federation", "init", str(here / "next"), "--host", "a.example"]
    common += [word for path in paths for word in ("--card", path)]
    common += ["--declared-people", "30", "--noise", "local", "--model", "gray-cnn"]
    done = CliRunner().invoke(app, [*common, "--init", "scratch", "--after", str(here / "chain")])
    assert done.exit_code == 0, done.output
    assert set(Run(here / "next").history().known()) == set(NAMES)
    shutil.rmtree(here / "next")
    done = CliRunner().invoke(app, [*common, "--init", "scratch", "--after", str(here / "stores")])
    assert isinstance(done.exception, RunError)
    assert not (here / "next").exists()
