"""A curious server: every byte that a store sends in a run, searched for all that it must not send.

Whole runs on the project's own grid, with each store's own noise and with shared noise: training, the end of
the run, measuring, counting. What the server hears is searched for pictures, labels, counts, pseudonyms,
keys, and numbers before their noise or mask, in every form of `tests.support.disclosed`; and every value in
it is one that `FIELDS` names, and is what `FIELDS` says. `test_planted` shows that the
search finds what is there.

How sure a silence is: of 10^5 rows of 8 bytes or more one stands somewhere in 10^8 random bytes once in 10^6
runs. One of 30 counts is among the 605,060 random numbers of a masked vector once in 240 of them, so it has
to be in both rounds of a store: once in 20,000 runs. All else is compared value by value, not by chance.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import numpy as np

from privemo import weights as w
from privemo.client_app import app as client_app
from privemo.counting import count_vector
from privemo.countrequest import said_of
from privemo.dp.accounting import spent
from privemo.orders import order_digest
from privemo.protocol import order_from
from privemo.statements import canonical_hash, versions
from privemo_audits.cellcounts import CellCounts
from tests.faults.curious.fields import FIELDS, LOOKS, SECURE_SUM, kind_of, known, said_in
from tests.faults.curious.scene import ROUNDS, Scene
from tests.support.disclosed import Found, search
from tests.support.eavesdrop import Heard, inside, leaves, wire
from tests.support.federated import TERMS


def test_every_kind_of_message_that_a_store_answers_is_heard(scene: Scene) -> None:
    """A new kind of message fails here until `FIELDS` says what may stand in its answer."""
    known = {name.removesuffix(".default") for name in client_app._registered_funcs}
    assert known == set(FIELDS)
    kinds = [one.kind for one in scene.heard]
    steps = (*SECURE_SUM, "mask")
    rounds = ["train"] if scene.mode == "local" else [f"train.{step}" for step in steps]
    counts = ["query.count"] if scene.mode == "local" else [f"query.{step}" for step in steps]
    expected = {**dict.fromkeys(rounds, 3 * ROUNDS), **dict.fromkeys(counts, 3)}
    assert {kind: kinds.count(kind) for kind in kinds} == {
        **expected,
        "query.close": 3,
        "query.measure": 3,
    }


def test_no_byte_of_a_message_holds_a_picture_a_label_a_count_or_a_person(scene: Scene) -> None:
    found: dict[tuple[str, str, Found], set[str]] = defaultdict(set)
    for one in scene.heard:
        for each in search(one.message, scene.secrets, opaque=known(one)):
            found[one.store, one.kind, each].add(one.group)
    masked = Found("count", "element", "vector.vector")
    for (store, kind, each), rounds in found.items():
        chance = kind == "train.mask" and each == masked and len(rounds) < ROUNDS
        assert chance, (store, kind, each)


def test_every_value_of_a_message_is_one_that_the_docs_name(scene: Scene) -> None:
    for one in scene.heard:
        public = _public(scene, one)
        for path, value in said_in(one):
            kind = kind_of(one.kind, path)
            assert kind is not None, f"{one.kind} sends {path}, which nobody was told of"
            if kind == "header":
                continue  # below
            if kind == "public":
                assert value in public[path], (path, value)
            elif kind in LOOKS:
                assert LOOKS[kind](value), (path, value)
        if one.kind == "train":  # names and shapes, and nothing more
            model = w.to_bytes(w.from_record(one.asked.content["arrays"]))  # type: ignore[arg-type]
            (file,) = one.message.content["update"].values()
            size = 8 + int.from_bytes(model[:8], "little")
            assert file.numpy().tobytes()[:size] == model[:size]


def test_no_message_is_longer_or_shorter_by_what_is_in_the_store(scene: Scene) -> None:
    """Stores of other sizes send as many bytes; noised counts have as many digits as noise makes them."""
    lengths: dict[tuple[str, str], set[int]] = defaultdict(set)
    for one in scene.heard:
        lengths[one.kind, one.group].add(len(wire(one.message)))
    assert {kind for (kind, _), seen in lengths.items() if len(seen) > 1} <= {"query.count"}


def test_what_is_said_to_be_noised_or_masked_is(scene: Scene) -> None:
    for one in scene.heard:
        numbers = dict(leaves(one.message)).get("vector.vector")
        if numbers is not None and len(numbers) > 1000:
            often = np.bincount(numbers.view(np.uint8), minlength=256)
            assert often.min() > 0.9 * often.mean()
        if one.kind not in ("query.count", "query.mask"):
            continue
        store = scene.federated.store(one.store)
        exact = count_vector(store, TERMS.plan)
        store.close()
        if one.kind == "query.mask":
            assert not (numbers == exact).any()
        else:
            data = one.message.content["content"]["counts"]
            sent = [np.ravel(t.counts) for t in CellCounts.model_validate_json(data).tables]
            assert np.mean(np.concatenate(sent) == exact) < 0.5


def test_what_stays_in_a_store_is_hashed_with_a_number_that_nobody_can_guess(scene: Scene) -> None:
    """Else the hash of a count would confirm whoever tries out all counts."""
    for name in scene.federated.names:
        lines = (scene.federated.stores / name / "statements.jsonl").read_text().splitlines()
        for line in map(json.loads, lines):
            details = line["details"]
            assert canonical_hash(details) == line["statement"]["details"]
            assert len(bytes.fromhex(details["nonce"])) == 32
        assert len({json.loads(line)["details"]["nonce"] for line in lines}) == ROUNDS


def test_nothing_of_it_is_on_the_servers_disk(scene: Scene) -> None:
    files = [path for path in scene.federated.chain.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        found = scene.secrets.needles.found_in(path.read_bytes())
        assert not found, (path.name, found)


def test_what_a_store_hands_over_to_join_is_a_name_and_two_public_keys(scene: Scene) -> None:
    for name in scene.federated.names:
        card = (scene.federated.stores / name / "card.json").read_bytes()
        assert set(json.loads(card)) == {"schema", "name", "node_key", "signing_key"}
        assert not scene.secrets.needles.found_in(card)


def _public(scene: Scene, one: Heard) -> dict[str, list[Any]]:
    """By path what the server could have written there itself."""
    run, asked = scene.federated.run, one.asked.content
    said: dict[str, Any] = {}
    if one.kind in ("train", "train.mask"):
        order, model = order_from(asked["config"]), w.from_record(asked["arrays"])  # type: ignore[arg-type]
        steps = [run.order_for(n).recipe.mechanism for n in range(1, order.round + 1)]  # type: ignore[union-attr]
        statement = {
            "schema": "privemo.statement/1",
            "run_id": run.run_id,
            "round": order.round,
            "store": one.store,
            "order": order_digest(order, w.sha256(model)),
            "model_in": w.sha256(model),
            "history": order.history,
            "status": "trained",
            "reason": None,
            "ledger": {"entries": order.round},
            "epsilon": spent(steps, delta=run.settings.privacy.delta).rdp,  # type: ignore[union-attr]
            "versions": versions(),
        }
        said = {"manifest.statement<json>": statement}
    elif one.kind == "query.close":
        last = run.manifests()[-1]
        end = {
            "run_id": run.run_id,
            "store": one.store,
            "round": ROUNDS,
            "model": last["model_out"],
        }
        end |= {"schema": "privemo.closing/1", "manifest": canonical_hash(last)}
        said = {"content.closing<json>": end}
    elif one.kind == "query.count":
        request = TERMS.request(run.run_id, run.settings.privacy.delta)  # type: ignore[union-attr]
        noise = request.noise(1, "rdp")
        assert noise is not None
        empty = CellCounts.of(
            request.plan,
            np.zeros(request.plan.length, np.int64),
            run_id=run.run_id,
            stores=[one.store],
            noise=said_of(noise, request, shares=1),
        )
        said = {"content.counts<json>": json.loads(empty.to_json())}
    found: dict[str, list[Any]] = defaultdict(list)
    found["content.store"].append(one.store)
    for path, part in said.items():
        for where, value in inside(path, part):
            found[where].append(value)
    return found
