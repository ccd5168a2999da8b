"""Who is counted: people who withdrew, stores that agreed to less, and stores that were away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from privemo.client_app import app as client_app
from privemo.counted import Counted, ask_for, asked, request_of
from privemo.counted import measured as measured_by
from privemo.errors import RunError
from privemo.flower import Context, Message
from privemo.secure_counts import AGREED
from tests.support.federated import Federated, without
from tests.unit.privemo.measuring.parts import KINDS, came_of, finished, opened, paid, people_of


def test_whoever_withdraws_after_being_read_is_not_counted(sums: Federated, tmp_path: Path) -> None:
    made = sums.copy(tmp_path)
    gone: list[str] = []

    def withdrawing(message: Message, context: Context) -> Message:
        if message.metadata.message_type == "query.mask" and not gone:
            gone.append(min(people_of(made)))
            with opened(made) as store:
                store.registry.withdraw(gone[0])
        return client_app(message, context)

    made.drive(withdrawing)
    read = sum(len(people_of(made, name)) for name in made.names)
    assert json.loads(came_of(made).joined.read_bytes())["performance"]["persons"] == read - 1


def test_a_store_of_few_people_is_in_no_exact_sum_and_the_others_are(
    sums: Federated, tmp_path: Path
) -> None:
    made = sums.copy(tmp_path)

    def withdrawing(message: Message, context: Context) -> Message:
        if message.metadata.message_type == "query.advertise" and len(people_of(made)) > 9:
            with opened(made) as store:
                store.erase(sorted(people_of(made))[9:])
        return client_app(message, context)

    made.drive(withdrawing)
    found = came_of(made)
    assert found.left_out == {"store-01": "too_few_people"}
    assert found.stores == ("store-02", "store-03")
    assert not (made.stores / "store-01" / AGREED).exists()  # nothing left it


def test_a_store_that_agreed_to_less_is_named_and_the_rest_goes_on(
    noisy: Federated, tmp_path: Path
) -> None:
    made = noisy.copy(tmp_path)
    made.drive()
    found = came_of(made)
    assert found.left_out == {"store-02": "request_refused"}
    assert found.stores == ("store-01", "store-03")
    assert paid(made) == {"store-01": 1, "store-02": 0, "store-03": 1}
    # For what it agreed to, it is there.
    ask_for(made.run, request_of(made.run, epsilon=1.0))
    made.drive()
    less = Counted.of(made.run, request_of(made.run, epsilon=1.0))
    assert less is not None
    assert less.stores == tuple(made.names)
    assert paid(made) == {"store-01": 2, "store-02": 1, "store-03": 2}
    assert asked(made.run) == request_of(made.run)


def test_fewer_stores_than_it_takes_are_a_failure_that_says_why(
    noisy: Federated, tmp_path: Path
) -> None:
    made = noisy.copy(tmp_path)
    with pytest.raises(RunError, match="1 of 3 stores"):
        made.drive(without("store-01", kinds=("query.advertise",)))
    found = came_of(made)
    assert found.error is not None
    assert found.left_out["store-02"] == "request_refused"
    assert "no such store" not in found.left_out["store-01"]  # a store's own words stay with it
    assert not found.joined.exists()
    assert paid(made) == dict.fromkeys(made.names, 0)


def test_a_quorum_of_stores_with_noise_of_their_own(apart: Federated, tmp_path: Path) -> None:
    made = apart.copy(tmp_path)
    run = made.run
    run.settings = run.settings.model_copy(update={"quorum": 3})
    with pytest.raises(
        RunError, match=r"2 of 3 stores counted, and it takes 3 \(store-02: no answer"
    ):
        finished(made, run, without("store-02", kinds=KINDS))
    found = came_of(made)
    assert found.error is not None
    assert not found.joined.exists()
    assert len(list((found.folder / "stores").iterdir())) == 2  # paid for, and kept


def test_a_store_that_was_away_is_measured_and_counted_once_it_is_back(
    apart: Federated, tmp_path: Path
) -> None:
    made = apart.copy(tmp_path)
    made.drive(without("store-03", kinds=KINDS))
    assert measured_by(made.run)["store-03"] == "no answer"
    assert came_of(made).left_out == {"store-03": "no answer"}
    made.drive(without("store-03", kinds=("query.measure",)))  # there, and did not read anybody
    assert came_of(made).left_out == {"store-03": "not_measured"}
    made.drive()
    assert came_of(made).stores == tuple(made.names)
    assert paid(made) == dict.fromkeys(made.names, 1)
