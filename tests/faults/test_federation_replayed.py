"""Stores that say to a real server, with each answer, what they said before again.

Their nodes are Flower's, with their own keys, so that nothing of it is refused for who says it. Everything
that they send, byte for byte, is searched for what no store may send, too.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from privemo import weights as w
from privemo.runs import Run
from privemo.store import Store
from privemo_consent import Purpose
from tests.faults.test_federation_processes import in_one_process
from tests.support.deployed import Federation, privemo, until
from tests.support.disclosed import Secrets
from tests.support.noisy_node import noisy, requests

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("shared", [False, True])
def test_what_is_said_again_counts_once_and_no_byte_of_it_tells_of_anybody(
    tmp_path: Path, shared: bool
) -> None:
    federation = Federation(tmp_path, shared=shared)
    twin = tmp_path / "twin"
    shutil.copytree(federation.chain, twin / "chain")
    shutil.copytree(federation.stores, twin / "stores")
    shutil.copytree(federation.stores, tmp_path / "looked-at")
    try:
        federation.serve()
        for name in federation.names:
            federation.start(
                name, "join", federation.stores / name, variables=noisy(tmp_path, name)
            )
        until("all stores are online", lambda: federation.online() == 3)
        done = privemo("federation", "run", federation.chain)
    finally:
        federation.end()
    assert done.returncode == 0, done.stderr
    deployed = Run(federation.chain)
    for manifest in deployed.manifests():
        there = [name for name, s in manifest["stores"].items() if s["status"] == "trained"]
        assert there == federation.names
    last = deployed.manifests()[-1]
    finished = last.get("model_average", last["model_out"])
    assert w.sha256(w.load_weights(deployed.model_path)) == finished
    assert in_one_process(twin, federation.names) == last["model_out"]
    for name in federation.names:
        assert federation.trained(name) == [1, 2]
        sent = list(requests(tmp_path, name))
        again = [how for how, _ in sent if how.startswith("again 200") and "push-messages" in how]
        assert len(again) >= (1 if not shared else 5), "it was heard"
        tells_of_nobody(b"".join(body for _, body in sent), name, tmp_path / "looked-at" / name)


def tells_of_nobody(sent: bytes, name: str, folder: Path) -> None:
    assert name.encode() in sent, "what was kept is what was sent"
    secrets = Secrets()
    store = Store(folder)
    try:
        faces = store._ask("train", Purpose.TRAINING).faces
        people = [person.encode() for person in store.registry.persons()]
    finally:
        store.close()
    secrets.add_pictures(faces.images)
    secrets.add_labels(faces.label)
    assert len(secrets.needles) > 100
    assert len(people) > 10
    assert [person for person in people if person in sent] == []
    assert secrets.needles.found_in(sent) == set()
    planted = sent + faces.images[0].tobytes()
    assert {what for what, _ in secrets.needles.found_in(planted)} == {"picture"}
