"""What the loss squashes before it squashes it again, and what it is given along the wrong dimension."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from assay import measure_scale

TARGETS = torch.arange(32) % 10
TEACHER = torch.randn(32, 10, generator=torch.Generator().manual_seed(1))


class WithLoss(nn.Module):
    """A model that returns its loss, as those of transformers do where they are given labels."""

    def __init__(self, model, loss):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, x):
        return self.loss(self.model(x))


def rules(loss, last=(), *, inside=False):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 10), *last)
    x = torch.randn(32, 16)
    subject = (WithLoss(model, loss), x, lambda y: y) if inside else (model, x, loss)
    return {finding.rule: finding for finding in measure_scale(subject).findings}


INSIDE = pytest.mark.parametrize("inside", [False, True], ids=["loss", "forward"])


@pytest.mark.parametrize(
    "loss",
    [
        lambda y: F.cross_entropy(F.softmax(y, -1), TARGETS),
        lambda y: F.cross_entropy(y.softmax(0), TARGETS),
        lambda y: F.cross_entropy(y.sigmoid(), TARGETS),
        lambda y: F.cross_entropy(y.float().softmax(-1).to(torch.float64), TARGETS),
        lambda y: F.cross_entropy(y.softmax(-1).clone()[:, :], TARGETS),
        lambda y: nn.CrossEntropyLoss(label_smoothing=0.1)(nn.Softmax(-1)(y), TARGETS),
        lambda y: F.cross_entropy(y.softmax(-1)[TARGETS < 9], TARGETS[TARGETS < 9]),
    ],
)
@INSIDE
def test_it_is_found_as_if_the_model_ended_in_it(loss, inside):
    finding = rules(loss, inside=inside)["scale.double-softmax"]
    assert finding.severity == "warning"
    assert finding.measured.value == pytest.approx(math.log1p(9 / math.e))
    assert finding.repair.startswith("give the loss the logits: leave out the s")


@INSIDE
def test_the_line_is_that_of_the_loss(inside):
    def loss(y):
        p = F.softmax(y, -1)
        return F.cross_entropy(p, TARGETS)

    where = rules(loss, inside=inside)["scale.double-softmax"].where
    assert where.code == "p = F.softmax(y, -1)"


@INSIDE
def test_other_losses_of_probabilities(inside):
    ones = torch.ones(32, 10)
    assert "scale.double-sigmoid" in rules(
        lambda y: F.binary_cross_entropy_with_logits(y.sigmoid(), ones), inside=inside
    )
    assert "scale.no-logarithm" in rules(
        lambda y: F.nll_loss(y.softmax(-1), TARGETS), inside=inside
    )


class Attention(nn.Module):
    """Two softmaxes in a row of products, a router, and a gate."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.router = nn.Linear(10, 10), nn.Linear(10, 10), nn.Linear(10, 4)

    def forward(self, x):
        for _ in range(2):
            x = (self.q(x) @ self.k(x).T).softmax(-1) @ x
        top = self.router(x).softmax(-1).topk(2).values
        return x * (top / top.sum(-1, keepdim=True)).sum(-1, keepdim=True) * x.sigmoid()


@pytest.mark.parametrize(
    "loss",
    [
        lambda y: F.nll_loss(F.log_softmax(y, -1), TARGETS),
        lambda y: F.nll_loss(y.softmax(-1).log(), TARGETS),
        lambda y: F.cross_entropy(y.log_softmax(-1), TARGETS),  # a softmax of it is what it was
        lambda y: F.cross_entropy(y, TEACHER.softmax(-1)),
        lambda y: F.cross_entropy(y, TARGETS, label_smoothing=0.1),
        lambda y: F.cross_entropy(y.softmax(-1) * 30, TARGETS),  # with a temperature
        lambda y: F.cross_entropy(y.softmax(-1).clone().mul_(30), TARGETS),
        lambda y: F.kl_div(y.log_softmax(-1), TEACHER.softmax(-1), reduction="batchmean"),
        lambda y: F.kl_div((y / 4).log_softmax(-1), (TEACHER / 4).softmax(-1), reduction="sum"),
        lambda y: -(TEACHER.softmax(-1) * y.log_softmax(-1)).sum(-1).mean(),
        lambda y: (y.softmax(-1) * y.log_softmax(-1)).sum() + F.cross_entropy(y, TARGETS),
        lambda y: F.binary_cross_entropy_with_logits(y, TEACHER.sigmoid()),
        lambda y: F.binary_cross_entropy(y.sigmoid(), TEACHER.sigmoid()),
        lambda y: F.cross_entropy(TEACHER.softmax(-1), y.softmax(-1)),  # no gradient by its logits
        lambda y: F.cross_entropy(y @ y.T / 0.1, torch.arange(32)),
        lambda y: (y.softmax(-1) @ y.T).softmax(-1).square().sum(),
        lambda y: F.gumbel_softmax(y).square().sum(),
        lambda y: F.cross_entropy(y.relu().log1p() @ y.T, torch.arange(32)),
    ],
)
@pytest.mark.parametrize("last", [[], [Attention()]])
@INSIDE
def test_what_is_as_it_should_be(loss, last, inside):
    found = rules(loss, last, inside=inside)
    assert not any(
        word in rule for rule in found for word in ("double", "logarithm", "dimension", "rectified")
    )


@pytest.mark.parametrize("last", [[nn.ReLU()], [nn.ReLU(inplace=True), nn.Dropout(0.1)]])
def test_logits_that_a_relu_returned(last):
    finding = rules(lambda y: F.cross_entropy(y, TARGETS), last)["scale.rectified-logits"]
    assert finding.severity == "warning"
    assert 0.3 < finding.measured.value < 0.7
    assert "the model's own ReLU" in finding.repair
    binary = rules(lambda y: F.binary_cross_entropy_with_logits(y, TEACHER.sigmoid()), last)
    assert "no probability is below 1/2" in binary["scale.rectified-logits"].message
    inside = rules(lambda y: F.cross_entropy(F.relu(y), TARGETS))
    assert "leave out the ReLU in front of it" in inside["scale.rectified-logits"].repair


@pytest.mark.parametrize(
    "loss",
    [
        lambda y: y.square().mean(),
        lambda y: F.nll_loss(y, TARGETS),
        lambda y: (y.softmax(-1) @ y.T).square().mean(),  # weights, not probabilities of classes
    ],
)
def test_what_a_relu_returns_to_other_losses(loss):
    assert "scale.rectified-logits" not in rules(loss, [nn.ReLU()])


def test_probabilities_that_add_up_over_examples():
    finding = rules(lambda y: F.nll_loss(y, TARGETS), [nn.LogSoftmax(0)])["scale.wrong-dimension"]
    assert "of shape [32, 10], add up to 1 along dimension 0" in finding.message
    assert "examples compete" in finding.message
    images = TARGETS.reshape(2, 4, 4)

    def along(dim):
        return lambda y: F.nll_loss(y.reshape(2, 4, 4, 10).movedim(-1, 1).log_softmax(dim), images)

    assert "scale.wrong-dimension" not in rules(along(1))
    assert "positions compete" in rules(along(2))["scale.wrong-dimension"].message
    pairs = torch.arange(32)  # either of two is to be found by the other
    assert "scale.wrong-dimension" not in rules(
        lambda y: F.nll_loss((y @ y.T).log_softmax(0), pairs)
    )
