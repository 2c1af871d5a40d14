"""What people use on streams, each tuned per table over its grid in hindsight: predict, then learn, one pass.

SGD, Adam, Adagrad, NG and NAG are written here; Vowpal Wabbit and river are the packages themselves.
`RIVALS` maps a name to a function `stream -> (mean loss, the setting that had it)`. The loss is the squared
error (regression) or the log loss (classification), averaged over all rows, the first included.
"""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from online_data import Stream
from scipy.sparse import csr_array, issparse

FLOOR = 1e-6  # no probability below this counts, for nobody: one surprise is at most 14 nats
Best = tuple[float, str]


def log_loss(p: np.ndarray, y: np.ndarray) -> float:
    """Mean of −ln p[y], p [N, K] clipped to [FLOOR, 1]."""
    return float(-np.log(np.clip(p[np.arange(len(y)), y], FLOOR, 1.0)).mean())


def loss_of(stream: Stream, predictions: np.ndarray) -> float:
    """Mean progressive loss of predictions [N] or probabilities [N, K]; infinite where not finite."""
    if not np.isfinite(predictions).all():
        return math.inf
    if stream.task == "classification":
        return log_loss(predictions, stream.y)
    return float(np.square(predictions - stream.y).mean())


# Rules on raw features, all rates of the grid at once -------------------------------------------------


def _softmax(u: np.ndarray) -> np.ndarray:
    e = np.exp(u - u.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def by_hand(rule: str, stream: Stream) -> Best:
    """SGD, Adam, Adagrad, and normalised updates (NG, NAG: Ross, Mineiro, Langford 2013), on raw rows."""
    rates = np.array([10.0 ** (k / 2) for k in range(-28 if rule == "SGD" else -10, 5)])
    K = max(stream.classes, 1)
    X = np.hstack([stream.X, np.ones((len(stream.X), 1))])
    N, D = X.shape
    W = np.zeros((len(rates), K, D))
    m, v, s, total = np.zeros_like(W), np.zeros_like(W), np.zeros(D), 0.0
    eta = rates[:, None, None]
    losses = np.zeros(len(rates))
    with np.errstate(all="ignore"):
        for t in range(N):
            x, y = X[t], stream.y[t]
            if rule in ("NG", "NAG"):
                grown = np.abs(x) > s
                power = 1 if rule == "NAG" else 2
                W[:, :, grown] *= (s[grown] / np.abs(x[grown])) ** power
                s[grown] = np.abs(x[grown])
                z = np.divide(x, s, out=np.zeros(D), where=s > 0)
                total += float(z @ z)
            u = W @ x
            if stream.classes:
                p = _softmax(u)
                losses += -np.log(np.clip(p[:, y], FLOOR, 1.0))
                g = p
                g[:, y] -= 1
            else:
                g = u - y
                losses += g[:, 0] ** 2
            G = g[:, :, None] * x
            if rule == "SGD":
                W -= eta * G
            elif rule == "Adagrad":
                v += G**2
                W -= eta * G / (np.sqrt(v) + 1e-10)
            elif rule == "Adam":
                m += 0.1 * (G - m)
                v += 0.001 * (G**2 - v)
                W -= eta * (m / (1 - 0.9 ** (t + 1))) / (np.sqrt(v / (1 - 0.999 ** (t + 1))) + 1e-8)
            elif rule == "NG":
                W -= eta * ((t + 1) / total) * G / np.where(s > 0, s, np.inf) ** 2
            elif rule == "NAG":
                v += G**2
                step = G / np.where(v > 0, np.sqrt(v), np.inf) / np.where(s > 0, s, np.inf)
                W -= eta * math.sqrt((t + 1) / total) * step
    losses = np.where(np.isfinite(losses), losses, np.inf) / N
    best = int(np.argmin(losses))
    return float(losses[best]), f"rate {rates[best]:.1e}"


# Vowpal Wabbit ----------------------------------------------------------------------------------------

VW_RATES = (1e-5, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 0.5, 1.0, 3.0, 10.0, 30.0)
_VW_MODES = {
    "vw": "",
    "vw --normalized": "--normalized",
    "vw --adaptive --invariant": "--adaptive --invariant",
}


def vw_texts(X: Any) -> list[str]:
    """Rows in Vowpal Wabbit's own format, features that are 0 left out."""
    rows = csr_array(X)
    parts = zip(rows.indptr[:-1], rows.indptr[1:], strict=True)
    pairs = [f"{j}:{v:.10g}" for j, v in zip(rows.indices, rows.data, strict=True)]
    return ["| " + " ".join(pairs[start:end]) for start, end in parts]


def vowpal_wabbit(mode: str, stream: Stream) -> Best:
    """The package itself, over rates and `--power_t`; one-against-all with probabilities for classes."""
    import vowpalwabbit as vw

    texts = vw_texts(stream.X)
    K = stream.classes
    if K > 2:
        labels = [f"{y + 1} " for y in stream.y]
        task = f"--oaa {K} --loss_function logistic --probabilities"
    elif K == 2:
        labels = [f"{2 * y - 1} " for y in stream.y]
        task = "--loss_function logistic --link logistic"
    else:
        labels = [f"{y:.10g} " for y in stream.y]
        task = ""
    best: Best = (math.inf, "")
    for rate, power in product(VW_RATES, (0.0, 0.5)):
        with contextlib.redirect_stderr(io.StringIO()):
            model = vw.Workspace(f"--quiet {task} {_VW_MODES[mode]} -l {rate} --power_t {power}")
            out = []
            for text, label in zip(texts, labels, strict=True):
                example = model.parse(label + text)
                out.append(model.predict(example))
                model.learn(example)
                model.finish_example(example)
            model.finish()
        P = np.array(out)
        if K == 2:
            P = np.stack([1 - P, P], 1)
        best = min(best, (loss_of(stream, P), f"-l {rate} --power_t {power}"))
    return best


# river ------------------------------------------------------------------------------------------------


def dictionaries(X: Any) -> list[dict[int, float]]:
    """Rows as river has them; of sparse rows what is there."""
    if not issparse(X):
        return [dict(enumerate(map(float, row))) for row in X]
    parts = zip(X.indptr[:-1], X.indptr[1:], strict=True)
    columns, values = X.indices.tolist(), X.data.tolist()
    return [dict(zip(columns[a:b], values[a:b], strict=True)) for a, b in parts]


def _river_models(task: int, optimizer: str, rate: float, scaled: bool) -> Any:
    from river import linear_model, optim, preprocessing

    make = partial(getattr(optim, optimizer), rate)
    if task == 0:
        model = linear_model.LinearRegression(make(), intercept_lr=rate)
    elif task == 2:
        model = linear_model.LogisticRegression(make(), intercept_lr=rate)
    else:
        model = linear_model.SoftmaxRegression(make())
    return preprocessing.StandardScaler() | model if scaled else model


def river_pipeline(optimizer: str, stream: Stream) -> Best:
    """`StandardScaler | LinearRegression` and its like for classes; sparse rows unscaled."""
    best: Best = (math.inf, "")
    rows = dictionaries(stream.X)
    y = stream.y.tolist()
    K = stream.classes
    for rate in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0):
        model = _river_models(K, optimizer, rate, not issparse(stream.X))
        out = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                for x, target in zip(rows, y, strict=True):
                    if K:
                        p = model.predict_proba_one(x)
                        out.append([p.get(k, 0.0) for k in range(K)] if p else [1 / K] * K)
                        model.learn_one(x, bool(target) if K == 2 else target)
                    else:
                        out.append(model.predict_one(x))
                        model.learn_one(x, target)
            except (OverflowError, ValueError, ZeroDivisionError):
                continue
        best = min(best, (loss_of(stream, np.array(out, float)), f"rate {rate}"))
    return best


RIVALS: dict[str, Callable[[Stream], Best]] = {
    **{rule: partial(by_hand, rule) for rule in ("SGD", "Adam", "Adagrad", "NG", "NAG")},
    **{mode: partial(vowpal_wabbit, mode) for mode in _VW_MODES},
    **{
        f"river {optimizer}": partial(river_pipeline, optimizer)
        for optimizer in ("SGD", "Adam", "AdaGrad", "RMSProp")
    },
}
SPARSE_RIVALS = {name: rival for name, rival in RIVALS.items() if name.startswith(("vw", "river"))}
