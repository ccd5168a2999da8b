"""How a comparison splits a table."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from privemo.faces import FaceTable

__all__ = ["TEST_SHARE", "VALIDATION_SHARE", "split_rows"]

IntArray = NDArray[np.int64]

VALIDATION_SHARE, TEST_SHARE = 0.2, 0.1
"""Of the table, and of what the validation part leaves."""


def split_rows(table: FaceTable, seed: int) -> tuple[IntArray, IntArray, IntArray]:
    """Rows to train on, to validate on and to test on; nobody, and no `dup_group`, is in two of them.

    The validation part is the one that `privemo train` holds out under the same split seed.
    """
    rest, validation = table.split(VALIDATION_SHARE, seed=seed)
    others, held_out = table.split(TEST_SHARE, seed=seed + 1_000_003)
    return np.intersect1d(rest, others), validation, np.intersect1d(rest, held_out)
