"""One row at a time: a dictionary of numbers, with little in between that costs more than learning it.

A row is packed into one array, `[size, target, what to do, whether NaN is missing, values, columns]`, and one
call does the rest; anything out of the ordinary goes the long way.
"""

from __future__ import annotations

import threading
from functools import cache
from struct import Struct

import numpy as np

from assay.online import layout
from assay.online import moments as m
from assay.online.compiled import compiled
from assay.online.features import FINE, kind_of
from assay.online.rows import dense
from assay.online.sparse import sparse

SIZE, TARGET, TASK, HOLES, HEAD = range(5)
FORECAST, LEARN, CHECK = range(3)
LONGEST = 4096  # entries of a row that goes the short way


class Room(threading.local):
    """Where this thread packs its rows."""

    def __init__(self) -> None:
        self.row = np.zeros(HEAD + 2 * LONGEST)


@cache
def packer(size: int) -> Struct:
    """What packs a row of as many entries."""
    return Struct(f"{HEAD + 2 * size}d")


@compiled
def one(row: np.ndarray, flat: np.ndarray, setup: np.ndarray, out: np.ndarray) -> int:
    """Forecast a packed row into `out` `[1, K]`, and do its task; or say what is wrong with it.

    Args:
        row: See above. Columns below 0 are not known and mean nothing.
        flat: The state.
        setup: What it is of.
        out: Forecasts `[1, K]`; `[1, 2]` for the probabilities of two classes.

    Returns:
        FINE, or what is wrong; then nothing was done.
    """
    size, task = int(row[SIZE]), int(row[TASK])
    values, columns = np.empty(size), np.empty(size, np.int64)
    table = layout.first_part(flat, setup)[0]
    D, used = len(table), 0
    for i in range(size):
        x, j = row[HEAD + i], int(row[HEAD + size + i])
        if j >= 0:
            values[used], columns[used] = x, j
            used += 1
            unit = table[j, m.UNIT] if j < D else 0.0
            kind = kind_of(x, unit, row[HOLES] > 0.0)
            if kind != FINE:
                return kind
    if task == CHECK:
        return FINE
    y, weight = row[TARGET : TARGET + 1], np.ones(1)
    K = int(setup[layout.OUTPUTS])
    mean = np.empty((1, K))
    if setup[layout.CENTRED] > 0.0:
        X = np.zeros((1, D))
        for i in range(used):
            X[0, columns[i]] = values[i]
        dense(X, y, weight, flat, setup, task == LEARN, mean)
    else:
        pointers = np.zeros(2, np.int64)
        pointers[1] = used
        sparse(pointers, columns, values, y, weight, flat, setup, task == LEARN, mean)
    two = out.shape[1] - K
    for k in range(K):
        out[0, two + k] = mean[0, k]
    if two:
        out[0, 0] = 1.0 - mean[0, 0]
    return FINE
