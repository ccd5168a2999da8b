"""Following a run from its folder: how far it is, who takes part, what was spent. Nothing here writes to it.

All of it stands in round manifests, so it is as public as they are: no accuracy, no loss, no count of people.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from privemo.errors import RunError
from privemo.files import numbered, read_json

__all__ = ["Progress", "Standing", "Watch"]


@dataclass(frozen=True)
class Standing:
    """One store of a run.

    Attributes:
        name: of the store.
        status: `trained`, `refused` or `failed` in the last whole round; None before it said anything.
        reason: why it did not train.
        rounds: in how many rounds it trained.
        epsilon: what its people have lost, as it last signed (RDP, its whole ledger); None where nothing.
    """

    name: str
    status: str | None
    reason: str | None
    rounds: int
    epsilon: float | None


@dataclass(frozen=True)
class Progress:
    """A run as its folder has it.

    Attributes:
        run_id: of the run.
        whole, planned: rounds.
        seconds: of a round, on average over the last five; None before the first.
        budget: epsilon that nobody may lose more than; None without privacy.
        stores: in the order of their names.
    """

    run_id: str
    whole: int
    planned: int
    seconds: float | None
    budget: float | None
    stores: tuple[Standing, ...]

    @property
    def seconds_left(self) -> float | None:
        """About how long the missing rounds will take; None before the first is whole."""
        return None if self.seconds is None else self.seconds * (self.planned - self.whole)


class Watch:
    """Looks at a run folder as often as it is asked.

    Args:
        folder: of the run, or of a federation's server.

    Raises:
        RunError: it is no run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._facts = read_json(folder / "run.json", schema="privemo.run/1")
        self._seen = 0

    @property
    def rounds(self) -> list[dict[str, Any]]:
        """Manifests of the whole rounds, in order.

        Raises:
            RunError: one cannot be read.
        """
        paths = numbered(self._folder / "rounds", ".json")
        return [read_json(path, schema="privemo.round/2") for path in paths]

    def progress(self) -> Progress:
        """How far it is now."""
        rounds = self.rounds
        try:
            last = [_seconds(one) for one in rounds[-5:]]
            return Progress(
                run_id=self._facts["run_id"],
                whole=len(rounds),
                planned=self._facts["rounds"],
                seconds=sum(last) / len(last) if last else None,
                budget=self._facts["privacy"].get("epsilon_budget"),
                stores=tuple(_standing(name, rounds) for name in self._facts["stores"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{self._folder} holds a run that cannot be read ({error}).") from error

    def events(self) -> Iterator[dict[str, Any]]:
        """An event for each round that became whole since this was last asked; plain JSON values."""
        new = self.rounds[self._seen :]
        self._seen += len(new)
        for one in new:
            yield {
                "event": "round",
                "run_id": one["run_id"],
                "round": one["round"],
                "of": self._facts["rounds"],
                "finished": one["finished"],
                "seconds": round(_seconds(one), 3),
                "stores": {
                    name: {
                        "status": told["status"],
                        "reason": told["reason"],
                        "epsilon": _epsilon(told),
                    }
                    for name, told in one["stores"].items()
                },
            }


def _seconds(manifest: dict[str, Any]) -> float:
    began, ended = (datetime.fromisoformat(manifest[key]) for key in ("started", "finished"))
    return (ended - began).total_seconds()


def _epsilon(told: dict[str, Any]) -> float | None:
    said = told.get("statement")
    return None if said is None else said["epsilon"]


def _standing(name: str, rounds: list[dict[str, Any]]) -> Standing:
    told = [one["stores"][name] for one in rounds if name in one["stores"]]
    spent = [e for e in map(_epsilon, told) if e is not None]
    here = rounds[-1]["stores"].get(name) if rounds else None
    return Standing(
        name,
        status=here["status"] if here else None,
        reason=here["reason"] if here else None,
        rounds=sum(one["status"] == "trained" for one in told),
        epsilon=spent[-1] if spent else None,
    )
