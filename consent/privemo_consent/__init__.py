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
    from .checkpoint import Checkpoint, open_checkpoint
    from .counts import RefusalCounts
    from .erasing import Erased
    from .errors import (
        BackdatedRefused,
        ClockBackwardsError,
        ConsentError,
        ErasedKeyError,
        ForkedError,
        KeyFileError,
        MalformedError,
        MinorRefused,
        ModeMismatchError,
        NoticeRefused,
        PlacesPendingError,
        ProofError,
        Refused,
        RegistryBusyError,
        RegistryError,
        RegistryExistsError,
        RegistryFullError,
        RegistryMissingError,
        RegistryUnreadableError,
        RolledBackError,
        SignatureError,
        SimulatedRefused,
        StaffRefused,
        TamperedError,
        TransitionRefused,
        UnknownAgeRefused,
        UnknownPersonError,
        ValidityRefused,
        WitnessMissingError,
    )
    from .gate import Admitted, ConsentGate, SealedFaces
    from .holdings import Overdue
    from .items import ItemKind
    from .keyfolder import KeyFolder
    from .keys import KeyPeriod, KeyRing, SigningKey, VerifyingKey
    from .logexport import ExportVerified, verify_export, write_export
    from .notices import NoticeReport, check_notice
    from .policy import AgeRule
    from .reader import LogHead
    from .receipts import ReceiptContent, verify_receipt
    from .records import ConsentEvent, Context, Decision, Grant, Notice, Party, Use
    from .registry import ConsentRegistry
    from .roots import KeyringRoot, NoRoot, PassphraseRoot
    from .simulate import ConsentMix, SimulatedConsents, simulate_consents
    from .snapshot import Snapshot, Verdicts
    from .terms import AgeBand, ConsentStatus, Purpose, Reason, Role, Setting
    from .uses import LoggedDecision
    from .vault import Item, NewItem, Stored, Vault
    from .verify import Verified
    from .witness import Witness

_HOME = {
    "bulk": ("BulkOutcome",),
    "canonical": ("canonical_bytes",),
    "checkpoint": ("Checkpoint", "open_checkpoint"),
    "counts": ("RefusalCounts",),
    "erasing": ("Erased",),
    "errors": (
        "BackdatedRefused",
        "ClockBackwardsError",
        "ConsentError",
        "ErasedKeyError",
        "ForkedError",
        "KeyFileError",
        "MalformedError",
        "MinorRefused",
        "ModeMismatchError",
        "NoticeRefused",
        "PlacesPendingError",
        "ProofError",
        "Refused",
        "RegistryBusyError",
        "RegistryError",
        "RegistryExistsError",
        "RegistryFullError",
        "RegistryMissingError",
        "RegistryUnreadableError",
        "RolledBackError",
        "SignatureError",
        "SimulatedRefused",
        "StaffRefused",
        "TamperedError",
        "TransitionRefused",
        "UnknownAgeRefused",
        "UnknownPersonError",
        "ValidityRefused",
        "WitnessMissingError",
    ),
    "gate": ("Admitted", "ConsentGate", "SealedFaces"),
    "holdings": ("Overdue",),
    "items": ("ItemKind",),
    "keyfolder": ("KeyFolder",),
    "keys": ("KeyPeriod", "KeyRing", "SigningKey", "VerifyingKey"),
    "logexport": ("ExportVerified", "verify_export", "write_export"),
    "notices": ("NoticeReport", "check_notice"),
    "policy": ("AgeRule",),
    "reader": ("LogHead",),
    "receipts": ("ReceiptContent", "verify_receipt"),
    "records": ("ConsentEvent", "Context", "Decision", "Grant", "Notice", "Party", "Use"),
    "registry": ("ConsentRegistry",),
    "roots": ("KeyringRoot", "NoRoot", "PassphraseRoot"),
    "simulate": ("ConsentMix", "SimulatedConsents", "simulate_consents"),
    "snapshot": ("Snapshot", "Verdicts"),
    "terms": ("AgeBand", "ConsentStatus", "Purpose", "Reason", "Role", "Setting"),
    "uses": ("LoggedDecision",),
    "vault": ("Item", "NewItem", "Stored", "Vault"),
    "verify": ("Verified",),
    "witness": ("Witness",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Admitted",
    "AgeBand",
    "AgeRule",
    "BackdatedRefused",
    "BulkOutcome",
    "Checkpoint",
    "ClockBackwardsError",
    "ConsentError",
    "ConsentEvent",
    "ConsentGate",
    "ConsentMix",
    "ConsentRegistry",
    "ConsentStatus",
    "Context",
    "Decision",
    "Erased",
    "ErasedKeyError",
    "ExportVerified",
    "ForkedError",
    "Grant",
    "Item",
    "ItemKind",
    "KeyFileError",
    "KeyFolder",
    "KeyPeriod",
    "KeyRing",
    "KeyringRoot",
    "LogHead",
    "LoggedDecision",
    "MalformedError",
    "MinorRefused",
    "ModeMismatchError",
    "NewItem",
    "NoRoot",
    "Notice",
    "NoticeRefused",
    "NoticeReport",
    "Overdue",
    "Party",
    "PassphraseRoot",
    "PlacesPendingError",
    "ProofError",
    "Purpose",
    "Reason",
    "ReceiptContent",
    "RefusalCounts",
    "Refused",
    "RegistryBusyError",
    "RegistryError",
    "RegistryExistsError",
    "RegistryFullError",
    "RegistryMissingError",
    "RegistryUnreadableError",
    "Role",
    "RolledBackError",
    "SealedFaces",
    "Setting",
    "SignatureError",
    "SigningKey",
    "SimulatedConsents",
    "SimulatedRefused",
    "Snapshot",
    "StaffRefused",
    "Stored",
    "TamperedError",
    "TransitionRefused",
    "UnknownAgeRefused",
    "UnknownPersonError",
    "Use",
    "ValidityRefused",
    "Vault",
    "Verdicts",
    "Verified",
    "VerifyingKey",
    "Witness",
    "WitnessMissingError",
    "canonical_bytes",
    "check_notice",
    "merkle",
    "open_checkpoint",
    "simulate_consents",
    "verify_export",
    "verify_receipt",
    "write_export",
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
