"""Putting a report together from a run's directory, and writing it whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from errno import EISDIR
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .beside import Read, held_beside
from .errors import MissingExtraError, ReportWriteError
from .excluded import told_of_ages
from .found import checks_of, measure_all
from .groups import MIN_PERSONS, SUPPRESS_BELOW
from .intervals import ALPHA, DRAWS, SEED
from .limits import make_limits
from .permutation import DEALS
from .policy import Policy, load_policy
from .report import DataFacts, Evidence, PolicyFacts, Report, RunFacts
from .runfiles import Run, load_run
from .signature import PAGES, REPORT, SIGNATURE, signature_of
from .summary import make_summary

if TYPE_CHECKING:
    from privemo_consent.keys import SigningKey
    from privemo_consent.note import NoteKey

_TOOLS = ("privemo", "fairlearn", "dp-accounting", "numpy", "pandas", "scipy", "matplotlib")


def build_report(
    run_dir: Path | str,
    *,
    policy: Path | str | None = None,
    beside: Iterable[Read] = (),
    keys: Iterable[NoteKey] = (),
    earlier: Report | None = None,
) -> Report:
    """Audit a run from its files and registries alone; nothing is written.

    Args:
        run_dir: the run's directory (`run.json`, `rounds/`, `stores/`; see `runfiles`).
        policy: a TOML file of thresholds (`privemo_audits.policy`); each that is not met fails the audit.
        beside: reports of other runs, verified (`read_beside`), of which accuracy and epsilon are shown too.
        keys: of auditors who are known: they may have signed how far the history of attacks goes.
        earlier: a report of this run made before (`read_report`); every attack that it knew of is due, and
            whatever it knew to be signed.

    Returns:
        The report; equal runs give equal reports. Defects of the run are failed checks in it.

    Raises:
        RunFilesError: a file is missing, torn or malformed.
        PolicyError: the policy cannot be read, or names a column that the predictions do not have.
        PredictionsError: there are no usable predictions.
        ReportError: a report is to stand beside itself, or twice; or the earlier one is of another run.
        ConsentLogError: a consent registry cannot be read.
        MissingExtraError: a library of the `audit` extra is not installed.
    """
    _need_extra()
    rules, policy_hash = (None, None) if policy is None else load_policy(policy)
    run = load_run(Path(run_dir))
    found = measure_all(run, rules, keys, earlier)
    checks = checks_of(run, rules, found)
    failed = tuple(c.id for c in checks if c.required and not c.passed)
    said_of_ages, not_shown = told_of_ages(found.drawn)
    report = Report(
        passed=not failed,
        verdict="failed" if failed else "passed",
        failed_checks=failed,
        summary=(*make_summary(run, found, checks), *said_of_ages),
        run=_run_facts(run),
        data=DataFacts(**run.info.data.model_dump()),
        exclusions=found.exclusions,
        performance=found.performance,
        groups=tuple(found.groups),
        gaps=tuple(found.gaps),
        representation=tuple(found.represented),
        excluded=found.drawn,
        group_rules=_rules(),
        privacy=found.privacy,
        lineage=found.lineage,
        checks=tuple(checks),
        policy=_policy_facts(rules, policy_hash),
        looks=found.looks,
        limits=(*make_limits(run, found), *not_shown),
        evidence=Evidence(files=dict(sorted(run.files.items())), tools=_tools()),
    )
    return held_beside(report, beside)


def _policy_facts(rules: Policy | None, sha256: str | None) -> PolicyFacts | None:
    if rules is None or sha256 is None:
        return None
    content = rules.model_dump(mode="json", exclude_none=True, by_alias=True)
    return PolicyFacts(sha256=sha256, rules=content)


def write_report(
    report: Report,
    out_dir: Path | str,
    *,
    run_dir: Path | str | None = None,
    key: SigningKey | None = None,
) -> tuple[Path, ...]:
    """Write the report as JSON, three pages, Markdown and model card, and its signature; each whole or not.

    All are rendered before any is written, and moved into place only when all are on the disk, so a failure
    leaves what was there before. A signature that stood there goes with the report that it was of.

    Args:
        report: what to write.
        out_dir: the directory, made if it does not exist.
        run_dir: the run that was audited, to be named by its last path component in the page.
        key: the auditor's, to sign with.

    Returns:
        The paths of `report.json`, of each of `signature.PAGES`, and of `report.sig` if signed.

    Raises:
        ReportWriteError: the directory or the disk does not take them.
        MissingExtraError: a library of the `audit` extra is not installed.
    """
    written = _rendered(report, Path(run_dir).resolve().name if run_dir is not None else None)
    contents = {REPORT: report.to_json(), **written}
    if key is not None:
        contents[SIGNATURE] = signature_of(report, written, key)
    out = Path(out_dir)
    _put_in_place(contents, out)
    return tuple(out / name for name in contents)


def _rendered(report: Report, run_name: str | None) -> dict[str, bytes]:
    """Each of `signature.PAGES`, by its name."""
    from . import pages
    from .render import render_card, render_markdown

    texts = (
        pages.render_html(report, run_name=run_name),
        pages.render_plain(report, run_name=run_name),
        pages.render_regulator(report, run_name=run_name),
        render_markdown(report, run_name=run_name),
        render_card(report),
    )
    return {name: text.encode() for name, text in zip(PAGES, texts, strict=True)}


def _put_in_place(contents: Mapping[str, bytes], out: Path) -> None:
    """Write all files beside their places, and move them there only when all are on the disk."""
    parts: list[tuple[Path, Path]] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            parts.append((_write_beside(out / name, content), out / name))
        if blocked := [name for name in contents if (out / name).is_dir()]:
            raise IsADirectoryError(EISDIR, f"{blocked[0]} is a folder")
        for part, path in parts:
            os.replace(part, path)
        if SIGNATURE not in contents:  # what was signed is no longer there
            (out / SIGNATURE).unlink(missing_ok=True)
    except OSError as error:
        raise ReportWriteError(
            f"the report cannot be written to {out} ({error.strerror or error})",
            "Free some space or choose another directory; nothing half-written was left.",
        ) from error
    finally:
        for part, _ in parts:
            part.unlink(missing_ok=True)


def _write_beside(path: Path, content: bytes) -> Path:
    """Write to a new file beside `path`, flushed to the disk; remove it on failure."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o666 & ~_umask())
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return part


def _umask() -> int:
    """The process's file mode mask; it can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _need_extra() -> None:
    """Say what is missing before any work is done."""
    from importlib.util import find_spec

    needed = ("fairlearn", "pandas", "scipy", "sklearn", "dp_accounting", "matplotlib", "jinja2")
    if missing := [name for name in needed if find_spec(name) is None]:
        raise MissingExtraError.of(*missing)


def _run_facts(run: Run) -> RunFacts:
    info = run.info
    return RunFacts(
        run_id=info.run_id,
        created=info.created,
        engine=info.engine,
        simulated=info.simulated,
        stores=info.stores,
        rounds_planned=info.rounds,
        rounds_found=len(run.rounds),
        label_names=info.label_names,
        sensitive=info.sensitive,
        setting=info.context.setting,
        jurisdiction=info.context.jurisdiction,
        challenge_age=info.challenge_age,
        model=info.model,
        versions=info.versions,
    )


def _rules() -> dict[str, Any]:
    return {
        "interval": 0.95,
        "min_persons": MIN_PERSONS,
        "suppress_below_persons": SUPPRESS_BELOW,
        "bootstrap_draws": DRAWS,
        "bootstrap_seed": SEED,
        "alpha": ALPHA,
        "deals": DEALS,
    }


def _tools() -> dict[str, str]:
    found = {}
    for name in _TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
