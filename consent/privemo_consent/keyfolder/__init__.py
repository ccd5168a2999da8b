"""The keys of a registry: a folder outside the database."""

from __future__ import annotations

from .folder import KeyFolder

__all__ = ["KeyFolder"]
