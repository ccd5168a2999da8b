"""Who lies, and who listens: answers hold nobody, and counts of something else are left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from privemo import count_answers
from privemo.client_app import app as client_app
from privemo.count_answers import counts_from
from privemo.counted import asked, request_of
from privemo.counted import measured as measured_by
from privemo.errors import PrivemoError, RunError
from privemo.flower import ConfigRecord, Context, Message, RecordDict
from privemo.measured import MeasureOrder, measure
from privemo.store import Store
from tests.support.federated import Federated
from tests.unit.privemo.measuring.parts import came_of, hearing, opened, paid


def test_what_a_store_answers_holds_no_person_and_no_number_of_them(
    either: Federated,
) -> None:
    heard: list[tuple[str, RecordDict]] = []
    either.drive(hearing(heard))
    secret = set()
    for name in either.names:
        frame = pd.read_csv(either.stores / name / "predictions.csv", dtype=str)
        secret |= set(frame["person"]) | set(frame["face"])
    assert secret
    for kind, content in heard:
        text = repr(content)
        assert not any(word in text for word in secret), kind
        if kind == "query.measure":
            record = content["content"]
            assert isinstance(record, ConfigRecord)
            assert set(record) == {"store"}  # done, and nothing else


def test_counts_that_their_store_did_not_sign_are_left_out(
    apart: Federated, tmp_path: Path
) -> None:
    made = apart.copy(tmp_path)
    heard: list[tuple[str, RecordDict]] = []

    def lying(message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        here = Path(str(context.node_config["store-dir"])).name
        if message.metadata.message_type == "query.count" and here == "store-01":
            heard.append((here, reply.content))
            reply.content = changed_answer(reply.content, signature=b"0" * 64)
        return reply

    made.drive(lying)
    assert came_of(made).stores == ("store-02", "store-03")
    assert "not signed by this store" in came_of(made).left_out["store-01"]
    ((_, honest),) = heard
    roster = made.run.roster
    assert counts_from(honest, roster)[0] == "store-01"
    for change, words in (
        ({"store": "store-02"}, "not signed by this store"),
        ({"counts": b"{}"}, "not signed by this store"),
        ({"counts": 3}, "without signed counts"),
        ({"store": "stranger"}, "no such store"),
        ({"store": 3}, "no text"),
    ):
        with pytest.raises(PrivemoError, match=words):
            counts_from(changed_answer(honest, **change), roster)


def changed_answer(content: RecordDict, **change: Any) -> RecordDict:
    record = content["content"]
    assert isinstance(record, ConfigRecord)
    return RecordDict({"content": ConfigRecord({**record, **change})})


def test_counts_of_something_else_are_left_out_though_they_are_signed(
    apart: Federated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = apart.copy(tmp_path)
    real = count_answers.noised_counts

    def other(store: Store, *args: Any) -> bytes:
        data = real(store, *args)
        if store.config.name == "store-03":
            return data.replace(made.run.run_id.encode(), b"another-run-12345")
        return data

    monkeypatch.setattr(count_answers, "noised_counts", other)
    made.drive()
    assert "of something else than was asked" in came_of(made).left_out["store-03"]


def test_a_store_answers_within_its_terms_alone(apart: Federated, tmp_path: Path) -> None:
    """A server whose own settings say more than was agreed on."""
    made = apart.copy(tmp_path)
    made.drive()
    facts = json.loads((made.chain / "run.json").read_text())
    facts["settings"]["counts"]["epsilon"] = 3.0
    (made.chain / "run.json").write_text(json.dumps(facts))
    with pytest.raises(RunError, match="does not follow the round before"):
        made.drive()  # and its own history notices as well
    store = made.store("store-01")
    try:
        heard = count_answers.ANSWERS["count"](
            RecordDict({"config": count_answers.request_record(request_of(made.run))}), store
        )
    finally:
        store.close()
    assert heard["content"]["reason"] == "request_refused"  # type: ignore[index,call-overload]
    assert paid(made)["store-01"] == 1


def test_a_store_that_shares_its_noise_sends_no_counts_of_its_own(
    noisy: Federated, tmp_path: Path
) -> None:
    made = noisy.copy(tmp_path)
    order = MeasureOrder(made.run.run_id, "gray-cnn", flip=True, threads=1)
    with opened(made) as store:
        measure(store, made.run.finished(), order)
        heard = count_answers.ANSWERS["count"](
            RecordDict({"config": count_answers.request_record(request_of(made.run))}), store
        )
    assert heard["content"]["reason"] == "request_refused"  # type: ignore[index,call-overload]
    assert paid(made)["store-01"] == 0


def test_a_damaged_file_of_the_server_is_named(apart: Federated, tmp_path: Path) -> None:
    made = apart.copy(tmp_path)
    (made.chain / "counts").mkdir()
    for name, words in (
        ("asked.json", "asked.json is damaged"),
        ("measured.json", "cannot be read as JSON"),
    ):
        (made.chain / "counts" / name).write_text("{")
        with pytest.raises(RunError, match=words):
            (asked if name == "asked.json" else measured_by)(made.run)
