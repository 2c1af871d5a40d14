"""Compiled steps are those of the eager twin."""

import copy
import shutil

import pytest
import torch
from torch import nn

from assay.optim import UnitSGD, kernels

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler"),
    pytest.mark.filterwarnings("ignore"),  # of the compiler itself
]


@pytest.mark.parametrize("decay", [0.5, 0.0])
@pytest.mark.parametrize("numba", [True, False])
def test_compiled_steps_are_those_of_the_eager_twin(decay, numba, monkeypatch):
    monkeypatch.setattr(kernels, "available", lambda: numba)
    torch.manual_seed(0)
    one = nn.Sequential(
        nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 300), nn.Tanh(), nn.Linear(300, 2)
    )
    with torch.no_grad():
        one[0].bias[3] = -1e3  # a unit that is dead: its squares are 0
    other = copy.deepcopy(one)
    mine = UnitSGD(one, weight_decay=decay, fused=False)
    theirs = UnitSGD(other, weight_decay=decay, fused=True)
    for i in range(4):
        x = torch.randn(16, 256, generator=torch.Generator().manual_seed(i)) + 1
        x[:, 5] = 1.0
        for model, optimizer in ((one, mine), (other, theirs)):
            optimizer.zero_grad()
            (model(x) - x[:, :2]).square().mean().backward()
            optimizer.step()
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)
    assert torch.equal(one[0].weight[:, 5], other[0].weight[:, 5])


@pytest.mark.parametrize("rows", [2, 9, 16])
def test_threads_share_rows_out(rows, monkeypatch):
    draw = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(*shape, generator=draw)  # noqa: E731
    gradient, bias, inverse, offset = normal(rows, 33), normal(rows), normal(33), normal(33)
    white = gradient * inverse - bias[:, None] * offset
    expected = white.square().sum(1) + bias.square()
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found = kernels.prepared(kernels.squares, gradient, bias, inverse, offset)()
        torch.testing.assert_close(found, expected)


def test_wide_inputs_are_followed_as_by_the_eager_twin():
    """Statistics and units, with constant and shifting features, in float64."""
    torch.manual_seed(0)
    one = nn.Linear(300, 3).double()
    other = copy.deepcopy(one)
    optimizers = [UnitSGD(one, fused=False), UnitSGD(other)]
    for i in range(5):
        x = torch.randn(8, 300, dtype=torch.float64) * (1 + i) + i
        x[:, 7], x[:, 8] = 3.0, float(i)
        for model, optimizer in zip((one, other), optimizers, strict=True):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    mine, theirs = (o.state[next(iter(o.state))] for o in optimizers)
    for key in ("count", "mean", "deviation", "scale"):
        torch.testing.assert_close(mine[key], theirs[key], rtol=1e-9, atol=1e-12)
