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
    from .copies import (
        BackupMade,
        Restored,
        TransferMade,
        TransferRead,
        read_transfer,
        restore,
        write_backup,
        write_transfer,
    )
    from .counts import RefusalCounts
    from .dpv import record_from_jsonld, record_to_jsonld
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
    from .exporting import LogExported
    from .gate import Admitted, ConsentGate, SealedFaces
    from .holdings import Overdue
    from .intake import import_grants, read_grants
    from .items import ItemKind
    from .jurisdictions import Jurisdiction, jurisdiction
    from .keyfolder import KeyFolder
    from .keyfolder.roots import KeyringRoot, NoRoot, PassphraseRoot, root_of
    from .keys import KeyPeriod, KeyRing, SigningKey, VerifyingKey
    from .kiosk.settings import KioskSettings
    from .kiosk.visits import SessionBook, SessionToken
    from .logexport import ExportVerified, verify_export, write_export
    from .notices import NoticeReport, check_notice
    from .policy import AgeRule
    from .qr import from_qr_text, qr_png, qr_svg, qr_text
    from .reader import LogHead
    from .receipts import ReceiptContent, issue_receipt, verify_receipt
    from .records import (
        ConsentEvent,
        Context,
        Decision,
        Grant,
        Notice,
        Party,
        Right,
        Told,
        Transfer,
        Use,
    )
    from .registry import ConsentRegistry
    from .retention import Due, DueRule, due
    from .simulate import ConsentMix, SimulatedConsents, simulate_consents
    from .snapshot import Snapshot, Verdicts
    from .terms import AgeBand, ConsentStatus, Purpose, Reason, Role, Setting
    from .upgrading import upgrade_registry
    from .uses import LoggedDecision
    from .vault import Item, NewItem, Stored, Vault
    from .verify import Verified
    from .witness import Witness

_HOME = {
    "bulk": ("BulkOutcome",),
    "canonical": ("canonical_bytes",),
    "checkpoint": ("Checkpoint", "open_checkpoint"),
    "copies": (
        "BackupMade",
        "Restored",
        "TransferMade",
        "TransferRead",
        "read_transfer",
        "restore",
        "write_backup",
        "write_transfer",
    ),
    "counts": ("RefusalCounts",),
    "dpv": ("record_from_jsonld", "record_to_jsonld"),
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
    "exporting": ("LogExported",),
    "gate": ("Admitted", "ConsentGate", "SealedFaces"),
    "holdings": ("Overdue",),
    "intake": ("import_grants", "read_grants"),
    "items": ("ItemKind",),
    "jurisdictions": ("Jurisdiction", "jurisdiction"),
    "keyfolder": ("KeyFolder",),
    "keyfolder.roots": ("KeyringRoot", "NoRoot", "PassphraseRoot", "root_of"),
    "keys": ("KeyPeriod", "KeyRing", "SigningKey", "VerifyingKey"),
    "kiosk.settings": ("KioskSettings",),
    "kiosk.visits": ("SessionBook", "SessionToken"),
    "logexport": ("ExportVerified", "verify_export", "write_export"),
    "notices": ("NoticeReport", "check_notice"),
    "policy": ("AgeRule",),
    "qr": ("from_qr_text", "qr_png", "qr_svg", "qr_text"),
    "reader": ("LogHead",),
    "receipts": ("ReceiptContent", "issue_receipt", "verify_receipt"),
    "records": (
        "ConsentEvent",
        "Context",
        "Decision",
        "Grant",
        "Notice",
        "Party",
        "Right",
        "Told",
        "Transfer",
        "Use",
    ),
    "registry": ("ConsentRegistry",),
    "retention": ("Due", "DueRule", "due"),
    "simulate": ("ConsentMix", "SimulatedConsents", "simulate_consents"),
    "snapshot": ("Snapshot", "Verdicts"),
    "terms": ("AgeBand", "ConsentStatus", "Purpose", "Reason", "Role", "Setting"),
    "upgrading": ("upgrade_registry",),
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
    "BackupMade",
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
    "Due",
    "DueRule",
    "Erased",
    "ErasedKeyError",
    "ExportVerified",
    "ForkedError",
    "Grant",
    "Item",
    "ItemKind",
    "Jurisdiction",
    "KeyFileError",
    "KeyFolder",
    "KeyPeriod",
    "KeyRing",
    "KeyringRoot",
    "KioskSettings",
    "LogExported",
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
    "Restored",
    "Right",
    "Role",
    "RolledBackError",
    "SealedFaces",
    "SessionBook",
    "SessionToken",
    "Setting",
    "SignatureError",
    "SigningKey",
    "SimulatedConsents",
    "SimulatedRefused",
    "Snapshot",
    "StaffRefused",
    "Stored",
    "TamperedError",
    "Told",
    "Transfer",
    "TransferMade",
    "TransferRead",
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
    "due",
    "from_qr_text",
    "import_grants",
    "issue_receipt",
    "jurisdiction",
    "merkle",
    "open_checkpoint",
    "qr_png",
    "qr_svg",
    "qr_text",
    "read_grants",
    "read_transfer",
    "record_from_jsonld",
    "record_to_jsonld",
    "restore",
    "root_of",
    "simulate_consents",
    "upgrade_registry",
    "verify_export",
    "verify_receipt",
    "write_backup",
    "write_export",
    "write_transfer",
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
