"""`privemo bench reader` as its user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from privemo.bench import reader
from tests.surface.test_cli import privemo, refused


def test_a_table_says_who_is_left_out_and_json_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "DRAWN", 64)  # the form is the same, and drawn sooner
    asked = ("bench", "reader", "--people", "20")
    told = privemo(*asked)
    assert told.returncode == 0, told.stderr
    for words in ("found: adults", "everyone", "largest gap", "Of people who do not exist."):
        assert words in told.stdout
    lines = [json.loads(line) for line in privemo(*asked, "--json").stdout.splitlines()]
    assert {"figure", "value", "unit", "goal", "met", "low", "high"} <= lines[0].keys()


def test_what_cannot_be_measured_is_one_sentence(tmp_path: Path) -> None:
    refused(privemo("bench", "reader", "--people", "3"), "20 or more")
    refused(privemo("bench", "reader", "--challenge-age", "12"), "18 or more")
    refused(privemo("bench", "reader", "--sensitive", "culture"), "Without --data")
    refused(privemo("bench", "reader", "--data", tmp_path / "no.npz"), "no.npz")
    refused(privemo("bench", "reader", "--data", "x.npz", "--people", "30"), "nobody is drawn")
