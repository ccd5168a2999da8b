"""What people read at the screen: plain words, no markup, and what to do next."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from privemo_consent import ConsentRegistry
from tests.support.consent import consent_notice
from tests.surface.registry.commands import ADULT, PERSON, live, told
from tests.surface.test_cli import privemo, refused


def test_a_simulation_says_so_and_never_becomes_real(tmp_path: Path, controller: Path) -> None:
    path = tmp_path / "simulated.sqlite"
    told("registry", "new", path, "--mode", "simulation", "--controller", controller)
    assert told("registry", "show", "--registry", path)["mode"] == "simulation"
    result = privemo("registry", "show", "--registry", path)
    assert "simulation registry" in result.stderr
    assert "simulation registry" not in privemo("registry", "--help").stderr
    from tests.surface.test_docs import all_commands, options_of

    having = {name for name, command in all_commands().items() if "--mode" in options_of(command)}
    # Of `bench accuracy` it is where the noise is added.
    assert having == {"registry new", "bench accuracy"}


@pytest.mark.parametrize("name", [r"no\[/x]such", "[/]", "[bold]x", ":smile:", "no\\"])
def test_brackets_in_a_name_are_no_markup(name: str, tmp_path: Path) -> None:
    result = privemo("log", "verify", tmp_path / name)
    refused(result, f"no registry at {tmp_path / name}:")


def test_what_is_shown_as_live_is_what_a_decision_permits(registry: Path) -> None:
    at = ("--registry", registry)
    clerk = ("consent", "grant", *at, "--person", "clerk", "--purpose", "training", *ADULT)
    told(*clerk)
    refused(privemo(*clerk, "--role", "employee"), "staff")
    told("consent", "grant", *at, "--person", "q", "--purpose", "personalisation", *ADULT)
    told("consent", "withdraw", *at, "--person", PERSON, "--purpose", "training")

    def shown(person: str) -> dict[str, tuple[bool, str]]:
        found = told("consent", "show", *at, "--person", person)["consents"]
        return {each["purpose"]: (each["live"], each["reason"]) for each in found}

    assert shown(PERSON) == {
        "fairness_audit": (True, "permitted"),
        "training": (False, "withdrawn"),
    }
    assert shown("clerk") == {"training": (False, "staff")}
    assert shown("q") == {"personalisation": (False, "not_announced")}
    with ConsentRegistry.open(registry, mode="production") as opened:
        opened.notice(consent_notice(2))
    assert shown(PERSON)["fairness_audit"] == (False, "notice_changed")
    result = privemo("consent", "show", *at, "--person", PERSON)
    assert "ConsentGiven, not live: notice_changed\n" in result.stdout
    assert " until " not in result.stdout


def test_a_refused_decision_says_what_to_do(registry: Path) -> None:
    at = ("--registry", registry, "--person", "q", "--purpose", "personalisation")
    told("consent", "grant", *at, *ADULT)
    result = privemo("consent", "decide", *at, *ADULT)
    assert (result.returncode, result.stdout) == (1, "refused: not_announced\n")
    assert "privemo notice announce" in result.stderr
    told("notice", "announce", "--registry", registry, "--at", "door")
    assert told("consent", "decide", *at, *ADULT)["permit"] is True


@pytest.mark.parametrize("command", [("withdraw",), ("erase", "--yes")])
def test_of_many_the_line_without_a_record_is_named_and_not_the_id(
    registry: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    people = tmp_path / "people.txt"
    people.write_text(f"{PERSON}\n\nnobody-known\n")
    result = privemo("consent", *command, "--registry", registry, "--people", people)
    refused(result, "people.txt, line 3:", "no record")
    assert "nobody-known" not in result.stderr
    assert live(registry) == ["fairness_audit", "training"]


def test_results_are_plain_words(registry: Path) -> None:
    lines = privemo("log", "verify", registry).stdout.splitlines()
    assert {"verified: yes", "pinned: no", "named: yes"} <= set(lines)
    shown = privemo("registry", "show", "--registry", registry).stdout
    assert "sizes: 1 person, 0 people erased, 1 notice, 4 events, 0 uses, 0 items\n" in shown
    assert "mirrors: none\n" in shown
    export = registry.parent / "export"
    done = privemo("log", "export", "--registry", registry, export)
    assert done.stdout.endswith(": 4 events, 0 uses\n")
    assert "witnesses: none\n" in privemo("log", "verify", export).stdout
    erased = privemo("consent", "erase", "--registry", registry, "--person", PERSON, "--yes")
    assert erased.stdout == "erased: 1 person, 0 items\n"


def test_a_filled_in_template_reads_as_a_sentence(controller: Path) -> None:
    text = json.loads(privemo("notice", "new", "--controller", controller).stdout)["text"]
    assert "the FILL IN" not in text
    assert "complain to the authority for\ndata protection: FILL IN: the authority." in text
