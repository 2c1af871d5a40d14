"""What the tests of this room share: models written in one line, and slow, obvious twins."""

import torch
from torch import nn

import assay

D = 4  # width of a state
ZOO = {}  # name -> (builder of model and inputs, shapes of its paths of additions)


class Written(nn.Module):
    """A module whose forward is given as a function of itself and its inputs."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.written = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs):
        return self.written(self, *inputs)


class InTime(nn.Module):
    """state ← cell(x[:, t], state) for every step, from zeros or from an encoded first input."""

    def __init__(self, cell, *, start=None, d=D):
        super().__init__()
        self.cell, self.start, self.d = cell, start, d

    def forward(self, x):
        state = x.new_zeros(len(x), self.d) if self.start is None else self.start(x[:, 0])
        for step in x.unbind(1):
            state = self.cell(step, state)
        return state


def exhibit(*paths):
    """Put a builder in the zoo, with (length, tied, gate, norm on the skip) of every path."""

    def put(build):
        ZOO[build.__name__] = build, list(paths)
        return build

    return put


def linear(i=D, o=D, **options):
    return nn.Linear(i, o, **options)


def vector(value=0.0, d=D):
    return nn.Parameter(torch.full((d,), value))


def stack(block, depth=6):
    """`depth` blocks with weights of their own."""
    return nn.Sequential(*(block() for _ in range(depth)))


def tied(block, depth=6):
    """One block, `depth` times."""
    return nn.Sequential(*([block()] * depth))


def residual(scale=1.0):
    """x + scale · tanh(W x + b)."""
    return Written(lambda m, x: x + scale * torch.tanh(m.f(x)), f=linear())


def highway_cell(keep=0.0, d=D):
    """z h + (1 − z) c, with the gate z and the candidate c made from input and state."""

    def forward(m, x, h):
        seen = torch.cat((x, h), -1)
        z = torch.sigmoid(m.gate(seen))
        return z * h + (1 - z) * torch.tanh(m.candidate(seen))

    cell = Written(forward, gate=linear(2 * d, d), candidate=linear(2 * d, d))
    nn.init.constant_(cell.gate.bias, keep)
    return cell


def rows(n=3, d=D):
    return torch.randn(n, d)


def series(n=3, steps=10, d=D):
    return torch.randn(n, steps, d)


def measured(model, *inputs, loss=None):
    return assay.find_highways(assay.Subject(model, inputs, loss=loss))


def only_path(model, *inputs, loss=None):
    (path,) = measured(model, *inputs, loss=loss).paths
    return path


def shapes(highways):
    """(length, tied, gate, norm on the skip) of every path of additions, longest first."""
    return [
        (p.length, p.tied, p.gate, p.norm_on_skip)
        for p in highways.paths
        for _ in range(p.count)
        if p.is_sum
    ]


def found(highways, rule):
    return [f for f in highways.findings if f.rule == f"highway.{rule}"]


def square(y):
    """A loss whose gradient is not the same everywhere."""
    return (y * torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y)).sin().sum()


def numeric_gradient(function, at, step=1e-6):
    """Central differences, one coordinate at a time: no autograd."""
    gradient = torch.zeros_like(at)
    with torch.no_grad():
        for k in range(at.numel()):
            moved = torch.zeros_like(at)
            moved.view(-1)[k] = step
            gradient.view(-1)[k] = (function(at + moved) - function(at - moved)) / (2 * step)
    return gradient


def numeric_norms(rests, states):
    """‖∂loss/∂state‖ by steps back from the last, over that at the last.

    `rests[k]` takes `states[k]` to the loss by way of all later states.
    """
    norms = [
        float(numeric_gradient(rest, state).norm())
        for rest, state in zip(rests, states, strict=True)
    ]
    return [norm / norms[-1] for norm in reversed(norms)]
