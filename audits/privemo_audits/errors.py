"""What can go wrong in an audit, by what the reader can do about it.

    AuditError
    ├── RunFilesError        a file of the run is missing, torn or malformed: restore or repair it
    ├── PredictionsError     the predictions cannot be measured: evaluate again
    ├── ConsentLogError      a store's consent registry cannot be read: restore it
    ├── PolicyError          the policy cannot be read: mend the file
    ├── ReportError          a report cannot be read, or is none: ask for it again
    │   └── ReportChangedError   it is not what an auditor whose key is known signed: do not rely on it
    ├── ReportWriteError     the report could not be written: nothing half-written is left
    └── MissingExtraError    a library of the `audit` extra is absent: install it

A defect *of the run* (a use without consent, a broken ledger chain, a budget exceeded) is no error:
it is a finding, and stands in the report as a failed check.
"""

from __future__ import annotations


class AuditError(Exception):
    """The audit cannot be done; the message names the thing and the remedy.

    Attributes:
        problem: what is wrong, naming the file, line or column.
        remedy: what the reader can do about it.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem.rstrip('.')}. {self.remedy}"


class RunFilesError(AuditError):
    """A file of the run directory is missing, torn or malformed."""


class PredictionsError(AuditError):
    """The predictions cannot be measured."""


class ConsentLogError(AuditError):
    """A store's consent registry cannot be opened or read."""


class PolicyError(AuditError):
    """The policy that the audit is to be held against cannot be read."""


class ReportError(AuditError):
    """A report cannot be read, or is none."""


class ReportChangedError(ReportError):
    """A report, or a page of it, is not what an auditor whose key is known signed."""


class ReportWriteError(AuditError):
    """The report could not be written; nothing half-written is left."""


class MissingExtraError(AuditError):
    """A library of the `audit` extra is not installed."""

    @classmethod
    def of(cls, *libraries: str | None) -> MissingExtraError:
        """The error that names what is missing."""
        names = ", ".join(str(name) for name in libraries)
        return cls(
            f"the audit needs libraries that are not installed: {names}",
            "Install them with: pip install 'privemo[audit]'",
        )
