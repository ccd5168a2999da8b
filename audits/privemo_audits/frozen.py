"""What every part of a report is made of."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Interval = tuple[float, float]
Status = Literal["ok", "insufficient", "suppressed"]


class Frozen(BaseModel):
    """Base of every part: immutable, closed to unknown keys, finite numbers only."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True
    )
