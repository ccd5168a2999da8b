"""`privemo audit counts --epsilon`, `audit join` and `audit sum` as their users meet them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from privemo.heldoutledger import FILE
from privemo.runs import Run
from tests.support.counted import prepared
from tests.surface.test_cli import privemo, refused

GROUPS = 'schema = "privemo.groups/1"\n[groups]\nage_band = ["25_34", "35_44", "45_54"]\n'


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    path = tmp_path / "groups.toml"
    path.write_text(GROUPS)
    return path


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return prepared(tmp_path)


def test_stores_count_with_noise_and_an_auditor_joins(
    run: Run, groups: Path, tmp_path: Path
) -> None:
    noise = ("--epsilon", "4", "--groups", groups)
    files = []
    for name in run.stores:
        file = tmp_path / f"{name}.json"
        told = privemo("audit", "counts", run.folder / "stores" / name, "--out", file, *noise)
        assert told.returncode == 0, told.stderr
        assert "noised counts in 2 tables" in told.stdout
        assert "have lost epsilon 3.9" in told.stdout
        files.append(file)
    joined = privemo("audit", "join", *files, "--out", tmp_path / "joined.json")
    assert joined.returncode == 0, joined.stderr
    assert "Intervals are for chance and noise together" in " ".join(joined.stdout.split())
    content = json.loads((tmp_path / "joined.json").read_text())
    assert content["stores"] == run.stores
    assert content["schema"] == "privemo.noised-audit/1"
    as_json = privemo("audit", "join", *files, "--json")
    assert json.loads(as_json.stdout) == content
    store = run.folder / "stores" / "store-01"
    again = privemo(*("audit", "counts", store, "--out", tmp_path / "again.json", *noise), "--json")
    assert json.loads(again.stdout)["epsilon_of_counts"] < 4
    assert (tmp_path / "again.json").read_bytes() == files[0].read_bytes()
    anew = privemo("audit", "counts", store, "--out", tmp_path / "anew.json", *noise, "--anew")
    assert "have lost epsilon 5." in anew.stdout
    assert (tmp_path / "anew.json").read_bytes() != files[0].read_bytes()
    added = privemo("budget", store / FILE)
    assert added.returncode == 0, added.stderr
    exact = tmp_path / "exact.json"
    privemo("audit", "counts", run.folder / "stores" / "store-02", "--out", exact)
    refused(privemo("audit", "join", files[0], exact), "sent noised counts", "exact ones")
    refused(privemo("audit", "join", files[0], files[0]), "comes twice")


def test_mistakes_are_told_before_anything_is_paid_for(
    run: Run, groups: Path, tmp_path: Path
) -> None:
    store, out = run.folder / "stores" / "store-01", tmp_path / "counts.json"
    counts = ("audit", "counts", store, "--out", out)
    noise = ("--epsilon", "2", "--groups", groups)
    refused(privemo(*counts, "--groups", groups), "go with --epsilon")
    refused(privemo(*counts, "--delta", "1e-6"), "go with --epsilon")
    refused(privemo(*counts, "--anew"), "go with --epsilon")
    refused(privemo(*counts, "--epsilon", "2"), "nobody named the groups of 'age_band'")
    refused(privemo(*counts, "--epsilon", "0", "--groups", groups), "epsilon above 0")
    refused(privemo(*counts, *noise, "--delta", "0.1"), "promises a delta of 1e-05")
    refused(privemo(*counts, "--epsilon", "20", "--groups", groups), "over the budget of 8")
    refused(privemo("audit", "counts", store, "--out", tmp_path / "no" / "f", *noise), "no folder")
    refused(privemo("audit", "sum", run.folder, "--out", out, *noise), "share no sums")
    out.write_text("mine")
    refused(privemo(*counts, *noise), "exists")
    assert out.read_text() == "mine"
    assert not (store / FILE).exists()


def test_stores_that_share_sums_add_up_their_counts(groups: Path, tmp_path: Path) -> None:
    run = prepared(tmp_path, shared=True)
    exact, noised = tmp_path / "exact.json", tmp_path / "noised.json"
    asked = ("audit", "sum", run.folder, "--groups", groups, "--out")
    told = privemo(*asked, exact)
    assert told.returncode == 0, told.stderr
    assert "the sum of 3 stores in 2 tables of counts, exact" in told.stdout
    as_json = privemo(*asked, noised, "--epsilon", "4", "--json")
    assert json.loads(as_json.stdout)["stores"] == run.stores
    for file in (exact, noised):
        joined = privemo("audit", "join", file, "--json")
        assert json.loads(joined.stdout)["run_id"] == run.run_id
    refused(privemo(*asked, exact), "exists")
    refused(privemo(*asked, tmp_path / "x.json", "--delta", "1e-6"), "--delta goes with --epsilon")
