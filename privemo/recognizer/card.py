"""What an exported model says of itself: the card that is signed together with it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from privemo.labels import EMOTIONS

__all__ = [
    "Abstention",
    "Agreement",
    "Calibration",
    "Form",
    "ModelCard",
    "PrivacyStatement",
    "SelfCheck",
]

Form = Literal["fp32", "int8"]
Share = Annotated[float, Field(ge=0, le=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=()
    )


class PrivacyStatement(_Frozen):
    """What the model may reveal of whoever trained it.

    Attributes:
        private: false: trained without differential privacy, and every number below is null.
        unit: whom the bound is about.
        epsilon: of the most exposed person, claimed or recomputed, whichever is larger.
        delta: of the bound.
        neighbouring: relation of the bound.
        audit: verdict of the audit that was made as the model was exported.
        report_sha256: of that audit's report, in its canonical form.
        failed_checks: ids of what failed in it.
    """

    private: bool
    unit: Literal["person"] = "person"
    epsilon: float | None
    delta: float | None
    neighbouring: str | None
    audit: Literal["passed", "failed"]
    report_sha256: Sha256
    failed_checks: tuple[str, ...] = ()


class Agreement(_Frozen):
    """How near the exported model is to the trained one, on people who do not exist.

    Attributes:
        people: how many of them; other people than those that `int8` was calibrated on.
        faces: how many pictures of them.
        difference: largest difference of a probability.
        accuracy_torch: share of faces named rightly by the trained model.
        accuracy: the same of this one.
        calibrated_on: people who do not exist that ranges of `int8` were taken from.
    """

    people: int = Field(ge=1)
    faces: int = Field(ge=1)
    difference: float = Field(ge=0)
    accuracy_torch: Share
    accuracy: Share
    calibrated_on: int = Field(ge=0)


class Calibration(_Frozen):
    """What the temperature was chosen on, and what it does to faces of other people, who do not exist.

    Attributes:
        fitted_on: whose pictures it was chosen on.
        people: how many of them do not exist; null where they do: how many agreed is told to nobody.
        epsilon: what the choice cost each of the held-out people; null where nobody exists.
        error_before: expected calibration error without it.
        error_after: the same with it.
        measured_on: whose faces both are of.
        faces: how many.
    """

    fitted_on: Literal["held-out people", "people who do not exist"]
    people: int | None = Field(ge=1)
    epsilon: float | None = Field(gt=0)
    error_before: Share
    error_after: Share
    measured_on: Literal["people who do not exist"] = "people who do not exist"
    faces: int = Field(ge=1)


class Abstention(_Frozen):
    """When the model says nothing.

    Attributes:
        threshold: the most probable emotion has to be at least so probable.
        coverage: share of faces that were to be read as the threshold was set.
        read: share of other people's faces that are read at that threshold.
        read_ci: its 95% interval (Clopper and Pearson 1934).
        accuracy: of those that are read; null if there are none.
        faces: how many faces `read` is of.
        measured_on: whose they are.
    """

    threshold: Share
    coverage: Share
    read: Share
    read_ci: tuple[Share, Share]
    accuracy: Share | None
    faces: int = Field(ge=1)
    measured_on: Literal["people who do not exist"] = "people who do not exist"


class SelfCheck(_Frozen):
    """What the model says of a made-up pattern; another runtime or processor has to say the same."""

    probabilities: tuple[Share, Share, Share, Share]
    tolerance: float = Field(gt=0, le=0.1)


class ModelCard(_Frozen):
    """The whole card.

    Attributes:
        run_id: of the run that trained the model.
        exported: when.
        form: of its weights.
        architecture: name of the network.
        channels: 1: reads gray; 3: RGB.
        size: of the faces that it reads, in pixels.
        label_names: what its probabilities are of.
        weights_sha256: name of the trained model in the run's manifests.
        stores_signed: how many stores signed that this is the model which their run ended with.
        trained_on: where faces came from, and how many stores.
        start: what training started from.
        simulated_consents: true: no real person agreed, the run was a simulation.
        temperature: by which logits are divided, in the graph itself; null in cards of before.
        calibration: what it was chosen on; null likewise.
        privacy, agreement, abstention, check: see there.
        versions: of what made it.
    """

    schema_: Literal["privemo.model/1"] = Field(default="privemo.model/1", alias="schema")
    run_id: str = Field(min_length=1, max_length=64, pattern=r"^[\w.-]+$")
    exported: datetime
    form: Form
    architecture: str
    channels: Literal[1, 3]
    size: Literal[48] = 48
    label_names: tuple[str, ...] = EMOTIONS
    weights_sha256: Sha256
    stores_signed: int = Field(default=0, ge=0)
    trained_on: dict[str, Any]
    start: str
    simulated_consents: bool
    temperature: float | None = Field(default=None, gt=0)
    calibration: Calibration | None = None
    privacy: PrivacyStatement
    agreement: Agreement
    abstention: Abstention
    check: SelfCheck
    versions: dict[str, str]

    def content(self) -> dict[str, Any]:
        """As JSON values, by the names that stand in the file."""
        return self.model_dump(mode="json", by_alias=True)
