"""What the server of an earlier federation knows of the same stores' ledgers, for a new one.

Within a run a store that lost its ledger is refused (`ledger_lost`): its people would be given a fresh
budget. The next run's server remembers nothing, unless it is drawn up after that one.

| a card of the new federation | |
|---|---|
| has the signing key of a store of the earlier one, whatever its name | its ledger has to go on from there |
| has the name of a store of the earlier one, and another key | refused: whoever lost its disk lost both |
| neither | a store of its own, of which nothing is known |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from privemo.errors import RunError
from privemo.federation.identity import StoreCard
from privemo.runs import Run
from privemo.statements import LedgerHead

__all__ = ["ledgers_before"]


def ledgers_before(chains: Iterable[Path], cards: Sequence[StoreCard]) -> dict[str, LedgerHead]:
    """By a store's name on its card, the furthest that its ledger was known to go in any earlier federation.

    Args:
        chains: folders of their servers.
        cards: of the stores of the new one.

    Raises:
        RunError: a folder is no server's or damaged, none of its stores is among the cards, or a card has the
            name of one and another key.
    """
    furthest: dict[str, LedgerHead] = {}
    for chain in chains:
        run = Run(chain)
        names = _names_now(chain, run.roster, cards)
        for before, head in run.history().known().items():
            name = names.get(before)
            if name and (name not in furthest or head.entries > furthest[name].entries):
                furthest[name] = head
    return furthest


def _names_now(
    chain: Path, roster: Mapping[str, bytes], cards: Sequence[StoreCard]
) -> dict[str, str]:
    """Names of an earlier run's stores, and what they are called now."""
    now = {bytes.fromhex(card.signing_key): card.name for card in cards}
    for card in cards:
        if card.name in roster and bytes.fromhex(card.signing_key) not in roster.values():
            raise RunError(
                f"{card.name} had another signing key in {chain}. A store that lost its key has lost its "
                "ledger with it, and what its people spent: restore both. If it is another store, enroll it "
                "under another name."
            )
    names = {before: now[key] for before, key in roster.items() if key in now}
    if not names:
        raise RunError(f"None of these cards is of a store of {chain}: leave out --after {chain}.")
    return names
