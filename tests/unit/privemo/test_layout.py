"""Names of simulated stores, and which of them is a node's."""

from __future__ import annotations

from pathlib import Path

import pytest
from flwr.common import RecordDict

from privemo.client_app import store_folder
from privemo.errors import RunError
from privemo.flower import Context
from privemo.layout import store_names
from privemo_consent import ItemKind
from tests.support.small_runs import small_run


@pytest.mark.parametrize("stores", [1, 3, 99, 100, 101, 1000, 10_000])
def test_the_order_of_stores_is_that_of_their_names(stores: int) -> None:
    """A server adds up by name, and sums of floats depend on their order."""
    names = store_names(stores)
    assert names == sorted(names)
    assert len(set(names)) == stores


def test_names_of_few_stores_stay_as_they_were() -> None:
    assert store_names(3) == ["store-01", "store-02", "store-03"]


def node(run: Path, partition: int | None) -> Context:
    config: dict[str, str | int] = {} if partition is None else {"partition-id": partition}
    return Context(
        run_id=1,
        node_id=1,
        node_config=dict(config),
        state=RecordDict(),
        run_config={"run-dir": str(run)},
    )


def test_a_node_of_a_simulation_finds_its_store_by_number(tmp_path: Path) -> None:
    names = store_names(101)
    for name in names:
        (tmp_path / "stores" / name).mkdir(parents=True)
    for partition in (0, 9, 99, 100):
        assert store_folder(node(tmp_path, partition)).name == names[partition]


@pytest.mark.parametrize("partition", [None, -1, 2])
def test_a_node_without_a_store_is_told_so(tmp_path: Path, partition: int | None) -> None:
    for name in store_names(2):
        (tmp_path / "stores" / name).mkdir(parents=True)
    with pytest.raises(RunError, match="store"):
        store_folder(node(tmp_path, partition))


def test_all_stores_of_a_run_weigh_the_same_however_many_people_they_have(tmp_path: Path) -> None:
    """One number is declared for all of them, and each store holds orders against it."""
    run = small_run(tmp_path, size_skew=0.5, sensitive=())
    faces = []
    for name in run.stores:
        store = run.store(name)
        try:
            faces.append(store.vault.counts()[ItemKind.FACE])
            store.check_order(run.order_for(1))
            assert store.config.declared_people == 10
        finally:
            store.close()
    assert max(faces) > 1.5 * min(faces)
    assert run.sizes == dict.fromkeys(run.stores, 10.0)
