"""Copies of a registry: backups and what comes back of them; transfers to another place."""

from __future__ import annotations

from .backup import BackupMade, write_backup
from .restoring import Restored, restore
from .transfer import TransferMade, TransferRead, read_transfer, write_transfer

__all__ = [
    "BackupMade",
    "Restored",
    "TransferMade",
    "TransferRead",
    "read_transfer",
    "restore",
    "write_backup",
    "write_transfer",
]
