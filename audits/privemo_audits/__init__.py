"""Audits of a privemo run, from its files and consent registries alone.

    >>> from privemo_audits import build_report, write_report
    >>> report = build_report("RUN")               # doctest: +SKIP
    >>> write_report(report, "RUN")                # doctest: +SKIP

Importing this package is cheap: its libraries (the `audit` extra) load when they are used. It never
imports the training code, so that someone else can repeat an audit without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import (
    AuditError,
    ConsentLogError,
    MissingExtraError,
    PolicyError,
    PredictionsError,
    ReportChangedError,
    ReportError,
    ReportWriteError,
    RunFilesError,
)

if TYPE_CHECKING:
    from .beside import read_beside
    from .build import build_report, write_report
    from .compare import compared
    from .fairness import evaluate_predictions
    from .policy import Policy, load_policy
    from .report import Report
    from .signature import read_report, verify_report

__all__ = [
    "AuditError",
    "ConsentLogError",
    "MissingExtraError",
    "Policy",
    "PolicyError",
    "PredictionsError",
    "Report",
    "ReportChangedError",
    "ReportError",
    "ReportWriteError",
    "RunFilesError",
    "build_report",
    "compared",
    "evaluate_predictions",
    "load_policy",
    "read_beside",
    "read_report",
    "verify_report",
    "write_report",
]

_LAZY = {
    "read_beside": "beside",
    "build_report": "build",
    "write_report": "build",
    "evaluate_predictions": "fairness",
    "Policy": "policy",
    "load_policy": "policy",
    "Report": "report",
    "compared": "compare",
    "read_report": "signature",
    "verify_report": "signature",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_LAZY[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
