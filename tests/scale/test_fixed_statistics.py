"""A batch norm in evaluation mode multiplies each channel by a number and adds one: it normalises nothing."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from assay import measure_scale

X = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
TARGETS = torch.arange(64) % 5


class FrozenBatchNorm1d(nn.Module):
    """The form that detection libraries have: buffers alone."""

    def __init__(self, norm):
        super().__init__()
        self.register_buffer("weight", norm.weight.detach().clone())
        self.register_buffer("bias", norm.bias.detach().clone())
        self.register_buffer("running_mean", norm.running_mean.clone())
        self.register_buffer("running_var", norm.running_var.clone())

    def forward(self, x):
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        return x * scale + (self.bias - self.running_mean * scale)


class Net(nn.Module):
    """Six layers of a width, each with a norm, and a head."""

    def __init__(self, width=1.0, norm="eval", calibrated=False):
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.ModuleList(nn.Linear(32, 32, bias=False) for _ in range(6))
        self.norms = nn.ModuleList(nn.BatchNorm1d(32, momentum=None) for _ in range(6))
        self.head = nn.Linear(32, 5)
        nn.init.normal_(self.head.weight, std=32**-0.5)
        for k, layer in enumerate(self.layers):
            nn.init.normal_(layer.weight, std=width * 10 ** (k % 3 - 1) * (2 / 32) ** 0.5)
            if not calibrated:
                nn.init.normal_(layer.weight, std=width * (2 / 32) ** 0.5)
        if calibrated:
            with torch.no_grad():
                self(X)
        self.norm = norm
        if norm == "frozen":
            self.norms = nn.ModuleList(FrozenBatchNorm1d(n) for n in self.norms)
        elif norm == "none":
            self.norms = nn.ModuleList(nn.Identity() for _ in range(6))
        elif norm in ("eval", "functional"):
            self.norms.eval()

    def forward(self, x):
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = layer(x)
            if getattr(self, "norm", "") == "functional":
                x = F.batch_norm(x, norm.running_mean, norm.running_var, training=False)
            else:
                x = norm(x)
            x = x.relu()
        return self.head(x)


def measured(**kwargs):
    return measure_scale((Net(**kwargs), X, lambda y: F.cross_entropy(y, TARGETS)))


def warned(scale):
    return {finding.rule: finding for finding in scale.findings if finding.fails}


@pytest.mark.parametrize("width", [0.1, 10.0])
@pytest.mark.parametrize("norm", ["eval", "frozen", "functional"])
def test_fresh_statistics_are_judged_as_no_norm_is(width, norm):
    plain, fixed = measured(width=width, norm="none"), measured(width=width, norm=norm)
    assert {"scale.forward-variance", "scale.backward-variance"} <= set(warned(plain))
    assert set(warned(plain)) == set(warned(fixed))
    pairs = zip(
        [row for row in plain.rows if row.kind == "product"],
        [row for row in fixed.rows if row.kind == "product"],
        strict=True,
    )
    for row, other in pairs:
        assert other.variance == pytest.approx(row.variance, rel=1e-3)
        assert other.gradient == pytest.approx(row.gradient, rel=1e-3)
        assert other.activation == row.activation
        assert other.normalised is row.normalised is False
    finding = warned(fixed)["scale.forward-variance"]
    assert "stand batch norms in evaluation mode" in finding.message
    assert finding.repair.startswith("let the batch norms take the statistics of the batch")
    assert "evaluation mode" not in warned(plain)["scale.forward-variance"].message


def test_training_mode_normalises():
    assert not warned(measured(width=10.0, norm="train"))


@pytest.mark.parametrize("norm", ["eval", "frozen", "functional"])
def test_statistics_that_fit_give_no_warning_whatever_the_widths_are(norm):
    scale = measured(norm=norm, calibrated=True)
    assert not warned(scale)
    first = next(row for row in scale.rows if row.kind == "product")
    assert 0.8 < first.variance < 1.2  # of what the norm made
    assert first.factor == pytest.approx(5**0.5 * 2**0.5 * 5**0.5, rel=0.2)  # its weights: 0.1 √2


def test_statistics_that_are_taken_of_the_signal_by_hand_normalise():
    class ByHand(Net):
        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
                x = F.batch_norm(x, x.detach().mean(0), x.detach().var(0), training=False).relu()
            return self.head(x)

    scale = measure_scale((ByHand(width=10.0, norm="none"), X))
    assert not warned(scale)
    assert not any(row.fixed for row in scale.rows)


def test_statistics_that_fit_are_not_blamed_for_what_is_behind_them():
    model = nn.Sequential(Net(calibrated=True), *(nn.Linear(5, 5) for _ in range(4)))
    for layer in model[1:]:
        nn.init.normal_(layer.weight, std=0.01)
    found = warned(measure_scale((model, X, lambda y: F.cross_entropy(y, TARGETS))))
    assert found
    assert not any("batch norm" in f.repair for f in found.values())


def test_the_parameters_of_the_norm_keep_their_row():
    assert any(row.parameters == ("norms.0.weight", "norms.0.bias") for row in measured().rows)


def test_the_repair_by_statistics_heals():
    model = Net(width=10.0)
    assert warned(measure_scale((model, X)))
    assert not warned(measure_scale((model.train(), X)))


class Dense(nn.Module):
    """Layers beside each other in one stream, each divided by its own size in the norm that reads all."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)
        self.norm, self.norm2 = nn.BatchNorm2d(8, momentum=None), nn.BatchNorm2d(16, momentum=None)
        self.head = nn.Conv2d(16, 4, 1)
        nn.init.normal_(self.second.weight, std=1e-4)
        nn.init.normal_(self.head.weight, std=0.25)

    def forward(self, x):
        x = self.first(x)
        x = torch.cat([x, self.second(self.norm(x).relu())], 1)
        return self.head(self.norm2(x).relu())


def test_channels_side_by_side_have_their_own_numbers_and_no_warning():
    model, x = Dense(), torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        model(x)
    assert not warned(measure_scale((model, x)))
    assert not warned(measure_scale((model.eval(), x)))
