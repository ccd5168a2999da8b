"""What leaves a registry as a file and what comes in: exports, imports, backups."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from privemo.cli import held
from privemo.cli import registry as registries
from privemo.cli.common import print_json, print_lines, read_input, say, write_new
from privemo.cli.consent import PersonOption, person_of
from privemo.cli.opening import Place, Protection, at_registry, read_passphrase, root_for
from privemo.errors import SettingsError

if TYPE_CHECKING:
    from privemo_consent.reader import LogHead

__all__: list[str] = []
