"""`privemo export` and `privemo card` as their users meet them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from privemo_consent import SigningKey
from tests.support.kiosks import signed
from tests.support.small_runs import small_run
from tests.surface.test_cli import privemo, refused


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from privemo import simulation

    made = small_run(tmp_path_factory.mktemp("run"), init="nobody", rounds=1, steps_per_round=1)
    simulation.run(made)
    simulation.finish(made)
    return made.folder


def test_a_run_is_exported_and_its_card_read(run: Path, tmp_path: Path) -> None:
    public = privemo("audit", "key", tmp_path / "me.key", "--name", "chain").stdout.strip()
    out = tmp_path / "model.onnx"
    options = ("--sign", tmp_path / "me.key", "--name", "chain", "--people", "300")
    told = privemo("export", run, "--out", out, *options, "--json")
    assert told.returncode == 0, told.stderr
    made = json.loads(told.stdout)
    assert made["key"] == public
    assert made["card"]["form"] == "int8"
    assert made["card"]["privacy"]["unit"] == "person"

    told = privemo("card", out, "--key", public)
    assert told.returncode == 0, told.stderr
    for words in (
        "signed by: chain",
        "simulated: no real person agreed",
        "privacy: epsilon",
        "against torch, on 200 people who do not exist",
        "temperature: 1",
        "chosen on people who do not exist, so it may be too sure of real ones",
        "says nothing below",
    ):
        assert words in told.stdout
    told = privemo("card", out, "--key", public, "--json")
    assert json.loads(told.stdout)["card"] == made["card"]


def test_what_cannot_be_exported_is_one_sentence(run: Path, tmp_path: Path) -> None:
    SigningKey.generate("chain").save(tmp_path / "me.key")
    out, sign = tmp_path / "m.onnx", ("--sign", tmp_path / "me.key")
    refused(privemo("export", tmp_path, "--out", out, *sign), "run.json does not exist")
    refused(privemo("export", run, "--out", out, *sign, "--people", "5"), "fewer than 300")
    refused(privemo("export", run, "--out", out, *sign, "--coverage", "2"), "at most 1")
    refused(privemo("export", run, "--out", out, "--sign", tmp_path / "no.key"), "no.key")
    refused(privemo("export", run, "--out", out, *sign, "--budget", "b"), "go with --epsilon")
    assert not out.exists()


def test_a_card_that_cannot_be_trusted_is_not_shown(tmp_path: Path) -> None:
    key = SigningKey.generate("chain")
    raw, out = signed(key), tmp_path / "m.onnx"
    out.write_bytes(raw)
    stranger = str(SigningKey.generate("stranger").verifying)
    refused(privemo("card", out, "--key", stranger), "no key that is known has signed")
    refused(
        privemo("card", out, "--key", "chain"),
        "is one line, name+id+base64, as `privemo audit key`",
    )
    out.write_bytes(raw[:-1])
    refused(privemo("card", out, "--key", str(key.verifying)), "Ask whoever exported the model")
    refused(privemo("card", tmp_path / "gone", "--key", stranger), "gone cannot be read")
