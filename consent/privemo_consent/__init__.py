"""Consent for faces: who agreed to what, and the only door to their pictures.

    registry = ConsentRegistry.create("consent.sqlite", mode="production", controller=party)
    registry.notice(notice)
    registry.grant("p-41", [Purpose.TRAINING], age_band=AgeBand.FROM_25, jurisdiction="IE",
                   notice=notice)
    gate = ConsentGate(registry)
    admitted = gate.admit(faces, Purpose.TRAINING, Context(setting="retail", jurisdiction="IE"))

Importing the package is cheap: each name loads its module when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import merkle
    from .bulk import BulkOutcome
    from .canonical import canonical_bytes
    from .counts import RefusalCounts
    from .errors import (
        BackdatedRefused,
        ClockBackwardsError,
        ConsentError,
        KeyFileError,
        MalformedError,
        MinorRefused,
        ModeMismatchError,
        NoticeRefused,
        ProofError,
        Refused,
        RegistryBusyError,
        RegistryError,
        RegistryExistsError,
        RegistryFullError,
        RegistryMissingError,
        RegistryUnreadableError,
        SignatureError,
        SimulatedRefused,
        StaffRefused,
        TamperedError,
        TransitionRefused,
        UnknownAgeRefused,
        UnknownPersonError,
        ValidityRefused,
    )
    from .gate import Admitted, ConsentGate, SealedFaces
    from .policy import AgeRule
    from .reader import LogHead
    from .records import ConsentEvent, Context, Decision, Grant, Notice, Party, Use
    from .registry import ConsentRegistry
    from .simulate import ConsentMix, SimulatedConsents, simulate_consents
    from .snapshot import Snapshot, Verdicts
    from .terms import AgeBand, ConsentStatus, Purpose, Reason, Role, Setting
    from .verify import Verified

_HOME = {
    "bulk": ("BulkOutcome",),
    "canonical": ("canonical_bytes",),
    "errors": (
        "BackdatedRefused",
        "ClockBackwardsError",
        "ConsentError",
        "KeyFileError",
        "MalformedError",
        "MinorRefused",
        "ModeMismatchError",
        "NoticeRefused",
        "ProofError",
        "Refused",
        "RegistryBusyError",
        "RegistryError",
        "RegistryExistsError",
        "RegistryFullError",
        "RegistryMissingError",
        "RegistryUnreadableError",
        "SignatureError",
        "SimulatedRefused",
        "StaffRefused",
        "TamperedError",
        "TransitionRefused",
        "UnknownAgeRefused",
        "UnknownPersonError",
        "ValidityRefused",
    ),
    "counts": ("RefusalCounts",),
    "gate": ("Admitted", "ConsentGate", "SealedFaces"),
    "policy": ("AgeRule",),
    "reader": ("LogHead",),
    "records": ("ConsentEvent", "Context", "Decision", "Grant", "Notice", "Party", "Use"),
    "registry": ("ConsentRegistry",),
    "simulate": ("ConsentMix", "SimulatedConsents", "simulate_consents"),
    "snapshot": ("Snapshot", "Verdicts"),
    "terms": ("AgeBand", "ConsentStatus", "Purpose", "Reason", "Role", "Setting"),
    "verify": ("Verified",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Admitted",
    "AgeBand",
    "AgeRule",
    "BackdatedRefused",
    "BulkOutcome",
    "ClockBackwardsError",
    "ConsentError",
    "ConsentEvent",
    "ConsentGate",
    "ConsentMix",
    "ConsentRegistry",
    "ConsentStatus",
    "Context",
    "Decision",
    "Grant",
    "KeyFileError",
    "LogHead",
    "MalformedError",
    "MinorRefused",
    "ModeMismatchError",
    "Notice",
    "NoticeRefused",
    "Party",
    "ProofError",
    "Purpose",
    "Reason",
    "RefusalCounts",
    "Refused",
    "RegistryBusyError",
    "RegistryError",
    "RegistryExistsError",
    "RegistryFullError",
    "RegistryMissingError",
    "RegistryUnreadableError",
    "Role",
    "SealedFaces",
    "Setting",
    "SignatureError",
    "SimulatedConsents",
    "SimulatedRefused",
    "Snapshot",
    "StaffRefused",
    "TamperedError",
    "TransitionRefused",
    "UnknownAgeRefused",
    "UnknownPersonError",
    "Use",
    "ValidityRefused",
    "Verdicts",
    "Verified",
    "canonical_bytes",
    "merkle",
    "simulate_consents",
]


def __getattr__(name: str) -> object:
    if name == "merkle":
        return import_module(".merkle", __name__)
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
