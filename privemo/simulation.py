"""A whole chain of stores on one machine: prepare, run, finish.

`prepare` lays out the run folder as it would stand on the server and on each store's machine, with
simulated consents (marked so in every record) and the faces of those who agreed in each store's vault.
`run` drives the Flower app on an engine. `finish` reads the held-out faces and leaves the model. The
audit is a matter of `privemo_audits` and files alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from privemo import weights as w
from privemo.capture import Part, capture
from privemo.config import RunSettings, StoreConfig
from privemo.dp import calibrate_noise
from privemo.errors import PrivemoError, RunError, RunInterrupted
from privemo.faces import FaceTable
from privemo.files import write_json
from privemo.models import build_model, count_parameters
from privemo.recipes import default_lr
from privemo.runs import Run
from privemo_consent import (
    ConsentMix,
    ConsentRegistry,
    Context,
    Party,
    Setting,
    simulate_consents,
)

__all__ = ["Engine", "Listener", "finish", "prepare", "run"]

Engine = Literal["inprocess", "ray"]
Listener = Callable[[dict[str, Any]], None]

CONTROLLER = Party(
    id="urn:privemo:simulation",
    name="Simulated chain of stores",
    address="nowhere",
    contact="simulation@example.org",
    type="controller",
)

EVERYONE = ConsentMix(
    granted=1.0,
    will_withdraw=0.0,
    refused=0.0,
    withdrawn=0.0,
    expired=0.0,
    other_purpose=0.0,
    unknown_age=0.0,
    staff=0.0,
    no_record=0.0,
    minor=0.0,
    also_audit=1.0,
)
"""Every adult agrees to training and to the audit. Children are refused all the same."""

MIXES = {"realistic": ConsentMix(), "everyone": EVERYONE}
"""How simulated shoppers answer, by the name that settings use."""


def prepare(
    table: FaceTable,
    out: Path,
    settings: RunSettings,
    *,
    engine: Engine = "inprocess",
    listener: Listener | None = None,
) -> Run:
    """Lay out a run folder; it appears whole or not at all.

    Args:
        table: the faces. Nothing of the run refers to it: each store has the faces of people who agreed
            in its own vault.
        out: the run folder to make; must not exist, or be empty.
        settings: of the run.
        engine: written into the run's facts.
        listener: called as stores are prepared.

    Raises:
        RunError: the folder holds something already, or cannot be written.
        DataError: a sensitive column is missing.
        SettingsError, BudgetUnreachable: the settings cannot be met.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} is not empty; choose another folder, or resume with --resume.")
    for name in settings.sensitive:
        table.column(name)
    weights, origin = w.initial_weights(
        settings.init,
        model=settings.model,
        channels=table.channels,
        seed=0 if settings.seed is None else settings.seed,
    )
    people = settings.public_people(len(np.unique(table.person)))
    privacy = _privacy_facts(settings, people)
    draft = out.parent / f".{out.name}.preparing-{os.getpid()}"
    try:
        draft.mkdir(parents=True)
        run_id = _run_id(table, settings)
        names = _lay_out_stores(table, draft, settings, people, run_id, listener)
        facts = _facts(table, settings, engine, names, run_id, privacy, weights, origin)
        facts["declared_people"] = people
        write_json(draft / "run.json", facts)
        Run(draft).keep_start(weights)
        if out.exists():
            out.rmdir()
        draft.rename(out)
    except OSError as error:
        raise RunError(f"{out} could not be prepared ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Run(out)


def run(
    prepared: Run,
    *,
    engine: Engine = "inprocess",
    listener: Listener | None = None,
) -> None:
    """Run the rounds that are missing.

    Raises:
        RunInterrupted: Ctrl-C; whole rounds and everything spent are kept.
        RunError: a round brought no update, with what went wrong in the stores.
    """
    from privemo import server_app

    logging.getLogger("flwr").setLevel(logging.WARNING)  # progress is the listener's matter
    if listener:
        server_app.listeners.append(listener)
    try:
        with _alone(prepared.folder):
            if engine == "ray":
                _run_on_ray(prepared)
            else:
                _run_in_process(prepared, listener)
    except KeyboardInterrupt as stop:
        done = len(prepared.manifests())
        raise RunInterrupted(
            f"Stopped in round {done + 1} of {prepared.settings.rounds}; {done} whole round(s) and "
            f"all spent epsilon are kept. Go on with: privemo simulate --resume {prepared.folder}"
        ) from stop
    finally:
        if listener:
            server_app.listeners.remove(listener)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process drives a run: two would overwrite each other's rounds."""
    with (folder / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(
                f"{folder} is being run by another process; wait for it to end."
            ) from error
        yield


def finish(prepared: Run, *, listener: Listener | None = None) -> None:
    """Write the finished model and each store's predictions on its held-out faces.

    Then the demographic labels are deleted from every vault (EU AI Act 10(5)): the audit reads what it
    needs of them in `predictions.csv`, and may be repeated from there. Finishing once more leaves those
    files as they are.
    """
    weights = prepared.finish()
    for done, name in enumerate(prepared.stores, start=1):
        store = prepared.store(name)
        try:
            store.write_predictions(weights, model=prepared.settings.model, run_id=prepared.run_id)
        finally:
            store.close()
        if listener:
            listener({"event": "predicted", "done": done, "of": len(prepared.stores)})
    for name in prepared.stores:  # once all are written, so that a crash in between can be mended
        store = prepared.store(name)
        try:
            store.forget_demographics()
        finally:
            store.close()


# -- engines -------------------------------------------------------------------------------------


def _run_in_process(prepared: Run, listener: Listener | None) -> None:
    from privemo.client_app import app as client_app
    from privemo.grid import InProcessGrid
    from privemo.server_app import app as server_app

    def on_reply(done: int, of: int) -> None:
        if listener:
            listener({"event": "store", "done": done, "of": of})

    folders = [prepared.folder / "stores" / name for name in prepared.stores]
    configs: list[dict[str, str | int]] = [{"store-dir": str(folder)} for folder in folders]
    grid = InProcessGrid(client_app, configs, on_reply=on_reply)
    try:
        grid.serve(server_app, run_dir=str(prepared.folder))
    except RunError as error:
        causes = [str(e) for e in grid.failures] or [s for s in map(_last_refusal, folders) if s]
        raise RunError(" ".join([str(error), *dict.fromkeys(causes[:3])])) from error


def _last_refusal(store: Path) -> str | None:
    """Why a store did not take part, in its own words, which stay on its machine."""
    try:
        return str(json.loads((store / "refusals.jsonl").read_text().splitlines()[-1])["text"])
    except (OSError, ValueError, IndexError, KeyError):
        return None


def _run_on_ray(prepared: Run) -> None:
    """Flower's simulation engine; it finds the stores through the environment, as its actors do."""
    from flwr.simulation import run_simulation

    from privemo.client_app import app as client_app
    from privemo.server_app import app as server_app

    cores = len(os.sched_getaffinity(0))
    before = os.environ.get("PRIVEMO_RUN_DIR")
    os.environ["PRIVEMO_RUN_DIR"] = str(prepared.folder.resolve())
    try:
        run_simulation(
            server_app=server_app,
            client_app=client_app,
            num_supernodes=len(prepared.stores),
            backend_config={
                "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
                "init_args": {"num_cpus": cores, "include_dashboard": False},
            },
        )
    except PrivemoError:
        raise
    except RuntimeError as error:
        raise RunError(
            f"Flower's simulation engine stopped ({error.__cause__ or error})."
        ) from error
    finally:
        if before is None:
            del os.environ["PRIVEMO_RUN_DIR"]
        else:
            os.environ["PRIVEMO_RUN_DIR"] = before
    if len(prepared.manifests()) < prepared.settings.rounds:
        raise RunError("Flower's simulation engine ended before the last round; resume the run.")


# -- laying out ----------------------------------------------------------------------------------


def _lay_out_stores(
    table: FaceTable,
    folder: Path,
    settings: RunSettings,
    people: int,
    run_id: str,
    listener: Listener | None,
) -> list[str]:
    seed = secrets.randbits(32) if settings.seed is None else settings.seed
    train, test = table.split(settings.test_fraction, seed=seed)
    train_parts = table.partition(train, settings.stores, seed=seed)
    test_parts = table.partition(test, settings.stores, seed=seed)
    names = [f"store-{number:02d}" for number in range(1, settings.stores + 1)]
    for index, name in enumerate(names):
        _lay_out_store(
            table,
            folder / "stores" / name,
            StoreConfig(
                name=name,
                run_id=run_id,
                registry_mode="simulation",
                epsilon_budget=settings.privacy.epsilon if settings.privacy else None,
                delta=settings.privacy.delta if settings.privacy else 1e-5,
                accountant=settings.privacy.accountant if settings.privacy else "rdp",
                max_stores_per_person=(
                    settings.privacy.max_stores_per_person if settings.privacy else 1
                ),
                declared_people=people,
                challenge_age=settings.challenge_age,
                jurisdiction=settings.jurisdiction,
                sensitive=settings.sensitive,
                seed=settings.seed,
            ),
            train_parts[index],
            test_parts[index],
            settings,
            consent_seed=seed * 10_007 + index,
        )
        if listener:
            listener({"event": "prepared", "done": index + 1, "of": len(names)})
    return names


def _lay_out_store(
    table: FaceTable,
    folder: Path,
    config: StoreConfig,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    settings: RunSettings,
    *,
    consent_seed: int,
) -> None:
    folder.mkdir(parents=True)
    rows = np.concatenate([train, test])
    persons, who = np.unique(table.person[rows], return_inverse=True)
    with ConsentRegistry.create(
        folder / "consent.sqlite", mode="simulation", controller=CONTROLLER
    ) as registry:
        simulated = simulate_consents(
            registry,
            persons,
            seed=consent_seed,
            true_age_band=table.band_of_people(rows),
            mix=MIXES[settings.consents],
            jurisdiction=settings.jurisdiction,
        )
        attested = simulated.attested_age_band[who]
        door: dict[Part, tuple[NDArray[np.int64], NDArray[np.str_]]] = {
            "train": (train, attested[: len(train)]),
            "test": (test, attested[len(train) :]),
        }
        turned_away = {
            part: capture(
                registry,
                table,
                those,
                part=part,
                context=Context(setting=Setting.RETAIL, jurisdiction=config.jurisdiction),
                attested_age_band=said,
                challenge_age=config.challenge_age,
                sensitive=config.sensitive,
            )
            for part, (those, said) in door.items()
        }
    withdrawals = _schedule(simulated.will_withdraw, settings, consent_seed)
    config = config.model_copy(update={"withdrawals": withdrawals, "turned_away": turned_away})
    write_json(folder / "store.json", config.model_dump(mode="json", by_alias=True))


def _schedule(
    persons: tuple[str, ...], settings: RunSettings, seed: int
) -> tuple[tuple[str, int, int], ...]:
    """When each of these shoppers withdraws: some batch of some round."""
    rng = np.random.default_rng(seed)
    return tuple(
        (
            person,
            int(rng.integers(1, settings.rounds + 1)),
            int(rng.integers(0, settings.steps_per_round)),
        )
        for person in persons
    )


# -- facts ---------------------------------------------------------------------------------------


def _privacy_facts(settings: RunSettings, people: int) -> dict[str, Any]:
    p = settings.privacy
    if p is None:
        return {"private": False, "unit": "person"}
    noise = calibrate_noise(
        epsilon=p.epsilon,
        delta=p.delta,
        sample_rate=p.sample_rate,
        steps=settings.total_steps,
        accountant=p.accountant,
        compositions=p.max_stores_per_person,
    )
    return {
        "private": True,
        "unit": "person",
        "epsilon_budget": p.epsilon,
        "delta": p.delta,
        "accountant": p.accountant,
        "neighbouring": "add_or_remove_one_person",
        "sampler": "poisson_over_persons",
        "noise_multiplier": noise,
        "sample_rate": p.sample_rate,
        "steps_per_round": settings.steps_per_round,
        "max_grad_norm": p.max_grad_norm,
        # A public constant: the batch that the *declared* number of people gives on average.
        "normaliser": p.sample_rate * people,
        "declared_people": people,
        "noise_source": "os_entropy" if settings.seed is None else "seeded",
        "max_stores_per_person": p.max_stores_per_person,
    }


def _run_id(table: FaceTable, settings: RunSettings) -> str:
    """A name for the run; of a seeded run it follows from data and settings, as everything does."""
    if settings.seed is None:
        return secrets.token_hex(8)
    named = f"{table.digest}/{settings.model_dump_json()}"
    return hashlib.sha256(named.encode()).hexdigest()[:16]


def _facts(
    table: FaceTable,
    settings: RunSettings,
    engine: Engine,
    names: list[str],
    run_id: str,
    privacy: dict[str, Any],
    weights: w.Weights,
    origin: str,
) -> dict[str, Any]:
    from privemo.labels import EMOTIONS

    parameters = count_parameters(build_model(settings.model, channels=table.channels))
    return {
        "schema": "privemo.run/1",
        "run_id": run_id,
        "created": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "engine": engine,
        "simulated": True,
        "data": {
            "name": table.name,
            "digest": table.digest,
            "faces": len(table),
            "persons": len(np.unique(table.person)),
            "origin": table.origin or "not stated by the table",
            "person_source": table.person_source,
        },
        "stores": names,
        "rounds": settings.rounds,
        "sensitive": list(settings.sensitive),
        "label_names": list(EMOTIONS),
        "privacy": privacy,
        "lr": default_lr(
            settings,
            noise_multiplier=privacy.get("noise_multiplier", 0.0),
            normaliser=privacy.get("normaliser", 1.0),
            parameters=parameters,
        ),
        # Everything of a person goes to one store, so nobody is in two.
        "store_sets": [[name] for name in names],
        "challenge_age": settings.challenge_age,
        "context": {"setting": "retail", "jurisdiction": settings.jurisdiction},
        "model": {
            "name": settings.model,
            "parameters": parameters,
            "channels": table.channels,
            "initial": w.sha256(weights),
            "initial_origin": origin,
        },
        "versions": {
            name: metadata.version(name) for name in ("privemo", "torch", "opacus", "flwr", "numpy")
        },
        "settings": settings.model_dump(mode="json"),
    }
