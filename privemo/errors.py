"""Every error that privemo's machine-learning side raises on purpose.

::

    PrivemoError
    ├── SettingsError         a setting is impossible or contradicts another: change the setting
    ├── DataError             a face table cannot be used as it is: mend or replace the file
    │   └── NoFacesAdmitted   the consent gate left nothing to work with: look at the refusals
    ├── PrivacyError          training would break a privacy promise, so it did not happen
    │   ├── BudgetExhausted   the next release would pass the budget: stop, or start with new people
    │   ├── BudgetUnreachable no noise level reaches the asked epsilon: ask for less training
    │   └── TooFewPeople      fewer people than a batch needs: join stores or lower the batch
    ├── LedgerError           the ledger cannot be trusted or written: restore it, never delete it
    │   └── LedgerLost        entries are gone that the server knows of: restore it from a backup
    ├── RunError              a run folder cannot be used as asked
    │   ├── RunInterrupted    stopped by a person; resume it
    │   └── NotMeasured       held-out people were not read with the finished model: have it measured first
    ├── SecureSumError        too few stores for a secure sum, or somebody does not keep to it: try again
    ├── ModelError            an exported model cannot be used: ask for it again
    │   └── ModelChanged      it is not as somebody who is known signed it
    ├── ExportRefused         an exported model does not say what the trained one says: nothing was written
    ├── CameraError           a camera, video or folder gives no pictures: plug it in, or name another
    ├── RailBroken            an order would break a guard rail: the shop's own order is shown
    ├── UpdateRejected        a store's update failed validation: the store is left out of the round
    └── MissingExtra          an optional dependency is not installed: install the named extra

One type for each next action of the caller. Messages name the thing and the remedy. The command
line turns every one of them into a single sentence and exit code 2, never a traceback.
"""

from __future__ import annotations

__all__ = [
    "BudgetExhausted",
    "BudgetUnreachable",
    "CameraError",
    "DataError",
    "ExportRefused",
    "LedgerError",
    "LedgerLost",
    "MissingExtra",
    "ModelChanged",
    "ModelError",
    "NoFacesAdmitted",
    "NotMeasured",
    "PrivacyError",
    "PrivemoError",
    "RailBroken",
    "RunError",
    "RunInterrupted",
    "SecureSumError",
    "SettingsError",
    "TooFewPeople",
    "UpdateRejected",
]


class PrivemoError(Exception):
    """Base of all errors raised on purpose by `privemo`."""


class SettingsError(PrivemoError, ValueError):
    """A setting is impossible, or contradicts another one."""


class Diverged(SettingsError):
    """An order drove numbers to infinity after people were drawn for it.

    That it is refused then says something about them, so it is paid for like what leaves.
    """


class DataError(PrivemoError, ValueError):
    """A face table is unreadable, truncated, of the wrong shape, or wrongly labelled."""


class NoFacesAdmitted(DataError):
    """The consent gate admitted no face for what was asked."""


class PrivacyError(PrivemoError):
    """Going on would break a privacy promise."""


class BudgetExhausted(PrivacyError):
    """The next release would spend more than the privacy budget."""


class BudgetUnreachable(PrivacyError, ValueError):
    """No amount of noise reaches the epsilon that was asked for."""


class TooFewPeople(PrivacyError):
    """A store has fewer people than one training batch needs."""


class LedgerError(PrivemoError):
    """The ledger of privacy spending is broken or cannot be written."""


class LedgerLost(LedgerError):
    """A ledger does not go as far as it once did: its people would be given a fresh budget."""


class RunError(PrivemoError):
    """A run folder is missing, incomplete, or belongs to another run."""


class RunInterrupted(RunError):
    """A run was stopped by a person; everything up to the last whole round is kept."""


class NotMeasured(RunError):
    """A store has not read its held-out people with the finished model."""


class SecureSumError(PrivemoError):
    """Secure aggregation cannot go on, or somebody does not keep to the protocol; nothing was unmasked."""


class ModelError(PrivemoError):
    """An exported model is unsigned, was altered, or cannot be read; it was not used."""


class ModelChanged(ModelError):
    """An exported model is not as somebody known signed it: altered, or signed by nobody known."""


class ExportRefused(PrivemoError):
    """An exported model would not say what the trained one says; nothing was written."""


class CameraError(PrivemoError):
    """A camera, a video or a folder gives no pictures, or no more of them."""


class RailBroken(PrivemoError):
    """A changed order would break a guard rail; it is not shown."""


class UpdateRejected(PrivemoError, ValueError):
    """An answer from a store does not count."""


class UpdateMadeUp(UpdateRejected):
    """A store signed what no honest one sends: wrong names, shapes or type, not finite, too long, or old.

    With robust aggregation it counts as one of those that were expected to be poisoned.
    """


class MissingExtra(PrivemoError, ImportError):
    """An optional dependency is needed for this and is not installed."""
