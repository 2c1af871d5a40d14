"""Weights that no step moves or moves alike, and weights that no optimizer is given."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from assay import measure_scale

X, TARGETS = torch.randn(32, 20, generator=torch.Generator().manual_seed(0)), torch.arange(32) % 10


def loss(y):
    return F.cross_entropy(y, TARGETS)


def net(value=None, activation=nn.ReLU):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 64), activation(), nn.Linear(64, 10))
    if value is not None:
        for p in model.parameters():
            nn.init.constant_(p, value)
    return model


def rules(model):
    return {finding.rule: finding for finding in measure_scale((model, X, loss)).findings}


def trained(model):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        loss(model(X)).backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_zeros_behind_zeros_are_stuck(activation):
    finding = rules(net(0.0, activation))["scale.stuck"]
    assert finding.severity == "warning"
    assert "(0.bias, 0.weight, 2.weight)" in finding.message
    moved = trained(net(0.0, activation))
    assert not moved[0].weight.any()
    assert not moved[2].weight.any()
    healed = net(0.0, activation)
    assert "model[0].weight" in finding.repair
    nn.init.normal_(healed[0].weight, std=1 / 20**0.5)
    assert "scale.stuck" not in rules(healed)
    assert trained(healed)[2].weight.any()


def test_zeros_in_front_of_a_relu_are_held_by_its_slope():
    for activation, held in ((nn.ReLU, True), (nn.Tanh, False), (nn.GELU, False)):
        model = net(0.0, activation)
        nn.init.normal_(model[2].weight, std=1 / 8)
        found = rules(model)
        assert ("scale.stuck" in found) is held
        assert trained(model)[0].weight.any().item() is not held
    model = net(0.0)
    nn.init.normal_(model[2].weight, std=1 / 8)
    assert "the slope of ReLU at 0 is 0" in rules(model)["scale.stuck"].message


class Branch(nn.Module):
    """A residual branch of two matrices, of which some are zero, and its head."""

    def __init__(self, *zero):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.head = nn.Linear(20, 20), nn.Linear(20, 20), nn.Linear(20, 10)
        for name in zero:
            for p in getattr(self, name).parameters():
                nn.init.zeros_(p)

    def forward(self, x):
        return self.head(x + self.b(self.a(x).relu()))


def test_one_of_two_factors_may_be_zero():
    assert "scale.stuck" not in rules(Branch("b"))
    assert "scale.stuck" not in rules(Branch("head"))
    assert "scale.stuck" not in rules(Branch("b", "head"))
    assert trained(Branch("b", "head")).a.weight.grad.any()
    found = rules(Branch("a", "b"))["scale.stuck"]
    assert "b.weight" in found.message
    assert "head" not in found.message


class Deep(nn.Sequential):
    """Three layers without biases that differ from zero, of which some weights are zero."""

    def __init__(self, *zero, activation=nn.ReLU):
        torch.manual_seed(0)
        super().__init__(
            nn.Linear(20, 64), activation(), nn.Linear(64, 64), activation(), nn.Linear(64, 10)
        )
        for k in (0, 2, 4):
            nn.init.zeros_(self[k].bias)
            if k in zero:
                nn.init.zeros_(self[k].weight)


def exactly_stuck(model):
    """By brute force: the parameters that many steps have not moved."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trained(trained(model))
    return {name for name, p in model.named_parameters() if torch.equal(p, before[name])}


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
@pytest.mark.parametrize("zero", [(0,), (2,), (4,), (0, 2), (0, 4), (2, 4), (0, 2, 4)])
def test_all_that_is_stuck_is_named_and_the_repair_ends_it(zero, activation):
    finding = rules(Deep(*zero, activation=activation)).get("scale.stuck")
    stuck = exactly_stuck(Deep(*zero, activation=activation))
    assert (finding is not None) is bool(stuck)
    if finding is None:
        return
    assert f"({', '.join(sorted(stuck))})" in finding.message
    assert finding.expected.value == len(stuck)
    healed = Deep(*zero, activation=activation)
    for line in finding.repair.split(": one of two")[0].split(", `"):
        exec(line.strip("`"), {"model": healed, "nn": nn, "math": math})
    assert "scale.stuck" not in rules(healed)
    assert not exactly_stuck(healed)


def test_looking_for_what_is_stuck_leaves_the_model_as_it_was():
    model = Deep(0, 2, 4)
    before = {name: p.detach().clone() for name, p in model.state_dict().items()}
    state = torch.get_rng_state()
    assert "scale.stuck" in rules(model)
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_equal_units_stay_equal():
    finding = rules(net(0.1))["scale.symmetric"]
    assert finding.severity == "warning"
    assert finding.measured.value == 1
    assert "64 units of 0.weight" in finding.message
    weight = trained(net(0.1))[0].weight
    assert torch.linalg.matrix_rank(weight.detach(), rtol=1e-3) == 1


def test_equal_units_with_different_weights_behind_them_do_not_stay_equal():
    model = net(0.1)
    nn.init.normal_(model[2].weight, std=1 / 8)
    assert "scale.symmetric" not in rules(model)
    assert torch.linalg.matrix_rank(trained(model)[0].weight.detach(), rtol=1e-3) > 1
    assert "scale.symmetric" not in rules(net())


def test_constant_weights_are_not_called_zero():
    answer = measure_scale((net(0.1), X, loss)).view().answer
    assert "zero" not in answer
    assert "2 set the scale" in answer


class Listed(nn.Module):
    def __init__(self, container, frozen=False):
        super().__init__()
        layers = [nn.Linear(20, 20).requires_grad_(not frozen) for _ in range(3)]
        self.layers, self.out = container(layers), nn.Linear(20, 10)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x).relu()
        return self.out(x)


def test_layers_in_a_list_are_none_of_the_models():
    finding = rules(Listed(list))["scale.unregistered"]
    assert finding.measured.value == 6
    assert "nn.ModuleList" in finding.repair
    assert "scale.unregistered" not in rules(Listed(nn.ModuleList))
    assert "scale.unregistered" not in rules(
        Listed(list, frozen=True)
    )  # a teacher kept out on purpose


def test_an_input_that_is_a_parameter_is_an_input():
    scale = measure_scale((nn.Linear(20, 4), nn.Parameter(X.clone())))
    assert not any(f.rule == "scale.unregistered" for f in scale.findings)


def test_what_such_layers_return_is_not_called_the_models_input():
    scale = measure_scale((Listed(list), X, loss))
    assert not any("standardise" in f.message + f.repair for f in scale.findings)


class Tail(nn.Module):
    def __init__(self, container, depth=3):
        super().__init__()
        self.first, self.last = nn.Linear(20, 32), nn.Linear(32, 10)
        self.hidden = container([nn.Linear(32, 32) for _ in range(depth)])

    def forward(self, x):
        x = self.first(x).relu()
        for layer in self.hidden:
            x = layer(x).relu()
        return self.last(x)


def test_sizes_wait_for_layers_that_the_model_does_not_have():
    found = rules(Tail(list))
    sizes = [found["scale.backward-variance"], found["scale.forward-variance"]]
    for finding in sizes:
        assert finding.repair == "first what `scale.unregistered` says; then measure again"
        assert "earlier" not in finding.message  # between are layers that nobody counted
    healed = rules(Tail(nn.ModuleList))
    assert "4 operators with weights earlier" in healed["scale.backward-variance"].message
    assert not any("unregistered" in finding.repair for finding in healed.values())
