"""What a held-out error says of the training error: memorised, a gap, or nothing."""

import pytest
import torch
from torch import nn

from assay import Examples, Subject, certify
from assay.certificate.bounds import below_truth, bound
from assay.certificate.certify import Holdout
from assay.certificate.evaluate import constant_errors_held_out
from assay.certificate.warn import _memorised


def train(model, examples, progress, steps=300):
    rule = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(*examples.inputs), examples.targets)
        rule.zero_grad()
        loss.backward()
        rule.step()


def examples(n, noise, classes=2, seed=0):
    """Classes that a line tells apart; a share `noise` of the labels is drawn anew."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(2 * n, 10, generator=draw)
    y = (x[:, :classes]).argmax(1)
    wild = torch.rand(2 * n, generator=draw) < noise
    y = torch.where(wild, torch.randint(classes, (2 * n,), generator=draw), y)
    return Examples(x[:n], y[:n], holdout=Examples(x[n:], y[n:]))


def said(data, classes=2):
    def build(h: int = 64):
        model = nn.Sequential(nn.Linear(10, h), nn.ReLU(), nn.Linear(h, classes))
        return Subject(model, torch.zeros(2, 10), examples=data, fit=train)

    found = certify(build, trials=4)
    mine = ("certificate.memorised", "certificate.gap", "certificate.one-target")
    return {f.rule: f for f in found.findings if f.rule in mine}, found


@pytest.mark.parametrize("classes", [2, 4])
def test_random_labels_that_are_memorised_are_a_warning(classes):
    found, certificate = said(examples(300, 1.0, classes), classes)
    assert list(found) == ["certificate.memorised"]
    assert found["certificate.memorised"].fails
    assert f"{certificate.holdout.rate:.3f} of 300" in found["certificate.memorised"].message


def test_overfitting_that_still_learns_is_a_note_with_both_numbers():
    found, certificate = said(examples(300, 0.2))
    assert list(found) == ["certificate.gap"]
    assert not found["certificate.gap"].fails
    assert f"{certificate.bounds.rate:.3f}" in found["certificate.gap"].message
    assert f"{certificate.holdout.rate:.3f}" in found["certificate.gap"].message


def test_a_small_gap_that_chance_explains_is_nothing():
    found, certificate = said(examples(60, 0.0))
    assert certificate.holdout.errors > 0
    assert not found


def test_one_target_is_a_note():
    data = examples(100, 0.0)
    found, _ = said(Examples(data.inputs, 0 * data.targets))
    assert list(found) == ["certificate.one-target"]
    assert not found["certificate.one-target"].fails


def test_a_model_that_keeps_half_of_its_gain_is_called_memorised_no_more_often_than_stated():
    """By the exact tail: the probability of all held-out counts at which the warning comes."""
    for n in (20, 100, 1000):
        for train_errors in (0, n // 10):
            bounds = bound(train_errors, n, 100)
            blind = n // 2
            half = (train_errors / n + blind / n) / 2
            counts = torch.arange(n + 1)
            log_pmf = torch.distributions.Binomial(n, torch.tensor(half).double()).log_prob(
                counts.double()
            )
            called = [
                _memorised(bounds, Holdout(n, k, 1.0), blind, below_truth(k, n, 1e-3) if k else 0.0)
                for k in range(n + 1)
            ]
            chance = float(log_pmf.exp()[torch.tensor(called)].sum())
            assert chance <= 1e-3
            if n >= 100:
                assert called[blind]


def test_the_constant_rule_is_that_of_training():
    seen = Examples(torch.zeros(5, 1), torch.tensor([0, 1, 1, 1, 2]))
    held = Examples(torch.zeros(4, 1), torch.tensor([0, 0, 0, 1]))
    assert constant_errors_held_out(seen, held) == 3
    rows = Examples(torch.zeros(3, 1), torch.tensor([[1, 2], [1, 2], [0, 0]]))
    assert constant_errors_held_out(rows, rows) == 1
    assert constant_errors_held_out(seen, rows) is None
    own = Examples(seen.inputs, seen.targets, errors=lambda output, targets: targets > 0)
    assert constant_errors_held_out(own, held) is None
