"""What poisoned stores do to a chain of local noise, and what each aggregation leaves of it.

Each cell is a real run in one process: registries, vaults, ledgers, signatures. Poisoned stores are real
stores whose code was changed: they train as asked, change what they send, and sign it with their own keys.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from privemo import client_app, protocol, simulation
from privemo import weights as w
from privemo.bench.provenance import versions_and_machine
from privemo.bench.results import Results
from privemo.config import AggregationName, RunSettings
from privemo.errors import RunError, SettingsError
from privemo.faces import Faces, FaceTable
from privemo.flower import ClientApp, Context, Message, RecordDict
from privemo.grid import InProcessGrid
from privemo.orders import RoundOrder
from privemo.recipes import local_recipe
from privemo.runs import Run
from privemo.statements import read_signing_key, sign
from privemo.store import Store
from privemo.training import PermittedNow, Randomness
from privemo.updates import norm_bound

__all__ = ["ATTACKS", "SCHEMA", "Plan", "poisoned_app", "rows"]

SCHEMA = "privemo.bench-poisoning/1"

Attack = Literal["nan", "huge", "scaled", "sign_flipped", "boosted", "label_flipped", "stale"]
ATTACKS: dict[Attack, str] = {
    "nan": "NaN in one parameter",
    "huge": "the update times a million",
    "scaled": "the update, as long as the norm bound allows",
    "sign_flipped": "the update's opposite",
    "boosted": "the opposite, as long as the norm bound allows",
    "label_flipped": "trained as asked, on labels turned around",
    "stale": "in later rounds the answer of the first one again",
}
"""What a poisoned store sends."""

DEFENCES: tuple[AggregationName, ...] = get_args(AggregationName)


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        stores: of the chain.
        malicious: numbers of poisoned stores.
        attacks: names of `ATTACKS`; all by default.
        defences: aggregations; all by default.
        epsilon: budget of a person, and local noise for it.
        seed: of every run.
        init: where training starts.
        model: name of the architecture.
        rounds: of every run; the recipe's by default. Where training starts from scratch, few of them leave
            nothing to lose.

    Raises:
        SettingsError: there is no such attack or aggregation.
    """

    stores: int = 10
    malicious: tuple[int, ...] = (1, 3)
    attacks: tuple[Attack, ...] = tuple(ATTACKS)
    defences: tuple[AggregationName, ...] = DEFENCES
    epsilon: float = 8.0
    seed: int = 0
    init: str = "nobody"
    model: str = "emotion-cnn"
    rounds: int | None = None

    def __post_init__(self) -> None:
        for what, asked, known in (
            ("attack", self.attacks, tuple(ATTACKS)),
            ("aggregation", self.defences, DEFENCES),
        ):
            if odd := sorted(set(asked) - set(known)):
                raise SettingsError(
                    f"There is no {what} {odd[0]!r}; choose among {', '.join(known)}."
                )

    def settings(self, people: int, defence: AggregationName, malicious: int) -> RunSettings:
        """Of a run that expects so many poisoned stores, or without a defence expects none."""
        sized = RunSettings.of(stores=self.stores).public_people(people)
        robust: dict[str, Any] = {}
        if defence != "mean" and malicious:
            robust = {"aggregation": defence, "malicious_stores": malicious}
        recipe = local_recipe(sized)
        if self.rounds is not None:
            recipe = dataclasses.replace(recipe, rounds=self.rounds)
        return recipe.settings(
            {"epsilon": self.epsilon},
            stores=self.stores,
            seed=self.seed,
            declared_people=sized,
            consents="everyone",
            init=self.init,
            model=self.model,
            **robust,
        )


def rows(
    table: FaceTable,
    plan: Plan,
    results: Results,
    *,
    command: str,
    listener: Callable[[str], None] = lambda _: None,
) -> Iterator[dict[str, Any]]:
    """A record for each cell, from `results` where it is there: first all stores honest, by each defence.

    Accuracies are fractions, of the held-out faces of all stores.

    Raises:
        SettingsError: the settings cannot be met.
        RunError: the run cannot be prepared or measured; one that the attack stopped has no accuracy.
    """
    people = len(np.unique(table.person))
    most = max(plan.malicious, default=0)
    cells: list[tuple[Attack | None, int, AggregationName]] = [
        (None, 0, defence) for defence in plan.defences
    ]
    cells += [
        (attack, bad, defence)
        for attack in plan.attacks
        for bad in plan.malicious
        for defence in plan.defences
    ]
    for attack, bad, defence in cells:
        settings = plan.settings(people, defence, bad or most)
        named = [table.digest, settings.model_dump(mode="json"), attack, bad]
        key = hashlib.sha256(json.dumps(named).encode()).hexdigest()[:16]
        found = results.find(key)
        if found is None:
            listener(f"{attack or 'all honest'}, {bad} of {plan.stores}, {defence}")
            measured = _measure(table, settings, attack, bad)
            found = {
                "key": key,
                "attack": attack,
                "malicious": bad,
                "defence": defence,
                **measured,
                "settings": settings.model_dump(mode="json"),
                "data": {"name": table.name, "digest": table.digest, "faces": len(table)},
                "command": command,
                **versions_and_machine(),
            }
            results.add(found)
        yield found


def _measure(
    table: FaceTable, settings: RunSettings, attack: Attack | None, bad: int
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        run = simulation.prepare(table, Path(folder) / "run", settings)
        names = run.stores[:bad]
        app = poisoned_app(names, attack, run.order_for) if attack else client_app.app
        try:
            serve(run, app)
        except RunError as error:
            return {"accuracy": None, "interval": None, "stopped": str(error), "left_out": None}
        simulation.finish(run)
        return {**_scores(run), "stopped": None, "left_out": _left_out(run, names)}


def serve(run: Run, app: ClientApp) -> None:
    """Run a prepared run whose stores answer by `app`.

    Raises:
        RunError: a round did not come about.
    """
    from privemo.server_app import app as server_app

    logging.getLogger("flwr").setLevel(logging.WARNING)  # progress is the listener's matter
    folders = [run.folder / "stores" / name for name in run.stores]
    configs: list[dict[str, str | int]] = [{"store-dir": str(folder)} for folder in folders]
    InProcessGrid(app, configs).serve(server_app, run_dir=str(run.folder))


def _scores(run: Run) -> dict[str, Any]:
    from privemo_audits import evaluate_predictions
    from privemo_audits.predictions import load_predictions
    from privemo_audits.runfiles import load_run

    measured = evaluate_predictions(load_predictions(load_run(run.folder)))
    return {"accuracy": measured["accuracy"], "interval": measured["accuracy_ci"]}


def _left_out(run: Run, names: Sequence[str]) -> int:
    """Answers of poisoned stores that did not count."""
    told = [manifest["stores"][name] for manifest in run.manifests() for name in names]
    return sum(entry["status"] != "trained" for entry in told)


# -- stores whose code was changed ---------------------------------------------------------------


def poisoned_app(
    names: Sequence[str], attack: Attack, order_for: Callable[[int], RoundOrder]
) -> ClientApp:
    """The app of the stores, of whom some do otherwise.

    Args:
        names: of the poisoned stores.
        attack: what they do.
        order_for: the order of a round: by it they know the bound of a norm.
    """
    app, memory = ClientApp(), _Memory()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        if client_app.store_folder(context).name not in names:
            return client_app.train(message, context)
        answer = _trained_on_other_labels if attack == "label_flipped" else _as_asked
        reply = client_app.replied(message, context, answer)
        folder = client_app.store_folder(context)
        return Message(_changed(reply.content, folder, attack, order_for, memory), reply_to=message)

    return app


@dataclass
class _Memory:
    """First answers, by store."""

    first: dict[str, RecordDict] = field(default_factory=dict)


def _as_asked(content: RecordDict, store: Store) -> RecordDict:
    return client_app.answer_train(content, store)


def _trained_on_other_labels(content: RecordDict, store: Store) -> RecordDict:
    honest = store.ready

    def ready(
        weights: w.Weights, order: RoundOrder, model_in: str
    ) -> tuple[Faces, Any, Randomness, PermittedNow]:
        faces, model, chance, permitted_now = honest(weights, order, model_in)
        turned = dataclasses.replace(faces, label=3 - faces.label)
        return turned, model, chance, permitted_now

    store.ready = ready  # type: ignore[method-assign]  # this store's code was changed
    return client_app.answer_train(content, store)


def _changed(
    content: RecordDict,
    folder: Path,
    attack: Attack,
    order_for: Callable[[int], RoundOrder],
    memory: _Memory,
) -> RecordDict:
    update = protocol.update_of(content)
    if update is None or attack == "label_flipped":
        return content
    if attack == "stale":
        return memory.first.setdefault(folder.name, content)
    signed = protocol.signed_from(content)
    statement = signed.unverified()
    made = _update(update, attack, order_for(statement.round))
    lie = statement.model_copy(update={"update_sha256": w.sha256(made)})
    signed = sign(lie, read_signing_key(folder))
    return RecordDict(
        {protocol.MANIFEST: protocol.signed_record(signed), protocol.UPDATE: w.to_record(made)}
    )


def _update(update: Mapping[str, Any], attack: Attack, order: RoundOrder) -> w.Weights:
    factor = {"huge": 1e6, "sign_flipped": -1.0, "nan": 1.0}.get(attack)
    if factor is None:
        size = sum(a.size for a in update.values())
        norm = float(np.sqrt(sum(float(np.vdot(a, a)) for a in update.values())))
        factor = (1 if attack == "scaled" else -1) * 0.99 * norm_bound(order, size) / norm
    made = {name: np.float32(factor) * array for name, array in update.items()}
    if attack == "nan":
        next(iter(made.values())).flat[0] = np.nan
    return made
