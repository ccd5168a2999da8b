"""A store's folder, opened: its registry and vault, the gate to its faces, and who is erased from it.

What trains and what is measured stand on this (`privemo.store`, `privemo.storeheldout`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from privemo import heldout
from privemo.capture import PURPOSE_OF, Admission, Part, asked
from privemo.errors import NoFacesAdmitted, RunError
from privemo.files import append_line, only_here, read_json
from privemo.ledger import Ledger
from privemo.orders import RoundOrder
from privemo.outbox import Outbox
from privemo.personal import Personal
from privemo.storeconfig import STORE_FILE, StoreConfig, agreed_to_nothing
from privemo.unlocking import open_registry
from privemo_consent import (
    ConsentGate,
    Context,
    Erased,
    Purpose,
    RegistryBusyError,
    Setting,
    Vault,
)

__all__ = ["StoreFolder"]

TRIES = 5  # reads of a vault from which somebody is erased meanwhile


class StoreFolder:
    """What a store has on its machine, and nobody else has.

    Args:
        folder: holds `store.json`, `consent.sqlite` and its keys; everything else is written there.

    Raises:
        RunError: the folder is no store's, has agreed to nothing, or was made by another version.
        SettingsError: its keys need a passphrase, and nobody gave one (`privemo.unlocking`).
        privemo_consent.ConsentError: the registry or its key folder cannot be opened.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        path = self.folder / STORE_FILE
        if not path.exists():
            raise RunError(agreed_to_nothing(self.folder))
        content = read_json(path, schema="privemo.store/3")
        self.config = StoreConfig.of(**content)
        self.registry = open_registry(self.folder / "consent.sqlite", self.config.registry_mode)
        self.vault = Vault(self.registry)
        self.outbox = Outbox(self.folder, self.config)
        self.personal = Personal(self.folder, self.config, self.outbox)
        self.gate = ConsentGate(self.registry, challenge_age=self.config.challenge_age)
        self.context = Context(setting=Setting.RETAIL, jurisdiction=self.config.jurisdiction)
        self.forget_erased()  # a kiosk or a command may have erased somebody meanwhile

    def close(self) -> None:
        """Close the registry."""
        self.registry.close()

    @property
    def ledger(self) -> Ledger:
        """The store's ledger, read afresh and verified: what was read before may have been changed since."""
        return self.outbox.ledger

    def alone(self) -> AbstractContextManager[None]:
        """Only one process trains a store: the budget is checked and spent under one lock.

        Raises:
            RunError: another one does.
        """
        name = self.config.name
        return only_here(
            self.folder / ".lock",
            f"{name} is being trained by another process; wait for it to end.",
        )

    # -- erasure -----------------------------------------------------------------------------

    def erase(self, persons: Sequence[str], *, cause: str = "request") -> Erased:
        """Erase people from registry and vault, backups included, and from this store's files.

        What a model learned of them before stays in it; its bound is epsilon.

        Raises:
            privemo_consent.UnknownPersonError: someone has no record; nothing changed.
            privemo_consent.RegistryError, KeyFileError: nothing was acknowledged; ask again.
            RunError: erased, but `predictions.csv` could not be written: call `forget_erased`.
        """
        done = self.registry.erase_many(persons, cause=cause)
        self.forget_erased()
        return done

    def forget_erased(self) -> int:
        """Take people without a record out of `predictions.csv`; returns how many rows went.

        The registry does so itself when it erases somebody; this is for what it could not reach then.

        Raises:
            RunError: the file cannot be read or written.
        """
        path = self.folder / "predictions.csv"
        if not path.exists():
            return 0
        measured = heldout.people_in(path)  # before the registry is asked: nobody new is in it then
        gone = measured.difference(self.registry.persons())
        return heldout.drop_persons(path, gone) if gone else 0

    def destroy_overdue(self) -> int:
        """Destroy what is due, faces of whoever withdrew above all; returns how many items (GDPR 5(1)(e)).

        Raises:
            privemo_consent.RegistryError, KeyFileError: what was not destroyed is due as before.
            RunError: destroyed, but for what the message names; call it again.
        """
        done = self.registry.destroy_overdue()
        if done.pending:
            raise RunError(
                f"{self.config.name}: not all that is due is gone: {'; '.join(done.pending)}."
            )
        return done.items

    # -- the gate ----------------------------------------------------------------------------

    def _admit(self, part: Part, run_id: str, round_: int) -> Admission:
        purpose = PURPOSE_OF[part]
        admitted = self._ask(part, purpose)
        self._log_admission(admitted, purpose, run_id, round_)
        if not len(admitted.faces):
            raise NoFacesAdmitted(
                f"{self.config.name}: of {admitted.counts['asked']['faces']} faces the gate admitted "
                f"none for {purpose.value}; reasons: {admitted.reasons}."
            )
        return admitted

    def _ask(self, part: Part, purpose: Purpose) -> Admission:
        """Ask the gate about everyone; again when a kiosk erased somebody in between."""
        for attempt in range(1, TRIES + 1):
            sealed = asked(self.vault, part, self.config.turned_away.get(part, {}))
            try:
                return Admission.of(sealed, self.gate.admit(sealed, purpose, self.context))
            except RegistryBusyError:
                if attempt == TRIES:
                    raise
        raise AssertionError("unreachable")

    def _log_admission(
        self, admitted: Admission, purpose: Purpose, run_id: str, round_: int
    ) -> None:
        line = {
            "schema": "privemo.admission/1",
            "at": _utc(admitted.at),
            "run_id": run_id,
            "round": round_,
            "purpose": purpose.value,
            "log_seq": admitted.log_seq,
            **admitted.counts,
        }
        append_line(self.folder / "admissions.jsonl", line)

    def _note(self, order: RoundOrder, kind: str, text: str) -> None:
        append_line(
            self.folder / "refusals.jsonl",
            {"at": _utc(datetime.now(UTC)), "round": order.round, "kind": kind, "text": text},
        )


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
