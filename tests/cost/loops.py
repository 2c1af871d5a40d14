"""Programs whose bytes, or whose backward passes, are dearer than their products."""

from functools import cache

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from assay.cost.cost import derive_cost


class Indexed(nn.Module):
    """A recurrent net that indexes in its loop: O(n) products, O(n²) bytes in the backward pass."""

    def __init__(self, d):
        super().__init__()
        self.embed, self.cell = nn.Linear(d, d), nn.RNNCell(d, d)

    def forward(self, x):
        x, h = self.embed(x), torch.zeros_like(x[:, 0])
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return h


class Unbound(Indexed):
    """The same net with all steps taken at once."""

    def forward(self, x):
        steps, h = self.embed(x).unbind(1), torch.zeros_like(x[:, 0])
        for step in steps:
            h = self.cell(step, h)
        return h


class Grown(Indexed):
    """Outputs that are joined one by one: O(n²) bytes in the forward pass."""

    def forward(self, x):
        out = x[:, :0]
        for step in x.unbind(1):
            out = torch.cat([out, self.embed(step)[:, None]], 1)
        return out


class Dear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        for _ in range(9):
            ours = x.t() @ g
        return g @ w.t(), ours


class CustomBackward(nn.Module):
    """A custom function whose backward pass does nine products for one."""

    def __init__(self, d):
        super().__init__()
        self.first, self.last = nn.Linear(d, d), nn.Linear(d, d)

    def forward(self, x):
        return self.last(Dear.apply(self.first(x), self.first.weight))


class Checkpointed(nn.Module):
    """Checkpoints within checkpoints: the forward pass is run three times again."""

    def __init__(self, d):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(d, d), nn.Tanh(), nn.Linear(d, d), nn.Tanh())

    def forward(self, x, depth=3):
        if not depth:
            return self.layers(x)
        return checkpoint(self.forward, x, depth - 1, use_reentrant=True)


def sequences(kind):
    """A builder on `[2, n, 4]`."""

    def build(n: int = 5):
        return kind(4), torch.randn(2, n, 4)

    build.__name__ = kind.__name__
    return build


def rows(kind):
    """A builder on `[2, d]`, whose inputs have gradients."""

    def build(d: int = 4):
        return kind(d), torch.randn(2, d, requires_grad=True)

    build.__name__ = kind.__name__
    return build


@cache
def cost_of(kind):
    """Its cost, derived once for all tests."""
    return derive_cost((rows if kind in (CustomBackward, Checkpointed) else sequences)(kind))
