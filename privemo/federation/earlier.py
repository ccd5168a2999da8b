"""What the server of an earlier federation knows of stores' ledgers, carried on into a new one.

Within a run a store that lost its ledger is refused (`ledger_lost`): its people would be given a fresh
budget. The next run's server remembers nothing, unless it is drawn up after that one.

| a card of the new federation | its ledger |
|---|---|
| has the signing key of a store of the earlier one | has to go on from where that one's was |
| has a new key, and the name of one whose key is on no card | the same: the store proves itself by it |
| neither | is held against nothing: nobody knows of it |
| is not there | is remembered all the same, for the federation after this one |

A store that tells its server lies, or comes as another one, is not found out by this: it is for disks that
were lost and backups that were put back.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from privemo.errors import RunError
from privemo.federation.identity import StoreCard
from privemo.heard import read_earlier
from privemo.runs import Run
from privemo.statements import LedgerHead

__all__ = ["check_at_rest", "remembered"]


def check_at_rest(chain: Path) -> None:
    """Let an earlier federation pass that nobody serves: what its stores spend later nobody would know of.

    Raises:
        RunError: it is being served.
    """
    from privemo.federation.superlink import is_served

    if (chain / "server.json").exists() and is_served(chain):
        raise RunError(
            f"{chain} is being served, and its stores may spend more: end it first, by "
            f"`privemo federation stop {chain}`."
        )


def remembered(chain: Path | None, cards: Sequence[StoreCard]) -> list[dict[str, Any]]:
    """Stores of an earlier federation, and of those before it: name, key, and how far the ledger went.

    Args:
        chain: folder of its server; None for none.
        cards: of the stores of the new one.

    Returns:
        A line for each store that trained in one, by the name and key that it has now where it has a card.

    Raises:
        RunError: the folder is no server's or damaged, is being served, or none of its stores is among the
            cards.
    """
    if chain is None:
        return []
    run = Run(chain)
    check_at_rest(chain)
    found = {key: (name, head) for name, key, head in read_earlier(chain)}
    for name, head in run.history().known().items():
        found[run.roster[name].hex()] = (name, head)
    known = {*run.roster, *(name for name, _ in found.values())}
    keys = {*found, *(key.hex() for key in run.roster.values())}
    if not any(card.name in known or card.signing_key in keys for card in cards):
        raise RunError(f"None of these cards is of a store of {chain}: leave out --after {chain}.")
    return [_now(name, key, head, cards) for key, (name, head) in found.items()]


def _now(name: str, key: str, head: LedgerHead, cards: Sequence[StoreCard]) -> dict[str, Any]:
    """A store by the name and key that it has now; by its old ones where it has no card."""
    own = [card for card in cards if card.signing_key == key]
    namesakes = [card for card in cards if card.name == name]
    for card in own or namesakes:
        name, key = card.name, card.signing_key
    return {"name": name, "key": key, "ledger": head.model_dump()}
