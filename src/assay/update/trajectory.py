"""One training run of the card, read in function space."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from assay.errors import CannotMeasure, verbatim
from assay.state import preserved_random_state
from assay.update.optimizer import Make, build_optimizer, scale_options, split_rates
from assay.update.precision import WideArithmetic
from assay.update.training import Plan, Training


@dataclass(frozen=True)
class Feeding:
    """How an optimizer wants its gradients.

    Args:
        closure: `step` is given a function that computes loss and gradients.
        sparse: Gradients are converted to sparse tensors.
        folded: The model has only 2-D parameters.
        graph: The gradients can be differentiated once more.
    """

    closure: bool = False
    sparse: bool = False
    folded: bool = False
    graph: bool = False


@dataclass(frozen=True)
class Trajectory:
    """What the model computed along the way, in the reference's units.

    Args:
        outputs: `[steps + 1, N, k]`, or fewer steps where something stopped being finite.
        losses: Mean loss over all examples after each step, in the reference's unit.
        finite: Whether every output was finite.
        unmoved: Parameters that had gradients and never moved.
        narrow: A lower precision than the weights' that the step worked in, if any.
        calls: How often a closure was called, in all steps.
        rebuilt: Whether making the optimizer changed which parameters the model has.
    """

    outputs: Tensor
    losses: tuple[float, ...]
    finite: bool
    unmoved: tuple[str, ...] = ()
    narrow: torch.dtype | None = None
    calls: int = 0
    rebuilt: bool = False


@dataclass(frozen=True)
class Setting:
    """Everything about a run except the world.

    Args:
        make: Makes the optimizer.
        name: Its name, for messages.
        problem: Steps, batches and precision.
        feeding: How it wants gradients.
        seed: Of the random numbers that the optimizer draws, if it does.
        wide: Refuse casts to lower precision inside the step.
        watch: Notice such casts (slow).
        options: Factors for options of the optimizer, as in `{"lr": 0.5}`.
        rates: One factor a weight for every step taken, in the order of parameters.
        lrs: One factor a parameter for its lr: as `rates`, for optimizers that keep weights of their own.
    """

    make: Make
    name: str
    problem: Plan
    feeding: Feeding = Feeding()
    seed: int = 0
    wide: bool = False
    watch: bool = False
    options: Mapping[str, float] = field(default_factory=dict)
    rates: Sequence[Tensor] | None = None
    lrs: Sequence[float] | None = None


def train(setting: Setting, world: Training) -> Trajectory:
    """Train in `world` and read the outputs after every step.

    What the optimizer prints meanwhile is dropped: it would stand between every two steps of every run.

    Args:
        setting: Optimizer and problem.
        world: The units.

    Returns:
        The trajectory; it ends early where an output is not finite.

    Raises:
        Exception: Whatever the optimizer raises.
        UsageError: If there is no optimizer.
        CannotMeasure: If a step changes which parameters the model has.
    """
    with (
        preserved_random_state(setting.seed),
        _default_dtype(setting.problem.dtype),
        redirect_stdout(io.StringIO()),
    ):
        return _train(setting, world)


def _train(setting: Setting, world: Training) -> Trajectory:
    problem, feeding = setting.problem, setting.feeding
    model = world.network(feeding.folded)
    before = _structure(model)
    optimizer = build_optimizer(setting.make, model, setting.name)
    built = _structure(model)
    if setting.lrs is not None:
        split_rates(optimizer, dict(zip(map(id, model.parameters()), setting.lrs, strict=True)))
    scale_options(optimizer, setting.options)
    first = [p.detach().clone() for p in model.parameters()]
    touched = [False] * len(first)
    outputs, losses, calls = [], [], 0
    watch = WideArithmetic(problem.dtype, enforce=setting.wide)
    watching: AbstractContextManager[Any] = (
        watch if setting.wide or setting.watch else nullcontext()
    )

    def read() -> bool:
        _switch(optimizer, "eval")
        with torch.no_grad():
            seen, loss = world.observe(model)
        outputs.append(seen.clone())
        losses.append(loss)
        _switch(optimizer, "train")
        return bool(torch.isfinite(outputs[-1]).all())

    finite = read()
    for rows in problem.batches():
        old = [p.detach().clone() for p in model.parameters()]

        def closure(rows: Tensor = rows) -> Tensor:
            nonlocal calls
            calls += 1
            return _gradients(world, model, rows, feeding)

        if feeding.closure:
            with watching:
                optimizer.step(closure)
        else:
            closure()
            with watching:
                optimizer.step()
        if _structure(model) != built:
            raise _restless(setting.name, len(outputs))
        for i, p in enumerate(model.parameters()):
            touched[i] |= p.grad is not None and bool(_values(p.grad).count_nonzero())
        if setting.rates is not None:
            _rescale(model, old, setting.rates)
        finite = read()
        if not finite:
            break
    unmoved = tuple(
        name
        for (name, p), start, had in zip(model.named_parameters(), first, touched, strict=True)
        if had and torch.equal(p, start)
    )
    return Trajectory(
        torch.stack(outputs), tuple(losses), finite, unmoved, watch.narrow, calls, built != before
    )


def _structure(model: nn.Module) -> list[tuple[str, int, torch.Size]]:
    """Which parameters the model has: names, objects and shapes."""
    return [(name, id(p), p.shape) for name, p in model.named_parameters()]


def _restless(name: str, step: int) -> CannotMeasure:
    return CannotMeasure(
        "optimizer",
        verbatim(name),
        f"steps that change weights, but step {step} changed which parameters the model has",
        "Change the modules before training, in the function that makes the optimizer.",
    )


@torch.no_grad()
def _rescale(model: nn.Module, old: Sequence[Tensor], rates: Sequence[Tensor]) -> None:
    """Let the step that was just taken be one of other rates, weight by weight."""
    for p, start, rate in zip(model.parameters(), old, rates, strict=True):
        p.copy_(start + rate.to(p.dtype) * (p - start))


def _gradients(world: Training, model: nn.Module, rows: Tensor, feeding: Feeding) -> Tensor:
    """Loss of the batch, its gradients accumulated over the world's parts."""
    total: Tensor | float = 0.0
    with torch.enable_grad():
        for p in model.parameters():
            p.grad = None
        for part in rows.chunk(world.parts):
            loss = world.loss(model, part) / world.parts
            _differentiate(loss, model, feeding.graph)
            total = total + loss.detach()
        if feeding.sparse:
            for p in model.parameters():
                p.grad = None if p.grad is None else p.grad.to_sparse()
    return torch.as_tensor(total)


def _differentiate(loss: Tensor, model: nn.Module, graph: bool) -> None:
    if not graph:
        loss.backward()
        return
    # `backward(create_graph=True)` warns of a reference cycle, which `p.grad = None` above breaks
    weights = [p for p in model.parameters() if p.requires_grad]
    grads = torch.autograd.grad(loss, weights, create_graph=True)
    for p, grad in zip(weights, grads, strict=True):
        p.grad = grad if p.grad is None else p.grad + grad


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
