"""A store that lost its ledger between two runs: the server of the second knows what the first one's knew."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from privemo.bench.deployed import laid_out
from privemo.cli import app
from privemo.client_app import app as client_app
from privemo.config import PrivacySettings, RunSettings
from privemo.errors import RunError, UpdateRejected
from privemo.federation import superlink
from privemo.federation.earlier import remembered
from privemo.federation.identity import StoreCard, enroll
from privemo.federation.invitation import Invitation, join
from privemo.federation.server import init_federation
from privemo.grid import InProcessGrid
from privemo.ledger import Ledger
from privemo.runs import Run
from privemo.server_app import app as server_app

NAMES = ("store-01", "store-02", "store-03")
FORGOTTEN = NAMES[0]


def settings(
    *, seed: int = 0, epsilon: float = 1.0, stores: int = 3, **privacy: Any
) -> RunSettings:
    return RunSettings.of(
        stores=stores, rounds=1, steps_per_round=1, declared_people=10, consents="everyone",
        init="scratch", model="gray-cnn", seed=seed,
        privacy=PrivacySettings(epsilon=epsilon, sample_rate=0.5, spare_rounds=4, **privacy),
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


def next_run(here: Path, after: Path | None = None, *, shared: bool = False) -> Run:
    """Another federation of the same stores, drawn up and run."""
    chain = here / "next"
    noise: dict[str, Any] = {"noise": "distributed", "may_drop": 0.4} if shared else {}
    more = settings(seed=1, epsilon=8.0, **noise)  # its spare rounds leave room for the first run
    init_federation(chain, cards(here), more, hosts=["127.0.0.1"], after=after)
    for name in NAMES:
        join(here / "stores" / name, Invitation.read(chain / "invitations" / f"{name}.json"))
    return run_all(chain)


def statuses(run: Run) -> dict[str, str]:
    (manifest,) = run.manifests()
    return {name: f"{s['status']} {s['reason'] or ''}" for name, s in manifest["stores"].items()}


@pytest.mark.parametrize("shared", [False, True])
def test_a_ledger_that_goes_on_is_let_in_and_one_that_is_gone_is_not(
    here: Path, shared: bool
) -> None:
    put_back(here)
    found = statuses(next_run(here, here / "chain", shared=shared))
    assert found[FORGOTTEN].startswith("refused ledger_lost")
    assert {found[name] for name in NAMES[1:]} == {"trained "}
    assert not (here / "stores" / FORGOTTEN / "ledger.jsonl").exists(), "no fresh budget was begun"
    assert len(Ledger(here / "stores" / NAMES[1] / "ledger.jsonl").entries) == 2


def test_without_the_earlier_run_the_server_cannot_know(here: Path) -> None:
    """What `--after` is for: this store's people are charged anew from nothing."""
    put_back(here)
    assert set(statuses(next_run(here)).values()) == {"trained "}
    assert len(Ledger(here / "stores" / FORGOTTEN / "ledger.jsonl").entries) == 1


def known(here: Path, chain: Path, *names: str) -> dict[str, int]:
    """What a federation of these stores would know if it were drawn up after that one."""
    return {
        line["name"]: line["ledger"]["entries"] for line in remembered(chain, cards(here, *names))
    }


def test_what_one_server_was_told_the_next_one_knows_also_of_a_store_without_a_card(
    here: Path,
) -> None:
    assert known(here, here / "chain") == dict.fromkeys(NAMES, 1)
    two = settings(seed=2, stores=2)
    between = here / "between"
    init_federation(
        between, cards(here, *NAMES[1:]), two, hosts=["127.0.0.1"], after=here / "chain"
    )
    assert set(Run(between).history().known()) == set(NAMES[1:]), "orders name its own stores alone"
    assert known(here, between) == dict.fromkeys(NAMES, 1)
    assert known(here, between, FORGOTTEN)[FORGOTTEN] == 1, "and none of the run between is there"


def test_the_last_run_says_how_far_a_ledger_went(here: Path) -> None:
    later = next_run(here, here / "chain")
    assert known(here, later.folder) == dict.fromkeys(NAMES, 2)


def test_a_first_round_that_wrote_nothing_is_found_out(here: Path) -> None:
    """The ledger as it was when the run before ended is none that has an entry for this round."""
    chain = here / "next"
    init_federation(chain, cards(here), settings(), hosts=["127.0.0.1"], after=here / "chain")
    history = Run(chain).history()
    head = history.known()[NAMES[1]]
    said = SimpleNamespace(store=NAMES[1], ledger=head)
    with pytest.raises(UpdateRejected, match="no entry for this round"):
        history.check(said, private=True)  # type: ignore[arg-type]


def test_a_store_with_new_keys_proves_itself_by_its_ledger(here: Path) -> None:
    """Keys that were stolen are made anew, beside a ledger that stays; one that is gone stays gone."""
    put_back(here)
    for name in (NAMES[1], FORGOTTEN):
        for file in ("store.key", "node.key", "card.json"):
            (here / "stores" / name / file).unlink()
        enroll(here / "stores" / name, name)
    lines = remembered(here / "chain", cards(here))
    assert {line["key"] for line in lines} == {card.signing_key for card in cards(here)}
    found = statuses(next_run(here, here / "chain"))
    assert found[FORGOTTEN].startswith("refused ledger_lost")
    assert {found[name] for name in NAMES[1:]} == {"trained "}


def test_a_name_that_another_store_has_now_is_not_held_against_it(here: Path) -> None:
    first, *others = cards(here)
    moved = first.model_copy(update={"name": "harbour"})
    new = enroll(here / "elsewhere", FORGOTTEN)
    lines = remembered(here / "chain", [moved, new, *others])
    assert {line["name"] for line in lines} == {"harbour", *NAMES[1:]}


def test_a_federation_that_is_still_served_is_no_earlier_one(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(superlink, "is_served", lambda _chain: True)
    with pytest.raises(RunError, match="is being served, and its stores may spend more"):
        remembered(here / "chain", cards(here))


def test_what_was_carried_on_and_is_damaged_is_said(here: Path) -> None:
    made = init_federation(
        here / "next", cards(here), settings(), hosts=["127.0.0.1"], after=here / "chain"
    )
    path = made.folder / "earlier.json"
    path.write_text(path.read_text().replace('"entries"', '"entires"'))
    with pytest.raises(RunError, match=r"earlier\.json is damaged"):
        made.history()


def test_an_earlier_run_of_other_stores_is_a_mistake_and_so_is_no_run(here: Path) -> None:
    others = [enroll(here / name, name) for name in ("amber", "birch", "cedar")]
    with pytest.raises(RunError, match="None of these cards is of a store of"):
        remembered(here / "chain", others)
    with pytest.raises(RunError, match="nowhere"):
        remembered(here / "nowhere", others)


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
