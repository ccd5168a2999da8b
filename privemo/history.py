"""What the server remembers of a run besides the model: the chain of its manifests, and the stores' ledgers.

Each manifest names the hash of the one before, the first one that of `run.json`. The hash is sent with the
next order, and every store signs it with what it did.

Where each store's ledger stood is sent along too. A store whose ledger does not go so far any more has lost
its disk, or was set back: it refuses (`ledger_lost`), for its people would be given a fresh budget. That is
written down as each store answers, and before anything is made of a round, which may fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from privemo.errors import UpdateRejected
from privemo.statements import FIRST, LedgerHead, Statement, canonical_hash

__all__ = ["History"]


@dataclass
class History:
    """A run so far, as the server knows it; it begins with the hash of `run.json` (`canonical_hash`).

    Attributes:
        head: hash of the last whole round's manifest; of `run.json` before the first.
        ledgers: by store, how far its ledger went in the last whole round that it took part in.
        heard: likewise in rounds that are not whole, or not yet.
        keep: called with what is new in `heard`, to write it down before it counts as heard.
    """

    head: str = FIRST
    ledgers: dict[str, LedgerHead] = field(default_factory=dict)
    heard: dict[str, LedgerHead] = field(default_factory=dict)
    keep: Callable[[Mapping[str, LedgerHead]], None] = lambda further: None

    def known(self) -> dict[str, LedgerHead]:
        """By store, the furthest that its ledger is known to go."""
        later = {
            name: head
            for name, head in self.heard.items()
            if name not in self.ledgers or head.entries > self.ledgers[name].entries
        }
        return {**self.ledgers, **later}

    def hear(self, statements: Iterable[Statement]) -> None:
        """Remember how far the ledgers of stores go that trained, whatever becomes of the round.

        Args:
            statements: of this round, checked.

        Raises:
            RunError: it cannot be written down.
        """
        known = self.known()
        further = {
            s.store: s.ledger
            for s in statements
            if s.status == "trained"
            and (s.store not in known or s.ledger.entries > known[s.store].entries)
        }
        if further:
            self.keep(further)  # first: what could not be written down is tried again
            self.heard |= further

    def take(self, manifest: Mapping[str, Any]) -> None:
        """A round is whole: its manifest is the head now."""
        self.head = canonical_hash(manifest)
        for name, entry in manifest["stores"].items():
            said = entry.get("statement")
            if (
                said is not None and said["status"] == "trained"
            ):  # one that refused may have lost some
                self.ledgers[name] = LedgerHead(**said["ledger"])

    def check(self, statement: Statement, *, private: bool) -> None:
        """Let a statement pass whose ledger goes on from where it was.

        Args:
            statement: of a store that trained.
            private: whether the round cost its people something, so that the ledger has grown.

        Raises:
            UpdateRejected: entries are gone that the server knows of, or this round's is not there.
        """
        nothing = LedgerHead(entries=0, hash=FIRST)
        known, now = self.known().get(statement.store, nothing), statement.ledger
        if now.entries < known.entries or (now.entries == known.entries and now.hash != known.hash):
            raise UpdateRejected(
                f"its ledger had {known.entries} entries when it last took part, and they are gone"
            )
        # Against whole rounds: what was sent for a round that failed is sent again, at no cost.
        whole = self.ledgers.get(statement.store, nothing)
        if private and now.entries == whole.entries:
            raise UpdateRejected("its ledger has no entry for this round")
