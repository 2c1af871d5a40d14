"""Watching a model must not break it: operators of all kinds, in the middle of a small network."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from assay import compare_steps, find_highways, measure_scale
from assay.builder import as_builder

OPTIMIZERS = {"SGD": torch.optim.SGD, "RMSProp": torch.optim.RMSprop}


def written(a):
    z = torch.zeros_like(a)
    z[:, 0] = a[:, 0]
    z[:, 1] = 1.0
    return z + a


def cast(a):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return (a @ a).float()


def rotated(a):
    pairs = torch.view_as_complex(a.reshape(*a.shape[:-1], -1, 2))
    turns = torch.polar(torch.ones(pairs.shape[-1]), torch.arange(pairs.shape[-1]) * 1.0)
    return torch.view_as_real(pairs * turns).flatten(-2)


OPERATORS = {
    "a number to the power of a tensor": lambda a: 10000 ** (torch.arange(8.0) / 8) * a,
    "a tensor to the power of a tensor": lambda a: a.abs() ** torch.full_like(a, 2.0),
    "a number by a tensor": lambda a: 1 / (a.abs() + 1),
    "a number modulo a tensor": lambda a: 5 % (a.detach().abs() + 1) * a,
    "less than a number": lambda a: 1 - a,
    "where": lambda a: torch.where(a > 0, 0.0, a),
    "clamped by a tensor": lambda a: a.clamp(min=a.mean()),
    "einsum": lambda a: torch.einsum("bij,bkj->bik", a, a),
    "indexed by a tensor": lambda a: a[:, torch.arange(8).flip(0)],
    "assigned to": written,
    "in place": lambda a: a.clone().add_(1).mul_(a),
    "in place beyond a threshold": lambda a: F.threshold(a * 1, 0, 0, inplace=True),
    "sorted": lambda a: a.sort(-1)[0],
    "the largest": lambda a: a.topk(2)[0],
    "in pieces": lambda a: torch.cat(a.split(3, 1)[::-1], 1),
    "unbound": lambda a: torch.stack(a.unbind(1), 1),
    "summed in a loop": lambda a: sum([a, a, a]),
    "the lesser of two": lambda a: min(a.sum(), a.mean()) * a,
    "masked": lambda a: a.masked_fill(a > 0, torch.tensor(0.0)),
    "its own norm": lambda a: a / a.norm(dim=-1, keepdim=True),
    "standardised": lambda a: (a - a.mean()) / a.std(),
    "attention": lambda a: F.scaled_dot_product_attention(a, a, a),
    "complex numbers": rotated,
    "a Fourier transform": lambda a: torch.fft.rfft(a).abs(),
    "solved": lambda a: torch.linalg.solve(a @ a.mT + torch.eye(8), a),
    "vmap": lambda a: torch.vmap(lambda row: row * 2)(a),
    "a gradient of vmap": lambda a: torch.vmap(torch.func.grad(lambda r: (r**2).sum()))(a) * a,
    "a gradient inside": lambda a: torch.autograd.grad(a.pow(2).sum(), a, create_graph=True)[0],
    "lower precision": cast,
    "integers": lambda a: a * (a.detach() > 0).int(),
    "a number read off": lambda a: a * float(a.detach().mean()),
    "a list read off": lambda a: a * torch.tensor(a.detach().flatten()[:1].tolist()),
    "a branch on a value": lambda a: a if (a.detach().sum() > 0).item() else -a,
    "strides": lambda a: a.contiguous().as_strided((2, 2), (1, 2)),
    "scattered": lambda a: torch.zeros_like(a).scatter_add(1, torch.zeros_like(a).long(), a),
    "drawn": lambda a: a * torch.bernoulli(torch.full_like(a, 0.5)),
    "checkpointed": lambda a: torch.utils.checkpoint.checkpoint(torch.sin, a, use_reentrant=False),
    "detached": lambda a: a + a.detach(),
    "sparse": lambda a: torch.sparse.mm(torch.eye(8).to_sparse(), a[0]),
    "resized": lambda a: F.interpolate(a[None], size=(9, 9), mode="bilinear", antialias=True),
    "unfolded": lambda a: F.unfold(a[None], 3, padding=1),
}


class Between(nn.Module):
    """Two layers with an operator between them."""

    def __init__(self, operator):
        super().__init__()
        self.operator, self.first, self.last = operator, nn.Linear(16, 16), nn.Linear(1, 4)

    def forward(self, x):
        a = self.first(x)
        found = self.operator(torch.tanh(a @ a.mT))
        return self.last(found.reshape(len(found), -1).mean(-1, keepdim=True))


@pytest.mark.parametrize("name", OPERATORS)
def test_every_measurement_lets_the_model_run(name):
    def build(b: int = 4):
        torch.manual_seed(0)
        return Between(OPERATORS[name]), torch.randn(b, 8, 16)

    model, x = build()
    expected = model(x)
    torch.manual_seed(1)
    assert {row.module for row in measure_scale(build).rows} >= {"first", "last"}
    assert find_highways(build).paths == ()
    steps = compare_steps(OPTIMIZERS, as_builder(build)(), warmup=1)
    assert {row.name for row in steps.rows} == {*OPTIMIZERS}
    torch.testing.assert_close(model(x).shape, expected.shape)
