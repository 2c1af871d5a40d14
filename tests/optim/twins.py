"""One function written in two choices of units, trained on the same batches: the words of these tests."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

Make = Callable[[nn.Module], torch.optim.Optimizer]


def half_squares(u: Tensor, y: Tensor) -> Tensor:
    return (u - y).square().sum(1).mean() / 2


@dataclass(frozen=True)
class Run:
    """A model with its examples, in one choice of units."""

    model: nn.Module
    x: Tensor
    y: Tensor
    loss: Callable[[Tensor, Tensor], Tensor] = half_squares
    read: Callable[[Tensor], Tensor] = field(default=lambda u: u)

    def outputs(self, make: Make, steps: int = 12, batch: int = 8, seed: int = 0) -> Tensor:
        """Outputs on all examples after every step, `[steps + 1, N, k]`, in the reference's units."""
        model = copy.deepcopy(self.model)
        optimizer, draw = make(model), torch.Generator().manual_seed(seed)
        found = [self.seen(model)]
        for _ in range(steps):
            rows = torch.randperm(len(self.x), generator=draw)[:batch]
            optimizer.zero_grad()
            self.loss(model(self.x[rows]), self.y[rows]).backward()
            optimizer.step()
            found.append(self.seen(model))
        return torch.stack(found)

    @torch.no_grad()
    def seen(self, model: nn.Module) -> Tensor:
        return self.read(model(self.x)).clone()


def mlp(
    d: int = 5, h: int = 7, k: int = 2, *, bias: bool = True, dtype: Any = torch.float64
) -> Run:
    """A ReLU network with inputs of different means and spreads."""
    draw = torch.Generator().manual_seed(3)
    normal = lambda *shape: torch.randn(*shape, generator=draw, dtype=torch.float64)  # noqa: E731
    model = nn.Sequential(nn.Linear(d, h, bias=bias), nn.ReLU(), nn.Linear(h, k)).to(torch.float64)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(normal(*p.shape) / d**0.5 + 0.1)
    x = normal(32, d) * torch.linspace(0.5, 2, d, dtype=torch.float64) + normal(d)
    y = (x @ normal(d, k)).tanh()
    return Run(model.to(dtype), x.to(dtype), y.to(dtype))


def rewritten(run: Run, change: Callable[[Any], None], **changes: Any) -> Run:
    """A copy whose model `change` has rewritten in place."""
    model = copy.deepcopy(run.model)
    with torch.no_grad():
        change(model)
    return replace(run, model=model, **changes)


def inputs_times(run: Run, c: Tensor) -> Run:
    c = c.to(run.x)
    return rewritten(run, lambda m: m[0].weight.div_(c), x=run.x * c)


def inputs_plus(run: Run, a: Tensor) -> Run:
    a = a.to(run.x)

    def move(m: Any) -> None:
        if m[0].bias is not None:
            m[0].bias.sub_(m[0].weight @ a)

    return rewritten(run, move, x=run.x + a)


def hidden_times(run: Run, c: Tensor) -> Run:
    c = c.to(run.x)

    def scale(m: Any) -> None:
        m[0].weight.mul_(c[:, None])
        if m[0].bias is not None:
            m[0].bias.mul_(c)
        m[2].weight.div_(c)

    return rewritten(run, scale)


def loss_times(run: Run, c: float) -> Run:
    old = run.loss
    return replace(run, loss=lambda u, y: old(u, y) * c)


def targets_times(run: Run, a: float) -> Run:
    def scale(m: Any) -> None:
        m[2].weight.mul_(a)
        m[2].bias.mul_(a)

    return rewritten(run, scale, y=run.y * a, read=lambda u: u / a)


def turned(run: Run, q: Tensor) -> Run:
    return rewritten(run, lambda m: m[0].weight.copy_(m[0].weight @ q.T), x=run.x @ q.T)


def factors(n: int, *values: float) -> Tensor:
    return torch.tensor([values[i % len(values)] for i in range(n)], dtype=torch.float64)


def apart(one: Tensor, other: Tensor) -> float:
    """Largest RMS difference over steps, as a share of how far training moved the outputs."""
    rms = lambda t: t.double().flatten(1).square().mean(1).sqrt().max()  # noqa: E731
    return float(rms(one - other) / rms(one - one[:1]))
