"""Secure sums of counts: the joiner learns the sum, whoever drops out, and no store's own counts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privemo import count_answers, countsum
from privemo.client_app import app as client_app
from privemo.counting import count_vector
from privemo.countrequest import CountRequest
from privemo.countsum import sum_counts, sum_of_run
from privemo.errors import RunError, SecureSumError
from privemo.flower import Context, Grid, Message, ServerApp
from privemo.grid import InProcessGrid
from privemo.heldoutledger import FILE, HeldOutLedger
from privemo.runs import Run
from privemo.secure_counts import AGREED, SecureCounts, agree
from privemo_audits.cellcounts import CellCounts
from tests.support.counted import PLAN, prepared, request

App = Callable[[Message, Context], Message]


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three stores of which two are enough; read it, do not change it."""
    return prepared(tmp_path_factory.mktemp("summed"), shared=True, may_drop=0.4)


@pytest.fixture
def run(laid_out: Run, tmp_path: Path) -> Run:
    shutil.copytree(laid_out.folder, tmp_path / "run")
    return Run(tmp_path / "run")


def exact(run: Run, names: list[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    total = np.zeros(PLAN.length, np.int64)
    for name in names:
        store = run.store(name)
        total += count_vector(store, PLAN)
        store.close()
    return total


def vector(found: CellCounts) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.concatenate([found.counts(t).ravel() for t in PLAN.tables])


def ask(run: Run, asked: CountRequest, app: App = client_app, *, agreed: bool = True) -> CellCounts:
    """A sum over stores that run `app`."""
    folders = [run.folder / "stores" / name for name in run.stores]
    if agreed:
        for folder in folders:
            agree(folder, asked)
    grid = InProcessGrid(app, [{"store-dir": str(folder)} for folder in folders])  # type: ignore[arg-type]
    found: list[CellCounts] = []
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        found.append(sum_counts(grid, asked, run.roster, may_drop=0.4))

    grid.serve(server, run_dir=str(run.folder))
    return found[0]


def silent(store: str, *steps: str) -> App:
    """Stores of which one is not there at some steps."""

    def app(message: Message, context: Context) -> Message:
        step = message.metadata.message_type.split(".")[-1]
        if Path(str(context.node_config["store-dir"])).name == store and step in steps:
            raise ConnectionError("no such store")
        return client_app(message, context)

    return app


def test_the_sum_is_that_of_the_pooled_counts(run: Run) -> None:
    found = sum_of_run(run, request(run, None))
    assert np.array_equal(vector(found), exact(run, run.stores))
    assert found.stores == tuple(run.stores)
    assert found.noise is None
    assert not any((run.folder / "stores" / s / FILE).exists() for s in run.stores)


def test_noised_each_store_adds_a_share_and_pays_for_the_whole(run: Run) -> None:
    found = sum_of_run(run, request(run, 4.0))
    assert found.noise is not None
    assert (found.noise.noise_stores, found.noise.shares) == (2, 3)
    off = vector(found) - exact(run, run.stores)
    assert 0.7 * found.noise.variance**0.5 < off.std() < 1.4 * found.noise.variance**0.5
    for name in run.stores:
        (entry,) = HeldOutLedger(run.folder / "stores" / name / FILE).entries
        assert entry.mechanism == "discrete_gaussian_sum"
        assert entry.noise_multiplier == found.noise.noise_multiplier
        assert 3.9 < entry.epsilon_rdp <= 4.0


@pytest.mark.parametrize(
    ("steps", "there"),
    [
        (("advertise", "share", "mask", "confirm", "reveal"), ["store-01", "store-03"]),
        (("confirm", "reveal"), ["store-01", "store-02", "store-03"]),
    ],
)
def test_a_store_may_drop_out_at_any_step(
    run: Run, steps: tuple[str, ...], there: list[str]
) -> None:
    found = ask(run, request(run, None), silent("store-02", *steps))
    assert list(found.stores) == there
    assert np.array_equal(vector(found), exact(run, there))


def test_the_noise_is_whole_without_a_store(run: Run) -> None:
    found = ask(run, request(run, 4.0), silent("store-02", "mask", "confirm", "reveal"))
    assert found.noise is not None
    assert (
        found.noise.shares == found.noise.noise_stores == 2
    )  # and the file was found to be worth it
    assert not (
        run.folder / "stores" / "store-02" / FILE
    ).exists()  # what it never sent costs nobody


def test_too_few_stores_unmask_nothing(run: Run) -> None:
    def app(message: Message, context: Context) -> Message:
        if "store-01" not in str(context.node_config["store-dir"]):
            raise ConnectionError("no such store")
        return client_app(message, context)

    with pytest.raises(RunError, match="Nothing was unmasked"):
        ask(run, request(run, None), app)


def test_what_one_store_sends_looks_like_chance(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts are small numbers; what is sent of them is spread over all of 32 bits."""
    sent: list[np.ndarray[Any, np.dtype[np.uint32]]] = []
    real = countsum._vector

    def heard(content: Any) -> Any:
        sent.append(real(content).copy())
        return real(content)

    monkeypatch.setattr(countsum, "_vector", heard)
    ask(run, request(run, None))
    ask(run, request(run, None))
    assert len(sent) == 6
    numbers = np.concatenate(sent)
    for shift in (0, 8, 16, 24):
        seen = np.bincount((numbers >> shift) & 0xFF, minlength=256)
        square = ((seen - seen.mean()) ** 2 / seen.mean()).sum()
        assert square < 255 + 6 * (2 * 255) ** 0.5
    assert not np.array_equal(sent[0], sent[3])  # of the same counts


# -- what a store agreed to ------------------------------------------------------------------------


def test_a_store_answers_to_nobody_unasked(run: Run) -> None:
    with pytest.raises(RunError, match="not_agreed"):
        ask(run, request(run, None), agreed=False)


def test_a_server_that_asks_for_less_noise_or_none_is_refused(run: Run) -> None:
    for name in run.stores:
        agree(run.folder / "stores" / name, request(run, 4.0))
    for epsilon in (None, 4.1):
        with pytest.raises(RunError, match="not_agreed"):
            ask(run, request(run, epsilon), agreed=False)


def test_an_agreement_is_good_for_one_sum(run: Run) -> None:
    """All stores, less all but one, would be the counts of that one."""
    ask(run, request(run, None))
    with pytest.raises(RunError, match="not_agreed"):
        ask(run, request(run, None), silent("store-02", "mask"), agreed=False)


def test_no_agreement_stays_behind_a_sum_that_failed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        countsum, "sum_counts", lambda *_, **__: (_ for _ in ()).throw(RunError("x"))
    )
    with pytest.raises(RunError):
        sum_of_run(run, request(run, None))
    assert not any((run.folder / "stores" / s / AGREED).exists() for s in run.stores)


def test_a_store_whose_people_gave_all_refuses_and_the_others_go_on(run: Run) -> None:
    path = run.folder / "stores" / "store-02" / "store.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "epsilon_budget": 1.0}))
    found = ask(run, request(run, 4.0))
    assert found.stores == ("store-01", "store-03")
    assert not (path.parent / FILE).exists()


def test_a_run_whose_stores_share_no_sums_says_so(run: Run) -> None:
    run.settings = run.settings.model_copy(update={"privacy": None})
    with pytest.raises(RunError, match="share no sums"):
        sum_of_run(run, request(run, None))


# -- stores that lie -------------------------------------------------------------------------------


def lying(
    monkeypatch: pytest.MonkeyPatch, how: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]
) -> None:
    """Make store-02 send other numbers than it counted."""
    real = SecureCounts.mask_counts

    def mask(self: SecureCounts, *args: Any) -> Any:
        masked = real(self, *args)
        return how(masked) if self.store.config.name == "store-02" else masked

    monkeypatch.setattr(count_answers.SecureCounts, "mask_counts", mask)


@pytest.mark.parametrize(
    "how",
    [lambda v: v[:-1], lambda v: v.astype(np.uint64)],
)
def test_a_vector_of_another_shape_leaves_its_store_out(
    run: Run, monkeypatch: pytest.MonkeyPatch, how: Callable[[Any], Any]
) -> None:
    lying(monkeypatch, how)
    found = ask(run, request(run, None))
    assert found.stores == ("store-01", "store-03")
    assert np.array_equal(vector(found), exact(run, ["store-01", "store-03"]))


@pytest.mark.parametrize(("lie", "epsilon"), [(2**31, None), (-1000, None), (2**30, 4.0)])
def test_a_sum_that_cannot_be_of_people_is_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch, lie: int, epsilon: float | None
) -> None:
    """Some store lied, and nobody can see which."""

    def how(v: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        v = v.copy()
        v[3:4] += np.uint32(lie & 0xFFFFFFFF)
        return v

    lying(monkeypatch, how)
    with pytest.raises(SecureSumError, match="some store sent other numbers"):
        ask(run, request(run, epsilon))


def test_people_whom_a_store_makes_up_are_not_noticed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit, as the documentation states it: a lie that is like the truth stands."""
    made_up = np.zeros(PLAN.length, np.uint32)
    made_up[0] += 50
    made_up[16] += 50
    lying(monkeypatch, lambda v: v + made_up)
    found = ask(run, request(run, None))
    assert vector(found).sum() == exact(run, run.stores).sum() + 100
