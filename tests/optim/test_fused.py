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
