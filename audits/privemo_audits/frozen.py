"""What every part of a report is made of."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict

Interval = tuple[float, float]
Status = Literal["ok", "insufficient", "suppressed"]


class Frozen(BaseModel):
    """Base of every part: immutable, closed to unknown keys, finite numbers only."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True
    )


class Document(Frozen):
    """What stands in a file of its own."""

    def to_json(self) -> bytes:
        """Return the canonical bytes (RFC 8785): UTF-8, sorted keys, no spaces."""
        import rfc8785

        # Through json, so that datetimes and tuples are the plain values RFC 8785 knows.
        return rfc8785.dumps(json.loads(self.model_dump_json(by_alias=True)))
