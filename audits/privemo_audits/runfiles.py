"""Reading a run's directory: every file is validated before anything is computed from it.

    RUN/run.json                     what was run
    RUN/rounds/0001.json             one per finished round
    RUN/model.safetensors            the last model
    RUN/attacks.jsonl                what attacks on it counted, if there were any (see `attempts`)
    RUN/attacks-ID.sig               how far that goes, signed (see `attacksigned`)
    RUN/looks.json                   where it looks, if anybody asked (see `looks`)
    RUN/stores/STORE/consent.sqlite  that store's consent registry (see `consent_log`)
    RUN/stores/STORE/ledger.jsonl    one line per private release, hash-chained (see `privacy`)
    RUN/stores/STORE/heldout-ledger.jsonl  one line per release of noised counts (see `heldout`)
    RUN/stores/STORE/statements.jsonl  what the store stated of each round, and what it kept to itself
    RUN/stores/STORE/admissions.jsonl  one line per time the consent gate was asked
    RUN/stores/STORE/asked.json      who was admitted and refused, by look, if the store counted (see `asked`)
    RUN/stores/STORE/predictions.csv   held-out faces (see `predictions`)

Nothing here writes. NaN and infinity are refused wherever they stand: JSON has neither.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import rfc8785
from pydantic import ValidationError

from .errors import RunFilesError
from .runschema import Admission, Details, LedgerEntry, Part, RoundInfo, RunInfo, SignedStatement

_AS_WRITTEN = "Restore the file as privemo wrote it, or audit with the version that wrote it."

ASKED_FILE = "asked.json"

M = TypeVar("M", bound=Part)


@dataclass(frozen=True)
class Line:
    """One ledger line: as read (its hash covers every key of it) and as understood."""

    raw: dict[str, Any]
    entry: LedgerEntry


@dataclass(frozen=True)
class Run:
    """A whole run, read and validated.

    Attributes:
        ledgers: store -> lines in file order; empty for a store that released nothing.
        admissions: store -> lines in file order.
        details: store -> hash of what it kept of a round -> that.
        signed: store -> what it signed, in file order: statement and signature as they were sent.
        said: file name -> run.json and each round as read; signatures and hashes cover every key of them.
        files: path relative to the run -> SHA-256 hex of what was read.
    """

    directory: Path
    info: RunInfo
    rounds: tuple[RoundInfo, ...]
    ledgers: dict[str, tuple[Line, ...]]
    admissions: dict[str, tuple[Admission, ...]]
    details: dict[str, dict[str, Details]] = field(default_factory=dict)
    signed: dict[str, tuple[dict[str, Any], ...]] = field(default_factory=dict)
    said: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def store_file(self, store: str, name: str) -> Path:
        """Path of one of a store's files."""
        return self.directory / "stores" / store / name


def load_run(run_dir: Path) -> Run:
    """Read and validate a run's directory, the registries and predictions excepted.

    Raises:
        RunFilesError: a file is missing, torn, or not what its schema says.
    """
    directory = Path(run_dir)
    if not directory.is_dir():
        raise RunFilesError(f"{directory} is no directory", "Name the directory of a run.")
    files: dict[str, str] = {}
    # As numbers: the text "10000" comes before "9999".
    names = sorted(
        (p.name for p in (directory / "rounds").glob("[0-9]*.json")), key=lambda n: (len(n), n)
    )
    said = {
        name: _json(_read(directory, name, files), name, _AS_WRITTEN)
        for name in ("run.json", *(f"rounds/{n}" for n in names))
    }
    info = _model(RunInfo, said["run.json"], "run.json")
    rounds = tuple(_model(RoundInfo, said[f"rounds/{n}"], f"rounds/{n}") for n in names)
    _same_run(info, rounds)
    if (directory / "model.safetensors").is_file():
        _read(directory, "model.safetensors", files)
    for store in info.stores:  # by its hash each store signed it
        if (directory / "stores" / store / ASKED_FILE).is_file():
            _read(directory, f"stores/{store}/{ASKED_FILE}", files)
    ledgers = {s: _ledger(directory, s, files, info.privacy.private) for s in info.stores}
    kept = {s: _statements(directory, s, files) for s in info.stores}
    answered = {s for r in rounds for s, said_of in r.stores.items() if said_of.reason != "silent"}
    answered |= {s for s in info.stores if ledgers[s] or kept[s]}  # whatever the server says of it
    admissions = {s: _admissions(directory, s, files, due=s in answered) for s in info.stores}
    details = {s: _details(rows, s) for s, rows in kept.items()}
    signed = {s: tuple(rows) for s, rows in kept.items()}
    return Run(directory, info, rounds, ledgers, admissions, details, signed, said, files)


def read_model(run: Run, name: str, kind: type[M]) -> M:
    """One more file of a run, read and validated; its hash joins `run.files`.

    Raises:
        RunFilesError: it is missing, torn, or not what its schema says.
    """
    return _model(kind, _json(_read(run.directory, name, run.files), name, _AS_WRITTEN), name)


def read_bytes(run: Run, name: str) -> bytes:
    """One more file of a run, as it is; its hash joins `run.files`.

    Raises:
        RunFilesError: it cannot be read.
    """
    return _read(run.directory, name, run.files)


def read_lines(run: Run, name: str, kind: type[M]) -> list[tuple[dict[str, Any], M]]:
    """The lines of one more file of a run, as read and as understood; none where it is not there.

    Raises:
        RunFilesError: it is torn, or a line is not what its schema says.
    """
    if not (run.directory / name).is_file():
        return []
    rows = _json_lines(run.directory, name, run.files, _AS_WRITTEN)
    return [(row, _model(kind, row, f"{name} line {i}")) for i, row in enumerate(rows, 1)]


def read_head(run: Run, name: str) -> tuple[int, str] | None:
    """How far a chained file goes, and the hash of its last entry; None where no head file is there.

    Raises:
        RunFilesError: it is no head file.
    """
    if not (run.directory / name).is_file():
        return None
    content = _json(_read(run.directory, name, run.files), name, _AS_WRITTEN)
    try:
        return int(content["entries"]), str(content["hash"])
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise RunFilesError(f"{name} cannot be read ({error})", "Restore the file.") from error


def _same_run(info: RunInfo, rounds: tuple[RoundInfo, ...]) -> None:
    """Rounds of another run, or of a store that the run does not name, are no part of this one."""
    for number, item in enumerate(rounds, start=1):
        where = f"rounds/{item.round:04d}.json"
        if item.run_id != info.run_id:
            raise RunFilesError(
                f"{where} belongs to run {item.run_id!r}, run.json to {info.run_id!r}",
                "Move the files of the other run away.",
            )
        if item.round != number:
            raise RunFilesError(
                f"rounds/{number:04d}.json is missing: the next file states round {item.round}",
                "Restore the missing round, or the audit would pass over it.",
            )
        if unknown := set(item.stores) - set(info.stores):
            raise RunFilesError(
                f"{where} names stores that run.json does not: {sorted(unknown)}",
                "Restore run.json and the round of one and the same run.",
            )


def _ledger(directory: Path, store: str, files: dict[str, str], private: bool) -> tuple[Line, ...]:
    name = f"stores/{store}/ledger.jsonl"
    if not (directory / name).is_file():
        return ()  # whether one was due is decided against the rounds, in `privacy`
    remedy = (
        "Resume the run so that the store repairs its ledger, or restore the file; until then "
        "its privacy spend is unknown and no epsilon can be stated."
        if private
        else "Restore the file."
    )
    rows = _json_lines(directory, name, files, remedy)
    return tuple(
        Line(row, _model(LedgerEntry, row, f"{name} line {i}")) for i, row in enumerate(rows, 1)
    )


def _admissions(
    directory: Path, store: str, files: dict[str, str], *, due: bool
) -> tuple[Admission, ...]:
    name = f"stores/{store}/admissions.jsonl"
    if not due and not (directory / name).is_file():
        return ()  # a store that was away in every round never asked its gate
    rows = _json_lines(
        directory, name, files, "Restore the file: without it nobody can say who was left out."
    )
    return tuple(_model(Admission, row, f"{name} line {i}") for i, row in enumerate(rows, 1))


def _statements(directory: Path, store: str, files: dict[str, str]) -> list[dict[str, Any]]:
    name = f"stores/{store}/statements.jsonl"
    if not (directory / name).is_file():
        return []  # whether one was due is decided against the rounds, in `manifests`
    return _json_lines(directory, name, files, "Restore the file.")


def _details(rows: list[dict[str, Any]], store: str) -> dict[str, Details]:
    found = {}
    for number, row in enumerate(rows, 1):
        where, kept = f"stores/{store}/statements.jsonl line {number}", row.get("details")
        if not isinstance(kept, dict):
            raise RunFilesError(f"{where}: it holds no details", _AS_WRITTEN)
        found[canonical_hash(kept)] = _model(Details, kept, where)
        _model(SignedStatement, row, where)
    return found


def canonical_hash(content: dict[str, Any]) -> str:
    """SHA-256 hex over the RFC 8785 bytes of some JSON."""
    try:
        return hashlib.sha256(rfc8785.dumps(content)).hexdigest()
    except (
        rfc8785.CanonicalizationError
    ):  # such numbers have no one encoding, so nothing was signed
        return ""


def _json_lines(
    directory: Path, name: str, files: dict[str, str], remedy: str
) -> list[dict[str, Any]]:
    raw = _read(directory, name, files)
    lines = raw.split(b"\n")
    if lines[-1]:  # a whole line ends with a newline: what follows the last one was cut off
        raise RunFilesError(f"{name} line {len(lines)}: the last line is cut off", remedy)
    return [_json(line, f"{name} line {i}", remedy) for i, line in enumerate(lines[:-1], 1)]


def _read(directory: Path, name: str, files: dict[str, str]) -> bytes:
    try:
        raw = (directory / name).read_bytes()
    except FileNotFoundError:
        raise RunFilesError(
            f"{name} is missing in {directory}", "Restore it, or name the directory of a whole run."
        ) from None
    except OSError as error:
        raise RunFilesError(
            f"{name} cannot be read ({error.strerror or error})", "Mend its rights or restore it."
        ) from error
    files[name] = hashlib.sha256(raw).hexdigest()
    return raw


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _json(raw: bytes, where: str, remedy: str) -> dict[str, Any]:
    try:
        value = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise RunFilesError(f"{where}: not valid JSON ({error})", remedy) from None
    if not isinstance(value, dict):
        raise RunFilesError(f"{where}: a JSON object was due, found {type(value).__name__}", remedy)
    return value


def _model(kind: type[M], value: bytes | dict[str, Any], where: str) -> M:
    row = value if isinstance(value, dict) else _json(value, where, _AS_WRITTEN)
    try:
        return kind.model_validate(row)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(p) for p in first["loc"]) or "the whole"
        raise RunFilesError(f"{where}: {place}: {first['msg']}", _AS_WRITTEN) from None
