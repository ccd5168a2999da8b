"""What a run's folder keeps of stores that measured, and of counts that were asked for.

::

    RUN/counts/measured.json             which stores measured, or why not
    RUN/counts/asked.json                what is asked for, until it is counted; else the run's own terms
    RUN/counts/DIGEST/request.json       one request, and under its digest what came of it:
    RUN/counts/DIGEST/stores/NAME.json   counts of one store, or
    RUN/counts/DIGEST/sum.json           the sum of all; either is read by `privemo audit join`
    RUN/counts/DIGEST/joined.json        the audit of all together
    RUN/counts/DIGEST/told.json          which stores are in it, and why others are not
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from privemo.countrequest import CountRequest
from privemo.errors import RunError, SettingsError
from privemo.files import read_json, write_json
from privemo.runs import Run

__all__ = [
    "Counted",
    "answered",
    "ask_for",
    "asked",
    "folder_of",
    "keep_measured",
    "measured",
    "request_of",
]

_TOLD, _MEASURED, _ASKED = "privemo.counted/1", "privemo.measured-by/1", "asked.json"


@dataclass(frozen=True)
class Counted:
    """What came of one request.

    Attributes:
        folder: where it is kept.
        stores: in the joined audit.
        left_out: why the others are not, by store.
        error: why there is no joined audit; None where there is one.
    """

    folder: Path
    stores: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    error: str | None = None

    @property
    def joined(self) -> Path:
        """The audit of all together."""
        return self.folder / "joined.json"

    @classmethod
    def of(cls, run: Run, request: CountRequest) -> Counted | None:
        """What came of a request so far, if it was ever asked."""
        folder = folder_of(run, request)
        if not (folder / "told.json").exists():
            return None
        told = read_json(folder / "told.json", schema=_TOLD)
        return cls(folder, tuple(told["stores"]), dict(told["left_out"]), told["error"])

    def write(self) -> None:
        """Keep it."""
        said = {"stores": list(self.stores), "left_out": self.left_out, "error": self.error}
        write_json(self.folder / "told.json", {"schema": _TOLD, **said})


def measured(run: Run) -> dict[str, str | None]:
    """By store why it has not read its people with the finished model; None where it has."""
    path = run.folder / "counts" / "measured.json"
    if not path.exists():
        return dict.fromkeys(run.stores, "not asked yet")
    content = read_json(path, schema=_MEASURED)
    return {name: content["stores"].get(name, "not asked yet") for name in run.stores}


def request_of(
    run: Run, *, epsilon: float | None = None, columns: Sequence[str] | None = None
) -> CountRequest:
    """What may be asked of a run's stores: all that they agreed to, or less.

    Args:
        run: the run.
        epsilon: of the noise; None for what they agreed to.
        columns: to count by; None for all that they agreed to.

    Raises:
        RunError: they agreed to no counts.
        SettingsError: it is more than they agreed to.
    """
    terms, private = run.settings.counts, run.settings.privacy
    if terms is None or private is None:
        raise RunError(f"The stores of {run.folder} agreed to no counts when the run was drawn up.")
    known = dict(terms.groups)
    unknown = sorted(set(columns or ()) - set(known))
    if unknown:
        raise SettingsError(
            f"Counts by {unknown[0]!r} were not agreed on; by {', '.join(known) or 'nothing'} they were."
        )
    groups = tuple((f, g) for f, g in terms.groups if columns is None or f in columns)
    asked = terms.model_copy(update={"groups": groups}).request(run.run_id, private.delta)
    if epsilon is not None:
        asked = replace(asked, epsilon=epsilon)
    terms.check(asked)
    return asked


def ask_for(run: Run, request: CountRequest) -> None:
    """Have this be asked for, instead of the run's own terms, until it is counted.

    Raises:
        RunError: it cannot be written.
    """
    write_json(run.folder / "counts" / _ASKED, request.content())


def asked(run: Run) -> CountRequest | None:
    """What is to be counted; None for nothing.

    Raises:
        RunError: `asked.json` is damaged.
    """
    path = run.folder / "counts" / _ASKED
    if path.exists():
        try:
            return CountRequest.of(json.loads(path.read_bytes()))
        except (OSError, ValueError) as error:
            raise RunError(f"{path} is damaged ({error}); delete it and ask again.") from error
    return None if run.settings.counts is None else request_of(run)


def answered(run: Run) -> None:
    """What was asked for is counted: the run's own terms are what is asked for again."""
    (run.folder / "counts" / _ASKED).unlink(missing_ok=True)


def keep_measured(run: Run, model: str, stores: Mapping[str, str | None]) -> None:
    """Keep which stores measured the model of this hash, or why not.

    Raises:
        RunError: it cannot be written.
    """
    said = {"run_id": run.run_id, "model": model, "stores": dict(stores)}
    write_json(run.folder / "counts" / "measured.json", {"schema": _MEASURED, **said})


def folder_of(run: Run, request: CountRequest) -> Path:
    """Where what comes of a request is kept."""
    return run.folder / "counts" / request.digest()[:16]
