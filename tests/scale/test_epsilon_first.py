"""An ε that is too large for what a norm is given is the cause of what vanishes behind it: told alone."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from assay import measure_scale

DEPTH, WIDTH = 8, 64


def plain(norm):
    """Products, norms and ReLUs, without a skip."""
    layers = [m for _ in range(DEPTH) for m in (nn.Linear(WIDTH, WIDTH), norm(), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 10))


def convolutions(norm):
    layers = [m for _ in range(DEPTH) for m in (nn.Conv2d(1, 1, 3, padding=1), norm(), nn.ReLU())]
    return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), *layers, nn.Flatten(), nn.Linear(64, 10))


class Before(nn.Module):
    """Norms in front of products."""

    def __init__(self, norm):
        super().__init__()
        self.norms = nn.ModuleList(norm() for _ in range(DEPTH))
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(DEPTH))
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x):
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = F.relu(layer(norm(x)))
        return self.head(x)


def failing(model, size=1.0):
    y = torch.arange(WIDTH) % 10
    x = size * torch.randn(WIDTH, WIDTH)
    findings = measure_scale((model, x, lambda o: F.cross_entropy(o, y))).findings
    return [finding for finding in findings if finding.fails], findings


def with_eps(kind, size):
    return lambda eps: lambda: kind(size, eps=eps)


@pytest.mark.parametrize("build", [plain, Before])
@pytest.mark.parametrize("kind", [nn.LayerNorm, nn.RMSNorm, nn.BatchNorm1d])
def test_it_is_the_one_warning_and_its_repair_leaves_none(build, kind):
    torch.manual_seed(0)
    found, every = failing(build(with_eps(kind, WIDTH)(1.0)))
    assert [finding.rule for finding in found] == ["scale.epsilon"]
    assert "`eps=1e-5`; then measure again" in found[0].repair
    assert not any("skip connections" in finding.repair for finding in every)
    found, _ = failing(build(with_eps(kind, WIDTH)(1e-5)))
    assert not found


def test_so_many_norms_that_nothing_is_left_of_a_number():
    torch.manual_seed(0)
    layers = [m for _ in range(12) for m in (nn.Linear(8, 8, bias=False), nn.LayerNorm(8, eps=1e6))]
    found, _ = failing(nn.Sequential(nn.Linear(WIDTH, 8), *layers, nn.Linear(8, 10, bias=False)))
    assert [finding.rule for finding in found] == ["scale.epsilon"]


def test_group_norms():
    torch.manual_seed(0)
    found, _ = failing(convolutions(lambda: nn.GroupNorm(1, 1, eps=10.0)))
    assert [finding.rule for finding in found] == ["scale.epsilon"]


@pytest.mark.parametrize("first", [False, True])
def test_inputs_that_are_small_against_a_usual_epsilon_are_to_be_standardised(first):
    torch.manual_seed(0)
    model = plain(lambda: nn.LayerNorm(WIDTH))
    if first:
        model.insert(0, nn.LayerNorm(WIDTH))
    else:
        nn.init.zeros_(model[0].bias)
    found, _ = failing(model, 1e-5)
    assert [finding.rule for finding in found] == ["scale.epsilon"]
    assert found[0].repair.startswith("standardise the model's input")
    assert ("The norm 0.weight (native_layer_norm) divides" in found[0].message) is first
    assert not failing(model)[0]


def test_what_is_more_than_the_epsilon_explains_is_told_beside_it():
    torch.manual_seed(0)
    layers = [nn.Linear(WIDTH, WIDTH) for _ in range(5)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=1e-2 / WIDTH**0.5)
        nn.init.zeros_(layer.bias)
    model = nn.Sequential(nn.LayerNorm(WIDTH, eps=20.0), *layers)
    found, every = failing(model)
    assert "scale.forward-variance" in [finding.rule for finding in found]
    assert "scale.epsilon" in [finding.rule for finding in every]
