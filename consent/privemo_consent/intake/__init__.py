"""Files of answers, read row by row."""

from __future__ import annotations

from .files import COLUMNS, OPTIONAL, import_grants, read_grants

__all__ = ["COLUMNS", "OPTIONAL", "import_grants", "read_grants"]
