"""Poisoned stores in a real chain: what they send, what is left out, and that defences are really asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from privemo import client_app, simulation
from privemo.bench.poisoning import ATTACKS, Attack, Plan, poisoned_app, serve
from privemo.cli import app
from privemo.errors import RunError, SettingsError
from privemo.flower import ClientApp, Context, Message
from privemo.recipes import local_recipe
from privemo.runs import Run
from privemo_audits import build_report
from tests.conftest import noise_faces
from tests.support.small_runs import small_run


def chain(folder: Path, **changes: Any) -> Run:
    settings = {"stores": 4, "people": 120, "declared_people": 8, "model": "gray-cnn"}
    return small_run(folder, **{**settings, **changes})


def told(run: Run, round_: int, store: str) -> dict[str, Any]:
    entry: dict[str, Any] = run.manifests()[round_ - 1]["stores"][store]
    return entry


def after(run: Run) -> np.ndarray:
    weights = run.last_whole_round()[1]
    return np.concatenate([weights[name].ravel() for name in sorted(weights)])


@pytest.mark.parametrize(
    ("attack", "why"), [("nan", "NaN or infinity"), ("huge", "over the bound")]
)
def test_what_no_honest_store_sends_is_left_out(tmp_path: Path, attack: Attack, why: str) -> None:
    run = chain(tmp_path, rounds=1)
    serve(run, poisoned_app(["store-02"], attack, run.order_for))
    entry = told(run, 1, "store-02")
    assert entry["status"] == "failed"
    assert why in entry["reason"]
    assert told(run, 1, "store-01")["status"] == "trained"


def test_an_old_answer_does_not_count_again(tmp_path: Path) -> None:
    run = chain(tmp_path)
    serve(run, poisoned_app(["store-02"], "stale", run.order_for))
    assert told(run, 1, "store-02")["status"] == "trained"
    assert "another model" in told(run, 2, "store-02")["reason"]
    simulation.finish(run)
    # What such a store trained was paid for, whether it counted or not.
    assert "privacy.within_budget" not in build_report(run.folder).failed_checks


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param("sign_flipped", marks=pytest.mark.slow),
        "boosted",
        pytest.param("scaled", marks=pytest.mark.slow),
        pytest.param("label_flipped", marks=pytest.mark.slow),
    ],
)
def test_what_looks_honest_counts_and_moves_the_model(tmp_path: Path, attack: Attack) -> None:
    (tmp_path / "a").mkdir()
    honest = chain(tmp_path / "a", rounds=1)
    serve(honest, client_app.app)
    (tmp_path / "b").mkdir()
    run = chain(tmp_path / "b", rounds=1)
    serve(run, poisoned_app(["store-02"], attack, run.order_for))
    assert told(run, 1, "store-02")["status"] == "trained"
    assert told(run, 1, "store-01")["update_sha256"] == told(honest, 1, "store-01")["update_sha256"]
    assert told(run, 1, "store-02")["update_sha256"] != told(honest, 1, "store-02")["update_sha256"]
    assert not np.array_equal(after(run), after(honest))


def test_a_median_is_moved_less_than_a_mean(tmp_path: Path) -> None:
    moved = {}
    for name, changes in (
        ("mean", {}),
        ("median", {"aggregation": "median", "malicious_stores": 1}),
    ):
        models = []
        for who in ([], ["store-02"]):
            folder = tmp_path / f"{name}-{len(who)}"
            folder.mkdir()
            run = chain(folder, rounds=1, **changes)
            serve(run, poisoned_app(who, "boosted", run.order_for))
            models.append(after(run))
        moved[name] = float(np.linalg.norm(models[1] - models[0]))
    assert moved["median"] < 0.9 * moved["mean"]  # most of either is the noise of so small stores


@pytest.mark.parametrize("attack", ["nan", "stale"])
def test_a_lie_that_is_found_out_stops_no_chain(tmp_path: Path, attack: Attack) -> None:
    run = chain(tmp_path, stores=5, people=150, aggregation="krum", malicious_stores=1)
    serve(run, poisoned_app(["store-02"], attack, run.order_for))
    assert len(run.manifests()) == run.settings.rounds
    assert told(run, run.settings.rounds, "store-02")["status"] == "failed"


def test_a_chain_that_needs_more_answers_than_it_gets_stops(tmp_path: Path) -> None:
    run = chain(tmp_path, stores=5, people=150, aggregation="krum", malicious_stores=1)
    crashing = ClientApp()

    @crashing.train()
    def train(message: Message, context: Context) -> Message:
        if client_app.store_folder(context).name == "store-02":
            raise OSError("no disk")
        return client_app.train(message, context)

    with pytest.raises(RunError, match="4 stores answered, of whom 1 may be poisoned"):
        serve(run, crashing)


def test_all_runs_of_a_plan_have_the_rounds_that_were_asked_for() -> None:
    """From scratch the recipe's few rounds leave nothing to lose, whatever is sent."""
    few, many = (
        Plan(init="scratch", model="gray-cnn", rounds=rounds).settings(1500, "median", 3)
        for rounds in (None, 12)
    )
    assert (few.rounds, many.rounds) == (local_recipe(100).rounds, 12)
    assert few == many.model_copy(update={"rounds": few.rounds}), "and nothing else differs"


def test_unknown_names_are_refused() -> None:
    with pytest.raises(SettingsError, match="no attack 'kindness'"):
        Plan(attacks=("kindness",))  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="no aggregation 'mode'"):
        Plan(defences=("mode",))  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_command_measures_once_and_prints_a_table(tmp_path: Path) -> None:
    data, to = tmp_path / "faces.npz", tmp_path / "poisoning.json"
    np.savez(data, **noise_faces(80))
    words = f"bench poisoning --data {data} --out {to} --stores 2 --malicious-stores 1 --attack nan"
    asked = [*words.split(), *["--aggregation", "mean", "--init", "scratch", "--model", "gray-cnn"]]
    first = CliRunner().invoke(app, [*asked, "--json"])
    assert first.exit_code == 0, first.output
    honest, poisoned = (json.loads(line) for line in first.stdout.splitlines())
    assert (honest["attack"], honest["left_out"]) == (None, 0)
    assert (poisoned["attack"], poisoned["left_out"]) == ("nan", 3)
    assert 0 <= poisoned["interval"][0] <= poisoned["accuracy"] <= poisoned["interval"][1] <= 1
    kept = to.read_bytes()
    again = CliRunner().invoke(app, asked)
    assert again.exit_code == 0, again.output
    assert to.read_bytes() == kept, "nothing is measured twice"
    assert "all stores are honest" in again.stdout
    assert f"{100 * poisoned['accuracy']:.1f} (3)" in again.stdout
    assert "NaN in one parameter" in again.stdout


def test_every_attack_is_explained_on_the_command_line() -> None:
    from privemo.cli.poisoning import AttackName

    assert [a.value for a in AttackName] == list(ATTACKS)
