"""The rule of the problem set, held against a loop over its formula (Theory U3 to U5)."""

import pytest
import torch
from torch import nn
from twins import factors, inputs_times, mlp

from assay.optim import UnitSGD


def by_formula(weight, bias, x, y, sigma, lr, steps):
    """`W[i,j] ← W[i,j] − (η / σ[j]²) g[i] x[j]` on ½ (Wx + b − y)², one example a step."""
    w, b = weight.clone(), bias.clone()
    for t in range(steps):
        g = w @ x[t] + b - y[t]
        for i in range(len(w)):
            for j in range(w.shape[1]):
                w[i, j] -= lr / sigma[j] ** 2 * g[i] * x[t, j]
            b[i] -= lr * g[i]
    return w, b


@pytest.mark.parametrize("given", [True, False])
def test_the_rule_is_exactly_the_sheets(given):
    torch.manual_seed(0)
    x = torch.randn(10, 3).double() * torch.tensor([1.0, 100.0, 0.01]) + 2
    y = torch.randn(10, 2).double()
    model = nn.Linear(3, 2).double()
    sigma = x.std(0, correction=0)
    first = model.weight.detach().clone(), model.bias.detach().clone()
    options = {"sigma": {"weight": sigma}} if given else {}
    optimizer = UnitSGD(model, lr=0.01, rule="sheet", **options)
    if not given:  # running statistics of a batch with everything in it
        optimizer.zero_grad()
        (model(x).sum() * 0).backward()
        optimizer.step()
        assert torch.equal(model.weight, first[0])
    for t in range(10 if given else 1):
        optimizer.zero_grad()
        ((model(x[t : t + 1]) - y[t]).square().sum() / 2).backward()
        if not given:
            for port in optimizer._ports():  # keep σ as it is, to compare with the formula
                port.clear()
        optimizer.step()
    w, b = by_formula(*first, x, y, sigma, 0.01, 10 if given else 1)
    assert torch.allclose(model.weight, w, rtol=1e-12)
    assert torch.allclose(model.bias, b, rtol=1e-12)


def test_it_keeps_the_unit_of_inputs_and_no_other():
    run = mlp()
    make = lambda m: UnitSGD(m, lr=0.02, rule="sheet")  # noqa: E731
    twin = inputs_times(run, factors(5, 2.0, 0.25, 1024.0))
    assert torch.equal(run.outputs(make), twin.outputs(make))


def test_without_momentum_or_features_it_is_sgd():
    one, other = nn.Embedding(5, 3), nn.Embedding(5, 3)
    other.load_state_dict(one.state_dict())
    mine = UnitSGD(one, lr=0.1, rule="sheet")
    theirs = torch.optim.SGD(other.parameters(), lr=0.1)
    for model, optimizer in ((one, mine), (other, theirs)):
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.tensor([0, 3, 3])).square().sum().backward()
            optimizer.step()
    assert torch.allclose(one.weight, other.weight)
