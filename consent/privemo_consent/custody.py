"""What is held of a person: shown, handed over, falling due, erased."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .erasing import Erased, erase, finish_erasures
from .errors import MalformedError, UnknownPersonError
from .leaves import CAUSES
from .reader import RegistryReader

if TYPE_CHECKING:
    from .holdings import Destroyed, Overdue

__all__ = ["RegistryCustody"]


class RegistryCustody(RegistryReader):
    """The rights of the person, and the duties that come with them."""

    def erase(self, person: str, *, cause: str = "request") -> Erased:
        """Erase a person: row, key and items, in WAL, free pages and backups too (GDPR 17).

        What was given is withdrawn first, and what a store wrote of them beside the registry
        (`predictions.csv`) goes with them. The log keeps its leaves, which name nobody and cannot
        be tied to anyone any more. It is on the disk when this returns.

        Args:
            person: someone with a record.
            cause: ``request``, ``retention`` or ``controller``.

        Returns:
            What was done; ``pending`` names places that could not be reached, such as a mirror of
            the keys that is not plugged in. Ask `finish_erasures` once they can.

        Raises:
            UnknownPersonError: no record under this id.
            RegistryError, KeyFileError: nothing was acknowledged; ask again.

        """
        return self.erase_many([person], cause=cause)

    def erase_many(self, persons: Sequence[str], *, cause: str = "request") -> Erased:
        """Erase many people in one durable transaction: all of them, or none.

        Raises:
            As `erase`.

        """
        if cause not in CAUSES[:3]:
            raise MalformedError(f"got cause {cause!r}, want one of {', '.join(CAUSES[:3])}")
        return erase(self._journal, persons, cause=cause)

    def finish_erasures(self) -> tuple[str, ...]:
        """Destroy what was still pending; return what still is. Opening a registry does so too."""
        return finish_erasures(self._journal, scrub=True)

    def receipt(self, person: str) -> str:
        """Return the receipt that a person takes home: a signed token (JWS), verifiable offline.

        It holds the last entry for each purpose with the proof that the log has it.

        Raises:
            UnknownPersonError: no record under this id.

        """
        from .holdings import make_receipt

        self._known(person)
        return make_receipt(self, person)

    def export(self, person: str) -> dict[str, Any]:
        """Return everything held of a person, as JSON values (GDPR 15, 20).

        Records in the terms of the W3C Data Privacy Vocabulary, every recorded use and decision, every
        item with its bytes in base64, the notices shown, how to withdraw, and what the store that the
        registry is of wrote down when it measured (`predictions.csv` beside the registry's file).

        Raises:
            UnknownPersonError: no record under this id.
            RegistryUnreadableError: that table cannot be read, so nobody can say that this is everything.

        """
        from .holdings import export_person

        self._known(person)
        return export_person(self, person)

    def processing_record(self) -> dict[str, Any]:
        """Return the record of processing (GDPR 30(1)): purposes, categories, recipients, terms."""
        from .holdings import processing_record

        return processing_record(self)

    def overdue(self, at: datetime | None = None) -> tuple[Overdue, ...]:
        """Return what should have been destroyed by ``at``, the longest due first.

        What the vault holds of a person is due at the earliest of: every purpose has ended; three
        years after the last interaction (BIPA 15(a)); the retention that the notice promised (COPPA
        312.10). The record that shows the consent is due three years after the consent ended, and then
        everything of the person with it (GDPR 7(1), 5(1)(e)). What a store wrote beside the registry
        (`predictions.csv`) is due as faces are, by the consent to be measured alone.
        """
        from .holdings import overdue

        return overdue(self, self.now() if at is None else at)

    def destroy_overdue(self) -> Destroyed:
        """Destroy what is due by now: faces where they are due, all of a person where that is.

        Raises:
            RegistryError, KeyFileError: what was not destroyed is still listed by `overdue`.

        """
        from .holdings import destroy_overdue

        return destroy_overdue(self)

    def _known(self, person: str) -> None:
        with self._journal.lock:
            if self._journal.refresh().people.pid(person) is None:
                raise UnknownPersonError("no record under this person id: check the id")
