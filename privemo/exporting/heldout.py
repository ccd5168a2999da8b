"""A temperature chosen on held-out people: a release about them, which they agreed to and pay for.

The people are those whom the gate admits for a fairness audit now; none of them was trained on. What is
released is the temperature, chosen by the exponential mechanism (`privemo.dp.choice`), and nothing else: not
how many they are, nor how well it fits them. Each store's held-out ledger is charged before it is told.

| what happens | what is done |
|---|---|
| the same is asked again | the same temperature again, at no cost, whoever withdrew meanwhile |
| somebody withdrew before it is asked | they have no word in it |
| a store's people cannot pay | `BudgetExhausted`; nobody is charged, nothing is chosen |
| a store has nobody to ask | its people are none, and it is charged all the same: that is told to nobody |
| somebody is in several stores | their word counts in each, and is weighed as if it counted in all of them |
| the process dies in between | at most too much was charged |
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import rfc8785
from numpy.typing import NDArray

from privemo.counting import check_held_out
from privemo.dp.choice import Choice
from privemo.errors import BudgetExhausted, RunError
from privemo.exporting.temperature import MOST, TEMPERATURES, losses_of, surer_than_right
from privemo.files import write_bytes
from privemo.heldoutaccount import HeldOutAccount, budget_of
from privemo.runs import Run
from privemo.store import Store
from privemo.storeconfig import STORE_FILE

__all__ = ["FILE", "fit_on_held_out"]

FILE = "temperature.json"
SCHEMA = "privemo.temperature/1"

Says = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Faces in, the model's probabilities out, as it is."""


def fit_on_held_out(
    run: Run,
    said: Says,
    *,
    epsilon: float,
    weights_sha256: str,
    budget: Path | None = None,
    budget_epsilon: float | None = None,
) -> float:
    """Choose a temperature on the held-out people of a run's stores, once; written to `temperature.json`.

    Args:
        run: finished, with its stores' folders.
        said: the model.
        epsilon: what it costs each of them.
        weights_sha256: which model.
        budget: their lasting account; the run's own by default.
        budget_epsilon: most that anybody in it may lose; the run's epsilon by default.

    Raises:
        BudgetExhausted: somebody cannot pay; nobody was charged.
        LedgerError: a ledger is damaged or cannot be written; nothing was told.
        RunError: a store is not here, is busy, or measures somebody who was trained on.
        SettingsError: an epsilon out of range.
    """
    choice = Choice.of(epsilon)
    asked: dict[str, Any] = {
        "schema": SCHEMA,
        "run_id": run.run_id,
        "weights_sha256": weights_sha256,
        "epsilon": float(choice.epsilon),
        "temperatures": list(TEMPERATURES),
    }
    path = run.folder / FILE
    with ExitStack() as opened:
        stores = [_opened(run, name, opened) for name in run.stores]
        accounts = [HeldOutAccount(s, budget or budget_of(s), budget_epsilon) for s in stores]
        told = _told(path, asked, accounts)
        if told is not None:
            return told
        for store, account in zip(stores, accounts, strict=True):
            account.check(choice.mechanism, store.config.delta)
        surer = np.concatenate([_surer(store, run.run_id, said) for store in stores])
        several = max(store.config.max_stores_per_person for store in stores)
        chosen = TEMPERATURES[choice.draw(losses_of(surer), MOST * several)]
        data = rfc8785.dumps({**asked, "temperature": chosen})
        _pay(path, data, accounts, choice, run.run_id)
    return chosen


def _opened(run: Run, name: str, stack: ExitStack) -> Store:
    if not (run.folder / "stores" / name / STORE_FILE).exists():
        raise RunError(
            f"{run.folder} does not hold store {name}, and its held-out people are there: leave the epsilon "
            "out, and people who do not exist are asked."
        )
    store = run.store(name)
    stack.callback(store.close)
    stack.enter_context(store.alone())
    return store


def _surer(store: Store, run_id: str, said: Says) -> NDArray[np.int64]:
    """What a store's held-out people say of each temperature."""
    faces = store.held_out_faces(run_id)
    if not len(faces):
        return np.zeros((0, len(TEMPERATURES)), dtype=np.int64)
    check_held_out(store, faces.person)
    return surer_than_right(said(faces.images), faces.label, faces.person)


def _told(path: Path, asked: dict[str, Any], accounts: Sequence[HeldOutAccount]) -> float | None:
    """What was chosen for just this, if every store's people have paid for it."""
    for file in (path, _pending(path)):
        try:
            data = file.read_bytes()
            content = json.loads(data)
        except (OSError, ValueError):
            continue
        digest = sha256(data).hexdigest()
        if not isinstance(content, dict) or {**content, "temperature": None} != {
            **asked,
            "temperature": None,
        }:
            continue
        if all(account.ledger.find(digest) is not None for account in accounts):
            if file != path:
                write_bytes(path, data)
                file.unlink()
            return float(content["temperature"])
    return None


def _pay(
    path: Path, data: bytes, accounts: Sequence[HeldOutAccount], choice: Choice, run_id: str
) -> None:
    """Charge every store, and then tell: what was not paid for by all is told to nobody."""
    pending = _pending(path)
    write_bytes(pending, data)
    try:
        for account in accounts:
            account.charge(choice, run_id, sha256(data).hexdigest())
    except BudgetExhausted:
        pending.unlink()
        raise
    write_bytes(path, data)
    pending.unlink()


def _pending(path: Path) -> Path:
    return path.with_suffix(".unpaid")
