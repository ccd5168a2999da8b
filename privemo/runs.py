"""A run on disk, as the server sees it: settings, models and round manifests.

A round is whole once its manifest stands in `rounds/`; its model and the server's state are written before.
An interrupted run goes on from the last whole round, and what a store spent meanwhile stays in that
store's ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from privemo import weights as w
from privemo.closing import Closing, model_of, signed_by
from privemo.config import RunSettings
from privemo.errors import RunError, UpdateRejected
from privemo.files import numbered, read_json, write_json
from privemo.heard import read_earlier, read_heard, write_heard
from privemo.history import History
from privemo.noeffect import refuse_without_effect
from privemo.orders import PlainRecipe, PrivateRecipe, RoundOrder, check_order
from privemo.schedules import lr_factor, sample_rate_of
from privemo.serverstep import ServerStep
from privemo.statements import canonical_hash
from privemo.store import Store

__all__ = ["Orders", "Run"]

KEPT_CHECKPOINTS = 2


@dataclass(frozen=True)
class Orders:
    """What a run asks of its stores, round by round.

    Attributes:
        settings: of the run.
        facts: `privacy`, `lr` and `declared_people`, as in `run.json`.
        run_id: of the run.
    """

    settings: RunSettings
    facts: Mapping[str, Any]
    run_id: str

    def check(self) -> None:
        """Ask as a store would, before anybody's face is touched: the first round, and the last.

        Raises:
            SettingsError: a store would refuse, or a setting would change nothing.
        """
        refuse_without_effect(self.settings)
        for number in {1, self.settings.rounds}:
            check_order(self.order_for(number))

    def order_for(self, number: int) -> RoundOrder:
        """What every store is asked in round `number` (from 1)."""
        s = self.settings
        return RoundOrder(
            run_id=self.run_id,
            round=number,
            model=s.model,
            recipe=self._recipe(number),
            threads=s.threads,
        )

    def _recipe(self, number: int) -> PrivateRecipe | PlainRecipe:
        s = self.settings
        if s.privacy is not None:
            p, facts = s.privacy, self.facts["privacy"]
            rate = sample_rate_of(p, number, s.rounds)
            # Adam does not feel the length of what it is given: its own step is scheduled instead.
            factor = 1.0 if s.adaptive_server else lr_factor(s, number)
            return PrivateRecipe(
                noise_multiplier=facts["noise_multiplier"],
                sample_rate=rate,
                steps=s.steps_per_round,
                max_grad_norm=p.max_grad_norm,
                normaliser=rate * facts["declared_people"],
                lr=self.facts["lr"] * factor,
                momentum=s.local_momentum,
                proximal=s.proximal,
                personal=s.personal,
                optimizer=p.optimizer,
                views=p.views,
                images_per_person=p.images_per_person,
                augment=p.augment,
                precision=p.precision,
                noise=p.noise,
                noise_stores=facts.get("noise_stores", 1),
            )
        if s.plain is None:  # RunSettings allows no third kind
            raise RunError("The run is neither private nor plain.")
        return PlainRecipe(
            lr=self.facts["lr"],
            proximal=s.proximal,
            personal=s.personal,
            **s.plain.model_dump(),
        )


class Run:
    """A run folder that was prepared.

    Args:
        folder: the folder.

    Raises:
        RunError: there is no `run.json`, or it is of another kind.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.facts = read_json(self.folder / "run.json", schema="privemo.run/1")
        try:
            self.settings = RunSettings.of(**self.facts["settings"])
            self.run_id: str = self.facts["run_id"]
            self.orders = Orders(self.settings, self.facts, self.run_id)
            self.stores: list[str] = list(self.facts["stores"])
            self.roster = {name: bytes.fromhex(key) for name, key in self.facts["roster"].items()}
            self.sizes: dict[str, float] = dict.fromkeys(
                self.stores, float(self.facts["declared_people"])
            )
        except KeyError as error:
            raise RunError(f"{self.folder / 'run.json'} lacks {error}.") from error

    @property
    def resume_command(self) -> str:
        """What to type to go on with this run."""
        verb = "train" if self.settings.stores == 1 else "simulate"
        return f"privemo {verb} --resume {self.folder}"

    @property
    def model_path(self) -> Path:
        """Where the finished model is."""
        return self.folder / "model.safetensors"

    @property
    def pending_path(self) -> Path:
        """Where a secure sum is kept until its round is whole."""
        return self.folder / "checkpoints" / "pending-sum.bin"

    def store(self, name: str) -> Store:
        """Open one store of a simulated run."""
        return Store(self.folder / "stores" / name)

    def order_for(self, number: int) -> RoundOrder:
        """What every store is asked in round `number` (from 1)."""
        return self.orders.order_for(number)

    # -- rounds ------------------------------------------------------------------------------

    def manifests(self) -> list[dict[str, Any]]:
        """Manifests of the whole rounds, in order."""
        paths = numbered(self.folder / "rounds", ".json")
        return [read_json(path, schema="privemo.round/2") for path in paths]

    def history(self) -> History:
        """What the server remembers of the whole rounds.

        Raises:
            RunError: one of them does not follow the one before.
        """
        heard = self.folder / "checkpoints" / "ledger-heads.jsonl"
        history = History(
            canonical_hash(self.facts),
            ledgers={n: head for n, _, head in read_earlier(self.folder) if n in self.roster},
            heard=read_heard(heard),
            keep=partial(write_heard, heard),
        )
        for manifest in self.manifests():
            if manifest["prev"] != history.head:
                raise RunError(
                    f"Round {manifest['round']} in {self.folder} does not follow the round before it: one of "
                    "them was changed. Restore it, or start again."
                )
            history.take(manifest)
        return history

    def last_whole_round(self) -> tuple[int, w.Weights]:
        """Number of the last whole round (0 before the first) and the model after it.

        Raises:
            RunError: the model does not match the manifest that names it.
        """
        manifests = self.manifests()
        done = len(manifests)
        expected = manifests[-1]["model_out"] if manifests else self.facts["model"]["initial"]
        return done, _named(self._checkpoint(done), expected, f"the model of round {done}")

    def server_state(self) -> w.Weights:
        """What the server kept besides the model at the last whole round; may be empty.

        Raises:
            RunError: the file does not match the manifest that names it.
        """
        manifests = self.manifests()
        if not manifests or "server_state" not in manifests[-1]:
            return {}
        done = len(manifests)
        what = f"the server's state after round {done}"
        return _named(self._state(done), manifests[-1]["server_state"], what)

    def keep_round(
        self, number: int, manifest: dict[str, Any], weights: w.Weights, state: w.Weights
    ) -> None:
        """Make a round whole: model and server's state first, then the manifest, then tidy up.

        Raises:
            RunError: it is whole already, and is another one; or it cannot be written.
        """
        path = self.folder / "rounds" / f"{number:04d}.json"
        if self._is_whole(path, number, manifest):
            return
        w.save_weights(self._checkpoint(number), weights)
        if state:
            w.save_weights(self._state(number), state)
        write_json(path, manifest)
        for old in (self._checkpoint, self._state):
            old(number - KEPT_CHECKPOINTS).unlink(missing_ok=True)

    def _is_whole(self, path: Path, number: int, manifest: Mapping[str, Any]) -> bool:
        """Whether a round was kept before: stores go on from it, and it never becomes another one."""
        if not path.exists():
            return False
        there = read_json(path, schema="privemo.round/2")
        if canonical_hash(there) != canonical_hash(manifest):
            raise RunError(
                f"Round {number} of {self.folder} is whole already, and is another one: somebody else ran it "
                "meanwhile. What is there stays; run it again to go on from there."
            )
        return True

    @property
    def _closing_path(self) -> Path:
        return self.folder / "rounds" / "closing.json"

    def closings(self) -> dict[str, Closing]:
        """What stores signed at the end of the run, by store; of a run that goes on, nothing.

        Raises:
            RunError: one of them does not hold, or is of another end of the run.
        """
        manifests = self.manifests()
        if not self._closing_path.exists() or len(manifests) < self.settings.rounds:
            return {}
        content = read_json(self._closing_path, schema="privemo.closings/1")
        try:
            return signed_by(content["closings"], self.roster, manifests[-1])
        except (UpdateRejected, KeyError, TypeError) as error:
            raise RunError(
                f"{self._closing_path} does not fit the last round ({error}): one of the two was changed."
            ) from error

    def keep_closings(self, closings: Mapping[str, Closing]) -> None:
        """Write down what stores signed at the end, beside what was signed before."""
        signed = {**self.closings(), **closings}
        rows = [signed[name].content() for name in sorted(signed)]
        write_json(self._closing_path, {"schema": "privemo.closings/1", "closings": rows})

    def unsigned(self) -> list[str]:
        """Stores that have not signed the end of a whole run.

        One that took no part never does. But of one that was killed with its answer the server heard nothing,
        and it took part all the same.
        """
        if len(self.manifests()) < self.settings.rounds:
            return []
        return sorted(set(self.stores) - self.closings().keys())

    def keep_start(self, weights: w.Weights) -> None:
        """Write the model that the first round starts from."""
        w.save_weights(self._checkpoint(0), weights)

    def finish(self) -> w.Weights:
        """Write the finished model, see `finished`."""
        weights = self.finished()
        w.save_weights(self.model_path, weights)
        return weights

    def finished(self) -> w.Weights:
        """The finished model: the moving average where the run keeps one, else the last round's.

        Raises:
            RunError: rounds are missing, or what they left was changed.
        """
        done, weights = self.last_whole_round()
        if done < self.settings.rounds:
            raise RunError(
                f"The run has {done} of {self.settings.rounds} rounds; resume it with --resume."
            )
        if self.settings.ema:
            server = ServerStep(self.settings)
            server.restore(self.server_state())
            weights = server.average or weights
        if w.sha256(weights) != model_of(self.manifests()[-1]):
            raise RunError(
                f"The model of {self.folder} is not the one that its last round names: one of the two was "
                "changed. Start again."
            )
        return weights

    def _state(self, number: int) -> Path:
        return self.folder / "checkpoints" / f"state-{number:04d}.safetensors"

    def _checkpoint(self, number: int) -> Path:
        return self.folder / "checkpoints" / f"round-{number:04d}.safetensors"


def _named(path: Path, expected: str, what: str) -> w.Weights:
    """Read weights that a manifest names by their hash."""
    weights = w.load_weights(path)
    if w.sha256(weights) != expected:
        raise RunError(f"{path} is not {what}; it was changed. Start again.")
    return weights
