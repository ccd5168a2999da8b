"""Putting a report together from a run's directory, and writing it whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from errno import EISDIR
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .asked import measure_asked
from .askedchecks import shares_checks
from .attempts import measure_attacks
from .beside import Read, held_beside
from .cells import measure_groups
from .checks import end_checks, looks_checks, make_checks
from .closing import end_of
from .consent_log import read_consent_logs
from .errors import MissingExtraError, ReportWriteError
from .excluded import measure_drawn, told_of_ages
from .exclusions import measure_exclusions
from .fairness import measure_performance
from .groups import MIN_PERSONS, SUPPRESS_BELOW
from .intervals import ALPHA, DRAWS, SEED
from .lineage import measure_lineage
from .looks import measure_looks
from .manifests import manifest_faults
from .permutation import DEALS
from .policy import controls_of, load_policy, policy_checks
from .predictions import load_predictions
from .privacy import measure_privacy
from .report import DataFacts, Evidence, PolicyFacts, Report, Representation, RunFacts
from .representation import measure_representation
from .runfiles import Run, load_run
from .signature import PAGES, REPORT, SIGNATURE, signature_of
from .summary import make_limits, make_summary

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
    looks = measure_looks(run)
    predictions = load_predictions(run)
    labels = run.info.label_names
    performance = measure_performance(predictions, labels)
    controls = () if rules is None else controls_of(rules, run.info.sensitive)
    groups, gaps, notes = measure_groups(predictions, run.info.sensitive, labels, controls=controls)
    logs = read_consent_logs(run)
    reference = {} if rules is None else rules.representation.reference
    exclusions = measure_exclusions(
        run, [log.turned_away for log in logs.values()], measure_asked(run, reference)
    )
    lineage, breaches, shared = measure_lineage(run, logs, predictions)
    privacy, faults = measure_privacy(run, shared)
    attacked, attempts = measure_attacks(run, keys, earlier)
    privacy = privacy.model_copy(update={"attacked": attacked, "attempts": attempts})
    end = end_of(run, earlier)
    found = [*breaches, *faults, *manifest_faults(run), *end.faults]
    checks = make_checks(run, exclusions, performance, privacy, lineage, found)
    checks += [*end_checks(end), *looks_checks(looks), *shares_checks(exclusions.by_group)]
    drawn = measure_drawn(run)
    said_of_ages, not_shown = told_of_ages(drawn)
    represented: list[Representation] = []
    if rules is not None:
        represented = measure_representation(predictions, groups, reference)
        checks += policy_checks(rules, performance, groups, gaps, privacy, exclusions, represented)
    failed = tuple(c.id for c in checks if c.required and not c.passed)
    report = Report(
        passed=not failed,
        verdict="failed" if failed else "passed",
        failed_checks=failed,
        summary=(
            *make_summary(run, exclusions, performance, groups, gaps, privacy, lineage, checks),
            *said_of_ages,
        ),
        run=_run_facts(run),
        data=DataFacts(**run.info.data.model_dump()),
        exclusions=exclusions,
        performance=performance,
        groups=tuple(groups),
        gaps=tuple(gaps),
        representation=tuple(represented),
        excluded=drawn,
        group_rules=_rules(),
        privacy=privacy,
        lineage=lineage,
        checks=tuple(checks),
        policy=None
        if rules is None or policy_hash is None
        else PolicyFacts(
            sha256=policy_hash,
            rules=rules.model_dump(mode="json", exclude_none=True, by_alias=True),
        ),
        looks=looks,
        limits=(
            *make_limits(run, privacy, lineage, exclusions, looks, notes),
            *not_shown,
        ),
        evidence=Evidence(files=dict(sorted(run.files.items())), tools=_tools()),
    )
    return held_beside(report, beside)


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
    from . import pages
    from .render import render_card, render_markdown

    out = Path(out_dir)
    name = Path(run_dir).resolve().name if run_dir is not None else None
    written = dict(
        zip(
            PAGES,
            (
                pages.render_html(report, run_name=name).encode(),
                pages.render_plain(report, run_name=name).encode(),
                pages.render_regulator(report, run_name=name).encode(),
                render_markdown(report, run_name=name).encode(),
                render_card(report).encode(),
            ),
            strict=True,
        )
    )
    targets = {out / REPORT: report.to_json()}
    targets |= {out / each: content for each, content in written.items()}
    if key is not None:
        targets[out / SIGNATURE] = signature_of(report, written, key)
    parts: list[tuple[Path, Path]] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, content in targets.items():
            parts.append((_write_beside(path, content), path))
        if blocked := [path for path in targets if path.is_dir()]:
            raise IsADirectoryError(EISDIR, f"{blocked[0].name} is a folder")
        for part, path in parts:
            os.replace(part, path)
        if key is None:  # what was signed is no longer there
            (out / SIGNATURE).unlink(missing_ok=True)
    except OSError as error:
        raise ReportWriteError(
            f"the report cannot be written to {out} ({error.strerror or error})",
            "Free some space or choose another directory; nothing half-written was left.",
        ) from error
    finally:
        for part, _ in parts:
            part.unlink(missing_ok=True)
    return tuple(targets)


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
