"""One model of the zoo: build it small, derive its cost, hold the formulas against torch's counter."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from random import Random
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode
from zoo_handwritten import HANDWRITTEN
from zoo_small import LEVELS, arguments, attempts

import assay
from assay.builder import Builder
from assay.cost.caches import fresh_caches
from assay.cost.cost import Cost, cost_of
from assay.cost.probe import _tracing
from assay.errors import AssayError, UsageError, UserCodeError, said
from assay.state import unfused
from assay.subject import Subject

WANTED = 3  # sizes that a formula is held against, beyond those it was derived from
_PATIENCE = 40.0  # seconds after which no further size is counted
_QUICK, _SLOW = ["meta", "traced", "fake"], ["moved", "real"]
_AFFORDED = 600  # the largest size at which tensors have data
_REAL = {"b": 3, "n": 21, "m": 9}  # sizes at which tensors have data
Sizes = dict[str, int]
Counts = tuple[tuple[int, ...], tuple[int, ...]]
Tell = Callable[[Mapping[str, Any]], None]


def check(name: str, tell: Tell) -> None:
    """Derive and verify one model, and tell what is found as soon as it is.

    Args:
        name: A model type of transformers, or the name of a hand-written architecture.
        tell: Takes parts of the record; later ones add to earlier ones.
    """
    try:
        build, how = HANDWRITTEN.get(name), {}
        if build is None:
            build, how = _built_small(name)
        else:
            build = Builder(build, name=name)
        tell({"verdict": "slow", "reason": "deriving", **how, "base": build.sizes})
    except AssayError as error:
        tell({"verdict": "not built", "reason": _reason(error)})
        return
    except Exception as error:  # of the library's, while it makes or checks a configuration
        tell({"verdict": "not built", "reason": said(error)})
        return
    start = time.process_time()
    try:
        cost = cost_of(build)
    except AssayError as error:
        tell({"verdict": "refused", "reason": _reason(error)})
        return
    except Exception as error:
        tell({"verdict": "error", "reason": said(error), "at": _last_line(error)})
        return
    tell({"seconds": round(time.process_time() - start, 2), **_said_of(cost)})
    if cost.status == "refused" or cost.flops.backward.status == "refused":
        reason = cost.flops.forward.reason or cost.flops.backward.reason
        tell({"verdict": "refused", "reason": reason})
        return
    build = build.with_(
        arguments={name: x for name, x in build.sizes.items() if name not in cost.base}
    )
    narrowed = [text.split(" (")[0] for text in cost.narrowed.values()]
    tell({"reason": "verifying", "narrowed": narrowed})
    tell(_verified(build, cost))


def _built_small(name: str) -> tuple[Builder, dict[str, Any]]:
    """The builder of a type at the smallest level at which its model runs.

    Raises:
        AssayError: Where it runs at none.
    """
    first: Exception | None = None
    for level, side in attempts(name):
        try:
            build = assay.load(f"hf:{name}", arguments=arguments(name, level), sizes=side)
            _counted(build, build.sizes, _QUICK + (_SLOW if level < 2 else []))
            return build, {"level": LEVELS[level], "arguments": build.arguments}
        except (UsageError, ImportError):
            raise
        except Exception as error:
            if isinstance(error.__cause__, ImportError):
                raise
            first = first or error
    assert first is not None
    if isinstance(first, AssayError):
        raise first
    raise UserCodeError("forward", name, first) from first


def _said_of(cost: Cost) -> dict[str, Any]:
    formulas = cost.formulas()
    return {
        "way": cost.way,
        "status": cost.status,
        "order": cost.flops.total.order,
        "forward": str(cost.flops.forward),
        "backward": str(cost.flops.backward),
        "refused": [k for k, f in formulas.items() if f.status == "refused"],
        "uncounted": list(cost.uncounted),
    }


def _verified(build: Builder, cost: Cost) -> dict[str, Any]:
    """Hold both formulas against FlopCounterMode where they were not derived."""
    start, known = time.process_time(), [dict(at) for at in cost.checked]
    checked: list[dict[str, Any]] = []
    silent: list[Sizes] = []
    ways = [*_QUICK, *_SLOW]
    pace = 0.0  # seconds that a count takes for each unit of a size: loops take more steps
    for at in _candidates(build, cost):
        spent = time.process_time() - start
        if len(checked) >= WANTED or (spent > _PATIENCE and len(checked) >= 3):
            break
        if at in known or not (cost.flops.forward.holds(**at) and cost.flops.backward.holds(**at)):
            continue
        if pace * sum(at.values()) > _PATIENCE / 4:
            continue
        began = time.process_time()
        true = counted(build, at, ways)
        pace = pace or (time.process_time() - began) / sum(at.values())
        if true is None:
            silent.append(at)
            continue
        claimed = (cost.flops.forward(**at), cost.flops.backward(**at))
        checked.append({"at": at, "claimed": claimed, "true": true[0], "torch": true[1]})
        known.append(at)
    wrong = [c for c in checked if c["claimed"] != c["true"]]
    found: dict[str, Any] = {"checked": checked, "does not run": silent}
    if not wrong:
        found |= _with_data(build, cost)
    if wrong:
        first = wrong[0]
        left_out = "leaves out experts' products: " if first["claimed"] == first["torch"] else ""
        reason = f"{left_out}at {first['at']}: says {first['claimed']}, counted {first['true']}"
        return {**found, "verdict": "wrong", "reason": reason}
    if len(checked) < 3:
        return {
            **found,
            "verdict": "error",
            "reason": f"could be counted at {len(checked)} sizes only",
        }
    return {**found, "verdict": "right", "reason": ""}


def _candidates(build: Builder, cost: Cost) -> Iterator[Sizes]:
    """Sizes to verify at: an odd one, the ends of pieces, a large one, ones, and random ones."""
    names, random = list(build.sizes), Random(1)
    base = dict(build.sizes)
    steps = {name: _step(cost, name) for name in names}

    def near(name: str, value: int) -> int:
        span, step = steps[name]
        return span + max(0, value - span) // step * step

    odd = {"b": 3, "n": 45, "m": 29}
    large, longer = {"b": 5, "n": 1531, "m": 737}, {"b": 5, "n": 211, "m": 131}
    for wanted in (odd, large, longer):
        yield {k: near(k, wanted.get(k, base[k] * (1 if wanted is odd else 3) + 13)) for k in names}
    for piece in cost.flops.forward.pieces:
        for name, span in piece.where:
            for edge in (span.low, span.high):
                if edge is not None and (span.low > 2 or edge == span.high):
                    yield {k: near(k, odd.get(k, base[k])) for k in names} | {name: edge}
    for name in names:
        yield {k: near(k, odd.get(k, base[k]) + 2) for k in names} | {name: 1}
    for reach in (400, 100, 60, 30, 12) * 2:
        yield {
            k: near(k, random.randint(2, reach) + (base[k] if reach > 30 and k == "h" else 0))
            for k in names
        }
    for factor in range(2, 8):
        yield {k: v * factor + (factor if k == "b" else 0) for k, v in base.items()}
        yield {k: v + (factor if k == "b" else 0) for k, v in base.items()}


def _step(cost: Cost, name: str) -> tuple[int, int]:
    spans = [dict(piece.where).get(name) for piece in cost.flops.forward.pieces]
    for span in reversed(spans):
        if span is not None:
            return span.low, span.step
    return 1, 1


def counted(build: Builder, sizes: Mapping[str, int], ways: list[str]) -> Counts | None:
    """Flops of forward and backward by FlopCounterMode, without data where that can be.

    Args:
        build: The builder.
        sizes: Where to count.
        ways: The ways to try; the one that works is put first.

    Returns:
        With the products that it leaves out, and without; None where the model does not run.
    """
    try:
        return _counted(build, sizes, ways)
    except Exception:
        return None


def _counted(build: Builder, sizes: Mapping[str, int], ways: list[str]) -> Counts:
    """As `counted`; raises what was raised in the first way."""
    first: Exception | None = None
    for way in tuple(ways):
        if way == "real" and max(sizes.values()) > _AFFORDED:
            continue
        try:
            with unfused(), _without_data(way):
                subject = _moved(build(**sizes)) if way == "moved" else build(**sizes)
                with fresh_caches(subject.model):  # a tensor without data would come back
                    found = _flops(subject)
        except Exception as error:
            first = first or error
        else:
            ways.sort(key=lambda other: other != way)
            return found
    assert first is not None
    raise first


@contextmanager
def _without_data(way: str) -> Iterator[None]:
    if way == "fake":
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield
    elif way in ("moved", "real"):
        yield
    else:
        with torch.device("meta"), _tracing(way == "traced"):
            yield


def _moved(subject: Subject) -> Subject:
    """A model that was built with data, on the meta device: its code looked at values as it was built."""

    def away(value: Any) -> Any:
        return value.to("meta") if isinstance(value, torch.Tensor) else value

    inputs, kwargs = tree_map(away, (subject.inputs, dict(subject.kwargs or {})))
    return Subject(subject.model.to("meta"), inputs, kwargs, loss=subject.loss)


def _grouped(a: Any, b: Any, *others: Any, out_shape: Any = None, **named: Any) -> int:
    """Every row times the matrix of its expert."""
    groups = a[0] if len(a) == len(b) == 3 else 1
    return int(2 * groups * a[-2] * a[-1] * b[-1])


def _grouped_backward(a: Any, b: Any, *others: Any, **named: Any) -> int:
    return 2 * _grouped(a, b)


def _products() -> dict[Any, Any]:
    """Products that FlopCounterMode leaves out: those of mixtures of experts."""
    import transformers.integrations.moe  # registers its operators  # noqa: F401

    ours = torch.ops.transformers
    return {
        torch.ops.aten._grouped_mm: _grouped,
        ours.grouped_mm_fallback: _grouped,
        ours.grouped_mm_fallback_backward: _grouped_backward,
    }


def _flops(subject: Subject) -> Counts:
    with FlopCounterMode(display=False, custom_mapping=_products()) as forward:
        objective = subject.objective(subject.forward())
    with FlopCounterMode(display=False, custom_mapping=_products()) as backward:
        if objective.requires_grad:
            objective.backward()
    both = (forward, backward)
    full = tuple(counter.get_total_flops() for counter in both)
    known = tuple(
        sum(
            flops
            for op, flops in counter.get_flop_counts()["Global"].items()
            if op not in _products()
        )
        for counter in both
    )
    return full, known


def _with_data(build: Builder, cost: Cost) -> dict[str, Any]:
    """The same once more with tensors that have data: code may take another path there."""
    at = {name: _REAL.get(name, value) for name, value in build.sizes.items()}
    at = {name: value if cost.flops.forward.holds(**{**build.sizes, name: value}) else build.sizes[name]
          for name, value in at.items()}  # fmt: skip
    if not cost.flops.forward.holds(**at):
        return {"real": "not held"}
    try:
        torch.manual_seed(0)
        with unfused():
            true = _flops(build(**at))
    except Exception as error:
        return {"real": f"does not run: {said(error)[:200]}"}
    claimed = (cost.flops.forward(**at), cost.flops.backward(**at))
    equal = claimed in true  # experts' products are a matter of their own
    return {"real": "equal" if equal else f"at {at}: says {claimed}, counted {true}"}


def _reason(error: AssayError) -> str:
    place = _last_line(error.__cause__) if error.__cause__ else ""
    return f"{error}" + (f" [{place}]" if place else "")


def _last_line(error: BaseException | None) -> str:
    """The last line of the model's code in a traceback, else the very last."""
    places, trace = [], error.__traceback__ if error else None
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append((code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    models = [p for p in places if "/transformers/models/" in p[0]] or places
    return f"{models[-1][0].rsplit('/', 1)[-1]}:{models[-1][1]}" if models else ""
