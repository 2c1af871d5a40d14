"""All that a stream has taught: one set of arrays, the same for regression and classes.

Everything is a sum over rows, or follows from such sums, so states of different machines merge.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from assay.online import layout, newton, rates
from assay.online import moments as m
from assay.online import scalars as sc
from assay.online.aggregate import SHARE
from assay.online.compiled import warn_if_slow
from assay.online.experts import FOLLOWERS
from assay.online.features import FINE, Compressed
from assay.online.lanes import LANES
from assay.online.losses import LOGISTIC
from assay.online.panels import panels_of
from assay.online.rows import dense
from assay.online.single import one
from assay.online.sparse import sparse

Array = np.ndarray[Any, np.dtype[Any]]
AT_ONCE = 4096  # sparse rows made dense at a time
FULL = 2**16  # entries of the curvatures of all outputs, up to which "auto" takes the second order


GROWING = ("table", "V", "Q", "G", "c", "P", "W")
PARTS = ("table", "V", "Q", "B", "shares", "s", "G", "c", "P", "W")


@dataclass
class State:
    """The arrays that `rows.dense` and `sparse.sparse` read and write: views of one block, see `layout`.

    Args:
        table: Moments of the features `[D, 7]`.
        V: Weights of the first order, in standard units `[D + 1, K, 8]`.
        Q: Its sums of squared gradients.
        B: Intercepts that follow `[7, K]`.
        shares: Weights of the experts `[15]`.
        s: Running numbers, see `scalars`.
        G: Curvatures `[K, D + 1, D + 1]`, in `panels`; empty without second order. Likewise c, P, W.
        c: Their right-hand sides `[K, D + 1]`.
        P: `(G + R)⁻¹`, in panels.
        W: `P c`, the weights of the second order.
        loss: A code of `losses`.
        level: The quantile.
        keep: What a row keeps of its weight per later row.
        centred: False for sparse streams, where zero means absent.
    """

    table: Array
    V: Array
    Q: Array
    B: Array
    shares: Array
    s: Array
    G: Array
    c: Array
    P: Array
    W: Array
    loss: int
    level: float
    keep: float
    centred: bool

    def __post_init__(self) -> None:
        self.pack()

    def pack(self) -> None:
        """Move the arrays into one block; after any of them was replaced."""
        numbers = [
            self.features,
            self.outputs,
            float(self.second),
            self.loss,
            self.level,
            self.keep,
            float(self.centred),
        ]
        self._setup = np.array(numbers, float)
        D, K = self.features, self.outputs
        self._shape = (1, 2 if self.loss == LOGISTIC and K == 1 else K)
        size = layout.first_size(D, K) + (layout.second_size(D, K) if self.second else 0)
        room = np.zeros(size + LANES)
        start = -(room.ctypes.data // room.itemsize) % LANES  # where a cache line begins
        self._flat = room[start : start + size]
        first = layout.first_part(self._flat, self._setup)
        G, c, P, W = layout.second_part(self._flat, self._setup)
        A = D + 1 if self.second else 0
        for name, view in zip(PARTS, (*first, G, c[:, :A], P, W[:, :A]), strict=True):
            view[...] = getattr(self, name)
            setattr(self, name, view)

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __setstate__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)
        self.pack()  # joblib hands out memory maps that cannot be written, and pickle separate arrays

    @classmethod
    def empty(
        cls,
        features: int,
        outputs: int,
        *,
        second: bool,
        centred: bool,
        loss: int,
        level: float,
        keep: float,
    ) -> Self:
        """Before the first row.

        Args:
            features: D.
            outputs: K: 1, or the number of classes where there are more than two.
            second: Whether the second order is kept.
            centred: Whether features are centred.
            loss: A code of `losses`.
            level: The quantile.
            keep: What a row keeps of its weight per later row.

        Returns:
            A state that predicts 0, or even odds.
        """
        warn_if_slow()
        A = features + 1
        F = A if second else 0
        s = np.zeros(sc.SCALARS)
        s[sc.GROWTH] = 1.0
        weights = np.broadcast_to(0.0, (A, outputs, rates.COUNT))  # of no memory yet; see `pack`
        square = np.broadcast_to(0.0, panels_of(outputs, F))
        return cls(
            table=np.zeros((features, m.COLUMNS)),
            V=weights,
            Q=weights,
            B=np.zeros((FOLLOWERS, outputs)),
            shares=first_shares(),
            s=s,
            G=square,
            c=np.zeros((outputs, F)),
            P=square,
            W=np.zeros((outputs, F)),
            loss=loss,
            level=level,
            keep=keep,
            centred=centred,
        )

    @property
    def features(self) -> int:
        """D."""
        return len(self.table)

    @property
    def outputs(self) -> int:
        """K."""
        return int(self.V.shape[1])

    @property
    def second(self) -> bool:
        """Whether the second order is kept."""
        return bool(self.G.shape[1])

    def run(self, X: Any, y: Array, weights: Array, learning: bool) -> Array:
        """Forecast rows, and learn each after its forecast.

        Args:
            X: Rows `[N, D]`: float64, or compressed.
            y: Targets `[N]`; ignored where nothing is learnt.
            weights: Weights `[N]`.
            learning: False leaves the state alone.

        Returns:
            Forecasts `[N, K]`.
        """
        known = X.shape[1] == self.features or (
            isinstance(X, Compressed) and X.shape[1] < self.features
        )
        assert known, "the loops trust their callers, so they must not read beyond a row's end"
        out = np.zeros((X.shape[0], self.outputs))
        if self.centred:
            if not isinstance(X, np.ndarray):
                for i in range(0, X.shape[0], AT_ONCE):  # so that not all of it is dense at a time
                    part = slice(i, i + AT_ONCE)
                    rows = X[part].toarray(self.features)
                    dense(
                        rows, y[part], weights[part], self._flat, self._setup, learning, out[part]
                    )
                return out
            dense(X, y, weights, self._flat, self._setup, learning, out)
            return out
        if isinstance(X, np.ndarray):
            X = Compressed.of(X)
        parts = (X.indptr, X.indices, X.data)
        sparse(*parts, y, weights, self._flat, self._setup, learning, out)
        return out

    def run_one(self, row: Array) -> Array | None:
        """The same for one packed row, see `single`.

        Args:
            row: As `single.one` reads it.

        Returns:
            Forecasts `[1, K]`, of two classes the probabilities of both, or None if there is something wrong
            with the row.
        """
        out = np.empty(self._shape)
        return out if one(row, self._flat, self._setup, out) == FINE else None

    def in_rows_of_today(self) -> None:
        """Count weights in rows of today: the growth becomes 1."""
        by = 1.0 / self.s[sc.GROWTH]
        for sums in (self.G, self.c, self.Q):
            sums *= by
        self.P /= by
        self.table[:, [m.COUNT, m.M2, m.M3, m.M4]] *= by
        self.s[[sc.COUNT, sc.SINCE, sc.SQUARES, sc.JUDGED]] *= by
        self.s[sc.GROWTH] = 1.0

    def grow(self, features: int) -> None:
        """Make room for new features, which were 0 in all rows so far.

        Args:
            features: How many there are then; at least as many as now.
        """
        more = features - self.features
        if more <= 0:
            return
        before, K = {name: getattr(self, name) for name in GROWING}, self.outputs
        A = features + 1
        self.table = np.zeros((features, m.COLUMNS))
        if self.centred:
            self.table[:, m.COUNT] = self.s[sc.COUNT]
        self.V, self.Q = (np.zeros((A, K, rates.COUNT)) for _ in range(2))
        if self.second:
            self.G, self.P = (np.zeros(panels_of(K, A)) for _ in range(2))
            self.c, self.W = (np.zeros((K, A)) for _ in range(2))
        for name, part in before.items():
            getattr(self, name)[tuple(slice(length) for length in part.shape)] = part
        self.pack()

    def add_class(self) -> None:
        """Make room for one more class: a third beside two, or one more."""
        two = self.outputs == 1
        if two:  # the score of class 1 against 0 becomes half a score for either
            for name in ("G", "P", "c", "W", "V", "Q", "B"):
                now = getattr(self, name)
                axis = 1 if name in ("V", "Q", "B") else 0
                sign = -1.0 if name in ("c", "W", "V", "B") else 1.0
                factor = {"G": 2.0, "P": 0.5, "W": 0.5, "V": 0.5, "B": 0.5}.get(name, 1.0)
                setattr(self, name, np.concatenate([sign * factor * now, factor * now], axis))
        for name in ("G", "P", "c", "W", "V", "Q", "B"):
            now = getattr(self, name)
            axis = 1 if name in ("V", "Q", "B") else 0
            shape = list(now.shape)
            shape[axis] = 1
            setattr(self, name, np.concatenate([now, np.zeros(shape)], axis))
        self.pack()
        if self.second:
            self.refresh()

    def refresh(self) -> None:
        """P and W anew from G and c."""
        if self.second and self.s[sc.ROWS] > 0:
            G, c, P, W = layout.second_part(self._flat, self._setup)
            newton.refresh(G, c, P, W, self.table, self.loss, self.s[sc.GROWTH])
            self.s[sc.SINCE] = 0.0

    def drop_second(self) -> None:
        """Leave the second order, because there are too many features or classes for it.

        If it was the better half, its weights become those of the first order.
        """
        if not self.second:
            return
        if self.shares[:FOLLOWERS].sum() > 0.5 and self.s[sc.ROWS]:
            deviation, mean, live = self._standard()
            raw = np.where(live[:, None], self.W[:, 1:].T, 0.0)
            start = self.W[:, 0] + (mean - self.table[:, m.REFERENCE]) @ raw
            base = sc.base_of(self.s, self.loss)
            self.V[1:] = (raw * deviation[:, None])[:, :, None]
            self.V[0] = (start + self.s[sc.ORIGIN] - base)[:, None]
        self.G = self.P = np.zeros(panels_of(self.outputs, 0))
        self.c = self.W = np.zeros((self.outputs, 0))
        self.shares = first_shares()
        self.pack()

    def spill(self) -> None:
        """Leave centring, too, for a stream of ever more features: from here on, zero means absent.

        A feature's unit was its deviation over all rows, and becomes its root mean square.
        """
        if not self.centred:
            return
        self.drop_second()
        deviation, mean, live = self._standard()
        raw = np.where(live[:, None, None], self.V[1:] / deviation[:, None, None], 0.0)
        self.V[0] -= np.einsum("jkr,j->kr", raw, mean)
        square = np.where(live, deviation**2, 0.0) + mean**2
        self.V[1:] = raw * np.sqrt(square)[:, None, None]
        self.table[:, m.M2] = square * self.table[:, m.COUNT]
        self.table[:, [m.MEAN, m.M3, m.M4, m.REFERENCE]] = 0.0
        self.centred = False
        self.pack()

    def _standard(self) -> tuple[Array, Array, Array]:
        """Deviation, mean and whether it varies, of every feature, in its unit."""
        n = np.maximum(self.table[:, m.COUNT], np.finfo(float).tiny)
        live = np.array([m.varies(row) for row in self.table], bool)
        variance = np.where(live, self.table[:, m.M2] / n, 1.0)
        return np.sqrt(variance), self.table[:, m.MEAN], live

    def linear(self) -> tuple[Array, Array]:
        """The mean of all experts' scores, weighted by their shares, as one linear function of raw features.

        Returns:
            Weights `[K, D]` and intercepts `[K]`.
        """
        base = sc.base_of(self.s, self.loss) if self.s[sc.ROWS] else 0.0
        part, rest = self.shares[:FOLLOWERS], self.shares[FOLLOWERS:]
        by_rate = rest if self.second else rest + part.sum() * rest / rest.sum()
        unit = np.where(self.table[:, m.UNIT] == 0.0, 1.0, self.table[:, m.UNIT])
        if self.centred:
            deviation, mean, live = self._standard()
        else:
            n = np.maximum(self.table[:, m.COUNT], np.finfo(float).tiny)
            live = self.table[:, m.M2] > 0
            deviation = np.sqrt(np.where(live, self.table[:, m.M2] / n, 1.0))
            mean = np.zeros(self.features)
        V = self.V @ by_rate
        coef = np.where(live[:, None], V[1:] / deviation[:, None], 0.0)
        intercept = V[0] + base * by_rate.sum() - mean @ coef + part @ self.B
        if self.second:
            coef = coef + part.sum() * self.W[:, 1:].T
            start = self.W[:, 0] - self.W[:, 1:] @ self.table[:, m.REFERENCE] + self.s[sc.ORIGIN]
            intercept = intercept + part.sum() * start
        return (coef * unit[:, None]).T, np.asarray(intercept)

    def copy(self) -> Self:
        """Another state with the same content.

        Returns:
            A state that shares no array with this one.
        """
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        copies = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in values.items()}
        return type(self)(**copies)  # type: ignore[arg-type]


def first_shares() -> Array:
    """Half for the second order (or the mean of the first) and its followers, half for the first order.

    Returns:
        Shares of all experts, summing to 1.
    """
    halves = np.full(FOLLOWERS, 0.5 / FOLLOWERS), np.full(rates.COUNT, 0.5 / rates.COUNT)
    return np.concatenate(halves)


def settled_shares() -> Array:
    """All for the plain second order, but for what every row deals out.

    Returns:
        Shares of all experts, summing to 1.
    """
    experts = FOLLOWERS + rates.COUNT
    shares = np.full(experts, SHARE / experts)
    shares[0] += 1.0 - SHARE
    return shares


def takes_second_order(features: int, outputs: int) -> bool:
    """Whether "auto" keeps curvatures of this many features and outputs."""
    return outputs * (features + 1) ** 2 <= FULL
