"""What tests of several of the kiosk's parts need."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from privemo_consent import (
    Context,
    Setting,
)

RETAIL = Context(setting=Setting.RETAIL, jurisdiction="IE")


def keep_files(patch: pytest.MonkeyPatch, name: str) -> None:
    """Let the file of one name, or all, stay where they are."""
    real = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.name == name or (not name and path.suffix == ".json"):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        real(path, missing_ok=missing_ok)

    patch.setattr(Path, "unlink", refuse)
