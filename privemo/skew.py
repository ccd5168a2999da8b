"""Stores that differ: who goes to which store of a simulated chain, where stores are not alike.

Everything of a person goes to one store. What differs is drawn from Dirichlet distributions, as is usual for
federations that are made from one data set (Hsu, Qi & Brown 2019, arXiv 1909.06335; Li et al. 2022, arXiv
2102.02079): a concentration of 100 leaves stores much alike, 1 makes them differ, 0.1 gives most of an
emotion to few of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from privemo.config import RunSettings
from privemo.errors import SettingsError
from privemo.faces import FaceTable

__all__ = ["shared_out"]

IntArray = NDArray[np.int64]


def shared_out(
    table: FaceTable, rows: IntArray, stores: int, *, seed: int, settings: RunSettings
) -> list[IntArray]:
    """Share rows among stores; alike where the settings name no skew.

    Parts of one table, shared out with one seed, go by the same shares: whom a store trains on, and who of
    what is held out is read there, are alike.

    Args:
        table: the faces.
        rows: (n,) of the table.
        stores: how many there are.
        seed: of the draw.
        settings: `label_skew`, `size_skew` and `skew_column` of a run.

    Returns:
        For each store its rows, ascending; nobody is in two of them, and none is empty.

    Raises:
        SettingsError: there are fewer people than stores.
        DataError: the table has no such column.
    """
    label_skew, size_skew = settings.label_skew, settings.size_skew
    if label_skew is None and size_skew is None:
        return table.partition(rows, stores, seed=seed)
    people, first, who = np.unique(table.split_group[rows], return_index=True, return_inverse=True)
    if len(people) < stores:
        raise SettingsError(f"{len(people)} people cannot be shared among {stores} stores.")
    column = table.label if settings.skew_column is None else table.column(settings.skew_column)
    groups, group = np.unique(column, return_inverse=True)
    group = group[rows][first]  # of a person with several faces, that of the first one
    shares, order = np.random.default_rng([seed, 2]), np.random.default_rng([seed, 3])
    even = np.full(stores, 1 / stores)
    sizes = even if size_skew is None else shares.dirichlet(size_skew * stores * even)
    store = np.empty(len(people), np.int64)
    for number in range(len(groups)):
        mine = order.permutation(np.flatnonzero(group == number))
        share = sizes
        if label_skew is not None:
            share = shares.dirichlet(np.maximum(label_skew * stores * sizes, 1e-3))
        ends = np.floor(np.cumsum(share)[:-1] * len(mine) + 0.5).astype(np.int64)
        for index, part in enumerate(np.split(mine, ends)):
            store[part] = index
    _fill_empty(store, stores)
    return [rows[store[who] == number] for number in range(stores)]


def _fill_empty(store: IntArray, stores: int) -> None:
    """Give whoever has nobody someone of whoever has most."""
    for number in range(stores):
        if not (store == number).any():
            most = np.bincount(store, minlength=stores).argmax()
            store[np.flatnonzero(store == most)[0]] = number
