"""Models of several machines, each trained on a part of the rows, as one.

Moments, curvatures and their right-hand sides are sums over rows, so they are added: for the squared loss
the merged second order is the one that all rows on one machine give, up to rounding. For other losses each
part linearised its rows at its own weights, and for the first order weights are averaged, by their sums of
squared gradients.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from assay.errors import UsageError, verbatim
from assay.online import moments as m
from assay.online import scalars as sc
from assay.online.panels import from_square, to_square
from assay.online.state import State

Model = TypeVar("Model", bound=Any)


def merge(models: Sequence[Model]) -> Model:
    """One model from models that were trained on parts of the rows with the same arguments.

    Args:
        models: At least one `UnitRegressor`, or `UnitClassifier`; none is changed.

    Returns:
        A new model, which can go on learning.

    Raises:
        UsageError: If they differ in class, arguments, or features.

    Example:
        >>> import numpy as np
        >>> from assay.online import UnitRegressor
        >>> X = np.arange(20.0).reshape(10, 2) ** 2
        >>> y = X @ [2.0, -1.0] + 3.0
        >>> parts = [UnitRegressor().fit(X[i::2], y[i::2]) for i in range(2)]
        >>> whole = UnitRegressor().fit(X, y)
        >>> bool(np.allclose(merge(parts).coef_, whole.coef_, rtol=0.05))
        True
    """
    if not models:
        raise UsageError("models", verbatim("empty"), "at least one model", "Train one.")
    first = models[0]
    for at, model in enumerate(models):
        model._fitted()
        if type(model) is not type(first) or model.get_params() != first.get_params():
            raise UsageError(
                f"models[{at}]",
                model,
                f"the same class and arguments as models[0], {first!r}",
                "Train alike.",
            )
    out = copy.deepcopy(first)
    for at, model in enumerate(models[1:], 1):
        other = copy.deepcopy(model)
        _align_names(out, other, at)
        if hasattr(out, "classes_"):
            _align_classes(out, other)
        out._fit_to_size()
        other._fit_to_size()
        _add(out._state, other._state)
    return out


def _align_names(out: Any, other: Any, at: int) -> None:
    """Columns of `other` in the order of `out`, which gets those that it lacks."""
    mine, theirs = out._names, other._names
    if (mine is None) != (theirs is None) or (
        mine is None and out.n_features_in_ != other.n_features_in_
    ):
        raise UsageError(
            f"models[{at}]",
            verbatim(f"{other.n_features_in_} features"),
            f"{out.n_features_in_} features, as models[0]",
            "Train on the same columns.",
        )
    if mine is None or mine.bits is not None:
        return
    for name in theirs.index:
        mine.column(name, add=True)
    room = max(len(mine), out._state.features, other._state.features)
    out._state.grow(room)
    other._state.grow(room)
    out.n_features_in_ = len(mine)
    target = np.array([mine.index[name] for name in theirs.index], int)
    missing = np.setdiff1d(np.arange(room), target)
    order = np.empty(room, int)  # order[new column] = old column
    order[target] = np.arange(len(target))
    order[missing] = np.arange(len(target), room)
    _permute(other._state, order)


def _permute(state: State, order: Any) -> None:
    entries = np.concatenate([[0], 1 + order])
    state.table = state.table[order]
    state.V, state.Q = state.V[entries], state.Q[entries]
    if state.second:
        for name in ("G", "P"):
            square = to_square(getattr(state, name))
            setattr(state, name, from_square(square[:, entries][:, :, entries]))
        state.c, state.W = state.c[:, entries].copy(), state.W[:, entries].copy()
    state.pack()


def _align_classes(out: Any, other: Any) -> None:
    """The same classes in the same order on both sides."""
    union = np.unique(np.concatenate([out.classes_, other.classes_]))
    for model in (out, other):
        state: State = model._state
        known = list(model.classes_)
        for label in union:
            if label not in known:
                known.append(label)
                if len(known) > 2:
                    state.add_class()
        if len(known) < 2:
            continue
        order = np.argsort(np.array(known), kind="stable")
        if state.outputs > 1:
            for name in ("G", "P", "c", "W"):
                setattr(state, name, getattr(state, name)[order])
            for name in ("V", "Q", "B"):
                setattr(state, name, getattr(state, name)[:, order])
        elif order[0] == 1:  # the score of the other class
            for name in ("c", "W", "V", "B"):
                setattr(state, name, -getattr(state, name))
        state.pack()
        model._know(union)


def _add(a: State, b: State) -> None:
    """Add the rows of b to a; both have the same features, classes and orders."""
    if a.centred != b.centred:
        a.spill()
        b.spill()
    if a.second != b.second:
        a.drop_second()
        b.drop_second()
    a.in_rows_of_today()
    b.in_rows_of_today()
    _to_units(b, a.table[:, m.UNIT])
    _to_units(a, b.table[:, m.UNIT])  # where a had none
    before_a, before_b = a.table.copy(), b.table.copy()
    a.table = m.merge_moments(a.table, b.table)
    a.table[:, m.UNIT] = before_a[:, m.UNIT]
    _add_first_order(a, b, before_a, before_b)
    if a.second:
        _add_second_order(a, b)
    na, nb = a.s[sc.COUNT], b.s[sc.COUNT]
    total = na + nb
    if total > 0.0:
        a.B = (na * a.B + nb * b.B) / total
        a.shares = (na * a.shares + nb * b.shares) / total
        _add_scalars(a.s, b.s)
    a.pack()
    a.refresh()


def _to_units(state: State, units: Any) -> None:
    """Express features in other powers of two, where there are any."""
    mine = state.table[:, m.UNIT]
    factor = np.where((units != 0.0) & (mine != 0.0), units / np.where(mine == 0.0, 1.0, mine), 1.0)
    state.table[:, m.UNIT] = np.where(units != 0.0, units, mine)
    for power, columns in ((1, [m.MEAN, m.REFERENCE]), (2, [m.M2]), (3, [m.M3]), (4, [m.M4])):
        state.table[:, columns] *= factor[:, None] ** power
    if state.second:
        state.c[:, 1:] *= factor
        state.W[:, 1:] /= factor
        both = np.concatenate([[1.0], factor])
        state.G = from_square(to_square(state.G) * both * both[:, None])


def _add_first_order(a: State, b: State, before_a: Any, before_b: Any) -> None:
    """Average weights in raw units, entry by entry in proportion to their sums of squared gradients."""

    def deviation(table: Any) -> Any:
        n = np.maximum(table[:, m.COUNT], np.finfo(float).tiny)
        return np.sqrt(table[:, m.M2] / n)

    after, size_a, size_b = deviation(a.table), deviation(before_a), deviation(before_b)
    raw_a = a.V[1:] / np.where(size_a > 0, size_a, np.inf)[:, None, None]
    raw_b = b.V[1:] / np.where(size_b > 0, size_b, np.inf)[:, None, None]
    mean = np.zeros_like(after)
    if a.centred:  # intercepts belong to each side's own means
        mean = a.table[:, m.MEAN]
        a.V[0] += np.einsum("jkr,j->kr", raw_a, mean - before_a[:, m.MEAN])
        b.V[0] += np.einsum("jkr,j->kr", raw_b, mean - before_b[:, m.MEAN])
    base_a, base_b = (sc.base_of(x.s, x.loss) if x.s[sc.ROWS] else 0.0 for x in (a, b))
    Q = a.Q + b.Q
    part = np.divide(a.Q, Q, out=np.full_like(Q, 0.5), where=Q > 0)
    a.V[1:] = (part[1:] * raw_a + (1.0 - part[1:]) * raw_b) * after[:, None, None]
    na, nb = a.s[sc.COUNT], b.s[sc.COUNT]
    merged = (na * base_a + nb * base_b) / max(na + nb, np.finfo(float).tiny)
    share = na / max(na + nb, np.finfo(float).tiny)
    a.V[0] = share * (a.V[0] + base_a) + (1.0 - share) * (b.V[0] + base_b) - merged
    a.Q = Q


def _add_second_order(a: State, b: State) -> None:
    """Curvatures about one reference point and one origin of targets, then added."""
    for state in (a, b):
        G = to_square(state.G)
        shift = a.table[:, m.MEAN] - state.table[:, m.REFERENCE]
        if state is b:
            b.c += G[:, :, 0] * (b.s[sc.ORIGIN] - a.s[sc.ORIGIN])
        state.c[:, 1:] -= shift * state.c[:, :1]
        G[:, 1:] -= shift[:, None] * G[:, :1]
        G[:, :, 1:] -= shift * G[:, :, :1]
        state.G = from_square(G)
    a.table[:, m.REFERENCE] = a.table[:, m.MEAN]
    a.G = a.G + b.G
    a.c += b.c


def _add_scalars(a: Any, b: Any) -> None:
    na, nb = a[sc.COUNT], b[sc.COUNT]
    total = na + nb
    d = b[sc.CENTRE] - a[sc.CENTRE]
    a[sc.SQUARES] += b[sc.SQUARES] + d * d * na * nb / total
    a[sc.CENTRE] += d * nb / total
    judged = a[sc.JUDGED] + b[sc.JUDGED]
    if judged > 0.0:
        a[sc.LOSS] = (a[sc.LOSS] * a[sc.JUDGED] + b[sc.LOSS] * b[sc.JUDGED]) / judged
    a[sc.JUDGED] = judged
    for at in (sc.DISPERSION, sc.SPREAD):
        both = a[at] > 0.0 and b[at] > 0.0
        a[at] = a[at] ** (na / total) * b[at] ** (nb / total) if both else max(a[at], b[at])
    a[sc.LARGEST] = max(a[sc.LARGEST], b[sc.LARGEST])
    a[[sc.COUNT, sc.SINCE, sc.ROWS]] += b[[sc.COUNT, sc.SINCE, sc.ROWS]]
