"""What can go wrong, by what the caller can do about it.

.. code-block:: text

    ConsentError
    ├── Refused                  the rules forbid what was asked: do not ask again as it is
    │   ├── MinorRefused         a minor's answer: nothing was kept but a count
    │   ├── UnknownAgeRefused    no age was given: treated as a child's
    │   ├── StaffRefused         an employee or student: recorded as invalid, never read
    │   ├── ValidityRefused      an endless, empty or overlong term
    │   ├── NoticeRefused        a notice that is unknown, superseded or silent on the purpose
    │   ├── TransitionRefused    a change of state the record cannot make
    │   ├── BackdatedRefused     an event dated in the past or the future
    │   └── SimulatedRefused     simulated consent offered to a production registry
    ├── UnknownPersonError       no record under this id: check the id
    ├── ClockBackwardsError      the clock runs behind the log: set the clock
    ├── RegistryError            the file or its use is wrong: see the remedy in the message
    │   ├── RegistryMissingError
    │   ├── WitnessMissingError  the witness's place is not there: plug it in, mount it
    │   ├── RegistryExistsError
    │   ├── ModeMismatchError    simulation and production must not be mixed
    │   ├── RegistryBusyError    another process held the lock too long: try again
    │   ├── RegistryFullError    no space, or not writable: nothing was recorded
    │   └── RegistryUnreadableError  not a registry, damaged, or gone: decisions refuse
    ├── TamperedError            an entry is not what was written; ``entry`` names it
    │   ├── RolledBackError      the log is shorter than a witness saw it: bring the newest back
    │   └── ForkedError          the log and a witness tell two histories: keep both, find out why
    ├── KeyFileError             a key's file is missing, open to others, or no key
    ├── ErasedKeyError           the person's key was destroyed: nothing under it can be read again
    ├── PlacesPendingError       done here, not yet in every place: see ``places``, then finish
    ├── SignatureError           a signature does not hold, or nobody known has signed
    ├── MalformedError           bytes or numbers that no honest party produces
    └── ProofError               a Merkle proof does not show what it claims
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
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
]


class ConsentError(Exception):
    """Anything this package raises on purpose."""


class Refused(ConsentError):
    """The rules forbid what was asked."""


class MinorRefused(Refused):
    """A minor's consent is never taken (REQUIREMENTS 15-17); only a count was kept."""


class UnknownAgeRefused(Refused):
    """An unknown age is treated as a child's (REQUIREMENTS 16); only a count was kept."""


class StaffRefused(Refused):
    """Staff and students are never read (EU AI Act 5(1)(f)); recorded as ConsentInvalidated."""


class ValidityRefused(Refused):
    """The term is endless, empty, or longer than policy allows (DPV guide 8.5.4)."""


class NoticeRefused(Refused):
    """The notice is not registered, not the current version, or does not name the purpose."""


class TransitionRefused(Refused):
    """The record cannot change from its state to the one asked."""


class BackdatedRefused(Refused):
    """An event may not be dated in the future, nor, in production, in the past."""


class SimulatedRefused(Refused):
    """Simulated consent does not enter a production registry."""


class UnknownPersonError(ConsentError):
    """No record exists under this person id."""


class ClockBackwardsError(ConsentError):
    """The clock reads earlier than the last event in the log."""


class RegistryError(ConsentError):
    """The registry's file, or the way it was opened, is wrong."""


class RegistryMissingError(RegistryError):
    """No registry at this path."""


class WitnessMissingError(RegistryError):
    """No witness at this path: an unplugged stick or a share that is not mounted, most likely."""


class RegistryExistsError(RegistryError):
    """Something stands at this path already; nothing was overwritten."""


class ModeMismatchError(RegistryError):
    """A simulation registry was opened as production, or the reverse."""


class RegistryBusyError(RegistryError):
    """Another process held the write lock for longer than the timeout."""


class RegistryFullError(RegistryError):
    """The disk is full or the file may not be written; nothing was recorded."""


class RegistryUnreadableError(RegistryError):
    """The file is damaged, no registry, or could not be read."""


class TamperedError(ConsentError):
    """An entry is not what was written.

    Attributes:
        entry: the first bad entry, as ``"event 17"``, ``"use 3"`` or ``"meta mode"``.

    """

    def __init__(self, entry: str, detail: str) -> None:
        super().__init__(f"{entry}: {detail}")
        self.entry = entry


class RolledBackError(TamperedError):
    """The log is shorter than a witness remembers it: an old copy stands in its place."""


class ForkedError(TamperedError):
    """The log holds another history than a witness remembers: entries were rewritten."""


class MalformedError(ConsentError, ValueError):
    """Input that no honest party produces: refused before it is hashed or compared."""


class KeyFileError(ConsentError):
    """A key's file is missing, readable by others, not a key, or locked by another passphrase."""


class ErasedKeyError(ConsentError):
    """The person's key was destroyed: nothing sealed under it can be read any more."""


class PlacesPendingError(ConsentError):
    """What was asked is done here, but some copies of the keys could not be reached.

    Attributes:
        places: the folders that still hold what was to be destroyed.

    """

    def __init__(self, places: tuple[Path, ...]) -> None:
        named = ", ".join(str(place) for place in places)
        super().__init__(
            f"done here, but {named} still holds what was to be destroyed: make it reachable "
            "and finish (KeyFolder.finish), or strike it off if it is lost for good"
        )
        self.places = places


class SignatureError(ConsentError):
    """A known key's signature does not hold, or no known key has signed."""


class ProofError(ConsentError):
    """A Merkle proof does not show what it claims."""
