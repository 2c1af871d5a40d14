"""Zero weights one behind the other are found, with biases too; one zero on a way is a choice."""

import math
import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from assay import measure_scale

X, TARGETS = torch.randn(32, 64, generator=torch.Generator().manual_seed(0)), torch.arange(32) % 10
FOUND = ("scale.zeros", "scale.stuck")


def loss(y):
    return F.cross_entropy(y, TARGETS)


def found(model, x=X, of=loss):
    return {f.rule: f for f in measure_scale((model, x, of)).findings if f.rule in FOUND}


def chain(zero, activation=nn.ReLU, depth=8):
    """Linear layers with biases, of which some weights are zero."""
    torch.manual_seed(0)
    layers = [nn.Linear(64, 64) for _ in range(depth - 1)] + [nn.Linear(64, 10)]
    for k in zero:
        nn.init.zeros_(layers[k].weight)
    return nn.Sequential(*(m for layer in layers for m in (layer, activation())))[:-1]


def without_gradient(model):
    """By brute force: the weights whose gradient is exactly 0."""
    loss(model(X)).backward()
    found = {name for name, p in model.named_parameters() if not p.grad.any()}
    model.zero_grad()
    return found


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.GELU, nn.Identity])
@pytest.mark.parametrize("zero", [range(8), range(1, 8), range(1, 7), (2, 5), (0, 7)])
def test_nothing_gets_past_two_of_them(zero, activation):
    model = chain(zero, activation)
    assert torch.equal(model(X).std(0), torch.zeros(10))
    last, first = 2 * max(zero), 2 * min(zero)
    assert f"{first}.weight" in without_gradient(model)
    told = found(model)["scale.zeros"]
    assert told.severity == "warning"
    assert told.measured.value == len(zero)
    assert f"weights of {first}.weight (addmm) are zero" in told.message
    assert f"up to {last}.weight (addmm): " in told.message
    assert measure_scale((model, X, loss)).view().answer.startswith("No. ")
    named = {int(k) for k in re.findall(r"(?:\[|\b)(\d+)(?:\]\.weight|\.weight)", told.repair)}
    for k in named:
        nn.init.normal_(model[k].weight, std=1 / math.sqrt(64))
    if len(zero) <= 7:  # all of them have a name
        assert not found(model)


@pytest.mark.parametrize("k", range(8))
def test_one_of_them_is_a_choice(k):
    assert not found(chain([k]))


class Residual(nn.Module):
    """Branches whose last weights are zero, and a head that is zero."""

    def __init__(self, norm=nn.Identity):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.ModuleList(nn.Linear(64, 64) for _ in range(4))
        self.last = nn.ModuleList(nn.Linear(64, 64) for _ in range(4))
        self.norms = nn.ModuleList(norm() for _ in range(4))
        self.head = nn.Linear(64, 10)
        for layer in (*self.last, self.head):
            nn.init.zeros_(layer.weight)

    def forward(self, x):
        for a, b, norm in zip(self.first, self.last, self.norms, strict=True):
            x = x + b(F.relu(a(norm(x))))
        return self.head(x)


class Adapted(nn.Module):
    """LoRA: W x + B A x with B zero, at every layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.w = nn.ModuleList(nn.Linear(64, 64).requires_grad_(False) for _ in range(4))
        self.a = nn.ModuleList(nn.Linear(64, 4, bias=False) for _ in range(4))
        self.b = nn.ModuleList(nn.Linear(4, 64, bias=False) for _ in range(4))
        for layer in self.b:
            nn.init.zeros_(layer.weight)

    def forward(self, x):
        for w, a, b in zip(self.w, self.a, self.b, strict=True):
            x = (w(x) + b(a(x))).relu()
        return x[:, :10]


class Controlled(nn.Module):
    """ControlNet: a condition goes in through a zero convolution and comes out through another."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.main, self.copy = nn.Linear(64, 64).requires_grad_(False), nn.Linear(64, 64)
        self.into, self.out = nn.Linear(64, 64), nn.Linear(64, 64)
        self.head = nn.Linear(64, 10).requires_grad_(False)
        nn.init.zeros_(self.into.weight)
        nn.init.zeros_(self.out.weight)

    def forward(self, x):
        copied = self.copy(x + self.into(x.flip(0))).relu()
        return self.head(self.main(x).relu() + self.out(copied))


class Modulated(nn.Module):
    """Blocks whose shifts, scales and gates a condition gives through zero weights, and a zero head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.given = nn.ModuleList(nn.Linear(64, 192) for _ in range(3))
        self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(3))
        self.head = nn.Linear(64, 10)
        for layer in (*self.given, self.head):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        for given, layer in zip(self.given, self.layers, strict=True):
            shift, scale, gate = given(F.silu(x.flip(0))).chunk(3, -1)
            x = x + gate * layer(F.layer_norm(x, (64,)) * (1 + scale) + shift).relu()
        return self.head(x)


@pytest.mark.parametrize("model", [Residual, lambda: Residual(lambda: nn.LayerNorm(64))])
def test_zero_branches_and_a_zero_head_are_choices(model):
    assert not found(model())


@pytest.mark.parametrize("model", [Adapted, Controlled, Modulated])
def test_adapters_that_begin_at_zero_are_choices(model):
    assert not found(model())
    assert not found(model(), torch.ones(32, 64))  # nothing varies, and not by the weights


def test_a_policy_and_a_value_that_begin_at_zero_are_choices():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk = chain([])[:-1]
            self.heads = nn.ModuleList(nn.Linear(64, n) for n in (10, 1))
            for head in self.heads:
                nn.init.zeros_(head.weight)

        def forward(self, x):
            x = self.trunk(x)
            return self.heads[0](x) + self.heads[1](x)

    assert not found(Heads())
