"""Builds a small, truthful run directory, and plants defects in it.

The registry is a real one, the ledger's hashes and epsilons are real, so that every test that
plants one defect starts from a run in which nothing else is wrong.
"""

from __future__ import annotations

import copy
import csv
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dp_accounting
import numpy as np
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant

from privemo_consent.records import Grant, Party
from privemo_consent.registry import ConsentRegistry
from privemo_consent.terms import AgeBand, Purpose, Role
from tests.support.notices import whole_notice

LABELS = ("happy", "sad", "neutral", "surprise")
RUN_ID = "run-0001"
FIRST = "0" * 64
PARTY = Party(id="shop", name="Shop Ltd", address="1 High St", contact="privacy@shop.example")
NOTICE = whole_notice(PARTY, notice_id="shop", retention_days=30)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def canonical(content: dict[str, Any]) -> str:
    return hashlib.sha256(rfc8785.dumps(content)).hexdigest()


def chain(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Number, link and hash ledger entries as the agreed format says."""
    out, previous = [], FIRST
    for seq, row in enumerate(rows):
        entry = {k: v for k, v in row.items() if k != "hash"} | {"seq": seq, "prev": previous}
        entry["hash"] = hashlib.sha256(rfc8785.dumps(entry)).hexdigest()
        previous = entry["hash"]
        out.append(entry)
    return out


def epsilons(noise: float, rate: float, steps: int, delta: float) -> tuple[float, float]:
    event = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise))
    rdp = RdpAccountant([1 + x / 10 for x in range(10, 630)]).compose(event, steps)
    pld = PLDAccountant(value_discretization_interval=1e-3).compose(event, steps)
    return float(rdp.get_epsilon(delta)), float(pld.get_epsilon(delta)) + 0.01


class RunMaker:
    """One run directory. `make` writes it; the other methods plant defects afterwards."""

    def __init__(
        self,
        directory: Path,
        *,
        stores: int = 2,
        trained: int = 40,
        held_out: int = 60,
        images: int = 1,
        rounds: int = 2,
        private: bool = True,
        noise: float = 2.0,
        rate: float = 0.2,
        steps: int = 5,
        budget: float = 8.0,
        accuracy: Callable[[dict[str, str]], float] = lambda person: 0.8,
        store_name: str = "store-{:02d}",
        groups: tuple[str, ...] = ("women", "men"),
        seed: int = 0,
        privacy: dict[str, Any] | None = None,
        run_id: str = RUN_ID,
    ) -> None:
        self.directory, self.run_id = directory, run_id
        self.stores = [store_name.format(i + 1) for i in range(stores)]
        self.trained, self.held_out, self.images, self.rounds = trained, held_out, images, rounds
        self.private, self.noise, self.rate, self.steps = private, noise, rate, steps
        self.budget, self.accuracy, self.groups = budget, accuracy, groups
        self.privacy = privacy or {}
        self.rng = np.random.default_rng(seed)
        self.delta = 1e-5
        self.keys = {s: Ed25519PrivateKey.generate() for s in self.stores}

    # -- writing -------------------------------------------------------------------------------

    def make(self) -> RunMaker:
        self.directory.mkdir(parents=True, exist_ok=True)
        for store in self.stores:
            (self.directory / "stores" / store).mkdir(parents=True)
            self._consents(store)
        self._train()
        for store in self.stores:
            self._predict(store)
        self._run_json()
        self.seal()
        return self

    def path(self, store: str | int, name: str) -> Path:
        store = self.stores[store] if isinstance(store, int) else store
        return self.directory / "stores" / store / name

    def registry(self, store: str | int) -> ConsentRegistry:
        return ConsentRegistry.open(self.path(store, "consent.sqlite"), mode="simulation")

    def people(self, store: str | int, kind: str) -> list[str]:
        store = self.stores[store] if isinstance(store, int) else store
        n = {"train": self.trained, "held": self.held_out}.get(kind, 3)
        return [f"{store}-{kind}-{i:03d}" for i in range(n)]

    def _consents(self, store: str) -> None:
        before = datetime.now(UTC) - timedelta(days=1)

        def row(person: str, purposes: Sequence[Purpose], **more: Any) -> Grant:
            settings: dict[str, Any] = {
                "age_band": AgeBand.FROM_25,
                "jurisdiction": "IE",
                "notice": NOTICE,
                "valid_for": timedelta(days=90),
                "at": before,
            } | more
            return Grant(person=person, purposes=tuple(purposes), **settings)

        rows = [row(p, [Purpose.TRAINING]) for p in self.people(store, "train")]
        rows += [row(p, [Purpose.FAIRNESS_AUDIT]) for p in self.people(store, "held")]
        rows += [
            row(p, [Purpose.TRAINING], valid_for=timedelta(hours=1))
            for p in self.people(store, "expired")
        ]
        rows += [row(p, [Purpose.TRAINING], age_band=AgeBand.FROM_13) for p in ("m1", "m2")]
        rows += [
            row(p, [Purpose.TRAINING], role=Role.EMPLOYEE) for p in self.people(store, "staff")
        ]
        with ConsentRegistry.create(
            self.path(store, "consent.sqlite"), mode="simulation", controller=PARTY
        ) as registry:
            registry.notice(NOTICE)
            registry.grant_many(rows)
            for person in self.people(store, "gone"):
                registry.grant(
                    person,
                    [Purpose.TRAINING],
                    age_band=AgeBand.FROM_25,
                    jurisdiction="IE",
                    notice=NOTICE,
                    valid_for=timedelta(days=90),
                )
                registry.withdraw(person)
            for person in self.people(store, "no"):
                registry.refuse(person, age_band=AgeBand.FROM_25, jurisdiction="IE", notice=NOTICE)

    def _train(self) -> None:
        ledgers: dict[str, list[dict[str, Any]]] = {s: [] for s in self.stores}
        (self.directory / "rounds").mkdir()
        model = sha("model 0")
        for number in range(1, self.rounds + 1):
            started = datetime.now(UTC)
            did: dict[str, Any] = {}
            for store in self.stores:
                did[store] = self._train_store(store, number, ledgers[store])
            content = f"model {number}".encode()
            new = hashlib.sha256(content).hexdigest()
            self.write_json(
                f"rounds/{number:04d}.json",
                {
                    "schema": "privemo.round/2",
                    "prev": FIRST,
                    "run_id": self.run_id,
                    "round": number,
                    "started": iso(started),
                    "finished": iso(datetime.now(UTC)),
                    "model_in": model,
                    "model_out": new,
                    "stores": did,
                },
            )
            model = new
            (self.directory / "model.safetensors").write_bytes(content)
        for store, rows in ledgers.items():
            if self.private:
                self.write_lines(store, "ledger.jsonl", chain(rows))

    def _train_store(self, store: str, number: int, ledger: list[dict[str, Any]]) -> dict[str, Any]:
        people = self.people(store, "train")
        with self.registry(store) as registry:
            seq, root = registry.log_seq, registry.log_root()
            self._admit(store, number, "training", seq, len(people))
            for batch in range(self.steps):
                drawn = self.rng.random(len(people)) < 0.5
                drawn[0] = True
                registry.record_use(
                    [p for p, d in zip(people, drawn, strict=True) if d],
                    Purpose.TRAINING,
                    run=self.run_id,
                    round=number,
                    store=store,
                    batch=batch,
                    log_seq=seq,
                )
        update = sha(f"update {store} {number}")
        rdp, prv = epsilons(self.noise, self.rate, self.steps * number, self.delta)
        ledger.append(
            {
                "schema": "privemo.ledger/1",
                "at": iso(datetime.now(UTC)),
                "store": store,
                "run_id": self.run_id,
                "round": number,
                "mechanism": "poisson_subsampled_gaussian",
                "unit": "person",
                "noise_multiplier": self.noise,
                "sample_rate": self.rate,
                "steps": self.steps,
                "max_grad_norm": 1.0,
                "normaliser": 8.0,
                "delta": self.delta,
                "epsilon_rdp": rdp,
                "epsilon_prv": prv,
                "update_sha256": update,
            }
        )
        return {
            "status": "trained",
            "reason": None,
            "update_sha256": update,
            "consent_log_root": root,
            "consent_log_seq": seq,
        }

    def _admit(self, store: str, number: int, purpose: str, seq: int, admitted: int) -> None:
        refused = (
            {
                "expired": 3,
                "staff": 3,
                "withdrawn": 3,
                "minor": 2,
                "suspected_minor": 4,
                "unknown_age": 1,
            }
            if purpose == "training"
            else {"minor": 1}
        )
        asked = admitted + sum(refused.values())
        line = {
            "schema": "privemo.admission/1",
            "at": iso(datetime.now(UTC)),
            "run_id": self.run_id,
            "round": number,
            "purpose": purpose,
            "log_seq": seq,
            "asked": {"faces": asked * self.images, "persons": asked},
            "admitted": {"faces": admitted * self.images, "persons": admitted},
            "refused": {
                "faces": {k: n * self.images for k, n in refused.items()},
                "persons": refused,
            },
        }
        with self.path(store, "admissions.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _predict(self, store: str) -> None:
        with self.registry(store) as registry:
            self._admit(store, 0, "fairness_audit", registry.log_seq, self.held_out)
        rows = []
        for i, person in enumerate(self.people(store, "held")):
            who = {
                "gender": self.groups[i % len(self.groups)],
                "est_age": f"{self.rng.uniform(26, 80):.1f}",
            }
            for image in range(self.images):
                label = int(self.rng.integers(4))
                right = self.rng.random() < self.accuracy(who)
                said = label if right else int((label + self.rng.integers(1, 4)) % 4)
                p = np.full(4, 0.1)
                p[said] = 0.7
                rows.append(
                    {
                        "store": store,
                        "person": person,
                        "face": f"{person}-{image}",
                        "label": label,
                        "prediction": said,
                    }
                    | {f"p_{n}": v for n, v in zip(LABELS, p, strict=True)}
                    | who
                )
        self.write_predictions(store, rows)

    def _run_json(self) -> None:
        privacy: dict[str, Any] = {"private": self.private}
        if self.private:
            privacy |= {
                "unit": "person",
                "epsilon_budget": self.budget,
                "delta": self.delta,
                "accountant": "rdp",
                "neighbouring": "add_or_remove_one_person",
                "sampler": "poisson_over_persons",
                "noise_multiplier": self.noise,
                "sample_rate": self.rate,
                "steps_per_round": self.steps,
                "steps_at_each_rate": [[self.rate, self.steps * self.rounds]],
                "max_grad_norm": 1.0,
                "normaliser": 8.0,
                "noise_source": "os_entropy",
                "max_stores_per_person": 1,
            }
        people = len(self.stores) * (self.trained + self.held_out)
        self.write_json(
            "run.json",
            {
                "schema": "privemo.run/1",
                "run_id": self.run_id,
                "created": iso(datetime.now(UTC)),
                "engine": "local",
                "simulated": True,
                "data": {
                    "name": "people who do not exist",
                    "digest": sha("data"),
                    "faces": people * self.images,
                    "persons": people,
                    "origin": "rendered",
                },
                "stores": self.stores,
                "rounds": self.rounds,
                "sensitive": ["gender", "est_age"],
                "label_names": list(LABELS),
                "privacy": privacy | self.privacy,
                "roster": {
                    s: key.public_key().public_bytes_raw().hex() for s, key in self.keys.items()
                },
                "store_sets": [[s] for s in self.stores],
                "challenge_age": 25.0,
                "context": {"setting": "retail", "jurisdiction": "IE"},
                "model": {"name": "EmotionCNN", "parameters": 1403516, "channels": 1},
                "versions": {"privemo": "0.1.0"},
            },
        )

    # -- signing -------------------------------------------------------------------------------

    def seal(self) -> None:
        """Chain the rounds and sign what stores did, as the files are now."""
        prev = canonical(self._json("run.json"))
        kept: dict[str, list[dict[str, Any]]] = {s: [] for s in self.stores}
        for path in sorted((self.directory / "rounds").glob("[0-9]*.json")):
            name = f"rounds/{path.name}"
            item = self._json(name)
            item["prev"] = prev
            for store, did in item["stores"].items():
                details, statement = self._stated(store, item, did)
                text = rfc8785.dumps(statement)
                signature = self.keys[store].sign(b"privemo.statement/1\n" + text)
                did |= {"statement": statement, "signature": signature.hex()}
                kept[store].append(
                    {"statement": statement, "signature": signature.hex(), "details": details}
                )
            self.write_json(name, item)
            prev = canonical(item)
        for store, rows in kept.items():
            self.write_lines(store, "statements.jsonl", rows)

    def _stated(
        self, store: str, item: dict[str, Any], did: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        ledger = self.ledger_at(store, item)
        asked = [
            line
            for line in self.lines(store, "admissions.jsonl")
            if (line["round"], line["purpose"]) == (item["round"], "training")
        ]
        details = {
            "schema": "privemo.details/1",
            "nonce": sha(f"{store} {item['round']}"),
            "admission": asked[-1] if asked else None,
        }
        if (counted := self.path(store, "asked.json")).exists():
            details["asked"] = hashlib.sha256(counted.read_bytes()).hexdigest()
        statement = {
            "schema": "privemo.statement/1",
            "run_id": item["run_id"],
            "round": item["round"],
            "store": store,
            "order": sha("order"),
            "model_in": item["model_in"],
            "history": item["prev"],
            "status": did["status"],
            "reason": did["reason"],
            "update_sha256": did["update_sha256"],
            "consent_log_root": did["consent_log_root"],
            "ledger": {"entries": len(ledger), "hash": ledger[-1]["hash"] if ledger else FIRST},
            "epsilon": ledger[-1]["epsilon_rdp"] if ledger else None,
            "details": canonical(details),
            "versions": {"privemo": "0.1.0"},
        }
        return details, statement

    def count_by_look(
        self,
        store: int,
        columns: dict[str, dict[str, tuple[int, dict[str, int]]]],
        *,
        apart: dict[str, int] | None = None,
        sealed: bool = True,
        changes: dict[str, Any] | None = None,
    ) -> None:
        """Counts by column and group, of people admitted and refused by reason, as a store makes them.

        `apart` are refused people of whom no look was counted, in every column but `age_band`; `changes` are
        made to the file at the end.
        """

        def reasons(parts: Sequence[tuple[int, dict[str, int]]]) -> dict[str, Any]:
            refused: dict[str, int] = {}
            for _, each in parts:
                for reason, n in each.items():
                    refused[reason] = refused.get(reason, 0) + n
            return {"admitted": sum(n for n, _ in parts), "refused": refused}

        of = {name: {} if name == "age_band" else apart or {} for name in columns}
        first = next(iter(columns))
        content = {
            "schema": "privemo.asked/1",
            "run_id": self.run_id,
            "store": self.stores[store],
            "purpose": "training",
            "persons": reasons([*columns[first].values(), (0, of[first])]),
            "columns": {
                name: {
                    "groups": {g: reasons([part]) for g, part in groups.items()},
                    "apart": reasons([(0, of[name])]),
                }
                for name, groups in columns.items()
            },
            "left_out": [],
        }
        self.write_json(f"stores/{self.stores[store]}/asked.json", {**content, **(changes or {})})
        if sealed:
            self._seal_again()

    def ledger_at(self, store: str, item: dict[str, Any]) -> list[dict[str, Any]]:
        """What a store's ledger held when it signed a round."""
        return [r for r in self.lines(store, "ledger.jsonl") if r["round"] <= item["round"]]

    def lines(self, store: str, name: str) -> list[dict[str, Any]]:
        """What a store's file holds, line by line; nothing where there is no file."""
        path = self.path(store, name)
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def _json(self, name: str) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.directory / name).read_text(encoding="utf-8"))
        return value

    # -- planting defects ----------------------------------------------------------------------

    def edit_json(
        self, name: str, change: Callable[[dict[str, Any]], None], *, sealed: bool = True
    ) -> None:
        """Change a file; `sealed` as if it had been so when stores signed, else behind their backs."""
        value = self._json(name)
        change(value)
        self.write_json(name, value)
        if sealed:
            self._seal_again()

    def _seal_again(self) -> None:
        # What is no JSON of a run any more cannot be signed, and is for its reader to refuse.
        with suppress(KeyError, TypeError, ValueError, AttributeError):
            self.seal()

    def edit_ledger(
        self,
        store: int,
        change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]],
        *,
        rechain: bool = False,
        sealed: bool = True,
    ) -> None:
        """Change the entries; with `rechain` as a forger would who recomputes all hashes.

        `sealed` as if the ledger had been so when the store signed.
        """
        text = self.path(store, "ledger.jsonl").read_text(encoding="utf-8")
        rows = change([json.loads(line) for line in text.splitlines()])
        self.write_lines(self.stores[store], "ledger.jsonl", chain(rows) if rechain else rows)
        if sealed:
            self._seal_again()

    def edit_predictions(
        self, store: int, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
    ) -> None:
        with self.path(store, "predictions.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        self.write_predictions(self.stores[store], change(rows))

    def use(
        self,
        store: int,
        people: Sequence[str],
        *,
        batch: int = 90,
        round: int = 1,  # noqa: A002
        **more: Any,
    ) -> None:
        """Record a batch without asking the gate."""
        with self.registry(store) as registry:
            settings: dict[str, Any] = {"log_seq": registry.log_seq} | more
            registry.record_use(
                list(people),
                Purpose.TRAINING,
                run=self.run_id,
                round=round,
                store=self.stores[store],
                batch=batch,
                **settings,
            )

    def write_predictions(self, store: str, rows: Sequence[dict[str, Any]]) -> None:
        empty = ["store", "person", "face", "label", "prediction", "gender", "est_age"]
        names = list(rows[0]) if rows else empty
        with self.path(store, "predictions.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)

    def write_json(self, name: str, value: Any) -> None:
        (self.directory / name).write_text(json.dumps(value, indent=1), encoding="utf-8")

    def write_lines(self, store: str, name: str, rows: Sequence[dict[str, Any]]) -> None:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        self.path(store, name).write_text(text, encoding="utf-8")


def copied(maker: RunMaker, directory: Path) -> RunMaker:
    """Copy a run, so that one test's defects are not another's."""
    shutil.copytree(maker.directory, directory)
    new = copy.copy(maker)
    new.directory = directory
    return new
