"""A store that fails or refuses tells one word, whatever the server asked and whatever went wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from privemo import closing
from privemo.errors import RunError
from privemo.flower import Context, ErrorCode, RecordDict
from privemo.store import Store
from tests.faults.curious.fields import STATEMENT, said_in
from tests.faults.curious.scene import Scene
from tests.support.disclosed import search
from tests.support.eavesdrop import Ear, leaves


def test_a_store_that_fails_tells_the_kind_of_error_and_nothing_else(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its sentence names: Flower sends the text of an exception to the server."""

    def fail(*_: object) -> None:
        raise LookupError(f"{scene.person} is one of {scene.count} people in {tmp_path}")

    monkeypatch.setattr(Store, "alone", fail)
    monkeypatch.setattr(closing, "read_signing_key", fail)
    for one in scene.heard:
        ear = Ear()
        context = Context(
            1, 2, {"store-dir": str(scene.federated.stores / one.store)}, RecordDict(), {}
        )
        with pytest.raises(RunError):
            ear(one.asked, context)
        (reply,) = ear.heard
        assert dict(leaves(reply.message)) == {
            "error.code": ErrorCode.CLIENT_APP_RAISED_EXCEPTION,
            "error.reason": "LookupError",
        }
        assert not search(reply.message, scene.secrets)


@pytest.mark.parametrize("scene", ["local", "distributed"], indirect=True)
def test_a_refusal_is_one_word(scene: Scene, tmp_path: Path) -> None:
    refusing = scene.federated.copy(tmp_path)
    for path in refusing.stores.glob("*/store.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"run_id": "another"}))
    words = set()
    for one in scene.heard:
        ear = Ear()
        context = Context(1, 2, {"store-dir": str(refusing.stores / one.store)}, RecordDict(), {})
        try:
            ear(one.asked, context)
        except RunError:
            continue  # above
        (reply,) = ear.heard
        said = dict(said_in(reply))
        reason = "content.reason" if "content.reason" in said else "manifest.statement<json>.reason"
        if reason not in said:
            assert one.kind in AGAIN
            continue
        words.add(said[reason])
        assert set(said) <= {"content.store", "content.reason", *STATEMENT}
        assert not search(reply.message, scene.secrets, opaque=lambda path: True)
    assert {word for word in words if not re.fullmatch(OF_THE_SUM, word)} <= WORDS
    assert len(words) >= 2


AGAIN = {f"{kind}.{step}" for kind in ("train", "query") for step in ("confirm", "reveal")}
"""In a session that was agreed to, the same answer as before: it was lost on its way."""

WORDS = {
    *("recipe_refused", "request_refused", "not_agreed", "this store took no part"),
    *("it is the end of another run", "not_measured"),
}

OF_THE_SUM = r"store-0\d is at step 'revealed' of this sum, and was asked for one that follows .*"
"""Step 3 alone says what is wrong with the sum, whose envelope above all: nothing else."""
