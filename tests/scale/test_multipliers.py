"""A small parameter that every way is multiplied by is named, and not the widths around it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from assay import measure_scale

TARGETS = torch.arange(128) % 8


def linear(inputs=32, outputs=32):
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=inputs**-0.5)
    nn.init.zeros_(layer.bias)
    return layer


class Pooled(nn.Module):
    """A token that gathers from a body by branches that begin small, beside the body in one norm."""

    def __init__(self, gamma=1e-5, branches=1, skip=False):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.skip = linear(), skip
        self.token = nn.Parameter(0.5 * torch.randn(32))
        self.branches = nn.ModuleList(linear() for _ in range(branches))
        self.gammas = nn.ParameterList(torch.full((32,), gamma) for _ in range(branches))
        self.norm, self.head = nn.LayerNorm(32), linear(32, 8)

    def forward(self, x):
        x = self.body(x)
        token = self.token + (x if self.skip else 0)
        for gamma, branch in zip(self.gammas, self.branches, strict=True):
            token = token + gamma * branch(x)
        both = self.norm(torch.stack([token, x], 1) if self.skip else torch.cat([token, x], 0))
        return self.head(both[:, 0] if self.skip else both[: len(x)])


def measured(**kwargs):
    model = Pooled(**kwargs)
    x = torch.randn(128, 32, generator=torch.Generator().manual_seed(1))
    return model, x


def backward(model, x):
    findings = measure_scale((model, x, lambda y: F.cross_entropy(y, TARGETS))).findings
    return [f for f in findings if f.rule == "scale.backward-variance" and f.fails]


@pytest.mark.parametrize("branches", [1, 2])
def test_the_factor_that_every_way_passes_is_named_and_its_repair_heals(branches):
    model, x = measured(branches=branches)
    (finding,) = backward(model, x)
    assert "every way there is multiplied by gammas.0" in finding.message
    assert "`nn.init.ones_(model.gammas[0])`" in finding.repair
    for gamma in model.gammas:
        nn.init.ones_(gamma)
    assert not backward(model, x)


def test_a_branch_that_begins_small_beside_a_skip_is_no_finding():
    assert not backward(*measured(skip=True, branches=2))


def test_narrow_weights_are_still_told_by_their_width():
    model, x = measured(gamma=1.0)
    nn.init.normal_(model.branches[0].weight, std=1e-5)
    (finding,) = backward(model, x)
    assert "multiplied by" not in finding.message
    assert "ones_" not in finding.repair
