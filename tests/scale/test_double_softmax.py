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
