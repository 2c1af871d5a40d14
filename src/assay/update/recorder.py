"""What an optimizer really does while a model trains: update size and direction, layer by layer."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from assay.errors import UsageError, verbatim
from assay.update.moves import Move, Snapshot
from assay.update.tap import Tap

By = Literal["layer", "parameter"]
Log = Callable[[int, Mapping[str, float]], None]


class Recorder:
    """Records, every so many steps of a real training, what the optimizer did to each layer.

    For every layer (the module that holds the parameters), and for all of them together, two numbers:

    - `update/LAYER/relative`: `‖ΔW‖ / ‖W‖`, the effective update, as the difference of the weights before and
      after the step: rate, momentum, weight decay, clipping and rounding to the weights' precision are in it.
      Left out where all weights were zero.
    - `update/LAYER/angle`: degrees between ΔW and −g, the plain gradient that the step was given (Theory
      U1): 0 for plain SGD. Left out where either is zero.

    Between two records the optimizer runs as it always does. A record copies weights and gradients once,
    and is put off while recording has taken more than `budget` of the time since the recorder was made.
    Nothing is computed that training uses: the run is the same with and without a recorder, bit by bit.

    Args:
        model: The model that is trained; also as wrapped by DDP or `torch.compile`. Parameters that are
            sharded (FSDP, DTensor) are read as this rank's shards.
        optimizer: Any optimizer of some of its parameters; one for closures gets the gradient of the first
            call that finds the weights where they were.
        every: Steps from one record to the next; the first step is recorded.
        log: `log(step, numbers)`, called after every record. Steps count from 1.
        by: "layer", or "parameter" for two numbers of every parameter.
        budget: Largest share of the training's time that records may take, above 0 and up to 1; None for a
            record every `every` steps whatever it takes.
        prefix: What the names of the numbers begin with.

    Raises:
        UsageError: If an argument is not as described, or the optimizer holds no parameter of the model.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Linear(3, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with Recorder(model, optimizer, every=10, prefix="u") as recorder:
        ...     for _ in range(3):
        ...         optimizer.zero_grad()
        ...         model(torch.ones(4, 3)).square().mean().backward()
        ...         optimizer.step()
        >>> recorder.recorded, sorted(recorder.numbers), round(recorder.numbers["u/all/angle"])
        (1, ['u/Linear/angle', 'u/Linear/relative', 'u/all/angle', 'u/all/relative'], 0)
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        *,
        every: int = 100,
        log: Log | None = None,
        by: By = "layer",
        budget: float | None = 0.03,
        prefix: str = "update",
    ) -> None:
        _check(model, optimizer, every, log, by, budget)
        self.model, self.optimizer = model, optimizer
        self.every, self.log, self.by, self.prefix = every, log, by, prefix
        self.budget = budget
        self.steps = 0
        """Steps seen so far."""
        self.recorded = 0
        """How many of them were recorded."""
        self.numbers: dict[str, float] = {}
        """The numbers of the latest record; empty before the first one."""
        self._due, self._cost, self._spent = 1, 0.0, 0.0
        self._born = time.perf_counter()
        if not self._watched():
            raise UsageError(
                "optimizer",
                verbatim(type(optimizer).__name__),
                "an optimizer of this model's parameters, but it holds none of them",
                "Make it from model.parameters(), after the model was moved or converted.",
            )
        self._tap = Tap(optimizer, self._before, self._after)

    @property
    def ignored(self) -> tuple[str, ...]:
        """Trainable parameters that the optimizer does not hold: they never move."""
        watched = {id(p) for p in self._watched().values()}
        named = self.model.named_parameters()
        return tuple(name for name, p in named if p.requires_grad and id(p) not in watched)

    def close(self) -> None:
        """Let go of the optimizer: it is again as it was. The numbers stay."""
        self._tap.close()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _before(self) -> Snapshot | None:
        """What a step that is to be recorded starts from."""
        self.steps += 1
        if self.steps < self._due:
            return None
        if self.recorded and self.budget is not None:
            elapsed = time.perf_counter() - self._born
            if self._spent + self._cost > self.budget * elapsed:
                return None
        watched = self._watched()
        start = _settled(watched)
        snapshot = Snapshot.of(watched)
        self._cost = time.perf_counter() - start
        return snapshot

    def _after(self, snapshot: Snapshot) -> None:
        start = _settled(snapshot.parameters)
        moves = snapshot.moves()
        groups: dict[str, list[Move]] = {}
        for move in moves:
            groups.setdefault(self._group_of(move.name), []).append(move)
        groups["all"] = moves
        found = {}
        for group, members in groups.items():
            for what, value in _numbers(members).items():
                found[f"{self.prefix}/{group}/{what}"] = value
        self.numbers = found
        self.recorded += 1
        self._due = self.steps + self.every
        self._cost += snapshot.seconds + time.perf_counter() - start
        self._spent += self._cost
        if self.log is not None:
            self.log(self.steps, dict(found))

    def _watched(self) -> dict[str, Tensor]:
        """The model's parameters that the optimizer holds now, by name; groups may be added later."""
        groups = getattr(self.optimizer, "param_groups", None)
        named: dict[str, Tensor] = {
            name: p for name, p in self.model.named_parameters() if p.requires_grad
        }
        if groups is None:
            return named
        held = {id(p) for group in groups for p in group["params"]}
        return {name: p for name, p in named.items() if id(p) in held}

    def _group_of(self, name: str) -> str:
        if self.by == "parameter":
            return name
        return name.rpartition(".")[0] or type(self.model).__name__


def _settled(parameters: Mapping[str, Tensor]) -> float:
    """Now, when the GPU has done what training asked of it: waiting for that is no cost of recording."""
    if any(p.is_cuda for p in parameters.values()):
        torch.cuda.synchronize()
    return time.perf_counter()


def _numbers(moves: list[Move]) -> dict[str, float]:
    """The two numbers of some parameters together."""

    def total(values: list[float]) -> float:
        return math.fsum(values) if all(map(math.isfinite, values)) else float("nan")

    weights, step = total([m.weights for m in moves]), total([m.step for m in moves])
    slope, along = total([m.gradient for m in moves]), total([m.along for m in moves])
    found = {}
    if weights != 0:
        found["relative"] = math.sqrt(step / weights)
    if step != 0 and slope != 0:
        cosine = -along / math.sqrt(step * slope)
        found["angle"] = math.degrees(math.acos(min(1.0, max(-1.0, cosine))))
    return found


def _check(
    model: nn.Module,
    optimizer: Any,
    every: int,
    log: Log | None,
    by: str,
    budget: float | None,
) -> None:
    if not isinstance(model, nn.Module):
        raise UsageError("model", model, "a torch.nn.Module", "Give the model that is trained.")
    if not callable(getattr(optimizer, "step", None)):
        raise UsageError(
            "optimizer", optimizer, "an optimizer with a `step` method", "Give the one in use."
        )
    if not isinstance(every, int) or isinstance(every, bool) or every < 1:
        raise UsageError("every", every, "an integer of at least 1", "Give every=100.")
    if log is not None and not callable(log):
        raise UsageError(
            "log", log, "a function of step and numbers", "Give log=lambda step, numbers: …"
        )
    if by not in ("layer", "parameter"):
        raise UsageError("by", by, "'layer' or 'parameter'", 'Give by="layer".')
    if budget is not None and not (isinstance(budget, int | float) and 0 < budget <= 1):
        raise UsageError(
            "budget", budget, "a share above 0 and up to 1, or None", "Give budget=0.03."
        )
