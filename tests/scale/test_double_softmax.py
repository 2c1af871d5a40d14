"""A softmax before a cross-entropy, which takes one itself."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from assay import measure_scale

TARGETS = torch.arange(32) % 10


def rules(last, loss):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 10), *last)
    found = measure_scale((model, torch.randn(32, 16), loss)).findings
    return {finding.rule: finding for finding in found}


def cross_entropy(y):
    return F.cross_entropy(y, TARGETS)


class Head(nn.Module):
    def forward(self, x):
        return x.softmax(-1).view(-1, 10)


@pytest.mark.parametrize("last", [nn.Softmax(-1), Head()])
def test_it_is_found_with_the_least_loss_that_is_left(last):
    finding = rules([last], cross_entropy)["scale.double-softmax"]
    assert finding.severity == "warning"
    perfect = F.one_hot(TARGETS, 10).float()  # the best that a softmax can return
    assert finding.measured.value == pytest.approx(float(cross_entropy(perfect)))
    assert finding.measured.value == pytest.approx(math.log1p(9 / math.e))


@pytest.mark.parametrize(
    ("last", "loss"),
    [
        ([], cross_entropy),
        ([nn.LogSoftmax(-1)], lambda y: F.nll_loss(y, TARGETS)),
        ([nn.Softmax(-1)], lambda y: F.nll_loss(y.log(), TARGETS)),
        ([nn.Softmax(-1)], lambda y: y.square().sum()),
        ([nn.Softmax(-1), nn.Linear(10, 10)], cross_entropy),
    ],
)
def test_one_softmax_is_as_it_should_be(last, loss):
    assert "scale.double-softmax" not in rules(last, loss)


def binary(y):
    return F.binary_cross_entropy_with_logits(y, F.one_hot(TARGETS, 10).float())


@pytest.mark.parametrize("last", [nn.Sigmoid(), nn.Softmax(-1)])
def test_a_sigmoid_of_probabilities_is_found_with_the_least_loss_that_is_left(last):
    finding = rules([last], binary)["scale.double-sigmoid"]
    ones = torch.ones(32, 10)  # the best that can be returned where all targets are 1
    least = float(F.binary_cross_entropy_with_logits(ones, ones))
    assert finding.measured.value == pytest.approx(least)
    zeros = torch.zeros(32, 10)
    assert f"{float(F.binary_cross_entropy_with_logits(zeros, zeros)):.3g}" in finding.message


def test_a_softmax_of_sigmoids_has_the_floor_of_a_softmax_of_a_softmax():
    finding = rules([nn.Sigmoid()], cross_entropy)["scale.double-softmax"]
    assert "a sigmoid already" in finding.message
    assert finding.measured.value == pytest.approx(math.log1p(9 / math.e))


def test_a_likelihood_of_probabilities_misses_its_logarithm():
    soft = F.one_hot(TARGETS, 10) * 0.9 + 0.01
    divergence = nn.KLDivLoss(reduction="batchmean")
    assert "scale.no-logarithm" in rules([nn.Softmax(-1)], lambda y: F.nll_loss(y, TARGETS))
    assert "scale.no-logarithm" in rules([nn.Softmax(-1)], lambda y: divergence(y, soft))
    assert "scale.no-logarithm" not in rules([nn.LogSoftmax(-1)], lambda y: divergence(y, soft))
    given = rules(
        [nn.Softmax(-1)], lambda y: divergence(soft.log(), y)
    )  # as the target it is right
    assert "scale.no-logarithm" not in given


@pytest.mark.parametrize(
    ("last", "loss"),
    [
        ([], binary),
        ([nn.Sigmoid()], lambda y: F.binary_cross_entropy(y, F.one_hot(TARGETS, 10).float())),
        ([nn.LogSoftmax(-1)], lambda y: F.nll_loss(y, TARGETS)),
        ([nn.LogSoftmax(-1)], cross_entropy),  # the logarithm of a softmax stays what it is
        ([nn.Sigmoid(), nn.Linear(10, 10)], binary),
        ([nn.Tanh()], cross_entropy),
    ],
)
def test_one_squashing_is_as_it_should_be(last, loss):
    found = rules(last, loss)
    assert not any("double" in rule or "logarithm" in rule for rule in found)


def test_a_softmax_times_a_temperature_is_no_softmax():
    class Sharp(nn.Module):
        def forward(self, x):
            return 30 * x.softmax(-1)

    assert "scale.double-softmax" not in rules([Sharp()], cross_entropy)
