"""Weights that are standardised in the forward pass: a repair is what works there."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from assay import measure_scale


class Standardised(nn.Conv2d):
    """Divides its weights by their size, by a norm or by hand; with a gain, a constant or neither."""

    def __init__(self, a, b, gain=True, by_hand=False, scale=1.0):
        super().__init__(a, b, 3, padding=1)
        self.by_hand, self.scale = by_hand, scale / math.sqrt(9 * a)
        self.gain = nn.Parameter(torch.ones(b, 1, 1, 1)) if gain else None

    def forward(self, x):
        w = self.weight
        if self.by_hand:
            axes = (1, 2, 3)
            w = (w - w.mean(axes, keepdim=True)) / (w.var(axes, keepdim=True) + 1e-6).sqrt()
        else:
            w = F.batch_norm(w.reshape(1, len(w), -1), None, None, training=True).reshape_as(w)
        w = w * self.scale if self.gain is None else w * (self.gain * self.scale)
        return F.conv2d(x, w, self.bias, 1, 1)


def net(**how):
    layers = [Standardised(16, 16, **how) for _ in range(3)]
    return nn.Sequential(*(m for layer in layers for m in (layer, nn.Hardtanh())))


def found(model, rule):
    torch.manual_seed(0)
    findings = measure_scale((model, torch.randn(16, 16, 8, 8))).findings
    return next(finding for finding in findings if finding.rule == rule)


@pytest.mark.parametrize("by_hand", [False, True])
def test_the_gain_of_standardised_weights_is_set_and_not_their_parameter(by_hand):
    torch.manual_seed(0)
    model = nn.Sequential(*net(by_hand=by_hand, scale=0.1)[:1])
    repair = found(model, "scale.forward-variance").repair
    assert "`model[0].weight` again changes nothing" in repair
    line = repair[repair.index("`model[0].gain.data *= ") :].split("`")[1]
    exec(line, {"model": model, "math": math})
    torch.manual_seed(0)
    (row,) = measure_scale((model, torch.randn(16, 16, 8, 8))).rows
    assert 0.8 < row.level < 1.2


def test_without_a_gain_it_is_the_weights_that_are_multiplied():
    torch.manual_seed(0)
    repair = found(nn.Sequential(*net(gain=False, scale=0.1)[:1]), "scale.forward-variance").repair
    assert "multiply the weights that are made of `model[0].weight` by `math.sqrt(1/144)/" in repair


def test_torchs_weight_norm_is_one_and_a_product_of_two_matrices_is_none():
    class Factors(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Parameter(0.1 * torch.randn(32, 4))
            self.b = nn.Parameter(0.1 * torch.randn(4, 32))

        def forward(self, x):
            return x @ (self.a @ self.b)

    torch.manual_seed(0)
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(32, 32))
    (row,) = measure_scale((normed, torch.randn(64, 32))).rows
    names = ("parametrizations.weight.original0",), ("parametrizations.weight.original1",)
    assert (row.scaled_by, row.divided) == names
    (row,) = measure_scale((Factors(), torch.randn(64, 32))).rows
    assert (row.scaled_by, row.divided) == (("a", "b"), ())


def test_a_zero_factor_is_not_divided_by_anything():
    class Adapted(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(32, 32))
            self.a, self.b = nn.Parameter(torch.randn(32, 4)), nn.Parameter(torch.zeros(4, 32))

        def forward(self, x):
            return x @ (self.w + self.a @ self.b)

    torch.manual_seed(0)
    (row,) = measure_scale((Adapted(), torch.randn(64, 32))).rows
    assert (row.scaled_by, row.divided) == (("w",), ())


def test_means_in_front_of_standardised_weights_are_told_with_what_works():
    class Positive(nn.Module):
        """What leaves the activation is far from zero: a pool of the largest goes before it."""

        def __init__(self, scale):
            super().__init__()
            self.a, self.b = Standardised(16, 16, scale=scale), Standardised(16, 16)

        def forward(self, x):
            return self.b(F.relu(F.max_pool2d(self.a(x), 4)))

    torch.manual_seed(0)
    repair = found(Positive(0.8), "scale.forward-mean").repair
    assert repair.startswith("`model.a.gain.data *= math.sqrt(2.934/144)/0.066")
    assert "to draw `model.a.weight` again changes nothing" in repair
    assert repair.endswith(", in front of relu; subtract 0.6833 after relu")
    repair = found(Positive(math.sqrt(2.934)), "scale.forward-mean").repair
    assert repair.startswith("subtract each input unit's mean, or put a batch norm in front of b")


def test_weights_whose_derivative_raises_are_measured_all_the_same():
    class Strange(torch.autograd.Function):
        @staticmethod
        def forward(ctx, w):
            return w / w.norm()

        @staticmethod
        def backward(ctx, gradient):
            if gradient.unique().numel() > 2:
                return gradient
            raise ValueError("not with signs")

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(8, 8))

        def forward(self, x):
            return x @ Strange.apply(self.w)

    torch.manual_seed(0)
    x = torch.randn(16, 8)
    (row,) = measure_scale((Net(), x, lambda y: (y * torch.randn(16, 8)).sum())).rows
    assert (row.scaled_by, row.divided) == ((), ())
