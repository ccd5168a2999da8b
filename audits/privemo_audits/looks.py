"""Where the model looks: `looks.json`, written by `privemo explain`, read strictly.

The file holds means over people who do not exist, and no face. It is held against the run: what was looked
into has to be the model that the rounds made, or whoever reads the report is shown another one's attention.

| what is wrong | what is said |
|---|---|
| no `looks.json` | that nobody asked where the model looks |
| an unknown key, a share outside 0 to 1, shares that do not add up to 1, NaN | RunFilesError |
| an emotion that the model does not name, a region without its share | RunFilesError |
| of another run | RunFilesError |
| of another model | the check `looks.of_this_model` fails, and nothing of it is shown |
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, ConfigDict, Field, model_validator

from .errors import RunFilesError
from .report_more import Attention, Looked, Looks
from .runfiles import Run, read_model
from .runschema import Hex, Part

__all__ = ["LOOKS_FILE", "measure_looks"]

LOOKS_FILE = "looks.json"

_ANEW = "Look into this run's model anew with `privemo explain`, or take the file away."
_ROUNDING = 0.001

Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(min_length=1, max_length=100)]


class Strict(Part):
    """What somebody else writes by an agreed format: anything else in it is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ShareInfo(Strict):
    """`share.REGION`."""

    mean: Share
    low: Share
    high: Share

    @model_validator(mode="after")
    def _in_its_interval(self) -> ShareInfo:
        if not self.low - _ROUNDING <= self.mean <= self.high + _ROUNDING:
            raise ValueError("the mean lies outside its interval")
        return self


class LookedInfo(Strict):
    """`by_emotion.EMOTION`, and `by_group.FEATURE.GROUP`."""

    n: int = Field(ge=1, le=10**9)
    share: dict[Name, ShareInfo]


class LooksInfo(Strict):
    """`looks.json`."""

    schema_: Literal["privemo.looks/1"] = Field(alias="schema")
    run_id: str
    made: AwareDatetime
    model_sha256: Hex
    method: Literal["integrated_gradients", "grad_cam"]
    people: int = Field(ge=1, le=10**9)
    regions: tuple[Name, ...] = Field(min_length=2, max_length=20)
    area: dict[Name, Share]
    by_emotion: dict[Name, LookedInfo] = Field(min_length=1)
    by_group: dict[Name, dict[Name, LookedInfo]]
    versions: dict[str, str]

    @model_validator(mode="after")
    def _of_the_regions(self) -> LooksInfo:
        if len(set(self.regions)) != len(self.regions):
            raise ValueError("a region comes twice")
        _whole("area", self.area, self.regions)
        for where, looked in self.everything():
            means = {region: share.mean for region, share in looked.share.items()}
            _whole(f"{where}.share", means, self.regions)
        return self

    def everything(self) -> Iterator[tuple[str, LookedInfo]]:
        """Each part, with its place in the file."""
        for emotion, looked in self.by_emotion.items():
            yield f"by_emotion.{emotion}", looked
        for feature, groups in self.by_group.items():
            for group, looked in groups.items():
                yield f"by_group.{feature}.{group}", looked


def _whole(where: str, shares: dict[str, float], regions: tuple[str, ...]) -> None:
    if set(shares) != set(regions):
        raise ValueError(f"{where} has to name each of the regions, and no other")
    if abs(sum(shares.values()) - 1) > _ROUNDING * len(regions):
        raise ValueError(f"{where} adds up to {sum(shares.values()):.4f}, and not to 1")


def measure_looks(run: Run) -> Looks | None:
    """Where the model of a run looks; None where nobody asked.

    Raises:
        RunFilesError: `looks.json` is torn, malformed, of another run, or of an emotion that the run does not
            have.
    """
    if not (run.directory / LOOKS_FILE).is_file():
        return None
    info = read_model(run, LOOKS_FILE, LooksInfo)
    if info.run_id != run.info.run_id:
        raise RunFilesError(
            f"{LOOKS_FILE} is of run {info.run_id!r}, run.json of {run.info.run_id!r}", _ANEW
        )
    if unknown := set(info.by_emotion) - set(run.info.label_names):
        raise RunFilesError(
            f"{LOOKS_FILE}: by_emotion: {min(unknown)!r} is none of "
            f"{', '.join(run.info.label_names)}",
            _ANEW,
        )
    facts = _facts(info, info.model_sha256 == run.files.get("model.safetensors"))
    if not facts.of_this_model:
        return facts
    order = [name for name in run.info.label_names if name in info.by_emotion]
    return facts.model_copy(
        update={
            "area": {region: info.area[region] for region in info.regions},
            "by_emotion": {name: _looked(info, info.by_emotion[name]) for name in order},
            "by_group": {
                feature: {group: _looked(info, looked) for group, looked in groups.items()}
                for feature, groups in info.by_group.items()
            },
        }
    )


def _facts(info: LooksInfo, of_this_model: bool) -> Looks:
    made: datetime = info.made
    return Looks(
        method=info.method,
        made=made,
        people=info.people,
        model_sha256=info.model_sha256,
        of_this_model=of_this_model,
        regions=info.regions,
    )


def _looked(info: LooksInfo, looked: LookedInfo) -> Looked:
    shares = {region: looked.share[region] for region in info.regions}
    return Looked(
        n=looked.n,
        share={name: Attention(mean=s.mean, ci=(s.low, s.high)) for name, s in shares.items()},
    )
