"""The documentation cannot drift: its commands, links, places, tests and tables are held to the code."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from privemo.cli import app
from privemo_consent import ConsentRegistry
from privemo_consent.handle import Mode
from tests.support.consent import PARTY
from tests.surface.test_cli import parser

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
PAGES = sorted(DOCS.rglob("*.md"))
EVERYTHING = [*TOP, ROOT / "examples/README.md", *PAGES]
CLAIMS = [
    DOCS / "explanation/promises.md",
    DOCS / "explanation/pitfalls.md",
    DOCS / "requirements.md",
]
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> list[str]:
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [body for language, body in found if language in languages]


# -- commands ------------------------------------------------------------------------------------


def documented_commands() -> list[tuple[str, str]]:
    """Every `privemo ...` line of a shell block, with the page it stands on."""
    found = []
    for page in EVERYTHING:
        for body in blocks(page, "bash", "console", "sh"):
            for line in body.replace("\\\n", " ").splitlines():
                command = line.strip().removeprefix("$ ").split("  #")[0].split(" > ")[0]
                if command.startswith("privemo "):
                    found.append((named(page), command))
    for name in ("README.md", "SECURITY.md"):  # in the running text too
        text = FENCE.sub("", (ROOT / name).read_text())
        found += [(name, command) for command in re.findall(r"`(privemo [a-z]+ [^`]+)`", text)]
    return found


def test_there_are_commands_to_check() -> None:
    assert len(documented_commands()) > 20


@pytest.mark.parametrize(("page", "command"), documented_commands())
def test_a_documented_command_is_one(page: str, command: str) -> None:
    _, *arguments = shlex.split(command)
    found: click.Command = parser(app)
    context = click.Context(found, info_name="privemo")
    while isinstance(found, click.Group):
        arguments = getattr(found, "named", list)(arguments)
        name = arguments.pop(0)
        inner = found.get_command(context, name)
        assert inner is not None, f"{page}: {found.name} has no command {name}"
        if isinstance(inner, click.Group):
            context = click.Context(inner, info_name=name, parent=context)
        found = inner
    # Parses options, their types and choices, and finds what is missing; runs nothing.
    found.make_context(found.name, arguments, parent=context)


def all_commands(group: click.Command | None = None, before: str = "") -> dict[str, click.Command]:
    """Every command by its full name, as ``consent grant``."""
    group = parser(app) if group is None else group
    assert isinstance(group, click.Group)
    found = {}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found |= all_commands(command, f"{before}{name} ")
        else:
            found[before + name] = command
    return found


def section_of(name: str) -> str:
    """What the reference says of a command, without its heading."""
    text = (DOCS / "reference/commands.md").read_text()
    assert text.count(f"\n## {name}\n") == 1, name
    return text.split(f"\n## {name}\n")[1].split("\n## ")[0]


def options_of(command: click.Command) -> set[str]:
    return {
        option
        for parameter in command.params
        if isinstance(parameter, click.Option) and parameter.name != "help"
        for option in [*parameter.opts, *parameter.secondary_opts]
    }


#: Options that are told of once: the section, and the one by which its commands are known.
TOLD_ONCE = ("Options of every command on a registry", "--registry")


def test_every_command_and_option_stands_in_the_reference() -> None:
    shared, mark = TOLD_ONCE
    for name, command in all_commands().items():
        section, options = section_of(name), options_of(command)
        if name == "train":  # "options as for simulate"
            section += section_of("simulate")
        if mark in options:
            section += section_of(shared)
        for option in options:
            assert f"`{option}" in section, f"{name} {option}"
        with click.Context(command) as context:
            for parameter in command.params:
                if isinstance(parameter, click.Argument):
                    metavar = parameter.make_metavar(context).strip("[]")
                    assert f"`{metavar}`" in section, f"{name} {metavar}"


def test_the_reference_says_which_options_are_required() -> None:
    for name, command in all_commands().items():
        for option in command.params:
            if isinstance(option, click.Option) and option.required:
                (row,) = re.findall(rf"^\| `{option.opts[0]}\b.*$", section_of(name), re.MULTILINE)
                assert "required" in row, f"{name}: {row}"


def test_no_documented_option_or_command_is_invented() -> None:
    shared, mark = TOLD_ONCE
    commands = all_commands()
    for name, command in commands.items():
        rows = re.findall(r"^\| `(--[a-z-]+)", section_of(name), re.MULTILINE)
        invented = set(rows) - options_of(command)
        assert not invented, f"{name}: {sorted(invented)}"
    rows = re.findall(r"^\| `(--[a-z-]+)", section_of(shared), re.MULTILINE)
    on_a_registry = [c for c in commands.values() if mark in options_of(c)]
    assert len(on_a_registry) > 20
    for command in on_a_registry:
        assert set(rows) <= options_of(command), command.name
    headings = re.findall(r"^## (.+)$", (DOCS / "reference/commands.md").read_text(), re.MULTILINE)
    assert set(headings) - set(commands) == {"Exit codes", shared}


# -- links and pages -----------------------------------------------------------------------------


def links(page: Path) -> list[str]:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [t for t in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:", t)]


def anchors(page: Path) -> set[str]:
    """Ids of a page's headings, as Python-Markdown makes them."""
    found = set()
    for line in FENCE.sub("", page.read_text(encoding="utf-8")).splitlines():
        if heading := re.match(r"#+ (.*?)(?: \{ #([\w-]+) \})?$", line):
            plain = re.sub(r"[^\w\s-]", "", heading[1].lower()).strip()
            found.add(heading[2] or re.sub(r"[-\s]+", "-", plain))
    return found


@pytest.mark.parametrize("page", EVERYTHING, ids=named)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{named(page)}: {link}"
        assert target.is_relative_to(ROOT), f"{named(page)}: {link} leads out"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{named(page)}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_page_of_the_documentation_links_inside_it(page: Path) -> None:
    """A link out of docs/ works on a forge and breaks on the built site."""
    for link in links(page):
        path = link.partition("#")[0]
        assert (page.parent / path).resolve().is_relative_to(DOCS), f"{named(page)}: {link}"


def nav_pages(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    children = nav.values() if isinstance(nav, dict) else nav
    return [page for child in children for page in nav_pages(child)]


def test_the_navigation_lists_every_page_once() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    listed = nav_pages(settings["nav"])
    assert sorted(listed) == sorted(p.relative_to(DOCS).as_posix() for p in PAGES)


def test_every_decision_stands_in_the_index() -> None:
    index = (DOCS / "adr/index.md").read_text()
    for record in sorted((DOCS / "adr").glob("[0-9]*.md")):
        assert f"({record.name})" in index
        text = record.read_text()
        title = text.splitlines()[0].removeprefix(f"# {record.name[:4]}: ")
        assert f"| {title} |" in index, record.name
        for part in ("**Status:**", "## Context", "## Drivers", "## Decision", "## Consequences"):
            assert part in text, f"{record.name}: {part}"


def test_nothing_is_fetched_from_elsewhere() -> None:
    for page in EVERYTHING:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"!\[[^]]*\]\(https?:|<(img|script|iframe|link)\b", text), named(page)


def test_the_map_of_the_consent_package_has_each_module_once() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text().split("### In `consent/privemo_consent/`")[1]
    rows = [line for line in text.split("\n## ")[0].splitlines() if line.startswith("| ")]
    named = re.findall(r"`([a-z_]+)/?`", " ".join(row.split("|")[2] for row in rows))
    package = ROOT / "consent/privemo_consent"
    there = {path.stem for path in package.glob("[a-z]*.py")}
    there |= {path.name for path in package.iterdir() if any(path.glob("**/[a-z_]*.py"))}
    assert sorted(named) == sorted(there)


# -- claims --------------------------------------------------------------------------------------


@cache
def existing_tests() -> frozenset[str]:
    """Every test function under tests/, by name."""
    found = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found.add(node.name)
    return frozenset(found)


@pytest.mark.parametrize("page", CLAIMS, ids=named)
def test_named_tests_exist(page: Path) -> None:
    names = re.findall(r"`(test_\w+)`", page.read_text())
    assert len(names) > 20
    missing = sorted(set(names) - existing_tests())
    assert not missing, missing


def defined_names(body: list[ast.stmt], prefix: str = "") -> set[str]:
    found = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                found |= defined_names(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
            found |= {prefix + t.id for t in targets if isinstance(t, ast.Name)}
    return found


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_named_places_exist(page: Path) -> None:
    for file, name in re.findall(r"`([\w/]+\.py):([\w.]+)`", page.read_text()):
        assert (ROOT / file).is_file(), f"{named(page)}: {file}"
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert name in defined_names(tree.body), f"{named(page)}: {file}:{name}"


def test_every_promise_has_its_place_and_its_tests() -> None:
    text = (DOCS / "explanation/promises.md").read_text()
    promises = re.split(r"\n## \d+\. ", text.split("\n## Not promised")[0])[1:]
    assert len(promises) == 10
    for promise in promises:
        title = promise.splitlines()[0]
        assert re.search(r"\| (Kept|Prepared) at \|", promise), title
        assert re.search(r"\| Attacked by \| `test_", promise), title
        assert "| Stands |" in promise, title


def test_every_prevented_pitfall_has_a_test() -> None:
    text = (DOCS / "explanation/pitfalls.md").read_text().split("\n## Not prevented")[0]
    rows = [line for line in text.splitlines() if line.startswith("| ") and "Severity" not in line]
    assert len(rows) > 30
    for row in rows:
        assert re.search(r"\| (high|medium|low)\b", row), row
        assert re.search(r"`test_\w+` \|$", row), row


def test_every_requirement_is_accounted_for_once() -> None:
    text = (DOCS / "requirements.md").read_text()
    numbers = [int(n) for n in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)]
    assert sorted(numbers) == list(range(1, 38))


def test_every_reason_and_check_is_explained() -> None:
    from privemo_consent import Reason

    reasons = (DOCS / "reference/run-files.md").read_text()
    for reason in Reason:
        if reason is not Reason.PERMITTED:
            assert f"| `{reason.value}` |" in reasons, reason
    page = (DOCS / "how-to/audit.md").read_text()
    explained = re.findall(r"^\| `([a-z_]+\.[a-z0-9_]+)` \|", page, re.MULTILINE)
    assert sorted(explained) == sorted(ids_of_checks())


def ids_of_checks() -> set[str]:
    """Ids of all checks of an audit, read off the calls that make them."""
    found = set()
    package = ROOT / "audits/privemo_audits"
    modules = [*package.glob("*checks.py"), package / "policy.py"]
    trees = [ast.parse(module.read_text(encoding="utf-8")) for module in modules]
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            first = node.args[:1] if node.func.id in ("judge", "_check") else []
            named_id = [k.value for k in node.keywords if k.arg == "id" and node.func.id == "Check"]
            found |= {c.value for c in (*first, *named_id) if isinstance(c, ast.Constant)}
    return found


# -- the README and the examples of Python ---------------------------------------------------------


def test_the_extras_of_the_readme_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    section = (ROOT / "README.md").read_text().split("\n## Install\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(
        project["optional-dependencies"]
    )


def test_the_readme_keeps_a_place_for_the_demos_output() -> None:
    text = (ROOT / "README.md").read_text()
    assert text.count("<!-- demo-output:start -->") == text.count("<!-- demo-output:end -->") == 1


def python_blocks() -> list[Any]:
    found = []
    for page in EVERYTHING:
        for number, body in enumerate(blocks(page, "python"), start=1):
            # A text block right after the code, introduced by "prints", is what it has to print.
            printed = re.search(
                re.escape(body) + r"```\n\nprints\n\n```text\n(.*?)```", page.read_text(), re.DOTALL
            )
            found.append(pytest.param(body, printed and printed[1], id=f"{named(page)}-{number}"))
    return found


@pytest.mark.parametrize(("code", "printed"), python_blocks())
def test_documented_python_runs(code: str, printed: str | None, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    if printed is not None:
        assert done.stdout == printed


@pytest.mark.parametrize("mode", ["production", "simulation"])
def test_a_copy_for_an_auditor_is_made_of_real_and_of_simulated_runs(
    tmp_path: Path, mode: Mode
) -> None:
    (code,) = [
        body
        for body in blocks(DOCS / "reference" / "run-files.md", "python")
        if "def hand_over" in body
    ]
    named: dict[str, Any] = {}
    exec(code, named)  # noqa: S102 - our own page
    folder = tmp_path / "run" / "stores" / "store-01"
    folder.mkdir(parents=True)
    (folder / "store.json").write_text(json.dumps({"registry_mode": mode}))
    (folder / "store.key").write_text("secret")
    ConsentRegistry.create(folder / "consent.sqlite", mode=mode, controller=PARTY).close()
    named["hand_over"](tmp_path / "run", tmp_path / "copy")
    copy = tmp_path / "copy" / "stores" / "store-01"
    assert (copy / "consent.sqlite").exists()
    assert not (copy / "store.key").exists()


def test_the_documentation_builds(tmp_path: Path) -> None:
    # Without --quiet, which would also silence the warnings that --strict counts.
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "--site-dir",
            str(tmp_path),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for page in tmp_path.rglob("*.html"):
        fetched = re.findall(
            r'<(?:script|img|link)[^>]+(?:src|href)="(https?:[^"]+)"', page.read_text()
        )
        assert not fetched, f"{page.name}: {fetched}"
