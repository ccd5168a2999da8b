"""`privemo federation init|join|run|counts` where people measured are counted, as their users meet them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from privemo.counted import Counted, asked, keep_measured, request_of
from privemo.federation.identity import enroll
from privemo.federation.invitation import Invitation
from privemo_consent import ConsentRegistry
from tests.support.consent import PARTY
from tests.support.federated import TERMS, Federated
from tests.surface.test_cli import privemo, refused

GROUPS = 'schema = "privemo.groups/1"\n[groups]\nage_band = ["young", "old"]\n'


@pytest.fixture
def drawing_up(tmp_path: Path) -> list[str | Path]:
    """`federation init` of three stores, but for what is asked of counts."""
    (tmp_path / "groups.toml").write_text(GROUPS)
    cards: list[str | Path] = []
    for name in ("amber", "birch", "cedar"):
        enroll(tmp_path / name, name)
        cards += ["--card", tmp_path / name / "card.json"]
    registry = tmp_path / "amber" / "consent.sqlite"
    ConsentRegistry.create(registry, mode="production", controller=PARTY).close()
    small = (
        "--declared-people",
        "10",
        "--sample-rate",
        "0.5",
        "--rounds",
        "1",
        "--init",
        "scratch",
    )
    return [
        *("federation", "init", tmp_path / "chain", *cards, "--host", "a.example"),
        *small,
        *("--model", "gray-cnn"),
    ]


def test_counts_are_agreed_on_when_a_federation_is_drawn_up(
    drawing_up: list[str | Path], tmp_path: Path
) -> None:
    groups = ("--sensitive", "age_band", "--groups", tmp_path / "groups.toml")
    refused(privemo(*drawing_up, *groups), "Counts take --count-epsilon or --exact-counts")
    refused(privemo(*drawing_up, "--count-releases", "3"), "leave out --count-releases")
    refused(privemo(*drawing_up, *groups, "--count-epsilon", "0"), "epsilon")
    refused(privemo(*drawing_up, *groups, "--count-epsilon", "1", "--exact-counts"), "no noise")
    refused(privemo(*drawing_up, *groups, "--count-epsilon", "7.9"), "over the budget of 8")
    unnamed = ("--sensitive", "age_band", "--count-epsilon", "1")
    refused(privemo(*drawing_up, *unnamed), "nobody named the groups of 'age_band'")
    local = ("--noise", "local", "--exact-counts")
    refused(privemo(*drawing_up, *groups, *local), "take distributed noise")
    assert not (tmp_path / "chain").exists()
    done = privemo(*drawing_up, *groups, "--count-epsilon", "2", "--count-releases", "3")
    assert done.returncode == 0, done.stderr
    agreed = Invitation.read(tmp_path / "chain" / "invitations" / "amber.json").agreement.counts
    assert agreed is not None
    assert agreed.model_dump() == {
        "groups": (("age_band", ("young", "old")),),
        "epsilon": 2.0,
        "releases": 3,
    }


def test_a_store_says_what_it_agreed_to(drawing_up: list[str | Path], tmp_path: Path) -> None:
    assert privemo(*drawing_up, "--count-epsilon", "2").returncode == 0
    chain = tmp_path / "chain"
    invitation = ("--invitation", chain / "invitations" / "amber.json", "--no-start")
    join = ("federation", "join", tmp_path / "amber")
    told = privemo(*join, *invitation)
    assert "at epsilon 2 for each of them, 2 time(s) at most" in " ".join(told.stderr.split())
    told = privemo(*join, *invitation, "--count-epsilon", "0")
    assert "Nobody measured is counted for others." in " ".join(told.stderr.split())
    refused(privemo(*join, *invitation, "--count-epsilon", "3"), "3 is not less")
    refused(privemo(*join, "--count-epsilon", "1"), "goes with --invitation")
    refused(privemo("federation", "counts", chain), "0 of 1 whole rounds", "privemo federation run")


def test_a_store_whose_keys_nobody_would_open_for_it_does_not_join(
    drawing_up: list[str | Path], tmp_path: Path
) -> None:
    assert privemo(*drawing_up).returncode == 0
    secret = tmp_path / "passphrase"
    secret.touch(mode=0o600)
    secret.write_text("nobody types this while rounds run\n")
    (tmp_path / "controller.json").write_text(PARTY.model_dump_json(exclude={"type"}))
    protected = ("--protect", "passphrase", "--passphrase-file", secret)
    made = ("--mode", "production", "--controller", tmp_path / "controller.json")
    place = tmp_path / "birch" / "consent.sqlite"
    assert privemo("registry", "new", place, *made, *protected).returncode == 0
    invitation = tmp_path / "chain" / "invitations" / "birch.json"
    done = privemo(
        "federation", "join", tmp_path / "birch", "--invitation", invitation, "--no-start"
    )
    refused(done, "needs a passphrase", "give --passphrase-file")
    assert not (tmp_path / "birch" / "store.json").exists()


def test_who_has_the_file_that_is_missing_is_said(tmp_path: Path) -> None:
    join = ("federation", "join", tmp_path / "amber", "--invitation", tmp_path / "none.json")
    refused(privemo(*join), "none.json does not exist", "runs the server")
    init = ("federation", "init", tmp_path / "chain", "--card", tmp_path / "none.json")
    rest = ("--host", "a.example", "--declared-people", "10")
    refused(privemo(*init, *rest), "none.json does not exist", "privemo federation enroll")


def test_what_was_counted_is_shown_and_nobody_is_asked(tmp_path: Path) -> None:
    made = Federated(tmp_path, TERMS, less={"store-02": 1.0})
    made.drive()
    found = Counted.of(made.run, request_of(made.run))
    assert found is not None
    shown = privemo("federation", "counts", made.chain)
    assert shown.returncode == 0, shown.stderr
    words = " ".join(shown.stdout.split())
    assert "Intervals are for chance and noise together" in words
    assert "Counted in 2 stores (without store-02: request_refused): " in words
    as_json = json.loads(privemo("federation", "counts", made.chain, "--json").stdout)
    assert as_json["left_out"] == {"store-02": "request_refused"}
    assert as_json["audit"] == json.loads(found.joined.read_bytes())
    joined = privemo("audit", "join", found.folder / "sum.json", "--json")
    assert json.loads(joined.stdout) == as_json["audit"]
    run = privemo("federation", "run", made.chain)
    assert "3 of 3 stores measured it. Counted in 2 stores" in " ".join(run.stderr.split())
    # Less of it takes stores that are there.
    less = ("federation", "counts", made.chain, "--epsilon", "1")
    refused(privemo(*less), "is not being served")
    refused(privemo(*less, "--sensitive", "region"), "Counts by 'region' were not agreed on")
    refused(privemo("federation", "counts", made.chain, "--epsilon", "3"), "noise for 3 is asked")
    keep_measured(made.run, "0" * 64, {"store-03": "no answer"})
    missing = privemo("federation", "run", made.chain)
    assert "store-03: no answer" in " ".join(missing.stderr.split())
    assert asked(made.run) is not None
