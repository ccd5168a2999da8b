"""How far a shop may adapt: data that somebody answers for, and not code.

A policy is a TOML file. Its vocabulary is closed. It names what may be moved up, for which expression, how
far, and which circumstances of the shop are looked at; there is no word in it for age, gender, health,
money or any other trait of a person, none for pressing or sensitive goods, and none that loosens a guard
rail. So what the EU AI Act forbids in Article 5(1)(b) is not refused case by case: it cannot be written.
"""

from __future__ import annotations

import hashlib
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from privemo.errors import SettingsError
from privemo.labels import EMOTIONS

from .offers import Appeal

__all__ = [
    "CIRCUMSTANCES",
    "SCHEMA",
    "SHOP_ORDER",
    "AdaptationPolicy",
    "default_policy",
    "load_adaptation_policy",
]

SCHEMA = "privemo.adaptation-policy/1"
SHOP_ORDER = "shop"
"""The arm that changes nothing; always there, whatever a policy says."""

Emotion = Literal["happy", "sad", "neutral", "surprise"]
Circumstance = Literal["daypart", "weekpart", "basket"]

CIRCUMSTANCES: dict[str, tuple[str, ...]] = {
    "daypart": ("morning", "midday", "afternoon", "evening"),
    "weekpart": ("weekday", "weekend"),
    "basket": ("empty", "started"),
}
"""What of the shop, and never of the person, a policy may look at, and the values of each."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Limits(_Strict):
    """How far anything goes.

    Attributes:
        most_displacement: places up or down from where the shop had it.
        least_confidence: a reading less sure than this changes nothing.
    """

    most_displacement: int = Field(ge=1, le=5)
    least_confidence: float = Field(ge=0.4, lt=1)


class Rails(_Strict):
    """What holds beyond the rails that are code and cannot be named here (`privemo.recommend.rails`).

    Attributes:
        no_dearer_for: for these expressions nothing dearer passes anything cheaper.
    """

    no_dearer_for: tuple[Emotion, ...]

    @model_validator(mode="after")
    def _sad_always(self) -> Rails:
        if "sad" not in self.no_dearer_for:
            raise ValueError('"sad" cannot be left out: a sad reading never makes things dearer')
        return self


class Learning(_Strict):
    """How it learns.

    Attributes:
        exploration: share of decisions that try an adaptation at random; never 0, because what is never
            tried can neither be learned nor judged.
        caution: standard errors by which an adaptation has to be better than the shop's order.
        least_reactions: nothing is learned from fewer reactions of one kind.
        refit_every: so many new reactions, or a tenth of all where that is more.
        most_reactions: at this many all sums are halved.
        reaction_epsilon: where it is set, each reaction is turned into a random one before it is kept:
            local differential privacy of a single reaction with this epsilon.
    """

    exploration: float = Field(ge=0.02, le=1)
    caution: float = Field(ge=0.5, le=5)
    least_reactions: int = Field(ge=5, le=10_000)
    refit_every: int = Field(ge=1, le=10_000)
    most_reactions: int = Field(ge=1_000, le=10_000_000)
    reaction_epsilon: float | None = Field(None, gt=0, le=10)


class ContextRules(_Strict):
    """Which circumstances of the shop are looked at: names of `CIRCUMSTANCES`."""

    uses: tuple[Circumstance, ...] = ()


class LogRules(_Strict):
    """How many days events are kept; six months at least (EU AI Act 19(1), 26(6)), and not for ever."""

    keep_days: int = Field(ge=184, le=3 * 366)


class Adaptation(_Strict):
    """One thing that may be done.

    Attributes:
        lifts: what it moves up.
        strength: how far below another item, in shares of the range of the shop's scores, one may pass it.
        emotions: the expressions for which it may be chosen.
    """

    lifts: Appeal = Field(strict=False)
    strength: float = Field(gt=0, le=1)
    emotions: tuple[Emotion, ...] = Field(min_length=1)


class AdaptationPolicy(_Strict):
    """Everything that a shop may do; see `load_adaptation_policy`.

    Attributes:
        sha256: of the file, hex; stands in every decision.
    """

    schema_: Literal["privemo.adaptation-policy/1"] = Field(alias="schema")
    limits: Limits
    rails: Rails
    learning: Learning
    context: ContextRules = ContextRules()
    log: LogRules
    adaptation: tuple[Adaptation, ...] = Field(min_length=1, max_length=len(Appeal))
    source: bytes = Field(b"", exclude=True, repr=False)

    @model_validator(mode="after")
    def _each_once(self) -> AdaptationPolicy:
        for name, given in (
            ("context.uses", self.context.uses),
            ("rails.no_dearer_for", self.rails.no_dearer_for),
            ("adaptation.lifts", tuple(each.lifts for each in self.adaptation)),
            *((f"emotions of {each.lifts}", each.emotions) for each in self.adaptation),
        ):
            if len(set(given)) != len(given):
                raise ValueError(f"{name} names something twice")
        return self

    @property
    def sha256(self) -> str:
        """Of the bytes that were read, hex."""
        return hashlib.sha256(self.source).hexdigest()

    def arms(self, emotion: str) -> tuple[str, ...]:
        """What may be chosen for an expression: the shop's order, then adaptations as they are listed."""
        return (SHOP_ORDER, *(a.lifts.value for a in self.adaptation if emotion in a.emotions))

    def find(self, arm: str) -> Adaptation:
        """The adaptation of that name.

        Raises:
            SettingsError: the policy has none.
        """
        for each in self.adaptation:
            if each.lifts == arm:
                return each
        raise SettingsError(f"the policy has no adaptation that lifts {arm!r}")

    def kinds(self) -> frozenset[str]:
        """Every situation with every arm: the whole vocabulary of what is learned, and so its bound."""
        kinds = [""]
        for name in self.context.uses:
            kinds = [f"{kind}/{value}" for kind in kinds for value in (*CIRCUMSTANCES[name], "any")]
        return frozenset(
            f"{e}{kind}/{arm}" for e in EMOTIONS for kind in kinds for arm in self.arms(e)
        )


def load_adaptation_policy(path: Path | str) -> AdaptationPolicy:
    """Read a policy.

    Raises:
        SettingsError: the file cannot be read, is no TOML, or says what a policy cannot say.
    """
    try:
        return _parse(Path(path).read_bytes(), str(path))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror or error}") from error


def default_policy() -> AdaptationPolicy:
    """The policy that comes with privemo: every expression under the price rail, three places at most."""
    return _parse((files("privemo.recommend") / "data/policy.toml").read_bytes(), "policy.toml")


def _parse(raw: bytes, name: str) -> AdaptationPolicy:
    try:
        content: dict[str, Any] = tomllib.loads(raw.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{name} is no TOML file: {error}") from error
    if content.get("schema") != SCHEMA:
        raise SettingsError(f'{name} is no adaptation policy: begin it with schema = "{SCHEMA}"')
    if "source" in content:
        raise SettingsError(f"{name}: source: a policy knows no such word")
    try:
        return AdaptationPolicy.model_validate({**_tuples(content), "source": raw})
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        raise SettingsError(f"{name}: {'; '.join(map(_told, found[:4]))}") from None


def _told(error: Any) -> str:
    where = ".".join(map(str, error["loc"])) or "the policy"
    if error["type"] == "extra_forbidden":
        # EU AI Act 5(1)(b): an adaptation to age or to vulnerability has no words here.
        return (
            f"{where}: a policy knows no such word; it looks at expressions and circumstances alone"
        )
    return f"{where}: {error['msg'].removeprefix('Value error, ')} (got {error['input']!r})"


def _tuples(value: Any) -> Any:
    """TOML's arrays as tuples: strict validation takes no list for one, and frozen models hold none."""
    if isinstance(value, dict):
        return {key: _tuples(each) for key, each in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
