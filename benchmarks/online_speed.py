"""Streams by the clock: assay beside Vowpal Wabbit (batches) and river (one row at a time), in the same run.

CPU seconds on one core, the best of three turns taken in alternation; only ratios are worth quoting. In
batches, assay learns arrays or compressed rows, 1000 at a time. Vowpal Wabbit learns the same rows from
Python, once from texts in its own format that are ready, and once with the making of these texts from
arrays counted, too. One row at a time, both sides predict and then learn dictionaries; river's pipeline is
`StandardScaler() | LinearRegression()` or its like for classes (for sparse rows without the scaler). The
compiling of assay's loops, once per machine, is not counted, but printed.

Run: python benchmarks/online_speed.py   (about two minutes on one core; needs the extra `bench`)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import vowpalwabbit
from online_data import DEVELOPMENT, HELD_OUT, SPARSE, Stream
from online_rivals import dictionaries, vw_texts
from river import linear_model, preprocessing
from scipy.sparse import issparse

from assay.online import UnitClassifier, UnitRegressor

NAMES = (
    *("flights-delay", "nyc-weather", "sf-temps", "flights-late", "shuttle", "digits"),
    *SPARSE,
)
BATCH, SINGLE, TURNS = 1000, 2000, 3


def model_for(stream: Stream, **options: Any) -> Any:
    """An unfitted model of assay's."""
    return UnitClassifier(**options) if stream.classes else UnitRegressor(**options)


def learn_batches(stream: Stream, **options: Any) -> None:
    """All rows, `BATCH` at a time."""
    model = model_for(stream, **options)
    known = {"classes": np.arange(stream.classes)} if stream.classes else {}
    for start in range(0, stream.X.shape[0], BATCH):
        rows = slice(start, start + BATCH)
        model.partial_fit(stream.X[rows], stream.y[rows], **known)


def labels(stream: Stream) -> list[str]:
    """Targets in Vowpal Wabbit's format."""
    if not stream.classes:
        return [f"{y:.10g} " for y in stream.y]
    return [f"{y + 1} " if stream.classes > 2 else f"{2 * y - 1} " for y in stream.y]


def learn_texts(stream: Stream, texts: list[str]) -> None:
    """All rows, by Vowpal Wabbit with default options."""
    options = {0: "", 2: "--loss_function logistic"}
    task = options.get(stream.classes, f"--oaa {stream.classes} --loss_function logistic")
    workspace = vowpalwabbit.Workspace(f"--quiet {task}")
    for text in texts:
        workspace.learn(text)
    workspace.finish()


def with_labels(stream: Stream) -> list[str]:
    """Rows in Vowpal Wabbit's format."""
    return [a + b for a, b in zip(labels(stream), vw_texts(stream.X), strict=True)]


def by_river(stream: Stream, rows: list[dict[Any, float]], y: list[Any]) -> None:
    """One row after another: predict, learn."""
    kinds = {0: linear_model.LinearRegression, 2: linear_model.LogisticRegression}
    model = kinds.get(stream.classes, linear_model.SoftmaxRegression)()
    if not issparse(stream.X):
        model = preprocessing.StandardScaler() | model
    predict = model.predict_proba_one if stream.classes else model.predict_one
    for x, target in zip(rows, y, strict=True):
        predict(x)
        model.learn_one(x, target)


def one_by_one(stream: Stream, rows: list[dict[Any, float]], y: list[Any]) -> None:
    """The same by assay, in two calls."""
    model = model_for(stream)
    model.partial_fit(rows[0], y[0])
    predict = model.predict_proba if stream.classes else model.predict
    for x, target in zip(rows[1:], y[1:], strict=True):
        predict(x)
        model.partial_fit(x, target)


def seconds(*works: Callable[[], Any]) -> list[float]:
    """The least CPU time of each, over turns in alternation."""
    best = [float("inf")] * len(works)
    for _ in range(TURNS):
        for i, work in enumerate(works):
            start = time.process_time()
            work()
            best[i] = min(best[i], time.process_time() - start)
    return best


def main() -> None:
    """Both tables."""
    tables = {**DEVELOPMENT, **HELD_OUT, **SPARSE}
    start = time.process_time()
    for name in ("diabetes", "iris", *SPARSE):
        learn_batches(tables[name]())
    print(f"compiling, or reading what was compiled: {time.process_time() - start:.1f} s\n")
    heads = ("texts ready", "texts made, too", "first order only, texts ready", "river, one row")
    print("| rows a second, assay ÷ | " + " | ".join(heads) + " |")
    print("|---|---|---|---|---|")
    for name in NAMES:
        stream = tables[name]()
        texts = with_labels(stream)
        rows = [{str(k): v for k, v in row.items()} for row in dictionaries(stream.X[:SINGLE])]
        y = stream.y[:SINGLE].tolist()
        ours, first, theirs, made, single, river = seconds(
            lambda s=stream: learn_batches(s),
            lambda s=stream: learn_batches(s, curvature="diagonal"),
            lambda s=stream, t=texts: learn_texts(s, t),
            lambda s=stream: with_labels(s),
            lambda s=stream, r=rows, y=y: one_by_one(s, r, y),
            lambda s=stream, r=rows, y=y: by_river(s, r, y),
        )
        size = f"{stream.X.shape[0]} × {stream.X.shape[1]}"
        task = f", {stream.classes} classes" if stream.classes else ""
        cells = [theirs / ours, (theirs + made) / ours, theirs / first, river / single]
        print(
            f"| {name}{task} ({size}) | " + " | ".join(f"{c:.2f}" for c in cells) + " |", flush=True
        )


if __name__ == "__main__":
    main()
