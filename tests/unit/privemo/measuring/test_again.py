"""Whoever asks again, or died in between, gets the same answer, and nobody pays twice."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privemo.client_app import app as client_app
from privemo.counted import request_of
from privemo.errors import RunError, SecureSumError
from privemo.flower import Context, Message, RecordDict
from privemo.measured import MeasureOrder, measure
from privemo.secagg import Member, Session, needed
from privemo.secure_counts import AGREED, COUNTS_ROUND, SecureCounts
from tests.support.federated import Federated, without
from tests.unit.privemo.measuring.parts import (
    before_the_rounds,
    came_of,
    hearing,
    opened,
    paid,
    people_of,
)


def test_what_was_counted_is_asked_of_nobody_again(either: Federated) -> None:
    either.drive()
    before = came_of(either).joined.read_bytes()
    heard: list[tuple[str, RecordDict]] = []
    either.drive(hearing(heard))
    assert heard == []
    assert came_of(either).joined.read_bytes() == before


def test_a_server_that_forgot_gets_the_same_noise_again_for_nothing(
    apart: Federated, tmp_path: Path
) -> None:
    made = apart.copy(tmp_path)
    made.drive()
    before = came_of(made).joined.read_bytes()
    shutil.rmtree(made.chain / "counts")
    with opened(made) as store:
        store.registry.withdraw(min(people_of(made)))  # other bytes would tell
    made.drive()
    assert came_of(made).joined.read_bytes() == before
    assert paid(made) == dict.fromkeys(made.names, 1)


def test_as_many_releases_as_agreed_and_exact_counts_once(
    noisy: Federated, sums: Federated, tmp_path: Path
) -> None:
    """A server that asks anew could take the difference of two sums."""
    for name, source, times, reason in (
        ("noisy", noisy, 2, "budget_exhausted"),
        ("sums", sums, 1, "not_agreed"),
    ):
        made = source.copy(tmp_path / name)
        for _ in range(times):
            made.drive()
            shutil.rmtree(made.chain / "counts")
        with pytest.raises(RunError, match="a sum of counts takes 2"):
            made.drive()
        assert came_of(made).left_out["store-01"] == reason
        assert paid(made)["store-01"] == (times if source is noisy else 0)


@pytest.mark.parametrize("counts", ["exact", "noised"])
def test_counts_are_of_the_model_alone_whose_end_was_signed(
    counts: str, sums: Federated, noisy: Federated, tmp_path: Path
) -> None:
    """A server could have people read, before the first round, with a model made to tell one of them; and
    noised counts of another model would go into the report as the run's."""
    made = (sums if counts == "exact" else noisy).copy(tmp_path)
    order = MeasureOrder(made.run.run_id, "gray-cnn", flip=True, threads=1)
    made.drive(without("store-02", kinds=("query.advertise",)))
    assert came_of(made).error is None  # two of three are enough
    shutil.rmtree(made.chain / "counts")
    for name in made.names:
        (made.stores / name / AGREED).unlink(missing_ok=True)
    with opened(made) as store:
        (store.folder / "measured.json").unlink()
        with before_the_rounds(store):
            measure(store, {n: a * 2 for n, a in made.run.finished().items()}, order)
    with suppress(RunError):  # without it, one store alone may be left for a sum of noised counts
        made.drive()
    assert came_of(made).left_out["store-01"] == "not_measured"


def test_a_sum_in_another_runs_name_is_refused(noisy: Federated, tmp_path: Path) -> None:
    """Else a server counts as often as the budget lasts, and not as often as was agreed."""
    made = noisy.copy(tmp_path)
    made.drive()
    foreign = replace(request_of(made.run), run_id="another-run")
    with opened(made) as store:
        members = tuple(sorted(store.config.roster))
        known = needed(len(members), 1 - store.config.noise_stores / len(members))
        session = Session(
            store.config.run_id, COUNTS_ROUND, "ab" * 16, foreign.digest(), members, *known
        )
        with pytest.raises(SecureSumError, match="agreed to another sum of counts"):
            SecureCounts(store).advertise_counts(foreign, session)
        ours = replace(foreign, run_id=store.config.run_id)
        SecureCounts(store).advertise_counts(ours, replace(session, order=ours.digest()))


def test_masked_numbers_that_were_lost_on_their_way_are_sent_again(
    noisy: Federated, tmp_path: Path
) -> None:
    made = noisy.copy(tmp_path)
    twice: list[bool] = []

    def repeating(message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        if message.metadata.message_type == "query.mask":
            again = client_app(message, context)
            one, two = (r.content["vector"]["vector"].numpy() for r in (reply, again))  # type: ignore[index,union-attr]
            twice.append(np.array_equal(one, two))
        return reply

    made.drive(repeating)
    assert twice == [True, True]
    assert paid(made)["store-01"] == 1


def test_a_server_that_dies_with_all_numbers_there_goes_on_with_that_sum(
    noisy: Federated, tmp_path: Path
) -> None:
    made = noisy.copy(tmp_path)
    with pytest.raises(RunError, match="a sum of counts takes 2"):
        made.drive(without(*made.names, kinds=("query.confirm",)))
    assert came_of(made).error is not None
    heard: list[tuple[str, RecordDict]] = []
    made.drive(hearing(heard))
    assert {kind for kind, _ in heard} == {"query.confirm", "query.reveal"}
    assert came_of(made).stores == ("store-01", "store-03")
    assert came_of(made).left_out == {"store-02": "request_refused"}
    assert paid(made) == {"store-01": 1, "store-02": 0, "store-03": 1}
    assert not list(made.chain.rglob("pending.bin"))


def test_a_store_that_dies_between_paying_and_answering_has_paid(
    sums: Federated, noisy: Federated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = noisy.copy(tmp_path)
    real = Member.mask

    def dying(self: Member, vector: Any) -> Any:
        if self.name == "store-01":
            raise ConnectionError("killed")
        return real(self, vector)

    monkeypatch.setattr(Member, "mask", dying)
    with pytest.raises(RunError, match="a sum of counts takes 2"):
        made.drive()
    assert paid(made) == {"store-01": 1, "store-02": 0, "store-03": 1}
    made = sums.copy(tmp_path / "exact")
    made.drive()
    assert came_of(made).stores == ("store-02", "store-03")
    assert (made.stores / "store-01" / AGREED).exists()  # its numbers count as gone
