"""What a norm undoes, and what it does not: sums, a large ε, running statistics."""

import pytest
import torch
from torch import nn

from assay import measure_scale


def measured(model, x):
    scale = measure_scale((model, x))
    rows = {row.parameters[0]: row for row in scale.rows if row.fan_in}
    return rows, {finding.rule: finding for finding in scale.findings}


class Normed(nn.Module):
    def __init__(self, norm, std=0.02, stream=False, bias_free=True):
        super().__init__()
        self.first = nn.Linear(64, 64, bias=False)
        self.branch, self.norm, self.out = nn.Linear(64, 64), norm, nn.Linear(64, 64)
        nn.init.normal_(self.first.weight, std=std)
        nn.init.normal_(self.branch.weight, std=std)
        self.stream = stream

    def forward(self, x):
        x = self.first(x)
        if self.stream:
            x = x + self.branch(x)
        return self.out(self.norm(x))


def change(model, x, name):
    """By how much the output moves when one weight is ten times as large."""
    with torch.no_grad():
        before = model(x)
        model.get_parameter(name).mul_(10)
        moved = (model(x) - before).norm() / before.norm()
        model.get_parameter(name).div_(10)
    return moved.item()


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.BatchNorm1d, nn.RMSNorm])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("eps", [1e-6, 1.0])
def test_no_effect_is_said_where_ten_times_the_weight_changes_nothing(norm, stream, eps):
    torch.manual_seed(0)
    model, x = Normed(norm(64, eps=eps), stream=stream), torch.randn(256, 64)
    rows, found = measured(model, x)
    names = ["first.weight", "branch.weight"][: 1 + stream]
    moved = {name: change(model, x, name) for name in names}
    for name in names:
        assert rows[name].no_effect is (not stream and eps < 1e-3)
        assert moved[name] < 0.01 or not rows[name].no_effect
    assert ("scale.no-effect" in found) is (not stream and eps < 1e-3)
    assert ("scale.epsilon" in found) is (eps == 1.0)


def test_running_statistics_undo_nothing():
    torch.manual_seed(0)
    model, x = Normed(nn.BatchNorm1d(64)), torch.randn(256, 64)
    model(x)
    rows, _ = measured(model.eval(), x)
    assert not rows["first.weight"].no_effect
    assert change(model, x, "first.weight") > 1


def test_a_large_epsilon_is_named_with_both_numbers_and_heals_by_its_repair():
    torch.manual_seed(0)
    model, x = Normed(nn.LayerNorm(64, eps=100.0), std=0.125), torch.randn(256, 64)
    finding = measured(model, x)[1]["scale.epsilon"]
    assert finding.severity == "note"  # the factor is 1/100
    assert "ε = 100" in finding.message
    assert finding.repair.startswith("a norm with an ε of at most 0.0")
    assert 0.5 < finding.measured.value * 100 < 2
    model.norm.eps = 0.01
    assert "scale.epsilon" not in measured(model, x)[1]


def test_a_factor_passes_a_relu_and_a_product_without_bias():
    def net(bias, activation):
        layers = [nn.Linear(64, 64), activation, nn.Linear(64, 64, bias=bias)]
        return nn.Sequential(*layers, nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 4))

    torch.manual_seed(0)
    x = torch.randn(256, 64)
    assert measured(net(False, nn.LeakyReLU(0.2)), x)[0]["0.weight"].normalised
    assert not measured(net(True, nn.LeakyReLU(0.2)), x)[0]["0.weight"].normalised
    assert not measured(net(False, nn.Tanh()), x)[0]["0.weight"].normalised


def test_a_signal_below_a_usual_epsilon_is_told_to_widen_at_the_first_norm():
    torch.manual_seed(0)
    layers = [m for _ in range(3) for m in (nn.Linear(64, 64), nn.LayerNorm(64))]
    for layer in layers[::2]:
        nn.init.normal_(layer.weight, std=1e-6)
        nn.init.zeros_(layer.bias)
    finding = measured(nn.Sequential(*layers), torch.randn(64, 64))[1]["scale.epsilon"]
    assert "0.weight" in finding.message
    assert finding.severity == "warning"
    assert finding.repair.startswith("wider weights in front of it")
