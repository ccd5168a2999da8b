"""The log as plain files, verified offline."""

from __future__ import annotations

from .export import EVENTS, USES, ExportVerified, verify_export, write_export

__all__ = ["EVENTS", "USES", "ExportVerified", "verify_export", "write_export"]
