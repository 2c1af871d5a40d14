"""Targets that a softmax or a ReLU in front of the loss cannot reach."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from assay import measure_scale

SEEDED = torch.Generator().manual_seed(1)
MANY = (torch.rand(64, 6, generator=SEEDED) > 0.5).float()
ONE = F.one_hot(torch.arange(64) % 6, 6).float()
SMOOTH = 0.9 * ONE + 0.1 / 6
NUMBERS = torch.randn(64, generator=SEEDED)
POSITIVE = NUMBERS.abs()


class WithLoss(nn.Module):
    def __init__(self, model, loss):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, x):
        return self.loss(self.model(x))


def rules(loss, *last, width=6, inside=False):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(20, width), *last), torch.randn(64, 20)
    subject = (WithLoss(model, loss), x, lambda o: o) if inside else (model, x, loss)
    return {finding.rule: finding for finding in measure_scale(subject).findings}


@pytest.mark.parametrize("inside", [False, True], ids=["loss", "forward"])
@pytest.mark.parametrize("binary", [F.binary_cross_entropy, nn.BCELoss(reduction="sum")])
def test_several_labels_beside_a_softmax(binary, inside):
    finding = rules(lambda p: binary(p, MANY), nn.Softmax(-1), inside=inside)[
        "scale.exclusive-labels"
    ]
    assert finding.severity == "warning"
    assert finding.measured.value == pytest.approx(float((MANY.sum(1) != 1).float().mean()))
    assert "sigmoid in place of the softmax" in finding.repair
    assert "`F.binary_cross_entropy_with_logits`" in finding.repair


def test_the_softmax_may_be_the_losses():
    def loss(o):
        p = o.softmax(1)
        return F.binary_cross_entropy(p, MANY)

    finding = rules(loss)["scale.exclusive-labels"]
    assert finding.repair.startswith("give the loss a sigmoid")
    assert finding.where.code == "p = o.softmax(1)"


@pytest.mark.parametrize(
    ("loss", "last"),
    [
        (lambda p: F.binary_cross_entropy(p, ONE), nn.Softmax(-1)),
        (lambda p: F.binary_cross_entropy(p, SMOOTH), nn.Softmax(-1)),
        (lambda p: F.binary_cross_entropy(p, MANY), nn.Sigmoid()),
        (lambda p: F.binary_cross_entropy(p[:, 1], MANY[:, 1]), nn.Softmax(-1)),
        # rows that are all 0 are left out by their weight
        (lambda p: F.binary_cross_entropy(p, ONE * MANY, weight=MANY), nn.Softmax(-1)),
        (lambda o: F.binary_cross_entropy_with_logits(o, MANY), nn.Identity()),
        (lambda p: F.mse_loss(p, MANY), nn.Softmax(-1)),
    ],
)
def test_one_label_and_a_sigmoid_are_silent(loss, last):
    assert "scale.exclusive-labels" not in rules(loss, last)


LOSSES = [
    lambda o, y: F.mse_loss(o, y),
    lambda o, y: F.mse_loss(y, o),
    lambda o, y: F.l1_loss(o, y),
    lambda o, y: F.smooth_l1_loss(o, y),
    lambda o, y: F.huber_loss(o, y),
    lambda o, y: ((o - y) ** 2).mean(),
    lambda o, y: (y - o).abs().mean(),
    lambda o, y: (o - y).square().sum(),
    lambda o, y: torch.linalg.vector_norm(o - y),
]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("last", [(nn.ReLU(), nn.Flatten(0)), (nn.Flatten(0), nn.ReLU())])
def test_targets_below_0_beside_a_last_relu(loss, last):
    finding = rules(lambda o: loss(o, NUMBERS), *last, width=1)["scale.rectified-outputs"]
    assert finding.severity == "warning"
    assert finding.measured.value == pytest.approx(float((NUMBERS < 0).float().mean()), abs=0.01)
    assert finding.repair == "leave out the last ReLU"


@pytest.mark.parametrize("loss", LOSSES)
def test_targets_from_0_on_and_outputs_of_all_signs_are_silent(loss):
    relu, flat = nn.ReLU(), nn.Flatten(0)
    assert "scale.rectified-outputs" not in rules(lambda o: loss(o, POSITIVE), relu, flat, width=1)
    assert "scale.rectified-outputs" not in rules(lambda o: loss(o, NUMBERS), flat, width=1)
    last = nn.Linear(1, 1)
    assert "scale.rectified-outputs" not in rules(
        lambda o: loss(o, NUMBERS), relu, last, flat, width=1
    )


def test_rounding_below_0_is_none():
    nearly = POSITIVE.clone()
    nearly[:20] = -1e-6
    relu, flat = nn.ReLU(), nn.Flatten(0)
    assert "scale.rectified-outputs" not in rules(
        lambda o: F.mse_loss(o, nearly), relu, flat, width=1
    )


def test_a_difference_that_is_no_loss_and_one_inside_a_model_are_none():
    relu, flat = nn.ReLU(), nn.Flatten(0)
    shifted = rules(lambda o: F.softplus(o - NUMBERS).mean(), relu, flat, width=1)
    assert "scale.rectified-outputs" not in shifted

    def distance(o):
        return ((o.flatten() - NUMBERS) ** 2).mean()

    assert "scale.rectified-outputs" not in rules(distance, relu, width=1, inside=True)
    hinge = rules(lambda o: F.relu(1 - o.flatten() * NUMBERS.sign()).square().mean(), width=1)
    assert "scale.rectified-outputs" not in hinge
