"""Stores that differ: who goes to which store of a simulated chain, where stores are not alike.

Everything of a person goes to one store. What differs is drawn from Dirichlet distributions, as is usual for
federations that are made from one data set (Hsu, Qi & Brown 2019, arXiv 1909.06335; Li et al. 2022, arXiv
2102.02079): a concentration of 100 leaves stores much alike, 1 makes them differ, 0.1 gives most of an
emotion to few of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from privemo.errors import SettingsError
from privemo.faces import FaceTable

__all__ = ["shared_out"]

IntArray = NDArray[np.int64]


def shared_out(
    table: FaceTable,
    rows: IntArray,
    stores: int,
    *,
    seed: int,
    label_skew: float | None = None,
    size_skew: float | None = None,
) -> list[IntArray]:
    """Share rows among stores; alike where neither skew is given.

    Args:
        table: the faces.
        rows: (n,) of the table.
        stores: how many there are.
        seed: of the draw.
        label_skew: concentration of each emotion's shares over the stores.
        size_skew: concentration of the stores' sizes.

    Returns:
        For each store its rows, ascending; nobody is in two of them, and none is empty.

    Raises:
        SettingsError: there are fewer people than stores.
    """
    if label_skew is None and size_skew is None:
        return table.partition(rows, stores, seed=seed)
    people, first, who = np.unique(table.split_group[rows], return_index=True, return_inverse=True)
    if len(people) < stores:
        raise SettingsError(f"{len(people)} people cannot be shared among {stores} stores.")
    rng = np.random.default_rng([seed, 2])
    even = np.full(stores, 1 / stores)
    sizes = even if size_skew is None else rng.dirichlet(size_skew * stores * even)
    label = table.label[rows][first]  # of a person with several, that of the first face
    store = np.empty(len(people), np.int64)
    for emotion in np.unique(label):
        mine = rng.permutation(np.flatnonzero(label == emotion))
        shares = sizes
        if label_skew is not None:
            shares = rng.dirichlet(np.maximum(label_skew * stores * sizes, 1e-3))
        ends = np.floor(np.cumsum(shares)[:-1] * len(mine) + 0.5).astype(np.int64)
        for number, part in enumerate(np.split(mine, ends)):
            store[part] = number
    _fill_empty(store, stores)
    return [rows[store[who] == number] for number in range(stores)]


def _fill_empty(store: IntArray, stores: int) -> None:
    """Give whoever has nobody someone of whoever has most."""
    for number in range(stores):
        if not (store == number).any():
            most = np.bincount(store, minlength=stores).argmax()
            store[np.flatnonzero(store == most)[0]] = number
