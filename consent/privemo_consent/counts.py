"""Whom the gate asked about, admitted and refused, as numbers (REQUIREMENTS 36; AI Act 9(9))."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from .snapshot import Verdicts
from .terms import Reason

__all__ = ["RefusalCounts"]


def _no_counts() -> Mapping[Reason, int]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalCounts:
    """How many faces and persons were asked for, admitted, and refused by reason.

    Counts add up: asked = admitted + the sum of the refused. Adding two counts adds persons too,
    so tables that share persons count them once for each table.
    """

    asked_faces: int = 0
    asked_persons: int = 0
    admitted_faces: int = 0
    admitted_persons: int = 0
    refused_faces: Mapping[Reason, int] = field(default_factory=_no_counts)
    refused_persons: Mapping[Reason, int] = field(default_factory=_no_counts)

    @classmethod
    def of(cls, verdicts: Verdicts) -> RefusalCounts:
        """Count what a snapshot decided."""
        faces, persons = verdicts.faces_by_reason(), verdicts.persons_by_reason()
        return cls(
            asked_faces=len(verdicts.codes),
            asked_persons=len(verdicts.person_codes),
            admitted_faces=faces.pop(Reason.PERMITTED, 0),
            admitted_persons=persons.pop(Reason.PERMITTED, 0),
            refused_faces=MappingProxyType(faces),
            refused_persons=MappingProxyType(persons),
        )

    def __add__(self, other: RefusalCounts) -> RefusalCounts:
        return RefusalCounts(
            asked_faces=self.asked_faces + other.asked_faces,
            asked_persons=self.asked_persons + other.asked_persons,
            admitted_faces=self.admitted_faces + other.admitted_faces,
            admitted_persons=self.admitted_persons + other.admitted_persons,
            refused_faces=_sum(self.refused_faces, other.refused_faces),
            refused_persons=_sum(self.refused_persons, other.refused_persons),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the form of an admission record: asked, admitted, refused by reason."""
        return {
            "asked": {"faces": self.asked_faces, "persons": self.asked_persons},
            "admitted": {"faces": self.admitted_faces, "persons": self.admitted_persons},
            "refused": {
                "faces": {reason.value: n for reason, n in self.refused_faces.items()},
                "persons": {reason.value: n for reason, n in self.refused_persons.items()},
            },
        }


def _sum(one: Mapping[Reason, int], two: Mapping[Reason, int]) -> Mapping[Reason, int]:
    reasons = [reason for reason in Reason if reason in one or reason in two]
    return MappingProxyType({r: one.get(r, 0) + two.get(r, 0) for r in reasons})
