"""One training run of the card, read in function space."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from assay.errors import UsageError
from assay.state import preserved_random_state
from assay.update.optimizer import Make, build_optimizer, needs_closure, scale_options
from assay.update.precision import WideArithmetic
from assay.update.world import Network, Problem, World


@dataclass(frozen=True)
class Feeding:
    """How an optimizer wants its gradients.

    Args:
        closure: `step` is given a function that computes loss and gradients.
        sparse: Gradients are converted to sparse tensors.
        folded: The model has only 2-D parameters.
    """

    closure: bool = False
    sparse: bool = False
    folded: bool = False


@dataclass(frozen=True)
class Trajectory:
    """What the model computed along the way, in the reference's units.

    Args:
        outputs: `[steps + 1, N, k]`, or fewer steps where something stopped being finite.
        losses: Mean loss over all examples after each step, in the reference's unit.
        finite: Whether every output was finite.
        unmoved: Parameters that had gradients and never moved.
        narrow: A lower precision than the weights' that the step worked in, if any.
    """

    outputs: Tensor
    losses: tuple[float, ...]
    finite: bool
    unmoved: tuple[str, ...] = ()
    narrow: torch.dtype | None = None


@dataclass(frozen=True)
class Setting:
    """Everything about a run except the world.

    Args:
        make: Makes the optimizer.
        name: Its name, for messages.
        problem: Sizes and batches.
        feeding: How it wants gradients.
        seed: Of the random numbers that the optimizer draws, if it does.
        wide: Refuse casts to lower precision inside the step.
        watch: Notice such casts (slow).
        options: Factors for options of the optimizer, as in `{"lr": 0.5}`.
        rates: One factor a weight for every step taken, in the order of parameters.
    """

    make: Make
    name: str
    problem: Problem
    feeding: Feeding = Feeding()
    seed: int = 0
    wide: bool = False
    watch: bool = False
    options: Mapping[str, float] = field(default_factory=dict)
    rates: Sequence[Tensor] | None = None


def train(setting: Setting, world: World) -> Trajectory:
    """Train in `world` and read the outputs after every step.

    Args:
        setting: Optimizer and problem.
        world: The units.

    Returns:
        The trajectory; it ends early where an output is not finite.

    Raises:
        Exception: Whatever the optimizer raises.
        UsageError: If there is no optimizer.
    """
    problem = setting.problem
    with preserved_random_state(setting.seed), _default_dtype(problem.dtype):
        model = Network(world.weights, setting.feeding.folded)
        optimizer = build_optimizer(setting.make, model, setting.name)
        scale_options(optimizer, setting.options)
        first = [p.detach().clone() for p in model.parameters()]
        touched = [False] * len(first)
        outputs, losses = [], []
        watch = WideArithmetic(problem.dtype, enforce=setting.wide)
        watching: AbstractContextManager[Any] = (
            watch if setting.wide or setting.watch else nullcontext()
        )

        def read() -> bool:
            _switch(optimizer, "eval")
            with torch.no_grad():
                u = world.read(model(world.inputs))
                outputs.append(u.clone())
                rows = torch.arange(len(u))
                losses.append(float(world.loss(model, rows)) / world.loss_unit / _squared(world))
            _switch(optimizer, "train")
            return bool(torch.isfinite(outputs[-1]).all())

        finite = read()
        for rows in problem.batches():
            before = [p.detach().clone() for p in model.parameters()]

            def closure(rows: Tensor = rows) -> Tensor:
                return _gradients(world, model, rows, setting.feeding.sparse)

            if setting.feeding.closure:
                with watching:
                    optimizer.step(closure)
            else:
                closure()
                with watching:
                    optimizer.step()
            for i, p in enumerate(model.parameters()):
                touched[i] |= p.grad is not None and bool(_values(p.grad).count_nonzero())
            if setting.rates is not None:
                with torch.no_grad():
                    for p, old, rate in zip(model.parameters(), before, setting.rates, strict=True):
                        p.copy_(old + rate.to(p.dtype) * (p - old))
            finite = read()
            if not finite:
                break
        unmoved = tuple(
            name
            for (name, p), old, had in zip(model.named_parameters(), first, touched, strict=True)
            if had and torch.equal(p, old)
        )
    return Trajectory(torch.stack(outputs), tuple(losses), finite, unmoved, watch.narrow)


def find_feeding(setting: Setting, world: World) -> tuple[Feeding, torch.dtype | None]:
    """The first way of feeding gradients that the optimizer accepts.

    Args:
        setting: Optimizer and problem; its feeding is not used.
        world: The reference.

    Returns:
        Dense gradients and a model with biases where that works; and the lower precision that the step
        works in, if any.

    Raises:
        Exception: What the optimizer raised at the plainest way, where no way works.
        UsageError: If `make` returns something that is no optimizer.
    """
    short = replace(setting.problem, steps=2)
    raised: Exception | None = None
    for folded in (False, True):
        for closure, sparse in ((False, False), (True, False), (False, True)):
            feeding = Feeding(closure, sparse, folded)
            try:
                if not closure and not sparse and _must_close(setting, world, folded):
                    continue
                run = train(replace(setting, feeding=feeding, problem=short, watch=True), world)
            except UsageError:
                raise
            except Exception as error:
                raised = raised or error
            else:
                return feeding, run.narrow
    assert raised is not None  # the closure way was tried
    raise raised


def _must_close(setting: Setting, world: World, folded: bool) -> bool:
    with preserved_random_state(setting.seed):
        optimizer = build_optimizer(setting.make, Network(world.weights, folded), setting.name)
    return needs_closure(optimizer)


def _gradients(world: World, model: nn.Module, rows: Tensor, sparse: bool) -> Tensor:
    """Loss of the batch, its gradients accumulated over the world's parts."""
    total = torch.zeros((), dtype=world.inputs.dtype)
    with torch.enable_grad():
        for p in model.parameters():
            p.grad = None
        for part in rows.chunk(world.parts):
            loss = world.loss(model, part) / world.parts
            loss.backward()
            total += loss.detach()
        if sparse:
            for p in model.parameters():
                p.grad = None if p.grad is None else p.grad.to_sparse()
    return total


def _squared(world: World) -> float:
    """How many units of squared error of this world one of the reference's is."""
    one = torch.ones(1, world.targets.shape[1], dtype=torch.float64)
    back = world.read(one.to(world.targets.dtype))
    return float(one.square().sum() / back.square().sum())


def _values(grad: Tensor) -> Tensor:
    return grad.coalesce().values() if grad.is_sparse else grad


def _switch(optimizer: Any, mode: str) -> None:
    """Schedule-free optimizers keep two sets of weights and show one of them on `train()`, `eval()`."""
    switch: Callable[[], Any] | None = getattr(optimizer, mode, None)
    if callable(switch):
        switch()


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Optimizers keep scalar state (a decayed rate) in the default dtype; give them the training's."""
    old = torch.get_default_dtype()
    try:
        if dtype in (torch.float64, torch.float32):
            torch.set_default_dtype(dtype)
        yield
    finally:
        torch.set_default_dtype(old)
