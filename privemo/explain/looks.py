"""`RUN/looks.json`: where a model looks, for the audit to report."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from privemo.errors import RunError
from privemo.explain.attribution import Method
from privemo.explain.parts import PARTS
from privemo.files import read_json, write_json

__all__ = ["LOOKS_FILE", "Interval", "Looks", "Shares", "read_looks", "versions", "write_looks"]

LOOKS_FILE = "looks.json"
SCHEMA = "privemo.looks/1"

Share = Annotated[float, Field(ge=0, le=1)]
Part = Literal["eyes", "mouth", "cheeks", "elsewhere"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Interval(_Strict):
    """A mean over people and its 95% interval."""

    mean: Share
    low: Share
    high: Share

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.low <= self.mean <= self.high:
            raise ValueError("low <= mean <= high does not hold")
        return self


class Shares(_Strict):
    """Share of attention on each part, over `n` people."""

    n: Annotated[int, Field(ge=1)]
    share: dict[Part, Interval]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        _check_whole({part: each.mean for part, each in self.share.items()})
        return self


class Looks(_Strict):
    """What stands in `looks.json`; shares are of attention, the absolute attribution."""

    schema_: Annotated[Literal["privemo.looks/1"], Field(alias="schema")]
    run_id: str
    made: AwareDatetime
    model_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    method: Method
    people: Annotated[int, Field(ge=1)]
    regions: tuple[Part, ...]
    area: dict[Part, Share]
    by_emotion: dict[Literal["happy", "sad", "neutral", "surprise"], Shares]
    by_group: dict[str, dict[str, Shares]]
    versions: dict[str, str]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.regions != PARTS:
            raise ValueError(f"regions are {', '.join(PARTS)}")
        _check_whole(self.area)
        return self


def _check_whole(shares: dict[Part, float]) -> None:
    if set(shares) != set(PARTS) or not math.isclose(sum(shares.values()), 1.0, abs_tol=1e-6):
        raise ValueError("shares of all regions must be there and sum to 1")


def versions() -> dict[str, str]:
    """Versions of what computes."""
    return {name: metadata.version(name) for name in ("privemo", "torch", "captum", "numpy")}


def write_looks(
    folder: Path,
    *,
    run_id: str,
    model_sha256: str,
    method: Method,
    people: int,
    area: dict[str, float],
    by_emotion: dict[str, dict[str, object]],
    by_group: dict[str, dict[str, dict[str, object]]],
) -> Looks:
    """Check what was found and write it to the run folder, whole or not at all.

    Raises:
        RunError: it cannot be written.
    """
    looks = Looks.model_validate(
        {
            "schema": SCHEMA,
            "run_id": run_id,
            "made": datetime.now(UTC).replace(microsecond=0),
            "model_sha256": model_sha256,
            "method": method,
            "people": people,
            "regions": PARTS,
            "area": area,
            "by_emotion": by_emotion,
            "by_group": by_group,
            "versions": versions(),
        }
    )
    write_json(folder / LOOKS_FILE, looks.model_dump(mode="json", by_alias=True))
    return looks


def read_looks(folder: Path) -> Looks:
    """Read and check `looks.json` of a run folder.

    Raises:
        RunError: missing, or not what `privemo explain` writes.
    """
    path = folder / LOOKS_FILE
    content = read_json(path, schema=SCHEMA)
    try:
        return Looks.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise RunError(
            f"{path} is damaged ({where}: {first['msg']}); explain the run anew."
        ) from error
