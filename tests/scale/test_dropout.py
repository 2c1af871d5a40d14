"""Dropout that leaves next to nothing is named, and what it does to sizes waits for it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from assay import measure_scale


def net(p, kind=nn.Dropout, d=64):
    return nn.Sequential(
        nn.Linear(20, d), nn.ReLU(), kind(p), nn.Linear(d, d), nn.ReLU(), kind(p), nn.Linear(d, 3)
    )


def rules(model):
    torch.manual_seed(0)
    x = torch.randn(128, 20)
    y = torch.arange(128) % 3
    return {f.rule: f for f in measure_scale((model, x, lambda o: F.cross_entropy(o, y))).findings}


def test_a_dropout_of_most_units_is_the_cause_and_nothing_is_drawn():
    torch.manual_seed(0)
    found = rules(net(0.95))
    finding = found["scale.dropout"]
    assert finding.severity == "warning"
    assert finding.measured.value == pytest.approx(20)
    assert finding.module == "2"
    assert "1 more with a p of 0.9 or more" in finding.message
    assert finding.repair == "take a p of 0.5 or less"
    assert (
        found["scale.backward-variance"].repair
        == "first what `scale.dropout` says; then measure again"
    )
    assert not any("nn.init" in f.repair for f in found.values())


class Functional(nn.Module):
    def __init__(self, drop):
        super().__init__()
        self.a, self.b, self.drop = nn.Linear(20, 64), nn.Linear(64, 3), drop

    def forward(self, x):
        return self.b(self.drop(self.a(x).relu()))


@pytest.mark.parametrize(
    "drop",
    [
        lambda x: F.dropout(x, 0.9),
        lambda x: F.dropout(x, p=0.9, training=True),
        lambda x: torch.dropout(x, 0.9, True),
        lambda x: torch.dropout(x, p=0.9, train=True),
        lambda x: F.dropout1d(x[None], 0.95)[0],
    ],
)
def test_as_a_function_it_is_seen_too(drop):
    finding = rules(Functional(drop))["scale.dropout"]
    assert (
        finding.where.code.startswith(("lambda x", "(", "drop")) or "lambda x" in finding.where.code
    )


@pytest.mark.parametrize(
    "drop",
    [
        lambda x: F.dropout(x, 0.5),
        lambda x: F.dropout(x),
        lambda x: F.dropout(x, 0.95, False),
        lambda x: F.dropout(x, 0.95, training=False),
        lambda x: torch.dropout(x, 0.95, False),
    ],
)
def test_half_of_the_units_and_what_does_not_run_are_silent(drop):
    assert "scale.dropout" not in rules(Functional(drop))


def test_the_usual_p_and_evaluation_are_silent():
    assert "scale.dropout" not in rules(net(0.5))
    assert "scale.dropout" not in rules(net(0.8))
    assert "scale.dropout" not in rules(net(0.95).eval())


def test_all_units_are_none():
    finding = rules(net(1.0))["scale.dropout"]
    assert "nothing is left" in finding.message
